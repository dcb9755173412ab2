"""Timed blocks of training steps, and the kernels of a step."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

WARMUP = 10  # steps that are not counted: compiling, capturing


class Repeated:
    """A function as something to be timed."""

    def __init__(self, work: Callable):
        self.work = work

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.work()


def block(sides: list, count: int, device: torch.device) -> float:
    """Seconds per step of these sides, one after the other."""
    began = time.perf_counter()
    for side in sides:
        side.steps(count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / count


def step(sides: list, count: int, device: torch.device, rounds: int = 5) -> dict:
    """Milliseconds per step: median, least and most of `rounds` blocks."""
    block(sides, min(WARMUP, 2 * count), device)
    times = [1000 * block(sides, count, device) for _ in range(rounds)]
    return {"ms": statistics.median(times), "least": min(times), "most": max(times), "steps": count, "blocks": rounds}


def kernels(side, count: int, milliseconds: float, device: torch.device) -> dict:
    """Kernels of a step, the sum of their times, and the share of a step (`milliseconds`, unprofiled) in which none runs."""
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as seen:
        block([side], count, device)
    on_device = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    ran = [event for event in on_device if not event.is_user_annotation]  # Optimizer.step is a range, not a kernel
    spans = sorted((event.time_range.start, event.time_range.end) for event in ran)
    totals: dict[str, float] = {}
    for event in ran:
        totals[event.name] = totals.get(event.name, 0.0) + event.time_range.elapsed_us() / count / 1000
    most = dict(sorted(totals.items(), key=lambda pair: -pair[1])[:12])
    busy_ms = covered(spans) / count / 1000
    shares = {"kernels": len(ran) / count, "kernel_ms": sum(totals.values()), "busy_ms": busy_ms, "most_ms": most}
    return shares | {"idle_percent": 100 * max(0.0, 1 - busy_ms / milliseconds) if ran else None}


def covered(spans: list[tuple[float, float]]) -> float:
    """The time in which at least one of these (begin, end), sorted, is running: the kernels of several students overlap."""
    total, until = 0.0, float("-inf")
    for began, ended in spans:
        total, until = total + max(0.0, ended - max(began, until)), max(until, ended)
    return total
