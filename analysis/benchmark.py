"""How fast is a training step here? `python analysis/benchmark.py [--quick]`: kdexp against a plain textbook loop.

It measures, at CIFAR-100 shapes: (a) one run; (b) a sweep over the baseline and the seven methods (or `--methods`) with one
seed; and, with `--seeds N`, (c) the same sweep with N seeds at a time in separate processes, as engine=joblib trains them.
The textbook loop is what public toolkits do: PIL transforms in worker processes, one method at a time, each with its own
teacher pass, eager float32, NST in its broadcast form. Both sides train the same networks with the same losses and
optimizer. They run in alternating blocks; medians and ranges over blocks are printed and written as CSV.

`--growth 1000,10000` measures something else instead: how long the commands that read records take with that many records.
`--device device.json` is for a GPU that you have for only a few minutes: every way to do a step, its kernels and memory, the CUDA tests.
"""

import argparse
import csv
import platform
import statistics
import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from analysis.timing import device, growth  # noqa: E402
from analysis.timing.blocks import block  # noqa: E402
from analysis.timing.ours import Ours, SeedsAtATime, prepared  # noqa: E402
from analysis.timing.textbook import Textbook  # noqa: E402
from kdexp import CONF  # noqa: E402
from kdexp.command import cli  # noqa: E402
from kdexp.config.resolve import plain  # noqa: E402

METHODS = "none,fn,nst,at,rkd,sp,od,kd"


def compare(question: str, textbook: list, ours: list, rounds: int, count: int, device: torch.device) -> dict:
    """Time both sides in alternating blocks, after one warm-up block that is not counted."""
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


def arguments() -> argparse.Namespace:
    line = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    line.add_argument("--quick", action="store_true", help="fewer and shorter blocks: 3 minutes on two CPU cores")
    line.add_argument("--out", default="benchmark.csv", help="where to write the table (default: benchmark.csv)")
    line.add_argument(
        "overrides", nargs="*", help="settings, as for run.py: teacher=wrn40_2 student=wrn16_2 compile=true"
    )
    line.add_argument(
        "--methods", default=METHODS, help=f"methods to sweep; the last one is also the single run (default: {METHODS})"
    )
    line.add_argument("--seeds", type=int, default=1, help="seeds at a time, as with engine=joblib (default: 1)")
    line.add_argument(
        "--growth",
        metavar="N,N",
        help="instead: time and memory of dry_run, list, summarize and --watch with N records",
    )
    line.add_argument(
        "--device", metavar="FILE", help="instead: everything about this device, as JSON in FILE and a table"
    )
    line.add_argument("--minutes", type=float, default=8, help="with --device: start nothing after these (default: 8)")
    return line.parse_args()


def main() -> None:
    asked = arguments()
    if asked.growth:
        return growth.main([int(count) for count in asked.growth.split(",")])
    names = asked.methods.split(",")
    cli.register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"), cli.messages():
        configs = [plain(compose("config", [f"distill={name}", *asked.overrides])) for name in names]
        if asked.device:
            return device.main(configs, asked.device, asked.minutes, asked.quick)
    data, source, teacher, hardware = prepared(configs)
    workers = min(4, torch.get_num_threads())
    texts = [Textbook(config, data, teacher, hardware.device, workers) for config in configs]
    rounds, count = (3, 2) if asked.quick else (7, 10)
    single, together = (Ours(runs, data, teacher, hardware) for runs in (configs[-1:], configs))
    rows = [
        compare(f"one run: {configs[-1]['distill']['label']}", texts[-1:], [single], rounds, count, hardware.device),
        compare(f"one seed: {len(names)} methods", texts, [together], rounds, count, hardware.device),
    ]
    if asked.seeds > 1:
        question, ours = f"{asked.seeds} seeds at a time: {len(names)} methods", SeedsAtATime(configs, asked.seeds)
        rows.append(compare(question, texts, [ours], rounds, count * asked.seeds, hardware.device))
    what = " -> ".join(configs[-1]["model"][role]["name"] for role in ("teacher", "student"))
    what += f", batch {configs[-1]['batch_size']}, {source}"
    print(f"{what}; {hardware.device}, {platform.machine()}, torch {torch.__version__}; ours: {hardware}")
    report(rows, f"median (min .. max) of {rounds} blocks of {count} steps a seed")
    with open(asked.out, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def report(rows: list[dict], blocks: str) -> None:
    print(f"seconds per step, one seed of all methods named, {blocks}\n")
    print(f"{'':34}{'textbook loop':>26}{'ours':>26}{'factor':>10}")
    for row in rows:
        cells = [f"{row[n]:.3f} ({row[n + '_min']:.3f} .. {row[n + '_max']:.3f})" for n in ("textbook", "ours")]
        print(f"{row['question']:34}{cells[0]:>26}{cells[1]:>26}{row['factor']:>10.1f}")


if __name__ == "__main__":
    main()
