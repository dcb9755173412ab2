"""dry_run=true: what would run, in which groups, after which teachers, and for how long."""

from rich.console import Console
from rich.table import Table

from kdexp import screen
from kdexp.command.estimate import Pace, epochs_done
from kdexp.compute.machine import machine
from kdexp.config import naming
from kdexp.datasets.download import nothing_downloaded
from kdexp.engines.dispatch import check_data
from kdexp.errors import UsageError
from kdexp.jobs.groups import grouped, missing_teachers
from kdexp.jobs.job import Job


def preview(jobs: list[Job]) -> None:
    """Print the plan as a table on stdout. Nothing is started and nothing written."""
    todo = [job for job in jobs if job.to_do]
    pace, groups, teachers = _pace(todo), grouped(todo), missing_teachers(todo)
    told = _told_apart([*teachers, *(members[0] for members in groups)])
    table = Table(box=None, pad_edge=True, header_style="bold")
    for name in ("group", "pair", *["with"] * any(told.values()), "seed", "runs", "state"):
        table.add_column(name, no_wrap=name == "with")
    table.add_column("about", justify="right")

    def row(number: str, pair: str, runs: str, members: list[Job]) -> None:
        first = members[0]
        place = [number, pair, *[told[first]] * any(told.values()), str(first.config["seed"])]
        table.add_row(*place, runs, _state(members), _time(pace, members))

    for one in teachers:
        row("-", one.pair, "teacher", [one])
    for number, members in enumerate(groups, start=1):
        taught = [job for job in members if job.teacher_keys] or members
        pair, runs = dict.fromkeys(job.pair for job in taught), dict.fromkeys(job.name for job in members)
        row(str(number), ", ".join(pair), ", ".join(runs), members)
    console = Console(highlight=False)
    if groups:
        console.print(table)
    done = sum(job.done for job in jobs)
    lost = len(jobs) - done - len(todo)
    given_up = f", {lost} diverged before (rerun=failed)" * bool(lost)
    counts = f"{screen.counted(len(jobs), 'run')}: {done} done, {len(todo)} to run{given_up}"
    more = f", and {screen.counted(len(teachers), 'teacher')} first" if teachers else ""
    print(
        f"{counts}{more}{_about(pace, _units(teachers, groups))}.{_other_ways(pace, todo, teachers)}  Nothing was started."
    )
    _check(todo)


def _check(todo: list[Job]) -> None:
    """Say why the command itself would stop at once. It would download what is missing, so that is no reason."""
    with nothing_downloaded() as missing:
        try:
            check_data(todo)
        except UsageError as error:
            if not missing:
                screen.say(f"not ready   {error}")


def _told_apart(jobs: list[Job]) -> dict[Job, str]:
    """What tells groups apart besides pair and seed, in as few words as possible: "recipe=trivial200" and nothing
    more."""
    words = {job: dict(zip(job.shared, naming.words(job.shared))) for job in jobs}
    told: dict[Job, tuple] = {job: () for job in jobs}
    for key in dict.fromkeys(key for one in words.values() for key in one):
        finer = {job: (*told[job], words[job].get(key, "")) for job in jobs}
        if len(set(finer.values())) > len(set(told.values())):
            told = finer
    return {job: "\n".join(filter(None, one)) for job, one in told.items()}


def about(todo: list[Job]) -> str:
    """How long jobs and their missing teachers take in one process, as far as the records tell."""
    return _about(_pace(todo), _units(missing_teachers(todo), grouped(todo)))


def _units(teachers: list[Job], groups: list[list[Job]]) -> list[list[Job]]:
    """What trains one after the other."""
    return [*([one] for one in teachers), *groups]


def _about(pace: Pace | None, units: list[list[Job]]) -> str:
    if pace is None:
        return ""
    known = [seconds for unit in units if (seconds := pace.seconds(unit)) is not None]
    if not known:
        return ""
    rest = len(units) - len(known)
    unknown = f" plus {screen.counted(rest, 'group')} of a kind that has not run here yet" if rest else ""
    return f", about {screen.duration(sum(known))}{unknown}"


def _pace(todo: list[Job]) -> Pace | None:
    if not todo:
        return None
    config = todo[0].config
    try:
        hardware = machine(config | {"compile": False}, images=1)
    except UsageError as error:  # a device this machine does not have
        screen.say(f"no estimate: {error}")
        return None
    return Pace(config["paths"]["outputs"], hardware)


def _time(pace: Pace | None, members: list[Job]) -> str:
    seconds = pace.seconds(members) if pace else None
    return "?" if seconds is None else screen.duration(seconds)


def _state(members: list[Job]) -> str:
    begun = sum(epochs_done(job) > 0 for job in members)
    broken = sum(bool(job.damaged) for job in members)
    return f"{len(members)} to run" + f", {begun} begun" * bool(begun) + f", {broken} damaged" * bool(broken)


def _other_ways(pace: Pace | None, todo: list[Job], teachers: list[Job]) -> str:
    """How long the jobs take with every student alone."""
    if pace is None or len(todo) < 2:
        return ""
    alone = [pace.seconds([job]) for job in [*teachers, *todo]]
    return "" if None in alone else f"  One by one (share=1): about {screen.duration(sum(alone))}."
