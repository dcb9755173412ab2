"""The trials of an Optuna sweeper, judged on held-out images."""

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from kdexp.command.plan import plan
from kdexp.command.sweep import train
from kdexp.config import naming, resolve
from kdexp.errors import UsageError
from kdexp.jobs.job import Job


def trials(configs: list[DictConfig], direction: str) -> list[JobReturn]:
    """Train trials side by side; returns each one's validation accuracy in percent, or its failure. Raises
    UsageError for a search that does not maximize accuracy on held-out images."""
    if direction != "maximize" or any(not config.dataset.validation for config in configs):
        raise UsageError(
            "a search must maximize accuracy on images held out of the training set: "
            "python run.py -m hydra/sweeper=search dataset.validation=5000 ..."
        )
    if shown := [key for key in ("dry_run", "prepare", "describe") if any(config[key] for config in configs)]:
        raise UsageError(f"{shown[0]}=true: a search decides what to train as it goes. Leave out one of the two")
    jobs = {job.record.folder: job for job in plan(configs)}
    train(list(jobs.values()))
    return [_returned(jobs[naming.folder(resolve.plain(config))]) for config in configs]


def _returned(job: Job) -> JobReturn:
    done = JobReturn(status=JobStatus.COMPLETED if job.done else JobStatus.FAILED)
    done.return_value = job.record.result["val_acc"] if job.done else RuntimeError(job.record.status.get("error"))
    return done
