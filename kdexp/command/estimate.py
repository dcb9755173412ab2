"""Estimates how long jobs will take, from the records of earlier ones."""

import statistics
from functools import cached_property
from pathlib import Path

from kdexp.compute.machine import Machine
from kdexp.experiment.objects import pretrain_epochs
from kdexp.jobs.job import Job
from kdexp.storage import seal


class Pace:
    """How long a group's epochs take on this machine, in seconds.

    The time of a group is split evenly over its students: a run's seconds divided by its group size are one student's.
    Of all records of the pair on this kind of machine, those with the closest group size count.
    """

    def __init__(self, outputs: str | Path, hardware: Machine):
        self.outputs = Path(outputs)
        self.setup = str(hardware.device).partition(":")[0], "bf16" if hardware.half else "fp32"
        self.threads = hardware.threads

    @cached_property
    def records(self) -> list[dict]:
        """result.json of every finished run on this kind of device, in the same precision."""
        found = filter(None, (seal.read_json(path) for path in self.outputs.glob("*/*/*/*/seed*/result.json")))
        kind = lambda one: one["device"].partition(":")[0].partition(" ")[0]
        return [one for one in found if (kind(one), one["precision"]) == self.setup and one["images_per_second"]]

    @cached_property
    def alike(self) -> dict[tuple, list[dict]]:
        """(dataset, student) -> their records."""
        found: dict[tuple, list[dict]] = {}
        for one in self.records:
            found.setdefault((one["dataset"], one["student"]), []).append(one)
        return found

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Data set -> its images per epoch, of those that a record tells."""
        sizes: dict[str, int] = {}
        for one in self.records:
            if one["limit"] is None:
                images = round(one["images_per_second"] * one["seconds_per_epoch"])
                sizes[one["dataset"]] = max(images, sizes.get(one["dataset"], 0))
        return sizes

    def seconds(self, members: list[Job]) -> float | None:
        """Time left for a group, in seconds; None if no record tells."""
        shares = [self._share(job, len(members)) for job in members]
        return None if None in shares else sum(shares)

    def _share(self, job: Job, size: int) -> float | None:
        teacher, student = job.config["model"]["teacher"], job.config["model"]["student"]["name"]
        alike = self.alike.get((job.config["dataset"]["name"], student), [])
        if teacher:
            alike = [one for one in alike if one["teacher"] == teacher["name"]]
        elif size > 1:  # a baseline in a group pays its share of the group's teacher
            alike = [one for one in alike if one["group_size"] > 1] or alike
        alike = [one for one in alike if one["threads"] == self.threads] or alike
        images = job.config["dataset"]["limit"] or self.sizes.get(job.config["dataset"]["name"])
        if not alike or not images:
            return None
        nearest = min(abs(one["group_size"] - size) for one in alike)
        pace = statistics.median(
            1 / one["images_per_second"] / one["group_size"]
            for one in alike
            if abs(one["group_size"] - size) == nearest
        )
        paces = [_pretraining_pace(one) for one in alike if one.get("pretrain_epochs")] or [pace]
        before = statistics.median(paces) * (pretrain_epochs(job.config) - epochs_done(job, "pretraining.csv"))
        return images * (pace * (job.last_epoch - epochs_done(job)) + before)


def _pretraining_pace(result: dict) -> float:
    """Seconds per image in a run's pretraining."""
    images = result["images_per_second"] * result["seconds_per_epoch"]
    return result["pretrain_seconds"] / result["pretrain_epochs"] / images


def epochs_done(job: Job, rows: str = "epochs.csv") -> int:
    """Epochs already done of a run that can be resumed, else 0. rows: "pretraining.csv" for those of its
    pretraining."""
    folder = job.record.folder
    if not (folder / "checkpoint.pt").exists() or job.config["rerun"] == "all" or not (folder / rows).exists():
        return 0
    return len((folder / rows).read_bytes().splitlines()) - 1
