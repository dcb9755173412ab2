"""Everything about a device in one command, for a GPU that you have for only a few minutes: its ceilings, the CUDA tests, the time
of a step in every way kdexp can do it and by the textbook loop, its kernels, its memory. One JSON file and one table.

Each part is tried on its own, and the file is written after each: an error or the end of the time costs only what is left.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from tabulate import tabulate

from analysis.timing.blocks import Repeated, kernels, step
from analysis.timing.ours import Ours, prepared
from analysis.timing.textbook import Textbook
from kdexp import ROOT
from kdexp.compute.machine import Machine
from kdexp.errors import first_line

# Profiling is switched off again after a profile (kineto leaves it on), so that it does not slow down what is timed afterwards.
os.environ.setdefault("TEARDOWN_CUPTI", "1")

HALVES = {"bf16": torch.bfloat16, "fp32": None}


class Report:
    """The parts of a report, by name, in a JSON file. minutes: no part starts after these."""

    def __init__(self, path: Path, minutes: float):
        self.path, self.until = path, time.monotonic() + 60 * minutes
        self.parts: dict[str, dict] = {}

    def part(self, name: str, measure: Callable[..., dict], *arguments) -> None:
        """Measure one part, and keep it or its error."""
        began = time.perf_counter()
        try:
            if time.monotonic() > self.until:
                raise TimeoutError("no time was left")
            result = measure(*arguments)
        except Exception as error:  # whatever it is, the other parts are still worth having
            result = {"error": f"{type(error).__name__}: {first_line(error)}", "trace": traceback.format_exc()}
        self.parts[name] = result | {"part_seconds": round(time.perf_counter() - began, 1)}
        self.path.write_text(json.dumps(self.parts, indent=1))
        print(f"{name}: {result.get('error') or 'measured'} ({self.parts[name]['part_seconds']} s)", file=sys.stderr)


def main(configs: list[dict], out: str, minutes: float, quick: bool) -> None:
    """configs: the runs of one seed; the last one is also the single run. What matters most comes first. compile=false
    leaves out the compiled ways, which take minutes."""
    report, (data, source, teacher, hardware) = Report(Path(out), minutes), prepared(configs)
    pair = " -> ".join(configs[-1]["model"][role]["name"] for role in ("teacher", "student"))
    count, what = 3 if quick else 50, {"pair": pair, "batch": configs[-1]["batch_size"], "data": source}
    report.part("machine", environment, hardware.device, what)
    report.part("ceilings", ceilings, hardware.device, 256 if quick else 8192)
    subjects = {
        f"one seed: {len(configs)} methods": configs,
        f"one run: {configs[-1]['distill']['label']}": configs[-1:],
    }
    for subject, chosen in subjects.items():
        report.part(f"{subject}, textbook fp32", textbook, chosen, data, teacher, hardware, max(2, count // 3))
    for compiled in (False,) if configs[0]["compile"] is False else (False, True):
        for subject, chosen in subjects.items():
            for precision, half in HALVES.items():
                for graph in (False, True):
                    how = hardware._replace(half=half, compile=compiled, graph=graph)
                    report.part(f"{subject}, {how.execution} {precision}", ours, chosen, data, teacher, how, count)
        if not compiled:
            report.part("tests", cuda_tests, 60 if quick else 240)
    print(table(report.parts))


def environment(device: torch.device, what: dict) -> dict:
    """Versions and the device, after `what`."""
    facts = what | {"python": platform.python_version(), "torch": torch.__version__}
    facts |= {"cpus": os.cpu_count(), "device": str(device)}
    if device.type == "cuda":
        seen = torch.cuda.get_device_properties(device)
        facts |= {"gpu": seen.name, "memory_gb": round(seen.total_memory / 1e9, 1), "cuda": torch.version.cuda}
        facts |= {"multiprocessors": seen.multi_processor_count, "cudnn": torch.backends.cudnn.version()}
    return facts


def ceilings(device: torch.device, size: int) -> dict:
    """What a large copy and a large bf16 matrix product reach."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    long = torch.randn(size, size, 4, device=device)
    copied = torch.empty_like(long)
    matrix, copy = (step([Repeated(work)], 10, device)["ms"] for work in (lambda: a @ b, lambda: copied.copy_(long)))
    return {"bf16_tflops": 2 * size**3 / matrix / 1e9, "copy_gb_per_s": 2 * long.numel() * 4 / copy / 1e6}


def cuda_tests(seconds: int) -> dict:
    """tests/test_cuda.py in a process of its own; if the time runs out, what it said until then."""
    words = [sys.executable, "-m", "pytest", "-v", "--durations=10", "-p", "no:cacheprovider", "tests/test_cuda.py"]
    with tempfile.TemporaryFile("w+") as output:
        try:
            subprocess.run(words, cwd=ROOT, stdout=output, timeout=seconds)
        except subprocess.TimeoutExpired:
            print(f"stopped after {seconds} seconds", file=output, flush=True)
        output.seek(0)
        lines = output.read().splitlines()
    return {"summary": lines[-1], "output": lines[-400:]}


def textbook(configs: list[dict], data, teacher, hardware: Machine, count: int) -> dict:
    """The textbook loop's step, with TF32 in convolutions: torch's default, which public toolkits leave as it is."""
    sides = [Textbook(config, data, teacher, hardware.device, min(8, os.cpu_count() or 1)) for config in configs]
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
    try:
        return step(sides, count, hardware.device)
    finally:
        torch.backends.cudnn.allow_tf32 = before


def ours(configs: list[dict], data, teacher, how: Machine, count: int) -> dict:
    """kdexp's own step in one way: its time, its kernels, its memory."""
    if how.graph and how.device.type != "cuda":
        raise RuntimeError("CUDA graphs need a CUDA device")
    side = Ours(configs, data, teacher, how)
    if how.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(how.device)
    measured = step([side], count, how.device)
    if how.device.type == "cuda":
        measured["peak_mb"] = torch.cuda.max_memory_allocated(how.device) / 1e6
    measured["not_captured"] = sum(how.graph and learner.graph.refused for learner in side.learners)
    return measured | kernels(side, 3, measured["ms"], how.device)


def table(parts: dict[str, dict]) -> str:
    """Everything that is a step, as Markdown; the factor is against the textbook loop of the same runs."""
    rows = []
    for name, part in parts.items():
        against = parts.get(f"{name.partition(',')[0]}, textbook fp32", {}).get("ms")
        if not name.startswith("one "):
            continue
        if "error" in part:
            rows.append([name, part["error"][:60]])
            continue
        factor = f"{against / part['ms']:.1f}" if against else ""
        cells = [f"{part['ms']:.2f} ({part['least']:.2f} to {part['most']:.2f})", factor]
        cells += [f"{part[key]:.{digits}f}" if part.get(key) is not None else "" for key, digits in COLUMNS.items()]
        rows.append([name, *cells])
    heads = ["", "ms per step", "factor", "kernels", "kernels, ms", "idle, %", "peak MB"]
    return tabulate(rows, heads, "github", disable_numparse=True)


COLUMNS = {"kernels": 0, "kernel_ms": 2, "idle_percent": 0, "peak_mb": 0}
