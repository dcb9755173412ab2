"""Turns configurations into jobs, and jobs into groups that train side by side."""

from collections.abc import Iterable
from pathlib import Path

from kdexp import screen
from kdexp.config import resolve
from kdexp.config.schema import Unfit, UsageError
from kdexp.job import Job


def plan(configs: Iterable) -> list[Job]:
    """The distinct jobs of a command, checked. A method that works for only some of the pairs is left out of the
    others, with a line that says so. Raises UsageError with every mistake in every job."""
    jobs: dict[Path, Job] = {}
    errors: dict[str, None] = {}
    unfit: dict[tuple[str, str], dict] = {}
    ignored: dict[str, None] = {}
    for config in configs:
        try:
            distill, config = config["distill"], resolve.plain(config)
            job = Job(config)
            jobs.setdefault(job.record.folder, job)
            if job.teacher_key is None:
                ignored |= dict.fromkeys(resolve.without_effect(distill))
        except Unfit as error:
            pair = " -> ".join(config["model"][role]["name"] for role in ("teacher", "student"))
            unfit[pair, str(error)] = config["distill"]
        except UsageError as error:
            errors[str(error)] = None
    methods = [job.config["distill"] for job in jobs.values()]
    errors |= {reason: None for (_, reason), method in unfit.items() if method not in methods}
    if ignored and not any(job.teacher_key for job in jobs.values()):
        errors[f"{', '.join(ignored)}: label-only training has no method, so this has no effect. Leave it out"] = None
    if errors:
        raise UsageError("\n".join(errors))
    for pair, reason in unfit:
        screen.say(f"left out   {pair}   {reason}")
    _check_folders(list(jobs.values()))
    return list(jobs.values())


def _check_folders(jobs: list[Job]) -> None:
    """Raises UsageError with every job, and every teacher, whose folder holds something else."""
    taught = {job.teacher_key: job for job in jobs if job.teacher_config}
    found: dict[str, None] = {}
    for job in [*(job.teacher for job in taught.values()), *jobs]:
        try:
            job.check_folder()
        except UsageError as error:
            found[str(error)] = None
    if errors := [*found]:
        raise UsageError("\n".join([*errors[:10], *[f"... and {len(errors) - 10} more runs"] * (len(errors) > 10)]))


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
