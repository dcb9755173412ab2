"""engine=process: all groups one after the other in this process."""

from kdexp import screen
from kdexp.compute.interrupt import wait_for
from kdexp.compute.machine import machine
from kdexp.jobs.groups import title
from kdexp.jobs.job import Job
from kdexp.teachers import Teachers
from kdexp.training.fits import check_batches
from kdexp.training.group import Group


class Process:
    def __init__(self):
        self.teachers = Teachers()

    def check(self, jobs: list[Job]) -> list[str]:
        """Read the jobs' data; returns what they run on. Raises UsageError for missing data or devices."""
        hardware = []
        for job in jobs:
            images = len(self.teachers.data_of(job).train.labels)
            check_batches(job.config, images)
            hardware.append(str(machine(job.config, images)))
        return hardware

    def run(self, groups: list[list[Job]], interrupted) -> None:
        """Train the free runs first, then wait one by one for those that other processes are training. A missing
        teacher is trained when its first students need it."""
        busy = []
        for number, members in enumerate(groups, start=1):
            mine = [job for job in members if job.record.lock()]
            busy += [job for job in members if job not in mine]
            Group(mine, self.teachers, interrupted, title(members, number, len(groups))).train()
            busy += [job for job in mine if job.taken]
        for job in busy:
            screen.say(f"waiting for {job.title}: {job.holder} is training it   {job.record.folder}")
            wait_for(job.record, interrupted)
            Group([job], self.teachers, interrupted, job.title).train()
