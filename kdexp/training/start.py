"""A job's learner: student, method and optimizer on the device."""

from torch import Tensor, nn

from kdexp.compute.machine import Machine, forward_of, place
from kdexp.compute.randomness import seeded
from kdexp.experiment.networks import build_student
from kdexp.experiment.objects import build_method, build_optimizer
from kdexp.training.learner import Learner, Weights
from kdexp.training.step_graph import StepGraph


def build_learner(config: dict, where: Machine, teacher: nn.Module | None, labels: Tensor) -> Learner:
    """Student, method and optimizer on the device. labels: of all training images."""
    student = place(build_student(config), where.device)
    method = build_method(config, student, teacher)
    if method is not None:
        place(method, where.device)
        with seeded(config["seed"], "begin"):
            method.begin(labels)
    trained = [*student.parameters(), *(method.parameters() if method is not None else ())]
    optimizer = build_optimizer(config, trained)
    node = config["distill"]
    weight = node["weight"] if method is not None else 0.0
    recipe = config["recipe"]
    weights = Weights(
        node["ce_weight"],
        weight,
        node["kd_weight"],
        node["kd_temperature"],
        recipe["smoothing"],
        **{key: node[key] for key in ("until", "fade", "rise")},
    )
    forward = forward_of(student, where, config["batch_size"])
    own = (config["seed"], recipe["clip"], recipe["ema"])
    learner = Learner(student, optimizer, method, weights, forward, where.half, *own)
    if where.graph:
        learner.graph = StepGraph(learner, config["batch_size"])
    return learner
