"""Pretraining, which some methods do before the student's training: alone, with rows and checkpoints of its own."""

from kdexp import experiment, screen
from kdexp.distill.base import Pretraining
from kdexp.job import Job
from kdexp.learner import Learner, Pretrainer
from kdexp.lockstep import Lockstep, made_with
from kdexp.machine import Machine
from kdexp.record import PRETRAINING_COLUMNS
from kdexp.train import fit


class PretrainingRun(Lockstep):
    """One job in its pretraining. learner: what is trained afterwards; it gets the failure if there is one."""

    def __init__(self, job: Job, learner: Learner, plan: Pretraining, data: experiment.Data, where: Machine):
        self.job, self.learner, self.plan = job, learner, plan
        super().__init__({job: Pretrainer(learner, plan)}, {job: learner.pretraining_rows}, data, where)

    def train(self, state: dict | None, views: dict, interrupted) -> None:
        """To its end, from the checkpoint `state` if there is one. Raises Stopped."""
        (learner,) = self.members.values()
        if state is not None:
            learner.load_state_dict(state["pretraining"])
            self.rows[self.job] = self.learner.pretraining_rows = learner.pretraining_rows
            screen.say(f"{self.job.title} goes on at epoch {learner.epoch + 1} of its pretraining")
        batches = experiment.train_batches(self.job.config, self.data, "pretraining")
        done = learner.epoch * len(batches) + learner.step
        self.bar = screen.Bar(f"{self.job.title} pretraining", self.plan.epochs, len(batches), done)
        after_step = lambda: self._after_step(interrupted)
        constant = lambda epoch: 1.0
        self._follow(fit([learner], batches, views, constant, self.plan.epochs, None, after_step=after_step))
        if learner.failure:
            self.learner.fail(*learner.failure)

    def _save_job(self, job: Job, learner: Learner) -> None:
        job.record.save_checkpoint({"pretraining": learner.state_dict(), "made": made_with(self.where)})

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        for job, row in rows.items():
            if row is not None:
                row = {"epoch": row["epoch"], "lr": row["lr"], "loss": row["train_loss"], "seconds": row["seconds"]}
                self.rows[job].append(row)
                job.record.save_rows(self.rows[job], "pretraining.csv", PRETRAINING_COLUMNS)
                job.record.log(f"pretraining, epoch {row['epoch']}   loss {row['loss']:.4g}   {row['seconds']:.1f} s")
                self.bar.epoch([f"loss {row['loss']:.4g}"])
        self._save()
        self._note_failures()
