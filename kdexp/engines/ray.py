"""engine=ray: groups as tasks of a Ray cluster, or of one started on this machine."""

import os

from kdexp.config.targets import needed
from kdexp.engines import worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.job import Job


class Ray:
    """address: of a running cluster, None to start one here. cpus, gpus: of a group; gpus may be a fraction."""

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: float = 0):
        self.ray, self.address, self.cpus, self.gpus = needed("ray"), address, cpus, gpus

    def check(self, jobs: list[Job]) -> list[str]:
        check_data(jobs)
        return [f"ray, {self.cpus} CPUs and {self.gpus} GPUs a group"]

    def run(self, groups: list[list[Job]], interrupted) -> None:
        environment = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
        self.ray.init(self.address, runtime_env=environment, include_dashboard=False)
        try:
            task = self.ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=0)(worker.train)
            tasks = {}

            def submit(*unit):
                reference = task.remote(*unit)
                tasks[future := reference.future()] = reference
                return future

            Dispatch(submit, self.cpus, cancel=lambda future: self.ray.cancel(tasks[future])).run(groups, interrupted)
        finally:
            self.ray.shutdown()
