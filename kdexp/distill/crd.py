"""CRD: Tian et al. 2020, "Contrastive Representation Distillation", equation 18.

    L = - 1/batch * sum_b [ log h(b, b) + sum_k log(1 - h(b, k)) ],    h = p / (p + K/N),    p = exp(<u, v> / T) / Z

summed over two sides. On one side, u is the student's head of image b, and v are the teacher's heads, from a memory, of b
itself and of K images of other classes; on the other side, student and teacher trade places. A head is a linear layer to
`dim` channels, divided by its norm. The memories hold running means of the heads of all N training images. Z: N times the
mean of exp(<u, v> / T) in the first step.

Follows RepDistiller (crd/): K 16384, T 0.07, momentum 0.5, weight 0.8, mode exact. Differs from it: (1) one product with
the whole memory, from which K + 1 columns are picked; RepDistiller copies K + 1 rows for each image, 1 GB per step.
(2) Negatives are spread evenly over the other classes, without replacement: one from each K-th of their images, from a
random start; RepDistiller takes a plain random sample. Each image is equally likely in both. If there are fewer than K
images, each is taken equally often; RepDistiller draws with replacement. (3) Heads and memory rows of norm zero stay
zero; in RepDistiller they become NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.distill.base import Batch, DistillMethod, full_precision
from kdexp.models import Output, Tap

EPS = 1e-7


@full_precision
def contrast_loss(scores: Tensor, images: int) -> Tensor:
    """L of one side. scores: p, (batch, 1 + K), the image itself first. images: N."""
    chance = (scores.shape[1] - 1) / images
    itself = torch.log1p((chance + EPS) / scores[:, :1])  # -log(p / (p + chance + eps))
    others = torch.log1p((scores[:, 1:] + EPS) / chance)  # -log(chance / (p + chance + eps))
    return (itself.sum() + others.sum()) / len(scores)


class CRD(DistillMethod):
    """Uses the pooled embeddings. negatives: K. momentum: the fraction of a memory row that an update keeps."""

    reads = ("embedding",)
    hard_labels = True  # negatives are images of other classes, and the memory holds one head per image

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ):
        super().__init__(student_taps, teacher_taps)
        self.head_student = nn.Linear(student_taps["embedding"].channels, dim)
        self.head_teacher = nn.Linear(teacher_taps["embedding"].channels, dim)
        self.dim, self.negatives, self.temperature, self.momentum = dim, negatives, temperature, momentum

    def begin(self, labels: Tensor) -> None:
        bound = (3 / self.dim) ** 0.5
        for side in ("student", "teacher"):
            memory = torch.empty(len(labels), self.dim, device=labels.device).uniform_(-bound, bound)
            self.register_buffer(f"memory_{side}", memory)
            self.register_buffer(f"z_{side}", torch.tensor(-1.0, device=labels.device))  # unknown before the first step
        counts = labels.bincount()
        if counts.max() == len(labels):
            raise ValueError("needs training images of at least two classes")
        for name, buffer in (
            ("by_class", labels.argsort(stable=True)),  # positions of the images, class by class
            ("counts", counts),
            ("starts", counts.cumsum(0) - counts),  # where each class begins in by_class
        ):
            self.register_buffer(name, buffer, persistent=False)

    def loss(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        chosen = torch.cat([batch.indices[:, None], self.draw(batch.labels)], 1)
        return self.contrast(student.features["embedding"], teacher.features["embedding"], chosen)

    def draw(self, labels: Tensor) -> Tensor:
        """Positions of images of other classes than labels (batch,): (batch, K)."""
        count, device = self.counts[labels][:, None], labels.device
        others = len(self.by_class) - count  # (batch, 1)
        edges = torch.arange(self.negatives + 1, device=device) * others // self.negatives
        start, widths = torch.rand(len(labels), 1, device=device), edges.diff()
        place = (torch.rand(widths.shape, device=device) * widths).long()
        place += edges[:, :-1] + (start * others).long()
        place %= others  # among the images of other classes
        place += (place >= self.starts[labels][:, None]) * count
        return self.by_class[place]

    @full_precision
    def contrast(self, student: Tensor, teacher: Tensor, chosen: Tensor) -> Tensor:
        """L of two embeddings (batch, channels); then updates the memories with them. chosen: (batch, 1 + K), positions
        of the images themselves and of their negatives."""
        student, teacher = F.normalize(self.head_student(student)), F.normalize(self.head_teacher(teacher))
        loss = self._side(student, self.memory_teacher, self.z_student, chosen)
        loss = loss + self._side(teacher, self.memory_student, self.z_teacher, chosen)
        with torch.no_grad():
            for memory, head in ((self.memory_student, student), (self.memory_teacher, teacher)):
                rows = self.momentum * memory[chosen[:, 0]] + (1 - self.momentum) * head
                memory.index_copy_(0, chosen[:, 0], F.normalize(rows))
        return loss

    def _side(self, head: Tensor, memory: Tensor, z: Tensor, chosen: Tensor) -> Tensor:
        """L of one side. The gradient is computed here because the memory is updated before the backward pass; this also
        frees the scores of all images right away."""
        with torch.enable_grad():
            u = head.detach().requires_grad_()
            scores = ((u / self.temperature) @ memory.T).gather(1, chosen).exp()
            if_first = scores.detach().mean() * len(memory)
            z.copy_(torch.where(z < 0, if_first, z))
            loss = contrast_loss(scores / z, len(memory))
            (gradient,) = torch.autograd.grad(loss, u)
        return loss.detach() + ((head - head.detach()) * gradient).sum()
