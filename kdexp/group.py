"""Jobs that train side by side: from locked folders to finished records."""

import time
import traceback

import torch

from kdexp import experiment, screen
from kdexp.evaluate import evaluate
from kdexp.job import Job
from kdexp.machine import Machine, forward_of, machine, prepare_torch
from kdexp.memory import free_bytes, how_many
from kdexp.record import torch_bytes
from kdexp.result import describe
from kdexp.schema import UsageError
from kdexp.teacher import Teachers, teacher_view
from kdexp.train import Learner, fit

SAVE_SECONDS, HEARTBEAT_SECONDS = 300, 60
QUICKER = "epochs=2 dataset.limit=5000, dataset=digits, or a GPU"


class Stopped(Exception):
    """The user asked to stop; everything is saved."""


class Group:
    """The jobs of one group, whose folders this process has locked; unlocked when trained.

    teachers: the command's teachers and data. interrupted: raises Stopped between two steps when it is time to.
    """

    def __init__(self, jobs: list[Job], teachers: Teachers, interrupted, title: str):
        self.locked, self.jobs = jobs, [job for job in jobs if not job.done]  # another process may have done some
        self.teachers, self.interrupted, self.title = teachers, interrupted, title

    def train(self) -> None:
        """Train all jobs to their end. One that fails is recorded and ends alone."""
        try:
            if self.jobs:
                self._train()
        finally:
            for job in self.locked:
                job.record.unlock()

    def _train(self) -> None:
        first = self.jobs[0]
        self.data = self.teachers.data_of(first)
        self.where = machine(first.config, len(self.data.train.labels))
        prepare_torch(self.where)
        network, self.accuracy = self._teacher()
        self.views = {}
        if network is not None:
            for mode in ("eval", "batch_stats"):
                self.views[mode] = forward_of(teacher_view(network, mode), self.where, first.config["batch_size"])
        cap = self._cap()
        for start in range(0, len(self.jobs), cap):
            part = self.jobs[start : start + cap]
            learners = {job: learner for job in part if (learner := self._learner(job, network))}
            # runs that were stopped at different places go on one after the other
            for position in dict.fromkeys((learner.epoch, learner.step) for learner in learners.values()):
                self._train_together({job: one for job, one in learners.items() if (one.epoch, one.step) == position})

    def _cap(self) -> int:
        """How many of the jobs free memory allows at a time; said where it is fewer than there are."""
        count = len(self.jobs)
        fits = min((how_many(job.config, free_bytes(self.where.device)) or count for job in self.jobs), default=1)
        if fits < count:
            screen.say(f"{self.title}: memory is free for {fits} of {count} students at a time")
        return max(1, min(fits, count))

    def _teacher(self) -> tuple[torch.nn.Module | None, float | None]:
        """The teacher of those that have one. If it cannot be had, they fail; baselines go on."""
        pupils = [job for job in self.jobs if job.teacher_key]
        try:
            return self.teachers.of(pupils[0], self._train_teacher) if pupils else (None, None)
        except UsageError as error:
            for job in pupils:
                job.record.start(job.config, job.fingerprint)
                self._fail(job, "failed", str(error), "")
            self.jobs = [job for job in self.jobs if not job.teacher_key]
            return None, None

    def _train_teacher(self, teacher: Job) -> None:
        Group([teacher], self.teachers, self.interrupted, f"teacher {teacher.pair}").train()

    def _learner(self, job: Job, network) -> Learner | None:
        """The job's learner, where it stopped before; None if it cannot be built."""
        if job.config["rerun"] == "all" or job.record.status.get("status") == "diverged":
            job.record.clear()
        job.record.start(job.config, job.fingerprint)
        try:
            learner = experiment.build_learner(job.config, self.where, network if job.teacher_key else None)
            self._go_on(job, learner)
        except Exception as error:  # a defect of this job; the others go on
            line = f"failed before the first step: {type(error).__name__}: {error}"
            self._fail(job, "failed", line, traceback.format_exc())
            return None
        self._remark(job, learner)
        return learner

    def _go_on(self, job: Job, learner: Learner) -> None:
        state = job.record.checkpoint(self.where.device)
        if state is None:
            return
        learner.load_state_dict(state["learner"])
        screen.say(f"{job.label} goes on at epoch {learner.epoch + 1}   {job.record.folder}")
        if state["made"] != made_with(self.where):
            then, now = " ".join(map(str, state["made"].values())), " ".join(map(str, made_with(self.where).values()))
            screen.say(f"{job.label}   began with {then}, goes on with {now}: its numbers are no longer bitwise")

    def _remark(self, job: Job, learner: Learner) -> None:
        """Say and log what a reader of the numbers should know."""
        remarks = list(learner.method.remarks) if learner.method else []
        teacher, student = job.config["model"]["teacher"], job.config["model"]["student"]
        if teacher and teacher["name"] == student["name"] and job.config["seed"] == job.config["teacher_seed"]:
            remarks.append("teacher and student are the same network and seed: the student starts as the teacher did")
        for remark in remarks:
            screen.say(f"{job.label}   {remark}")
            job.record.log(remark)

    def _train_together(self, members: dict[Job, Learner]) -> None:
        self.members, (first, learner) = members, next(iter(members.items()))
        data, config = self.data, first.config
        batches = experiment.train_batches(config, data)
        self.rows = {job: job.record.rows(one.epoch) for job, one in members.items()}
        title = first.label if len(members) == 1 and first.teacher_key else self.title
        steps = learner.epoch * len(batches) + learner.step
        self.bar = screen.Bar(title, config["epochs"], len(batches), steps, QUICKER)
        self.saved = self.beaten = time.monotonic()
        training = fit(
            list(members.values()),
            batches,
            self.views,
            experiment.schedule(config),
            config["epochs"],
            test=lambda student: evaluate(student, data.test, data.pixels),
            validate=data.validation and (lambda student: evaluate(student, data.validation, data.pixels)),
            after_step=self._after_step,
            half=self.where.half,
        )
        try:
            for rows in training:
                self._after_epoch(dict(zip(members, rows)))
        except Stopped:
            self._save()
            raise
        finally:
            self.bar.close()
        for job in self.rows:
            self._finish(job, members[job])

    def _alive(self) -> list[tuple[Job, Learner]]:
        return [(job, learner) for job, learner in self.members.items() if not learner.failure]

    def _after_step(self) -> None:
        self.bar.step()
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT_SECONDS:
            self.beaten = now
            for job, _ in self._alive():
                job.record.heartbeat()
        if now - self.saved > SAVE_SECONDS:
            self._save()
        self.interrupted()

    def _save(self) -> None:
        self.saved = time.monotonic()
        for job, learner in self._alive():
            job.record.save_checkpoint({"learner": learner.state_dict(), "made": made_with(self.where)})

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        lines = []
        for job, row in rows.items():
            if row is not None:
                self.rows[job].append(row)
                job.record.save_rows(self.rows[job])
                text = progress(row, job.config["distill"]["name"] if job.teacher_key else "")
                job.record.log(f"epoch {row['epoch']}   {text}   {row['seconds']:.1f} s")
                lines.append(text if len(rows) == 1 else f"{job.method}   {text}")
            elif job in self.rows:
                del self.rows[job]
                self._fail(job, *self.members[job].failure)
        self._save()
        self.bar.epoch(lines)

    def _fail(self, job: Job, state: str, line: str, trace: str) -> None:
        job.record.fail(state, line, trace)
        screen.say(f"failed  {job.label}   {line}   {job.record.folder / 'run.log'}")

    def _finish(self, job: Job, learner: Learner) -> None:
        weights = torch_bytes(learner.student.state_dict())
        accuracy = self.accuracy if job.teacher_key else None
        images, size = len(self.data.train.labels), len(self.members)
        result = describe(job, learner, self.where, size, self.rows[job], images, accuracy, weights)
        job.record.finish(weights, learner.predictions.cpu().numpy(), result)
        job.trained = True
        teacher = f"; teacher {accuracy:.2f}" if accuracy is not None else ""
        line = f"test {result['test_acc']:.2f} % (last epoch{teacher})   {screen.duration(result['seconds'])}"
        job.record.log(f"done   {line}")
        who = job.label if job.teacher_key else f"{job.pair} {job.label}"
        screen.say(f"done    {who}   {line}   {job.record.folder}")


def made_with(where: Machine) -> dict:
    """What must be equal for a resumed run to be bitwise that of an undisturbed one."""
    threads = torch.get_num_threads() if where.device.type == "cpu" else 0
    compiled = "compiled" if where.compile else "eager"
    return {"device": where.device.type, "compile": compiled, "torch": f"torch {torch.__version__}", "threads": threads}


def progress(row: dict, method: str) -> str:
    """loss 0.93 (ce 0.71 sp 0.22)   test 70.1 %"""
    terms = f" (ce {row['ce_loss']:.2f} {method} {row['distill_loss']:.2f})" if method else ""
    return f"loss {row['train_loss']:.2f}{terms}   test {row['test_acc']:.1f} %"
