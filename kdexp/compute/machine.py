"""Where and how a run is computed: device, precision, determinism, compilation; resolved from the settings."""

import functools
import math
import os
from typing import NamedTuple

import torch
from torch import nn

from kdexp import screen
from kdexp.errors import UsageError, first_line

# Compiling takes about a minute, so it is for runs of at least this many steps. Not on the CPU, where a step of six students is
# no faster with it (3.20 s either way, medians of nine alternating blocks, wrn16_4 -> resnet32 on two cores with AVX2, torch 2.15;
# 0.73 s against 0.66 with AVX-512).
LONG_RUN = 5000

# cuBLAS is deterministic only with one of two workspace sizes, and torch looks only once, at the first matrix product of the
# process, whether or not that run is deterministic. This size is the default of recent GPUs.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class Machine(NamedTuple):
    """half: the dtype of autocast, None for float32. threads: of the CPU. graph: capture steps as CUDA graphs."""

    device: torch.device
    half: torch.dtype | None
    deterministic: bool
    compile: bool
    threads: int
    graph: bool = False

    def __str__(self) -> str:
        name = f"{self.device} {torch.cuda.get_device_name(self.device)}" if self.device.type == "cuda" else self.device
        threads = f", {screen.counted(self.threads, 'thread')}" if self.device.type == "cpu" else ""
        return f"{name}{threads}, {'bf16' if self.half else 'fp32'}, {self.execution}"

    @property
    def execution(self) -> str:
        """How a step's operations get to the device."""
        return " ".join(["compiled"] * self.compile + ["graph"] * self.graph) or "eager"


def device_of(config: dict) -> torch.device:
    """The device asked for, or the best one available. Raises UsageError if the machine does not have it."""
    asked = config["device"]
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(best if asked == "auto" else asked)
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    there = counts[device.type]
    if (device.index or 0) >= there:
        raise UsageError(
            f"device={asked}: this machine has {there or 'no'} {device.type} device{'s' * (there != 1)}. "
            f"device=auto uses the best one available ({best})"
        )
    return device


def machine(config: dict, images: int) -> Machine:
    """Resolve the settings of a run that trains on `images` images. Nothing else counts, so a resumed run, alone or in
    a group, is computed the way it started. Raises UsageError for a device that the machine does not have, and for
    compile=graph without CUDA."""
    device = device_of(config)
    precision = config["precision"] if config["precision"] != "auto" else "bf16" if device.type == "cuda" else "fp32"
    deterministic = device.type == "cpu" if config["deterministic"] == "auto" else config["deterministic"]
    compiled, graph = config["compile"], config["compile"] == "graph"
    if graph and device.type != "cuda":
        raise UsageError(
            f"compile=graph: CUDA graphs need a CUDA device, and this run is on {device}. Try compile=auto"
        )
    if compiled == "auto":
        steps = config["epochs"] * math.ceil(images / config["batch_size"])
        compiled = device.type == "cuda" and not deterministic and steps >= LONG_RUN
    half = torch.bfloat16 if precision == "bf16" else None
    threads = torch.get_num_threads() if config["threads"] == "auto" else config["threads"]
    compiled = bool(compiled) and not graph and can_compile(device.type)
    return Machine(device, half, deterministic, compiled, threads, graph)


@functools.cache
def can_compile(device: str) -> bool:
    """Whether torch.compile works here (it needs a C++ compiler on the CPU); prints one line if it does not."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(2, device=device))
    except Exception as error:  # torch.compile's errors have no common base class
        screen.say(f"compile: not possible here, going on without ({type(error).__name__}: {first_line(error)})")
        return False
    return True


def prepare_torch(hardware: Machine) -> None:
    """Set torch's global switches for this machine."""
    torch.set_num_threads(hardware.threads)
    torch.use_deterministic_algorithms(hardware.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time
    torch.backends.cudnn.benchmark = not hardware.deterministic
    torch.backends.cudnn.allow_tf32 = False  # fp32 is float32; by default convolutions round to 10 bits of mantissa


def forward_of(network: nn.Module, hardware: Machine, batch_size: int):
    """What to call for a network's forward pass: the network, or a compiled version for full batches (the last,
    smaller one of an epoch is not worth compiling for). Networks of the same architecture share the compiled code."""
    if not hardware.compile:
        return network
    torch._dynamo.config.recompile_limit = 64  # a sweep may have many architectures of one class
    compiled = torch.compile(network, dynamic=False)
    return lambda images: compiled(images) if len(images) == batch_size else network(images)


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network on the device, in channels_last memory format, in which convolutions are fastest.

    A strided 1x1 convolution with few channels is replaced by taking every n-th pixel and a 1x1 convolution of stride
    1, which is the same function: in channels_last its backward pass writes past the end of its buffer on the CPU
    (torch 2.15, oneDNN), below 8 input channels with AVX2 and below 16 with AVX-512, and the process crashes sooner or
    later.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and module.padding == (0, 0):
            if module.stride != (1, 1) and module.in_channels // module.groups < 16:
                module.register_forward_pre_hook(_Subsample(module.stride))
                module.stride = (1, 1)
    return network.to(device, memory_format=torch.channels_last)


class _Subsample:
    """A forward pre-hook: every n-th row and column of the input. No closure, so that the network can be pickled."""

    def __init__(self, stride: tuple[int, int]):
        self.rows, self.columns = stride

    def __call__(self, module, inputs):
        return (inputs[0][:, :, :: self.rows, :: self.columns],)
