"""Timed blocks of training steps."""

import time

import torch


def block(sides: list, count: int, device: torch.device) -> float:
    """Seconds per step of these sides, one after the other."""
    began = time.perf_counter()
    for side in sides:
        side.steps(count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / count
