"""Jobs that train side by side: from locked folders to finished records."""

import time
import traceback

from kdexp import experiment, screen
from kdexp.job import Job
from kdexp.record import torch_bytes
from kdexp.result import describe
from kdexp.schema import UsageError
from kdexp.teacher import Teachers
from kdexp.train import Learner, evaluate, fit, teacher_view

SAVE_SECONDS, HEARTBEAT_SECONDS = 300, 60


class Stopped(Exception):
    """The user asked to stop; everything is saved."""


class Group:
    """The jobs of one group, whose folders this process has locked. interrupted: raises Stopped between two steps
    when it is time to."""

    def __init__(
        self, jobs: list[Job], where: experiment.Machine, data: dict, teachers: Teachers, interrupted, title: str
    ):
        self.jobs = [job for job in jobs if not job.done]  # another process may have finished some in the meantime
        for job in jobs:
            if job.done:
                job.record.unlock()
        self.where, self.data, self.teachers, self.interrupted, self.title = where, data, teachers, interrupted, title
        self.accuracy = None

    def train(self) -> None:
        """Train all jobs to their end. One that fails is recorded and ends alone; a teacher that cannot be had fails
        its students."""
        try:
            learners = self._learners()
            positions = dict.fromkeys((learner.epoch, learner.step) for learner in learners.values())
            for position in positions:  # runs that were stopped at different epochs go on one after the other
                self._train_together({job: one for job, one in learners.items() if (one.epoch, one.step) == position})
        finally:
            for job in self.jobs:
                job.record.unlock()

    def _learners(self) -> dict[Job, Learner]:
        if not self.jobs:
            return {}
        network, pupils = None, [job for job in self.jobs if job.teacher_key]
        try:
            if pupils:
                network, self.accuracy = self.teachers.of(pupils[0], self._train_teacher)
        except UsageError as error:
            for job in pupils:
                job.record.start(job.config, job.fingerprint)
                self._fail(job, "failed", str(error), "")
        self.views = (
            {mode: experiment.forward_of(teacher_view(network, mode), self.where) for mode in ("eval", "batch_stats")}
            if network is not None
            else {}
        )
        learners = {}
        for job in self.jobs:
            if network is not None or not job.teacher_key:
                try:
                    learners[job] = self._learner(job, network)
                except Exception as error:  # one job's defect; the others go on
                    self._fail(
                        job,
                        "failed",
                        f"failed before the first step: {type(error).__name__}: {error}",
                        traceback.format_exc(),
                    )
        return learners

    def _train_teacher(self, teacher: Job) -> None:
        Group([teacher], self.where, self.data, self.teachers, self.interrupted, f"teacher {teacher.pair}").train()

    def _learner(self, job: Job, network) -> Learner:
        if job.config["rerun"] == "all" or job.record.status.get("status") == "diverged":
            job.record.clear()
        job.record.start(job.config, job.fingerprint)
        learner = experiment.build_learner(job.config, self.where, network if job.teacher_key else None)
        state = job.record.checkpoint(self.where.device)
        if state:
            learner.load_state_dict(state)
            screen.say(f"{job.label} goes on at epoch {learner.epoch + 1}   {job.record.folder}")
        for remark in learner.method.remarks if learner.method else ():
            screen.say(f"{job.label}   {remark}")
            job.record.log(remark)
        teacher = job.config["model"]["teacher"]
        if (
            teacher
            and teacher["name"] == job.config["model"]["student"]["name"]
            and job.config["seed"] == job.config["teacher_seed"]
        ):
            screen.say(
                f"{job.label}   teacher and student are the same network and seed: the student starts as the teacher did"
            )
        return learner

    def _train_together(self, members: dict[Job, Learner]) -> None:
        self.members, first = members, next(iter(members))
        data = self.data[first.data_key]
        batches, epochs = experiment.train_batches(first.config, data), first.config["epochs"]
        position = next(iter(members.values()))
        self.rows = {job: job.record.rows(learner.epoch) for job, learner in members.items()}
        title = self.title if len(members) > 1 else f"{self.title}" if self.title.startswith("teacher") else first.label
        self.bar = screen.Bar(
            title,
            epochs,
            len(batches),
            position.epoch * len(batches) + position.step,
            "epochs=2 dataset.limit=5000, dataset=digits, or a GPU",
        )
        self.saved = self.beaten = time.monotonic()
        training = fit(
            list(members.values()),
            batches,
            self.views,
            experiment.schedule(first.config),
            epochs,
            lambda student: evaluate(student, data.test, data.pixels),
            (lambda student: evaluate(student, data.validation, data.pixels)) if data.validation else None,
            self._after_step,
            self.where.half,
        )
        try:
            for rows in training:
                self._after_epoch(dict(zip(members, rows)))
        except Stopped:
            self._save(learner for learner in members.items())
            raise
        finally:
            self.bar.close()
        for job, learner in members.items():
            if not learner.failure:
                self._finish(job, learner, data, len(members))

    def _after_step(self) -> None:
        self.bar.step()
        now = time.monotonic()
        if now - self.beaten > HEARTBEAT_SECONDS:
            self.beaten = now
            for job, learner in self.members.items():
                if not learner.failure:
                    job.record.heartbeat()
        if now - self.saved > SAVE_SECONDS:
            self._save(self.members.items())
        self.interrupted()

    def _save(self, members) -> None:
        self.saved = time.monotonic()
        for job, learner in members:
            if not learner.failure:
                job.record.save_checkpoint(learner.state_dict())

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        lines = []
        for job, row in rows.items():
            learner = self.members[job]
            if row is None:
                if job in self.rows:
                    del self.rows[job]
                    self._fail(job, *learner.failure)
                continue
            self.rows[job].append(row)
            job.record.save_rows(self.rows[job])
            terms = (
                f" (ce {row['ce_loss']:.2f} {job.config['distill']['name']} {row['distill_loss']:.2f})"
                if learner.method
                else ""
            )
            lines.append(
                ("" if len(rows) == 1 else f"{job.method}   ")
                + f"loss {row['train_loss']:.2f}{terms}   test {row['test_acc']:.1f} %"
            )
            job.record.log(f"epoch {row['epoch']}   {lines[-1]}   {row['seconds']:.1f} s")
        self._save((job, self.members[job]) for job in self.rows)
        self.bar.epoch(lines)

    def _fail(self, job: Job, state: str, line: str, trace: str) -> None:
        job.record.fail(state, line, trace)
        screen.say(f"failed  {job.label}   {line}   {job.record.folder / 'run.log'}")

    def _finish(self, job: Job, learner: Learner, data: experiment.Data, size: int) -> None:
        weights = torch_bytes(learner.student.state_dict())
        rows, accuracy = self.rows[job], self.accuracy if job.teacher_key else None
        result = describe(
            job.config, job.fingerprint, learner, self.where, size, rows, len(data.train.labels), accuracy, weights
        )
        job.record.finish(weights, learner.predictions.cpu().numpy(), result)
        job._trained = True
        teacher = f"; teacher {accuracy:.2f}" if accuracy is not None else ""
        line = f"test {result['test_acc']:.2f} % (last epoch{teacher})   {screen.duration(result['seconds'])}"
        job.record.log(f"done   {line}")
        screen.say(
            f"done    {job.label if job.config['distill']['_target_'] else job.pair + ' ' + job.label}   {line}   {job.record.folder}"
        )
