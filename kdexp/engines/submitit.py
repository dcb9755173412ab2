"""engine=submitit: every group a job of SLURM; with engine.cluster=local a process of this machine, to try it out."""

from pathlib import Path

from kdexp import screen
from kdexp.config.targets import needed
from kdexp.engines import worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.job import Job


class Submitit:
    """cluster: slurm, local, or None for SLURM where there is one. folder: of submitit's own files and logs.
    parameters: of submitit's AutoExecutor; those without a value are left out. Raises ValueError."""

    def __init__(self, cluster: str | None, folder: str, parameters: dict):
        self.submitit = needed("submitit", extra="slurm")
        self.folder, self.threads = Path(folder), parameters.get("cpus_per_task") or 1
        try:
            self.executor = self.submitit.AutoExecutor(folder=self.folder / "%j", cluster=cluster)
            self.executor.update_parameters(**{key: value for key, value in parameters.items() if value is not None})
        except (NameError, RuntimeError, OSError) as error:
            raise ValueError(f"cluster={cluster}: {error}") from None

    def check(self, jobs: list[Job]) -> list[str]:
        check_data(jobs)
        return [f"submitit, {self.executor.cluster}"]

    def run(self, groups: list[list[Job]], interrupted) -> None:
        Dispatch(self._submit, self.threads, self._cancel).run(groups, interrupted)

    def _submit(self, configs: list[dict], title: str):
        job = self.executor.submit(Restartable(), configs, title)
        screen.say(f"        {title} is job {job.job_id}   {job.paths.stderr}")
        return job

    def _cancel(self, job) -> None:
        if self.executor.cluster == "slurm":  # a process of this machine is told by its own signal
            job.cancel()


class Restartable:
    """A worker that the cluster may move: after its warning signal it has saved, and starts again where it was."""

    def __call__(self, configs: list[dict], title: str) -> None:
        worker.train(configs, title)

    def checkpoint(self, configs: list[dict], title: str):
        again = [config | {"rerun": "none"} for config in configs]  # rerun=all was obeyed when it began
        return needed("submitit", extra="slurm").helpers.DelayedSubmission(self, again, title)
