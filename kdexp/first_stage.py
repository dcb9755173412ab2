"""The stage that some methods have before the student's training: trained alone, with rows and checkpoints of its own."""

from kdexp import experiment, screen
from kdexp.distill.base import Stage
from kdexp.job import Job
from kdexp.learner import Learner, StageLearner
from kdexp.lockstep import Lockstep, made_with
from kdexp.machine import Machine
from kdexp.record import STAGE_COLUMNS
from kdexp.train import fit


class FirstStage(Lockstep):
    """One job in its stage. learner: what it goes on with when the stage has ended, with the failure if it failed."""

    def __init__(self, job: Job, learner: Learner, stage: Stage, data: experiment.Data, where: Machine):
        self.job, self.learner, self.stage = job, learner, stage
        super().__init__({job: StageLearner(learner, stage)}, {job: learner.stage_rows}, data, where)

    def train(self, state: dict | None, views: dict, interrupted) -> None:
        """To the stage's end, from the checkpoint `state` if there is one. Raises Stopped."""
        (learner,) = self.members.values()
        if state is not None:
            learner.load_state_dict(state["stage"])
            self.rows[self.job] = self.learner.stage_rows = learner.stage_rows
            screen.say(f"{self.job.title} goes on at epoch {learner.epoch + 1} of its first stage")
        batches = experiment.train_batches(self.job.config, self.data, "stage")
        done = learner.epoch * len(batches) + learner.step
        self.bar = screen.Bar(f"{self.job.title} first stage", self.stage.epochs, len(batches), done)
        after_step = lambda: self._after_step(interrupted)
        constant = lambda epoch: 1.0
        self._follow(fit([learner], batches, views, constant, self.stage.epochs, None, after_step=after_step))
        if learner.failure:
            self.learner.fail(*learner.failure)

    def _save_job(self, job: Job, learner: Learner) -> None:
        job.record.save_checkpoint({"stage": learner.state_dict(), "made": made_with(self.where)})

    def _after_epoch(self, rows: dict[Job, dict | None]) -> None:
        for job, row in rows.items():
            if row is not None:
                row = {"epoch": row["epoch"], "lr": row["lr"], "loss": row["train_loss"], "seconds": row["seconds"]}
                self.rows[job].append(row)
                job.record.save_rows(self.rows[job], "stage.csv", STAGE_COLUMNS)
                job.record.log(f"first stage, epoch {row['epoch']}   loss {row['loss']:.4g}   {row['seconds']:.1f} s")
                self.bar.epoch([f"loss {row['loss']:.4g}"])
        self._save()
        self._note_failures()
