"""Finds layers that learn nothing: made in `forward`, or kept in a plain list, they are not the optimizer's."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def check_trained(loss: Tensor, optimizer: torch.optim.Optimizer, method: nn.Module | None) -> None:
    """Raise ValueError if the gradient of `loss` reaches a parameter that the optimizer does not update. Called on the
    first step."""
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lost = [leaf for leaf in _leaves(loss) if id(leaf) not in trained]
    if not lost:
        return
    names = {id(parameter): name for name, parameter in method.named_parameters()} if method is not None else {}
    which = ", ".join(names.get(id(leaf), "x".join(map(str, leaf.shape))) for leaf in lost[:5])
    raise ValueError(
        f"{type(method).__name__}: {which} would never be trained. Make layers in the constructor, as attributes or in "
        "nn.ModuleList, not in forward and not in a plain list"
    )


def _leaves(loss: Tensor) -> Iterator[Tensor]:
    """Every tensor in which a gradient of `loss` would be accumulated."""
    todo, seen = [loss.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if hasattr(node, "variable"):
                yield node.variable
            todo += [following for following, _ in node.next_functions]
