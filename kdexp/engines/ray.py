"""engine=ray: groups as tasks of a Ray cluster, or of one started on this machine."""

import os
import socket

from kdexp.config.schema import UsageError, first_line
from kdexp.config.targets import needed
from kdexp.engines import worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.job import Job

RETRIES = 3  # of a group whose node or process died: it resumes from its checkpoints on another one
PATIENCE = 5  # seconds to wait for a cluster's answer


class Ray:
    """address: a running cluster's, or None to start one here. cpus, gpus: per group; gpus may be a fraction."""

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: float = 0):
        self.ray, self.address, self.cpus, self.gpus = needed("ray"), address, cpus, gpus

    def check(self, jobs: list[Job]) -> list[str]:
        if self.address and ":" in self.address:
            self._knock()
        check_data(jobs)
        return [f"ray, {self.cpus} CPUs and {self.gpus} GPUs per group"]

    def _knock(self) -> None:
        """Raises UsageError if nothing answers there; Ray itself would keep trying for minutes."""
        host, _, port = self.address.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"engine.address={self.address}: no Ray cluster answers there ({error}). Start one with `ray start --head`, "
                "or leave out engine.address to start one here"
            ) from None

    def run(self, groups: list[list[Job]], interrupted) -> None:
        environment = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
        try:
            self.ray.init(self.address, runtime_env=environment, include_dashboard=False)
        except (ConnectionError, RuntimeError, self.ray.exceptions.RayError) as error:
            raise UsageError(f"engine.address={self.address}: {first_line(error)}") from None
        try:
            task = self.ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)(worker.train)
            tasks = {}

            def submit(*unit):
                reference = task.remote(*unit)
                tasks[future := reference.future()] = reference
                return future

            Dispatch(submit, self.cpus, cancel=lambda future: self.ray.cancel(tasks[future])).run(groups, interrupted)
        finally:
            self.ray.shutdown()
