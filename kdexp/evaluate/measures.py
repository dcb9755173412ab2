"""What a network's logits say beyond accuracy: calibration, and fidelity to a teacher. In float64."""

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 15  # of the calibration error, as in Guo et al. 2017


def calibration(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Calibration of logits (N, classes) against labels (N,).

    ece: expected calibration error, percent: the mean gap between confidence and accuracy in 15 bins of equal width
    (Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3). brier: mean squared distance between the
    probabilities and the label, summed over the classes (Brier 1950). nll: mean negative log likelihood.
    """
    logits = logits.double()
    probabilities = logits.softmax(1)
    confidence, predictions = probabilities.max(1)
    right = (predictions == labels).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # (low, high]
    gaps = torch.zeros(BINS, dtype=torch.float64, device=logits.device).index_add_(0, bins, right - confidence)
    truth = F.one_hot(labels, logits.shape[1])
    return {
        "ece": 100 * gaps.abs().sum().item() / len(labels),
        "brier": (probabilities - truth).square().sum(1).mean().item(),
        "nll": F.cross_entropy(logits, labels).item(),
    }


def class_accuracies(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy on the images of each class, percent, from logits (N, classes) and labels (N,); only of classes that have
    images. Keys are text, as in JSON."""
    right = (logits.argmax(1) == labels).double()
    return {str(label): 100 * right[labels == label].mean().item() for label in labels.unique().tolist()}


def fidelity(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, float | None]:
    """How far a student follows its teacher, from their logits (N, classes) for the same images and the labels (N,).

    kl_teacher, kl_teacher_t4: mean KL(teacher || student) at temperature 1 and 4, without the factor T^2. agreement:
    percent of images that both put in the same class. agreement_wrong: the same among the images that the teacher gets
    wrong, where only copying explains agreement; agreement_wrong_chance: what remains of it if the student's prediction
    is replaced by that for another image with the same label. Both are None for a teacher without errors.
    """
    student, teacher = student.double(), teacher.double()
    ours, theirs = student.argmax(1), teacher.argmax(1)
    same, wrong = ours == theirs, theirs != labels
    classes, number = student.shape[1], len(labels)
    counts = torch.zeros(classes, classes, dtype=torch.float64, device=student.device)
    counts.index_put_((labels, ours), torch.ones(number, dtype=torch.float64, device=student.device), accumulate=True)
    others = (counts[labels].sum(1) - 1).clamp(min=1)  # other images with this label
    chance = (counts[labels, theirs] - same.double()) / others
    percent = lambda x: 100 * x.double().mean().item() if len(x) else None
    return {
        "kl_teacher": _kl(student, teacher, 1.0),
        "kl_teacher_t4": _kl(student, teacher, 4.0),
        "agreement": percent(same),
        "agreement_wrong": percent(same[wrong]),
        "agreement_wrong_chance": percent(chance[wrong]),
    }


def _kl(student: Tensor, teacher: Tensor, temperature: float) -> float:
    s, t = ((logits / temperature).log_softmax(1) for logits in (student, teacher))
    return F.kl_div(s, t, reduction="batchmean", log_target=True).item()
