"""Trains learners side by side and records them: a row per epoch, checkpoints in between, the result at the end."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from kdexp import screen
from kdexp.compute.machine import Machine
from kdexp.errors import Stopped, first_line
from kdexp.evaluate import Score, evaluate, measures
from kdexp.experiment.data import Data, train_batches
from kdexp.experiment.objects import build_logger
from kdexp.jobs.job import Job
from kdexp.storage.files import torch_bytes
from kdexp.storage.lease import HEARTBEAT
from kdexp.teachers import Teacher
from kdexp.training.learner import Learner
from kdexp.training.loop import fit
from kdexp.training.result import result_of
from kdexp.training.schedules import schedule

SAVE_SECONDS = 300
LOGITS_AT_MOST = 100e6  # bytes, with keep_logits=auto
TAKEN = "this process was suspended for so long that another one has taken over the run"
QUICKER = "epochs=2 dataset.limit=5000, dataset=digits, or a GPU"


class RecordedFit:
    """One training of jobs that are at the same epoch and step.

    members: job -> learner. rows: job -> the rows of earlier epochs. passes: teacher mode -> the forward pass of the teacher. interrupted:
    called between steps; raises Stopped after a signal.
    """

    def __init__(
        self,
        members: dict[Job, Learner],
        rows: dict[Job, list[dict]],
        data: Data,
        hardware: Machine,
        teacher: Teacher | None = None,
    ):
        self.members, self.rows, self.data, self.hardware, self.teacher = members, rows, data, hardware, teacher
        self.saved = self.beaten = time.monotonic()
        self.loggers: dict[Job, Any] = {}

    def train(self, passes: dict, interrupted, title: str, may_split: bool) -> None:
        """Train all members to the end. Raises Stopped, and OutOfMemory if `may_split`."""
        (first, learner), data = next(iter(self.members.items())), self.data
        if self.hardware.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.hardware.device)
        self.loggers = {job: build_logger(job.config, job.record.folder, job.title) for job in self.members}
        batches = train_batches(first.config, data)
        steps = learner.epoch * len(batches) + learner.step
        self.bar = screen.Bar(title, first.last_epoch, len(batches), steps, QUICKER)
        training = fit(
            list(self.members.values()),
            batches,
            passes,
            schedule(first.config),
            first.config["epochs"],
            test=lambda student: evaluate(student, data.test, data.pixels),
            validate=data.validation and (lambda student: evaluate(student, data.validation, data.pixels)),
            after_step=lambda: self._after_step(interrupted),
            may_split=may_split,
            stop=first.last_epoch,
        )
        try:
            self._follow(training)
        finally:
            for job in self.loggers:
                self._to_logger(job, "close")
        for job in [*self.rows]:
            self._leave_taken()
            if job in self.rows:
                self._finish(job, self.members[job], self.teacher if job.teacher_keys else None)

    def _follow(self, training: Iterator[list[dict | None]]) -> None:
        """Follow a training to its end, or until it is stopped and everything is saved."""
        try:
            for rows in training:
                self._after_epoch(dict(zip(self.members, rows)))
            self._note_failures()
        except Stopped:
            self._save()
            raise
        finally:
            self.bar.close()

    def _alive(self) -> list[tuple[Job, Learner]]:
        return [(job, learner) for job, learner in self.members.items() if not learner.failure]

    def _after_step(self, interrupted) -> None:
        self.bar.step()
        interrupted()  # first: a failure now may come from the signal itself, and that run is tried again
        self._note_failures()
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT:
            self.beaten = now
            self._leave_taken()
            for job, _ in self._alive():
                job.record.heartbeat()
        if now - self.saved > SAVE_SECONDS:
            self._save()

    def _save(self) -> None:
        self.saved = time.monotonic()
        self._leave_taken()
        for job, learner in self._alive():
            self._save_job(job, learner)

    def _save_job(self, job: Job, learner: Learner) -> None:
        self._save_state(job, {"learner": learner.state_dict(), "rows": self.rows[job]})

    def _save_state(self, job: Job, state: dict) -> None:
        made = {"made": made_with(self.hardware), "sources": job.sources, "teachers": job.origins}
        job.record.save_checkpoint(state | made)

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        self._leave_taken()
        rows = {job: row for job, row in rows.items() if row is not None and job in self.rows}
        for job, row in rows.items():
            self.rows[job].append(row)
            self._to_logger(job, "log", row)
            job.record.save_rows(self.rows[job])
            text = progress(row, job.config["distill"]["name"] if job.teacher_keys else "")
            job.record.log(f"epoch {row['epoch']}   {text}   {row['seconds']:.1f} s")
        self._save()
        if len(self.members) == 1 and rows:
            self.bar.epoch(text)
        elif rows:
            accuracies = ", ".join(f"{job.name} {row['test_acc']:.1f}" for job, row in rows.items())
            self.bar.epoch(f"test %: {accuracies}", short=screen.counted(len(rows), "student"))
        self._note_failures()

    def _to_logger(self, job: Job, action: str, *values) -> None:
        """A logger that fails is dropped: the record has all the rows anyway."""
        try:
            if self.loggers[job] is not None:
                getattr(self.loggers[job], action)(*values)
        except Exception as error:  # whatever a logging service raises
            self.loggers[job] = None
            screen.say(
                f"{job.title}   its logger failed and gets no more rows ({type(error).__name__}: {first_line(error)})"
            )

    def _leave_taken(self) -> None:
        """Drop runs that another process took over while this one was suspended or its machine slept; don't write to
        them."""
        for job, learner in self._alive():
            if job in self.rows and not job.record.held:
                learner.fail("taken", TAKEN)
        self._note_failures()

    def _note_failures(self) -> None:
        for job in [job for job in self.rows if self.members[job].failure]:
            del self.rows[job]
            note_failure(job, *self.members[job].failure)

    def _finish(self, job: Job, learner: Learner, teacher: Teacher | None) -> None:
        if learner.score is None:  # was stopped between the end of the last epoch and here
            learner.score = evaluate(learner.scored, self.data.test, self.data.pixels)
        if not self.rows[job]:  # stop_epoch=0: the network as initialized
            self.rows[job] = [untrained(learner.score)]
        weights = torch_bytes(learner.scored.state_dict())
        logits, labels = learner.score.logits.cpu(), self.data.test.labels.cpu()
        measured: dict[str, Any] = dict(measures.calibration(logits, labels))
        if job.config["omit"]:
            measured["class_acc"] = measures.class_accuracies(logits, labels)
        if teacher is not None:
            measured |= measures.fidelity(logits, teacher.score.logits.cpu(), labels)
        images, size = len(self.data.train.labels), len(self.members)
        result = result_of(job, learner, self.hardware, size, self.rows[job], images, weights) | measured
        job.record.save_rows(self.rows[job])
        if keeps_logits(job.config, logits):
            job.record.save_logits(logits.numpy())
        job.record.save_right(np.packbits((logits.argmax(1) == labels).numpy()))
        job.record.finish(weights, logits.argmax(1).numpy(), result)
        job.trained = True
        taught = f"; teacher {teacher.score.acc:.2f}" if teacher else ""
        line = f"test {result['test_acc']:.2f} % (last epoch{taught})   {screen.duration(result['seconds'])}"
        job.record.log(f"done   {line}")
        who = job.title if job.teacher_keys else f"{job.pair} {job.title}"
        screen.say(f"done    {who}   {line}   {job.record.folder}")


def untrained(score: Score) -> dict:
    """The one row of a run that ends before its first epoch."""
    scored = {"test_loss": score.loss, "test_acc": score.acc, "test_top5": score.top5}
    return {"epoch": 0, **scored, "val_acc": None, "seconds": 0.0}


def keeps_logits(config: dict, logits: torch.Tensor) -> bool:
    """Whether a run keeps its test logits, two bytes each."""
    asked = config["keep_logits"]
    return 2 * logits.numel() < LOGITS_AT_MOST if asked == "auto" else asked


def note_failure(job: Job, state: str, line: str, trace: str) -> None:
    """Record and print how a job failed. Raises Stopped under on_error=stop."""
    if not job.record.held:
        job.taken = True
        return screen.say(f"left    {job.title}   {TAKEN}   {job.record.folder}")
    job.record.fail(state, line, trace)
    screen.say(f"failed  {job.title}   {line}   {job.record.folder / 'run.log'}")
    if job.config["on_error"] == "stop":
        raise Stopped("stopped at the first failure (on_error=stop); all other runs stopped", 1)


def made_with(hardware: Machine) -> dict:
    """What must stay the same for a resumed run to be bitwise equal to an uninterrupted one."""
    threads = hardware.threads if hardware.device.type == "cpu" else 0
    return {
        "device": hardware.device.type,
        "compile": hardware.execution,
        "torch": f"torch {torch.__version__}",
        "threads": threads,
    }


def progress(row: dict, method: str) -> str:
    """loss 0.93 (ce 0.71 sp 0.22)   test 70.1 %"""
    terms = f" (ce {row['ce_loss']:.2f} {method} {row['distill_loss']:.2f})" if method else ""
    return f"loss {row['train_loss']:.2f}{terms}   test {row['test_acc']:.1f} %"
