"""Pretraining, which some methods do before the student's training: run alone, with its own rows and checkpoints."""

import torch
from torch import Tensor

from kdexp import screen
from kdexp.compute.machine import Machine
from kdexp.distill.base import Batch, Pretraining
from kdexp.experiment.data import Data, train_batches
from kdexp.jobs.job import Job
from kdexp.models import Output
from kdexp.record import PRETRAINING_COLUMNS
from kdexp.training.learner import Learner, LossWeights
from kdexp.training.loop import fit
from kdexp.training.recorded_fit import RecordedFit


class Pretrainer(Learner):
    """A learner during its pretraining: the same student and method, only the pretraining loss, its own optimizer."""

    def __init__(self, learner: Learner, plan: Pretraining):
        modules = [learner.student, learner.method] if plan.trains_student else [learner.method]
        optimizer = torch.optim.SGD(
            [parameter for module in modules for parameter in module.parameters()],
            plan.lr,
            momentum=plan.momentum,
            weight_decay=plan.weight_decay,
        )
        seed = (learner.seed, "pretraining")
        super().__init__(
            learner.student, optimizer, learner.method, forward=learner.forward, half=learner.half, seed=seed
        )
        self.plan, self.pretraining_rows = plan, learner.pretraining_rows

    def weigh(self, weights: LossWeights) -> None:
        """The plan's loss has no weight."""
        self.teacher_mode = self.method.teacher_mode if self.method is not None else None

    def fail(self, state: str, line: str, trace: str = "") -> None:
        super().fail(state, f"pretraining {line}", trace)

    def _terms(self, images: Tensor, batch: Batch, teacher: Output) -> tuple[Tensor, Tensor, Tensor]:
        student = self.forward(images) if self.plan.trains_student else None
        loss = self.plan.loss(student, teacher)
        return torch.zeros_like(loss), loss, torch.zeros_like(loss)


class PretrainingRun(RecordedFit):
    """One job during its pretraining. learner: what is trained afterwards; a failure here is a failure of that
    learner."""

    def __init__(self, job: Job, learner: Learner, plan: Pretraining, data: Data, hardware: Machine):
        self.job, self.learner, self.plan = job, learner, plan
        super().__init__({job: Pretrainer(learner, plan)}, {job: learner.pretraining_rows}, data, hardware)

    def pretrain(self, state: dict | None, passes: dict, interrupted) -> None:
        """Pretrain to the end, from the checkpoint `state` if there is one. Raises Stopped."""
        (learner,) = self.members.values()
        if state is not None:
            learner.load_state_dict(state["pretraining"])
            self.rows[self.job] = self.learner.pretraining_rows = learner.pretraining_rows
            screen.say(f"{self.job.title} goes on at epoch {learner.epoch + 1} of its pretraining")
        batches = train_batches(self.job.config, self.data, "pretraining")
        done = learner.epoch * len(batches) + learner.step
        self.bar = screen.Bar(f"{self.job.title} pretraining", self.plan.epochs, len(batches), done)
        after_step = lambda: self._after_step(interrupted)
        constant = lambda epoch: 1.0
        self._follow(fit([learner], batches, passes, constant, self.plan.epochs, None, after_step=after_step))
        if learner.failure:
            self.learner.fail(*learner.failure)

    def _save_job(self, job: Job, learner: Learner) -> None:
        self._save_state(job, {"pretraining": learner.state_dict()})

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        self._leave_taken()
        for job, row in rows.items():
            if row is not None and job in self.rows:
                row = {"epoch": row["epoch"], "lr": row["lr"], "loss": row["train_loss"], "seconds": row["seconds"]}
                self.rows[job].append(row)
                job.record.save_rows(self.rows[job], "pretraining.csv", PRETRAINING_COLUMNS)
                job.record.log(f"pretraining, epoch {row['epoch']}   loss {row['loss']:.4g}   {row['seconds']:.1f} s")
                self.bar.epoch(f"loss {row['loss']:.4g}")
        self._save()
        self._note_failures()
