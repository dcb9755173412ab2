"""How fast is a step here? `python analysis/benchmark.py [--quick]`: ours against a plain textbook loop, on this machine.

Two questions, CIFAR-100 shapes: (a) one run, (b) the sweep of the baseline and the seven methods of one seed, or of
`--methods`.
The textbook loop is what public toolkits do: PIL transforms in worker processes, one method at a time with the teacher's
pass in each, eager float32, NST in its broadcast form. Both sides train the same networks with the same losses and
optimizer. They run in alternating blocks; medians and ranges over blocks are printed and written as CSV.
"""

import argparse
import csv
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from analysis.textbook import Textbook  # noqa: E402
from kdexp import CONF, experiment  # noqa: E402
from kdexp.config import cli  # noqa: E402
from kdexp.config.resolve import plain  # noqa: E402
from kdexp.config.schema import UsageError  # noqa: E402
from kdexp.datasets import Images  # noqa: E402
from kdexp.datasets.batches import Pixels  # noqa: E402
from kdexp.evaluate import evaluate  # noqa: E402
from kdexp.machine import Machine, device_of, forward_of, machine, prepare_torch  # noqa: E402
from kdexp.teacher import teacher_view  # noqa: E402
from kdexp.train import fit  # noqa: E402

METHODS = "none,fn,nst,at,rkd,sp,od,kd"


class Enough(Exception):
    """The block has run its steps."""


class Ours:
    """Any number of methods side by side, as a sweep trains them."""

    def __init__(self, configs: list[dict], data, teacher, where: Machine):
        self.config, self.data, self.where = configs[0], data, where
        self.learners = [experiment.build_learner(config, where, teacher) for config in configs]
        modes = {learner.teacher_mode for learner in self.learners} - {None}
        self.teachers = {
            mode: forward_of(teacher_view(teacher, mode), where, self.config["batch_size"]) for mode in modes
        }

    def steps(self, count: int) -> None:
        def enough():
            nonlocal count
            count -= 1
            if not count:
                raise Enough

        try:
            batches = experiment.train_batches(self.config, self.data)
            test = lambda student: evaluate(student, self.data.test, self.data.pixels)
            for _ in fit(self.learners, batches, self.teachers, lambda epoch: 1.0, 10**6, test, after_step=enough):
                pass
        except Enough:
            pass


def block(sides: list, count: int, device: torch.device) -> float:
    """Seconds per step of these sides, one after the other."""
    began = time.perf_counter()
    for side in sides:
        side.steps(count)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - began) / count


def compare(question: str, textbook: list, ours: list, rounds: int, count: int, device: torch.device) -> dict:
    """Alternating blocks after one that is not counted."""
    times = {"textbook": [], "ours": []}
    for number in range(rounds + 1):
        for name, sides in (("textbook", textbook), ("ours", ours)):
            seconds = block(sides, count if number else 2, device)
            if number:
                times[name].append(seconds)
    row = {"question": question}
    for name, values in times.items():
        row |= {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}
    return row | {"factor": row["textbook"] / row["ours"]}


def dataset(config: dict, device: torch.device):
    """(data, what they are): real CIFAR-100 where it is at hand, else made images of its shape."""
    try:
        if not Path(config["paths"]["data"], "cifar-100-python").exists():
            raise UsageError("not there")
        return experiment.load_data(config, device), "real CIFAR-100"
    except UsageError:
        rng = np.random.default_rng(0)
        made = Images(
            torch.from_numpy(rng.integers(0, 256, (10000, 3, 32, 32), dtype=np.uint8)), torch.arange(10000) % 100
        )
        pixels = Pixels(config["dataset"]["mean"], config["dataset"]["std"], device)
        return experiment.Data(made.to(device), None, made.first(1000).to(device), pixels), "made images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and shorter blocks: 3 minutes on two CPU cores")
    parser.add_argument("--out", default="benchmark.csv", help="where to write the table (default: benchmark.csv)")
    parser.add_argument(
        "overrides", nargs="*", help="settings, as for run.py: teacher=wrn40_2 student=wrn16_2 compile=true"
    )
    parser.add_argument(
        "--methods", default=METHODS, help=f"of the sweep, the last one for the single run too (default: {METHODS})"
    )
    arguments = parser.parse_args()
    names = arguments.methods.split(",")
    cli.register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"), cli.messages():
        configs = [plain(compose("config", [f"distill={name}", *arguments.overrides])) for name in names]
    data, source = dataset(configs[0], device_of(configs[0]))
    where = machine(configs[0], len(data.train.labels))
    prepare_torch(where)
    teacher = experiment.build_network(configs[-1]["model"]["teacher"])
    teacher = teacher.to(where.device, memory_format=torch.channels_last)
    workers = min(4, torch.get_num_threads())
    texts = [Textbook(config, data, teacher, where.device, workers) for config in configs]
    rounds, count = (3, 2) if arguments.quick else (7, 10)
    last, label = slice(-1, None), configs[-1]["distill"]["label"]
    rows = [
        compare(
            f"one run: {label}", texts[last], [Ours(configs[last], data, teacher, where)], rounds, count, where.device
        ),
        compare(
            f"one seed: {len(names)} methods", texts, [Ours(configs, data, teacher, where)], rounds, count, where.device
        ),
    ]
    what = " -> ".join(configs[-1]["model"][role]["name"] for role in ("teacher", "student"))
    what += f", batch {configs[-1]['batch_size']}, {source}"
    print(f"{what}; {where.device}, {platform.machine()}, torch {torch.__version__}; ours: {where}")
    print(f"seconds per step of all methods named, median (min .. max) of {rounds} blocks of {count} steps\n")
    print(f"{'':28}{'textbook loop':>26}{'ours':>26}{'factor':>10}")
    for row in rows:
        cells = [f"{row[n]:.3f} ({row[n + '_min']:.3f} .. {row[n + '_max']:.3f})" for n in ("textbook", "ours")]
        print(f"{row['question']:28}{cells[0]:>26}{cells[1]:>26}{row['factor']:>10.1f}")
    with open(arguments.out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
