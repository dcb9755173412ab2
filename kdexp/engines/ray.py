"""engine=ray: groups as tasks of a Ray cluster, or of one started on this machine."""

import os
import subprocess
import sys

from kdexp import screen
from kdexp.engines import worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.errors import UsageError, needed
from kdexp.jobs.job import Job

RETRIES = 3  # of a group whose node or process died: it resumes from its checkpoints on another one
PATIENCE = 4  # seconds to wait for a cluster's answer; with the start of kdexp and Ray, ten in all
KNOCK = "import ray, sys; print(flush=True); ray.init(sys.argv[1], log_to_driver=False)"


class Ray:
    """address: a running cluster's, or None to start one here. cpus, gpus: per group; gpus may be a fraction."""

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: float = 0):
        self.ray, self.address, self.cpus, self.gpus = needed("ray"), address, cpus, gpus

    def check(self, jobs: list[Job]) -> list[str]:
        if self.address:
            self._knock()
        check_data(jobs)
        gpus = f" and {screen.counted(self.gpus, 'GPU')}" * bool(self.gpus)
        return [f"ray, {screen.counted(self.cpus, 'CPU')}{gpus} per group"]

    def _knock(self) -> None:
        """Raises UsageError if no cluster answers. Ray would keep trying for minutes, so a process that can be killed asks."""
        command = [sys.executable, "-c", KNOCK, self.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as knocking:
            knocking.stdout.readline()  # Ray is imported
            try:
                _, told = knocking.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                knocking.kill()
                why = f"no reply in {PATIENCE} seconds"
            else:
                if knocking.returncode == 0:
                    return
                why = "".join(told.strip().splitlines()[-1:])
        raise UsageError(
            f"engine.address={self.address}: no Ray cluster answers there ({why}). Start one with `ray start --head`, "
            "or leave out engine.address to start one here"
        )

    def run(self, groups: list[list[Job]], interrupted) -> None:
        environment = {"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
        self.ray.init(self.address, runtime_env=environment, include_dashboard=False)
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
