"""Which jobs train side by side, and which teachers come first."""

from kdexp.jobs.job import Job


def missing_teachers(jobs: list[Job]) -> list[Job]:
    """The teachers that must be trained before these jobs and are not among them."""
    own = {str(job.record.folder) for job in jobs}
    needed = {job.teacher_key: job.teacher_config for job in jobs if job.teacher_config and job.teacher_key not in own}
    teachers = [Job(config) for config in needed.values()]
    return [teacher for teacher in teachers if teacher.to_do]


def grouped(jobs: list[Job]) -> list[list[Job]]:
    """Jobs with the same batches and the same teacher, together; jobs that are teachers of other jobs come first."""
    needed = {job.teacher_key for job in jobs}
    teachers = [job for job in jobs if str(job.record.folder) in needed]
    return side_by_side(teachers) + side_by_side([job for job in jobs if job not in teachers])


def side_by_side(jobs: list[Job]) -> list[list[Job]]:
    """Groups in the order typed, of at most `share` jobs; baselines join any group that sees the same batches."""
    groups: dict[tuple, list[Job]] = {}
    order = {job: position for position, job in enumerate(jobs)}
    for job in sorted(jobs, key=lambda job: job.teacher_key is None):
        home = (job.batch_key, job.teacher_key)
        if job.teacher_key is None:
            home = next((key for key in groups if key[0] == job.batch_key), home)
        groups.setdefault(home, []).append(job)
    parts = []
    for members in groups.values():
        members.sort(key=order.__getitem__)
        cap = members[0].config["share"] or len(members)
        parts += [members[i : i + cap] for i in range(0, len(members), cap)]
    return sorted(parts, key=lambda members: order[members[0]])


def title(members: list[Job], number: int, groups: int) -> str:
    """group 2 of 3 · seed 2"""
    return f"group {number} of {groups} · seed {members[0].config['seed']}"
