"""Trains jobs that share their batches and their teacher: from locked folders to finished records."""

import gc
import traceback

import torch

from kdexp import screen
from kdexp.compute.machine import machine, prepare_torch
from kdexp.errors import Stopped, UsageError
from kdexp.jobs import changes
from kdexp.jobs.job import Job
from kdexp.teachers import Teacher, Teachers, teacher_forward
from kdexp.training.learner import Learner
from kdexp.training.loop import OutOfMemory
from kdexp.training.memory import free_bytes, how_many
from kdexp.training.pretraining import PretrainingRun
from kdexp.training.recorded_fit import RecordedFit, made_with, note_failure
from kdexp.training.start import build_learner


class Group:
    """The jobs of one group, whose folders this process has locked; unlocked when trained.

    teachers: the command's teachers and data. interrupted: called between steps; raises Stopped after a signal.
    """

    def __init__(self, jobs: list[Job], teachers: Teachers, interrupted, title: str):
        for job in jobs:
            job.inspect()
        self.locked, self.jobs = jobs, [job for job in jobs if job.to_do]  # another process may have finished some
        self.teachers, self.interrupted, self.title = teachers, interrupted, title

    def train(self) -> None:
        """Train all jobs to the end. A job that fails is recorded, and the others continue."""
        try:
            if self.jobs:
                self._train()
        finally:
            for job in self.locked:
                job.record.unlock()

    def _train(self) -> None:
        first = self.jobs[0]
        self.data = self.teachers.data_of(first)
        self.hardware = machine(first.config, len(self.data.train.labels))
        prepare_torch(self.hardware)
        self.teacher, self.passes = self._teacher(), {}
        if self.teacher is not None:
            for mode in ("eval", "batch_stats"):
                self.passes[mode] = teacher_forward(
                    self.teacher.network, mode, self.hardware, first.config["batch_size"]
                )
        for job in self.jobs:
            job.begin(self._origins(job))
        cap = self._cap()
        for start in range(0, len(self.jobs), cap):
            self._train_part(self.jobs[start : start + cap])

    def _cap(self) -> int:
        """How many jobs fit in free memory at a time; prints a line if that is not all of them."""
        count = len(self.jobs)
        fits = min((how_many(job.config, free_bytes(self.hardware.device)) or count for job in self.jobs), default=1)
        if fits < count:
            screen.say(f"{self.title}: only {fits} of {count} students fit in free memory at a time")
        return max(1, min(fits, count))

    def _teacher(self) -> Teacher | None:
        """The teacher of the jobs that have one. If there is no teacher to be had, they fail and baselines
        continue."""
        students = [job for job in self.jobs if job.teacher_keys]
        try:
            (teacher,) = self.teachers.of(students[0], self._train_teacher, self.interrupted) if students else [None]
            return teacher
        except UsageError as error:
            self.jobs = [job for job in self.jobs if not job.teacher_keys]
            for job in students:
                job.begin()
                note_failure(job, "failed", str(error), "")
            return None

    def _origins(self, job: Job) -> list[dict]:
        """Whose weights teach a job: nobody's for a baseline."""
        return [self.teacher.origin] if job.teacher_keys else []

    def _train_teacher(self, teacher: Job) -> None:
        Group([teacher], self.teachers, self.interrupted, f"teacher {teacher.pair}").train()

    def _train_part(self, part: list[Job], halves: bool = True) -> None:
        """Train side by side, or in two halves if they turn out not to fit; runs that were stopped at different places
        resume one after the other."""
        standing: dict[tuple, dict[Job, Learner]] = {}
        rows: dict[Job, list[dict]] = {}
        for job in part:
            if (learner := self._learner(job, rows)) is not None:
                standing.setdefault((learner.epoch, learner.step), {})[job] = learner
            del learner
        while standing:
            members = standing.pop(next(iter(standing)))
            jobs, first = list(members), next(iter(members))
            title = first.title if len(members) == 1 and first.teacher_keys else self.title
            recorded = RecordedFit(members, {job: rows[job] for job in members}, self.data, self.hardware, self.teacher)
            try:
                recorded.train(self.passes, self.interrupted, title, halves)
                continue
            except OutOfMemory:
                del recorded, members
            gc.collect()
            if self.hardware.device.type == "cuda":
                torch.cuda.empty_cache()
            screen.say(f"{title}: {len(jobs)} students do not fit in memory; they go on in two halves")
            left = [job for job in jobs if job.record.status["status"] == "running"]
            for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                self._train_part(half, halves=False)

    def _learner(self, job: Job, rows: dict[Job, list[dict]]) -> Learner | None:
        """The job's learner, resumed if it was stopped before, with its rows in `rows`; None if it cannot be built."""
        try:
            state = job.record.checkpoint(self.hardware.device)
            if state is not None and (why := changes.not_resumable(job, state)):
                if job.config["rerun"] != "changed":
                    note_failure(job, "failed", why, "")
                    return None
                job.record.clear()
                job.begin(job.origins)
                state = None
            teacher = self.teacher.network if job.teacher_keys else None
            learner = build_learner(job.config, self.hardware, teacher, self.data.train.labels)
            self._remark(job, learner)
            rows[job] = self._resume(job, learner, state)
        except (UsageError, Stopped):
            raise
        except Exception as error:  # a bug in this job; the others continue
            line = f"failed before the first step: {type(error).__name__}: {error}"
            note_failure(job, "failed", line, traceback.format_exc())
            return None
        return None if learner.failure else learner

    def _resume(self, job: Job, learner: Learner, state: dict | None) -> list[dict]:
        """Restore the learner from its checkpoint, or first do its pretraining if there is one; returns the rows so
        far."""
        if state is not None and state["made"] != made_with(self.hardware):
            then, now = (
                " ".join(map(str, state["made"].values())),
                " ".join(map(str, made_with(self.hardware).values())),
            )
            screen.say(
                f"{job.title}   began with {then}, goes on with {now}: its numbers are no longer bitwise the same"
            )
        if state is not None and "learner" in state:
            learner.load_state_dict(state["learner"])
            screen.say(f"{job.title} goes on at epoch {learner.epoch + 1}   {job.record.folder}")
            return state["rows"]
        if learner.method is not None and (plan := learner.method.pretraining()):
            PretrainingRun(job, learner, plan, self.data, self.hardware).pretrain(state, self.passes, self.interrupted)
        return []

    def _remark(self, job: Job, learner: Learner) -> None:
        """Say and log what a reader of the numbers should know."""
        for remark in self.data.remarks:  # already printed when they were read
            job.record.log(remark)
        if job.teacher_keys and self.teacher.warning:  # printed when it was scored
            job.record.log(self.teacher.warning)
        remarks = list(learner.method.remarks) if learner.method else []
        own = job.config["model"]["student"], job.config["seed"]
        if own in [(teacher.config["model"]["student"], teacher.config["seed"]) for teacher in job.teachers]:
            remarks.append("teacher and student are the same network and seed: the student starts as the teacher did")
        for remark in remarks:
            screen.say(f"{job.title}   {remark}")
            job.record.log(remark)
