"""Jobs to records: what is done before, which teachers are missing, which students train side by side, and what
became of all."""

import signal
import sys
from contextlib import contextmanager

from kdexp import naming, screen
from kdexp.group import Group, Stopped
from kdexp.job import Job
from kdexp.machine import machine
from kdexp.schema import UsageError
from kdexp.teacher import Teachers


def run_jobs(configs) -> None:
    """Plan, train and report the jobs of one command. Raises UsageError before anything starts, SystemExit(1) if a
    run did not succeed."""
    jobs = plan(configs)
    todo = [job for job in jobs if not job.done and not job.gave_up]
    for job in jobs:
        if job.done:
            again = "      (again: rerun=all)" if len(jobs) == 1 else ""
            screen.say(
                f"done before   {job.label}   test {job.record.result['test_acc']:.2f} %   {job.record.folder}{again}"
            )
    teachers = Teachers()
    for job in todo:  # missing or damaged data stop the command here, before any work
        teachers.data_of(job)
    announce(jobs, todo, teachers)
    with deferred_interrupt() as interrupted:
        try:
            train_groups(grouped(todo), teachers, interrupted)
        except Stopped:
            screen.say("stopped after this step, saved.   Go on: type the same command again.")
            sys.exit(130)
    report(jobs)


def plan(configs) -> list[Job]:
    """The distinct jobs of a command, checked. Raises UsageError with every mistake of every job."""
    jobs, errors = {}, {}
    for config in configs:
        try:
            job = Job(naming.plain(config))
            jobs.setdefault(job.record.folder, job)
        except UsageError as error:
            errors[str(error)] = None
    if errors:
        raise UsageError("\n".join(errors))
    for job in jobs.values():
        job.check_folder()
    return list(jobs.values())


def announce(jobs: list[Job], todo: list[Job], teachers: Teachers) -> None:
    """What is about to happen: one line, and the plan of a sweep."""

    def words(values):
        return " ".join(dict.fromkeys(str(value) for value in values))

    if todo:
        where = words(machine(job.config, len(teachers.data_of(job).train.labels)) for job in todo)
        datasets, pairs = words(job.config["dataset"]["name"] for job in todo), words(job.pair for job in todo)
        methods, seeds = words(job.method for job in todo), words(job.config["seed"] for job in todo)
        screen.say(f"{datasets} · {pairs} · {methods} seed {seeds} · {words(job.recipe for job in todo)} · {where}")
    if len(jobs) > 1:
        done, groups = len(jobs) - len(todo), len(grouped(todo))
        where = f" in {groups} group{'s' * (groups != 1)}" if groups else ""
        screen.say(f"plan    {len(jobs)} runs: {done} done before, {len(todo)} to run{where}")


def grouped(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that see the same batches and the same teacher, together; jobs that are a teacher of others, before these."""
    needed = {job.teacher_key for job in jobs}
    teachers = [job for job in jobs if str(job.record.folder) in needed]
    return side_by_side(teachers) + side_by_side([job for job in jobs if job not in teachers])


def side_by_side(jobs: list[Job]) -> list[list[Job]]:
    """Groups in the order typed, each at most `share` large; baselines ride with any group that sees their batches."""
    groups: dict[tuple, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: job.teacher_key is None):
        home = (job.batch_key, job.teacher_key)
        if job.teacher_key is None:
            home = next((key for key in groups if key[0] == job.batch_key), home)
        groups.setdefault(home, []).append(job)
    parts = []
    for members in groups.values():
        members.sort(key=jobs.index)
        cap = members[0].config["share"] or len(members)
        parts += [members[i : i + cap] for i in range(0, len(members), cap)]
    return sorted(parts, key=lambda members: jobs.index(members[0]))


def train_groups(groups: list[list[Job]], teachers: Teachers, interrupted) -> None:
    """Train what is free first; then wait, one by one, for the runs that other processes are at."""
    busy = []
    for number, members in enumerate(groups, start=1):
        mine = [job for job in members if job.record.lock()]
        busy += [job for job in members if job not in mine]
        title = f"group {number} of {len(groups)} · seed {members[0].config['seed']}"
        Group(mine, teachers, interrupted, title).train()
    for job in busy:
        screen.say(f"waiting for {job.label}: {job.holder} is training it   {job.record.folder}")
        job.record.lock(wait=True)
        Group([job], teachers, interrupted, job.label).train()


@contextmanager
def deferred_interrupt():
    """Yields a function that raises Stopped once Ctrl-C or SIGTERM has come: work ends between two steps. A second
    Ctrl-C ends at once."""
    came = []

    def note(number, frame):
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        screen.say("stopping after this step ...")

    def check():
        if came:
            raise Stopped

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(jobs: list[Job]) -> None:
    """Say what did not succeed; exit code 1 then."""
    bad = [job for job in jobs if not job.done]
    if len(jobs) > 1:
        screen.say(f"{len(jobs) - len(bad)} of {len(jobs)} done" + (f", {len(bad)} not:" if bad else ""))
    for job in bad:
        status = job.record.status
        screen.say(
            f"    {job.label}   {status.get('error') or 'not trained'}   {job.record.folder / 'run.log'}      (again: rerun=failed)"
        )
    if len(jobs) > 1 and len(bad) < len(jobs):
        from analysis import summarize  # reads records only, so it stands outside of the package

        runs = summarize.load(*(job.record.folder for job in jobs))
        summarize.print_table(summarize.summarize(runs), runs)
    if bad:
        sys.exit(1)
