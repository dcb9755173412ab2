"""Turns configurations into jobs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kdexp import screen
from kdexp.config import resolve
from kdexp.errors import Unfit, UsageError
from kdexp.jobs.job import Job


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
            if not job.teacher_keys:
                ignored |= dict.fromkeys(resolve.without_effect(distill))
        except Unfit as error:
            pair = " -> ".join(config["model"][role]["name"] for role in ("teacher", "student"))
            unfit[pair, str(error)] = config["distill"]
        except UsageError as error:
            errors[str(error)] = None
    methods = [job.config["distill"] for job in jobs.values()]
    errors |= {reason: None for (_, reason), method in unfit.items() if method not in methods}
    if ignored and not any(job.teacher_keys for job in jobs.values()):
        errors[f"{', '.join(ignored)}: label-only training has no method, so this has no effect. Leave it out"] = None
    if errors:
        raise UsageError("\n".join(errors))
    for pair, reason in unfit:
        screen.say(f"left out   {pair}   {reason}")
    _check_folders(list(jobs.values()))
    return list(jobs.values())


def _check_folders(jobs: list[Job]) -> None:
    """Raises UsageError with every job, and every teacher, whose folder holds something else."""
    if errors := [*dict.fromkeys(_differences(jobs))]:
        raise UsageError("\n".join([*errors[:10], *[f"... and {len(errors) - 10} more runs"] * (len(errors) > 10)]))


def _differences(jobs: list[Job]) -> Iterator[str]:
    """What differs in these jobs' folders, after those of their teachers."""
    taught = {job.teacher_keys: job for job in jobs}  # many have the same
    if teachers := [teacher for job in taught.values() for teacher in job.teachers]:
        yield from _differences(teachers)
    for job in jobs:
        try:
            job.check_folder()
        except UsageError as error:
            yield str(error)
