"""A job's learner: student, method and optimizer on the device."""

from torch import Tensor, nn

from kdexp.compute.machine import Machine, forward_of, to_device
from kdexp.compute.randomness import seeded
from kdexp.experiment.networks import build_student
from kdexp.experiment.objects import build_method, build_optimizer
from kdexp.training.learner import Learner, LossWeights
from kdexp.training.step_graph import StepGraph


def build_learner(config: dict, hardware: Machine, teacher: nn.Module | None, labels: Tensor) -> Learner:
    """Student, method and optimizer on the device. labels: of all training images."""
    student = to_device(build_student(config), hardware.device)
    method = build_method(config, student, teacher)
    if method is not None:
        to_device(method, hardware.device)
        with seeded(config["seed"], "begin"):
            method.begin(labels)
    trained = [*student.parameters(), *(method.parameters() if method is not None else ())]
    optimizer = build_optimizer(config, trained)
    node = config["distill"]
    weight = node["weight"] if method is not None else 0.0
    recipe = config["recipe"]
    weights = LossWeights(
        node["ce_weight"],
        weight,
        node["kd_weight"],
        node["kd_temperature"],
        recipe["smoothing"],
        **{key: node[key] for key in ("until", "fade", "rise")},
    )
    forward = forward_of(student, hardware, config["batch_size"])
    own = (config["seed"], recipe["clip"], recipe["ema"])
    learner = Learner(student, optimizer, method, weights, forward, hardware.half, *own)
    if hardware.graph:
        learner.graph = StepGraph(learner, config["batch_size"])
    return learner
