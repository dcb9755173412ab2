"""Jobs to records: what is done before, which teachers are missing, which students train side by side, and what
became of all."""

import signal
import sys
from contextlib import contextmanager

import torch

from kdexp import experiment, naming, screen
from kdexp.group import Group, Stopped
from kdexp.job import Job
from kdexp.result import device_name
from kdexp.schema import UsageError
from kdexp.teacher import Teachers


def run_jobs(configs) -> None:
    """Plan, train and report the jobs of one command. Raises UsageError before anything starts, SystemExit(1) if a
    run did not succeed."""
    jobs = plan(configs)
    where = experiment.machine(jobs[0].config)
    prepare_torch(where)
    announce(jobs, where)
    todo = [job for job in jobs if not job.done and not job.gave_up]
    for job in jobs:
        if job.done:
            screen.say(
                f"done before   {job.label}   test {job.record.result['test_acc']:.2f} %   {job.record.folder}"
                + ("      (again: rerun=all)" if len(jobs) == 1 else "")
            )
    data = {}
    for job in todo:  # missing or damaged data stop the command here, before any work
        if job.data_key not in data:
            data[job.data_key] = experiment.load_data(job.config, where.device)
    teachers = Teachers(where, data)
    with deferred_interrupt() as interrupted:
        try:
            train_groups(grouped(todo), where, data, teachers, interrupted)
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


def prepare_torch(where: experiment.Machine) -> None:
    torch.use_deterministic_algorithms(where.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    torch.backends.cudnn.benchmark = not where.deterministic


def announce(jobs: list[Job], where: experiment.Machine) -> None:
    def words(values):
        return " ".join(dict.fromkeys(str(value) for value in values))

    pairs = words(job.pair for job in jobs)
    precision = "bf16" if where.half else "fp32"
    device = f"cpu, {torch.get_num_threads()} threads" if where.device.type == "cpu" else device_name(where.device)
    screen.say(
        f"{words(job.config['dataset']['name'] for job in jobs)} · {pairs} · {words(job.method for job in jobs)} seed "
        f"{words(job.config['seed'] for job in jobs)} · {words(job.recipe for job in jobs)} · {device}, {precision}"
        + (", compiled" if where.compile else "")
    )
    if len(jobs) > 1:
        todo = [job for job in jobs if not job.done and not job.gave_up]
        screen.say(
            f"plan    {len(jobs)} runs: {len(jobs) - len(todo)} done before, {len(todo)} to run in {len(grouped(todo))} groups"
        )


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


def train_groups(groups: list[list[Job]], where, data, teachers: Teachers, interrupted) -> None:
    """Train what is free first; then wait, one by one, for the runs that other processes are at."""
    busy = []
    for number, members in enumerate(groups, start=1):
        mine = [job for job in members if job.take(wait=False)]
        busy += [job for job in members if job not in mine]
        Group(
            mine,
            where,
            data,
            teachers,
            interrupted,
            f"group {number} of {len(groups)} · seed {members[0].config['seed']}",
        ).train()
    for job in busy:
        screen.say(f"waiting for {job.label}: {job.holder} is training it   {job.record.folder}")
        job.take(wait=True)
        Group([job], where, data, teachers, interrupted, job.label).train()


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
