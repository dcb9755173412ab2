"""engine=submitit: every group is a SLURM job, or with engine.cluster=local a process on this machine, to try it
out."""

import contextlib
import io
import os
import sys
from pathlib import Path

from kdexp import screen
from kdexp.engines import slurm, worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.errors import Stopped, needed
from kdexp.jobs.job import Job

CPUS = 4  # per job at most, unless engine.parameters.cpus_per_task asks for more
WARNINGS = 1000  # how often a job may save and be queued again; submitit's own limit is three


class Submitit:
    """cluster: slurm, local, or None for SLURM if there is one. folder: for submitit's own files and logs.
    parameters: of submitit's AutoExecutor; those without a value are left out. Raises ValueError."""

    def __init__(self, cluster: str | None, folder: str, parameters: dict):
        self.submitit = needed("submitit", extra="slurm")
        given = {key: value for key, value in parameters.items() if value is not None}
        try:
            self.executor = self.submitit.AutoExecutor(
                folder=Path(folder, "%j"), cluster=cluster, slurm_max_num_timeout=WARNINGS
            )
            self.queue = slurm.Queue() if self.executor.cluster == "slurm" else None
            fits = slurm.cpus_that_fit(given.get("slurm_partition"), CPUS) if self.queue else 1
            self.threads = given.setdefault("cpus_per_task", fits)
            self.executor.update_parameters(**given)
        except (NameError, RuntimeError, OSError) as error:
            raise ValueError(f"cluster={cluster}: {error}") from None

    def check(self, jobs: list[Job]) -> list[str]:
        check_data(jobs)
        return [f"submitit, {self.executor.cluster}, {screen.counted(self.threads, 'CPU')} per job"]

    def run(self, groups: list[list[Job]], interrupted) -> None:
        cancel = slurm.Handle.cancel if self.queue else lambda job: None  # Dispatch signals a local process itself
        word = "queued " if self.queue else "started"
        Dispatch(self._submit, self.threads, cancel, handed_over=word).run(groups, interrupted)

    def _submit(self, configs: list[dict], title: str):
        job, again = self._queued_before(configs), " already"
        if job is None:
            job, again = self._submit_new(configs, title), ""
        screen.say(f"        {title} is job {job.job_id}{again}   {job.paths.stderr}")
        return slurm.Handle(self.queue, job, title) if self.queue else job

    def _submit_new(self, configs: list[dict], title: str):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit also prints the error it raises
                return self.executor.submit(Restartable(), configs, title)
        except self.submitit.core.utils.FailedJobError as error:
            raise Stopped(f"{title} could not be submitted: {error}; all other runs stopped", 1) from None

    def _queued_before(self, configs: list[dict]):
        """The pending or running job for these runs, from a command that was killed or one in another terminal."""
        if self.queue:
            self.queue.look(now=True)
            for number in self.queue.active():
                job = self.submitit.SlurmJob(self.executor.folder, number)
                if job.paths.submitted_pickle.exists() and job.submission().args[0] == configs:
                    return job
        return None


class Restartable:
    """A worker that SLURM may preempt: it saves on the warning signal and resumes when the job is restarted."""

    def __call__(self, configs: list[dict], title: str) -> None:
        if not worker.train(configs, title) and "SLURM_JOB_ID" in os.environ:
            sys.exit("stopped")  # no result, because SLURM may restart this job: scontrol requeue, preemption

    def checkpoint(self, configs: list[dict], title: str):
        again = [config | {"rerun": "none"} for config in configs]  # rerun=all has already been carried out
        return needed("submitit", extra="slurm").helpers.DelayedSubmission(self, again, title)
