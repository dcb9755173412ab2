"""SLURM's queue as squeue shows it. Nothing here needs accounting (sacct, slurmdbd), which many clusters do not have."""

import os
import subprocess
import time

from kdexp import screen
from kdexp.engines.dispatch import WorkerLost

LOOK_SECONDS = 5
SAY_SECONDS = 60
FIELDS = "JobID:20,State:20,RestartCnt:10,Reason:200"
OVER = "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
GONE = ("not in the queue", 0, "")  # SLURM forgets a job some minutes after its end
NEVER = "it will not start as it is: "
WHY = {  # squeue's reasons in plain words; the others are shown as they are
    "None": "SLURM has not looked at it yet",
    "Resources": "no node is free",
    "Priority": "other jobs are ahead of it",
    "BeginTime": "a requeued job starts after a short delay",
    "PartitionConfig": NEVER + "it asks for more than its partition allows, try fewer engine.parameters.cpus_per_task",
    "PartitionNodeLimit": NEVER + "it asks for more than its partition allows, try fewer engine.parameters.cpus_per_task",
    "PartitionTimeLimit": NEVER + "it asks for more time than its partition allows, lower engine.parameters.timeout_min",
    "BadConstraints": NEVER + "no node has what it asks for",
    "PartitionDown": "its partition is down",
    "PartitionInactive": "its partition is down",
    "JobHeldUser": "it is held, release it with scontrol release JOB",
    "JobHeldAdmin": "an administrator holds it",
}


class Queue:
    """The user's jobs, by their ids: state, restarts, reason. Asked for at most every few seconds."""

    def __init__(self):
        self.jobs: dict[str, tuple[str, int, str]] = {}
        self.titles: dict[str, str] = {}  # of the jobs that are waited for
        self.looked = self.said = -float("inf")
        self.silent = False

    def look(self, now: bool = False) -> None:
        """Ask squeue, and say what pends and what was requeued."""
        if not now and time.monotonic() - self.looked < LOOK_SECONDS:
            return
        command = ["squeue", "--me", "--states=all", "--noheader", f"--Format={FIELDS}"]
        asked = subprocess.run(command, capture_output=True, text=True)
        self.looked = time.monotonic()
        if asked.returncode:
            if not self.silent:
                screen.say(f"squeue does not answer, asking on: {asked.stderr.strip()}")
            self.silent = True
            return
        before, self.silent = self.jobs, False
        rows = [line.split(maxsplit=3) for line in asked.stdout.splitlines()]
        self.jobs = {number: (state, int(restarts), why.strip()) for number, state, restarts, why in rows}
        for number, title in self.titles.items():
            if self.of(number)[1] > before.get(number, GONE)[1]:
                screen.say(f"requeued {title}   job {number} goes on where it was saved")
        if not now:  # a job that was just submitted pends for a moment
            self._say_pending()

    def active(self) -> list[str]:
        """The ids of the jobs that pend or run."""
        return [number for number, (state, _, _) in self.jobs.items() if state not in OVER]

    def of(self, number: str) -> tuple[str, int, str]:
        return self.jobs.get(number, GONE)

    def _say_pending(self) -> None:
        pending: dict[str, list[str]] = {}
        for number in self.titles:
            state, _, why = self.of(number)
            if state == "PENDING":
                pending.setdefault(why, []).append(number)
        if pending and time.monotonic() - self.said >= SAY_SECONDS:
            self.said = time.monotonic()
            screen.say("waiting for SLURM to start " + "; ".join(_pending(*each) for each in pending.items()))


def _pending(why: str, numbers: list[str]) -> str:
    """job 7: no node is free (Resources)"""
    shown = " ".join(numbers[:3]) + f" and {len(numbers) - 3} more" * (len(numbers) > 3)
    plain = WHY.get(why)
    return f"job{'s' * (len(numbers) > 1)} {shown}: " + (f"{plain} ({why})" if plain else why)


class Handle:
    """A job of submitit's, for Dispatch: done when it has left its result, or SLURM has ended it."""

    def __init__(self, queue: Queue, job, title: str):
        self.queue, self.job = queue, job
        queue.titles[job.job_id] = title
        self.since = time.monotonic()

    def done(self) -> bool:
        if self.job.paths.result_pickle.exists():
            return True
        self.queue.look()
        state = self.queue.of(self.job.job_id)
        return self.queue.looked > self.since and not self.queue.silent and (state is GONE or state[0] in OVER)

    def result(self) -> None:
        """Raises what the worker raised; WorkerLost where it was ended from outside."""
        state, _, why = self.queue.of(self.job.job_id)
        del self.queue.titles[self.job.job_id]
        if self.job.paths.result_pickle.exists():
            self.job.result()
        elif state != "COMPLETED":
            raise WorkerLost(f"SLURM job {self.job.job_id} ended: {state}   {self.job.paths.stderr}")

    def cancel(self) -> None:
        subprocess.run(["scancel", "--quiet", self.job.job_id], check=False)


def cpus_that_fit(partition: str | None, at_most: int) -> int:
    """CPUs of the smallest node of a partition, the default one for None; 1 where sinfo does not tell."""
    partition = partition or os.environ.get("SBATCH_PARTITION")
    command = ["sinfo", "--noheader", "--Node", "--format=%c %P", *([f"--partition={partition}"] if partition else [])]
    nodes = [line.split() for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()]
    sizes = [int(cpus) for cpus, name in nodes if partition or name.endswith("*")]
    return min(at_most, *sizes) if sizes else 1
