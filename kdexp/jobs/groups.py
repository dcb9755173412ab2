"""Which jobs train side by side, and which teachers come first."""

from kdexp.jobs.job import Job


def missing_teachers(jobs: list[Job], known: set[str] | None = None) -> list[Job]:
    """The teachers that must be trained before these jobs and are not among them, each after its own teachers. known:
    folders of runs that are taken care of."""
    known = {str(job.record.folder) for job in jobs} if known is None else known
    missing: list[Job] = []
    for job in jobs:
        for teacher in [] if known.issuperset(job.teacher_keys) else job.teachers:
            if teacher.to_do and str(teacher.record.folder) not in known:
                missing += [*missing_teachers([teacher], known), teacher]
            known.add(str(teacher.record.folder))
    return missing


def grouped(jobs: list[Job]) -> list[list[Job]]:
    """Jobs with the same batches and the same teachers, together; jobs that are teachers of other jobs come first."""
    needed = {key for job in jobs for key in job.teacher_keys}
    teachers = [job for job in jobs if str(job.record.folder) in needed]
    first = grouped(teachers) if teachers else []
    return first + side_by_side([job for job in jobs if job not in teachers])


def side_by_side(jobs: list[Job]) -> list[list[Job]]:
    """Groups in the order typed, of at most `share` jobs; baselines join any group that sees the same batches."""
    groups: dict[tuple, list[Job]] = {}
    order = {job: position for position, job in enumerate(jobs)}
    for job in sorted(jobs, key=lambda job: not job.teacher_keys):
        home = (job.batch_key, job.teacher_keys)
        if not job.teacher_keys:
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
