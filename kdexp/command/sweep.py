"""Runs one command: plans its jobs, trains them and reports."""

import json
import sys
from pathlib import Path

import torch

from kdexp import screen
from kdexp.command.describe import describe
from kdexp.command.plan import plan
from kdexp.command.preview import about, preview
from kdexp.command.winners import winners
from kdexp.compute.interrupt import deferred_interrupt
from kdexp.config import naming
from kdexp.config.resolve import baseline_of
from kdexp.config.targets import construct
from kdexp.engines.dispatch import check_data
from kdexp.errors import Stopped
from kdexp.experiment.objects import build_optimizer
from kdexp.jobs.changes import weights_changed
from kdexp.jobs.groups import grouped
from kdexp.jobs.job import Job


def run_jobs(configs) -> list[Job]:
    """Plan, train and report the jobs of one command; returns those that it was to train. Raises UsageError before anything
    starts, and Stopped."""
    if configs[0].describe:
        describe(configs)
        return []
    jobs = plan(configs)
    if jobs[0].config["prepare"]:
        check_data(jobs)
        screen.say(
            f"prepared: {screen.counted(len(jobs), 'run')} composed, data present and checked. Nothing was started."
        )
    elif jobs[0].config["dry_run"]:
        preview(jobs)
    else:
        train(jobs)
        conclude(jobs)
        return jobs
    return []


def exit_unless_done(jobs: list[Job]) -> None:
    """End the process with exit code 1 if one of them did not succeed."""
    if not all(job.done for job in jobs):
        sys.exit(1)


def train(jobs: list[Job]) -> None:
    """Train what is not done. Raises UsageError before anything starts, Stopped once all is saved."""
    todo = [job for job in jobs if job.to_do]
    for job in jobs:
        if job.done:
            job.set_damaged_aside()
            job.record.tidy()
            again = "      (again: rerun=all)" if len(jobs) == 1 else ""
            if weights_changed(job):
                again = "      (learned from other weights than its teacher has now; to train it again: rerun=changed)"
            screen.say(
                f"done before   {job.title}   test {job.record.result['test_acc']:.2f} %   {job.record.folder}{again}"
            )
    engine = construct(jobs[0].config["engine"], (), jobs[0].config["plugins"])
    for config in {json.dumps(job.config["optimizer"]): job.config for job in todo}.values():
        build_optimizer(config, [torch.nn.Parameter(torch.zeros(1))])  # not while planning: torch takes seconds for it
    announce(jobs, todo, engine.check(todo))  # missing or damaged data stop the command here, before any work
    with deferred_interrupt() as interrupted:
        try:
            engine.run(grouped(todo), interrupted)
        except Stopped as stopped:
            screen.say(str(stopped))  # before a cluster's job is queued again
            raise
    for job in jobs:
        job.inspect()


def announce(jobs: list[Job], todo: list[Job], hardware: list[str]) -> None:
    """Say what is about to happen: one line, and for a sweep its plan."""

    def words(values):
        return " ".join(dict.fromkeys(str(value) for value in values))

    if todo:
        taught = [job for job in todo if job.teacher_keys] or todo
        datasets, pairs = words(job.config["dataset"]["name"] for job in todo), words(job.pair for job in taught)
        methods, seeds = words(job.method for job in todo), words(job.config["seed"] for job in todo)
        screen.say(
            f"{datasets} · {pairs} · {methods} seed {seeds} · {words(job.recipe for job in todo)} · {words(hardware)}"
        )
    if len(jobs) > 1:
        done, groups = len(jobs) - len(todo), len(grouped(todo))
        split = f" in {screen.counted(groups, 'group')}" if groups else ""
        screen.say(f"plan    {len(jobs)} runs: {done} done before, {len(todo)} to run{split}{about(todo)}")


def conclude(jobs: list[Job]) -> None:
    """Say what did not succeed; the winners of a search, or the table of a sweep."""
    bad = [job for job in jobs if not job.done]
    if len(jobs) > 1:
        screen.say(f"{len(jobs) - len(bad)} of {len(jobs)} done" + (f", {len(bad)} not:" if bad else ""))
    for job in bad:
        status = job.record.status
        again = "again: rerun=failed" if status.get("status") == "diverged" else "again: the same command"
        why = status.get("error") or "not trained"
        how = "" if "rerun=" in why else f"      ({again})"
        screen.say(f"    {job.title}   {why}   {job.record.folder / 'run.log'}{how}")
    if won := winners(jobs):
        print("\n".join(["Chosen on held-out images; the test images are for the runs that follow:", *won]))
    elif len(jobs) > 1 and len(bad) < len(jobs):
        from kdexp import report  # pandas, and on the CPU scipy, take a second to import

        baselines = (naming.folder(baseline_of(job.config)) for job in jobs)  # of this command, or trained before
        runs = report.load(*dict.fromkeys([*(job.record.folder for job in jobs), *filter(Path.exists, baselines)]))
        report.print_table(report.summarize(runs), runs)
