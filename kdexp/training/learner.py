"""A student in training: one loss, one step, and its own state."""

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kdexp.compute.randomness import key
from kdexp.distill.base import Batch, DistillMethod
from kdexp.distill.kd import kd_loss
from kdexp.evaluate import Score
from kdexp.models import Output
from kdexp.training.schedules import method_weight
from kdexp.training.untrained import check_trained


class LossWeights(NamedTuple):
    """loss = ce * cross_entropy + method * method(student, teacher) + kd * KD(kd_temperature).

    smoothing: the share of each label that is spread over all classes, in the cross entropy alone. until, fade, rise:
    how `method` changes over the epochs, see `method_weight`; `kd` stays constant.
    """

    ce: float = 1.0
    method: float = 0.0
    kd: float = 0.0
    kd_temperature: float = 4.0
    smoothing: float = 0.0
    until: float = 1.0
    fade: float = 0.0
    rise: float = 0.0

    def at(self, epoch: int, epochs: int) -> "LossWeights":
        """The weights in one epoch (from 0)."""
        return self._replace(method=self.method * method_weight(epoch, epochs, self.until, self.fade, self.rise))


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images are classified correctly. A mixed image, labels (batch, classes), counts as its predicted
    class's share."""
    chosen = logits.argmax(1)
    return (chosen == labels).sum() if labels.dim() == 1 else labels.gather(1, chosen[:, None]).sum()


class Learner:
    """A student in training, with its own state: connectors, optimizer, position, running sums of the epoch.
    `weights.method` is 0 without a method.

    forward: what to call for the student's training pass if not the student itself (a compiled one). half: the dtype
    of autocast, None for float32. seed: of what a network draws in its pass (dropout). The sums stay on the device
    until the epoch ends. A student may have a method `after_step`, called after each optimizer step. clip: the maximum
    norm of the gradient of all that is trained, student and connectors together; 0: no clipping. ema: the decay per
    step of the average of the student's weights and buffers (torchvision's reference code averages both); 0: no
    averaging. `scored` is that average if there is one. failure: None, or how and why this learner ended early; see
    `fail`. graph: does the step instead of `eager`, with compile=graph (kdexp/compute/graph.py).
    """

    def __init__(
        self,
        student: nn.Module,
        optimizer: torch.optim.Optimizer,
        method: DistillMethod | None = None,
        weights: LossWeights = LossWeights(),
        forward: Callable | None = None,
        half: torch.dtype | None = None,
        seed: Hashable = 1,
        clip: float = 0.0,
        ema: float = 0.0,
    ):
        self.student, self.optimizer, self.method, self.weights = student, optimizer, method, weights
        self.forward, self.half, self.seed = student if forward is None else forward, half, seed
        self.clip, self.average = clip, None
        if ema:  # its first update, after the first step, copies the student, which pretraining may change before
            self.average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(ema), use_buffers=True)
        self.device = next(student.parameters()).device
        self.peak_lrs = [group["lr"] for group in optimizer.param_groups]
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = torch.zeros(5, dtype=exact, device=self.device)  # loss, ce, distill, correct, finite steps
        self.failure: tuple[str, str, str] | None = None
        self.graph: Any = None
        self.score: Score | None = None  # of the last epoch
        self.pretraining_rows: list[dict] = []  # of the pretraining, if there is one
        self.weigh(weights)

    def weigh(self, weights: LossWeights) -> None:
        """Use these from now on. If no term needs the teacher, the teacher skips the batches."""
        self.now, method = weights, self.method
        self.teacher_mode = method.teacher_mode if method is not None and (weights.method or weights.kd) else None

    def fail(self, state: str, line: str, trace: str = "") -> None:
        """End early. state: "diverged" or "failed"; trace: the traceback's text. Frees the memory: neither the
        exception nor what was trained is kept."""
        self.failure = (state, line, trace)
        self.student = self.optimizer = self.method = self.forward = self.sums = self.average = self.graph = None

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and saved."""
        return self.student if self.average is None else self.average.module

    def learn(self, images: Tensor, batch: Batch, teacher: Output | None) -> None:
        """One step. images (batch, channels, H, W), normalized."""
        (self.eager if self.graph is None else self.graph)(images, batch, teacher)
        self.step += 1

    def join(self) -> None:
        """What the device does next waits for this learner's step, which may run on a stream of its own. Called once every
        learner of the group has been given its step."""
        if self.graph is not None:
            self.graph.join()

    def eager(self, images: Tensor, batch: Batch, teacher: Output | None) -> None:
        """One step without a graph."""
        self.seed_draws()
        self.advance(images, batch, teacher)

    def seed_draws(self) -> None:
        """Dropout is the same alone, in a group and resumed."""
        torch.manual_seed(key(self.seed, "pass", self.epoch, self.step))

    def advance(self, images: Tensor, batch: Batch, teacher: Output | None) -> None:
        """Forward pass, loss, backward pass, optimizer. Without EMA, nothing here waits for a value
        from the device, so that it can be captured."""
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            ce, distill, correct = self._terms(images, batch, teacher)
        loss = ce + distill
        if self.epoch == self.step == 0:
            check_trained(loss, self.optimizer, self.method)
        loss.backward()
        if self.clip:
            trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
            nn.utils.clip_grad_norm_(trained, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if hasattr(self.student, "after_step"):  # see kdexp/models/mlp.py
            self.student.after_step()
        if self.average is not None:
            self.average.update_parameters(self.student)
        with torch.no_grad():
            count = len(batch.labels)
            finite = (self.sums[0] + loss).isfinite()  # once a loss is not, the sum is not
            self.sums += torch.stack([loss * count, ce * count, distill * count, correct, finite])

    def _terms(self, images: Tensor, batch: Batch, teacher: Output | None) -> tuple[Tensor, Tensor, Tensor]:
        """(weighted cross entropy, weighted distillation, images classified correctly)."""
        w, student = self.now, self.forward(images)
        ce = w.ce * F.cross_entropy(student.logits.float(), batch.labels, label_smoothing=w.smoothing)
        distill = torch.zeros_like(ce)
        if w.method:
            distill = w.method * self.method.loss(student, teacher, batch)
        if w.kd:
            distill = distill + w.kd * kd_loss(student.logits, teacher.logits, w.kd_temperature)
        return ce, distill, hits(student.logits, batch.labels)

    def averages(self, images: int) -> dict[str, float]:
        """The epoch's means over `images` images; resets the sums. A loss that was not finite makes the learner
        fail."""
        loss, ce, distill, correct, finite = self.sums.tolist()
        if finite < self.step:
            self.fail("diverged", f"diverged at epoch {self.epoch + 1} step {int(finite) + 1}: the loss is not finite")
        else:
            self.sums.zero_()
        return {
            "train_loss": loss / images,
            "ce_loss": ce / images,
            "distill_loss": distill / images,
            "train_acc": 100 * correct / images,
        }

    def begin_epoch(self, epoch: int, epochs: int, factor: float) -> None:
        """Multiply the peak learning rates by `factor`, and set the loss weights of this epoch (from 0)."""
        self.weigh(self.weights.at(epoch, epochs))
        for group, peak in zip(self.optimizer.param_groups if self.optimizer else (), self.peak_lrs):
            group["lr"] = peak * factor

    def state_dict(self) -> dict:
        """All that `load_state_dict` needs to resume exactly here. The random order and crops follow from seed and
        position."""
        return {
            "student": self.student.state_dict(),
            "method": {} if self.method is None else self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "sums": self.sums,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
            "pretraining_rows": self.pretraining_rows,
        }

    def load_state_dict(self, state: dict) -> None:
        self.student.load_state_dict(state["student"])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.sums.copy_(state["sums"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        self.pretraining_rows = state.get("pretraining_rows", [])  # missing in checkpoints of earlier versions
