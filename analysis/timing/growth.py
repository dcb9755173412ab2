"""How the time and peak memory of commands grow with the number of records below outputs/, say 1,000 and 10,000 runs.

The records are written by kdexp's own writers, with made-up numbers: six pairs, fourteen methods and five seeds for each
batch size, 240 epochs, 10,000 test images; every 47th run is unfinished. The 420 runs of the first batch size are the
ones the dry_run command asks for. It reads their weights (1 MB) and logits (2 MB), so these have realistic sizes. No
command reads the weights of the other runs: they are 1 kB.
"""

import collections
import itertools
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from tabulate import tabulate

from kdexp import CONF, ROOT
from kdexp.command import cli
from kdexp.config import naming
from kdexp.config.compose import without_pair
from kdexp.config.resolve import plain
from kdexp.record import COLUMNS, Record
from kdexp.storage import seal
from kdexp.storage.files import write_atomically

PAIRS = "wrn40_2-wrn16_2,wrn40_2-wrn40_1,resnet56-resnet20,resnet110-resnet32,resnet32x4-resnet8x4,vgg13-vgg8"
METHODS = "none,kd,fn,at,sp,cc,vid,rkd,pkt,ab,ft,nst,crd,od"
SEEDS = (1, 2, 3, 4, 5)
RUNS = 420
IMAGES, CLASSES = 10_000, 100
ONE_REFRESH = "from kdexp.report.showing import watch; watch.QUIET = 1; watch.watch(['{}'])"


def commands(outputs: Path) -> dict[str, list[str]]:
    """Name -> command line. No process is running these records, so --watch would end after three identical drawings."""
    axes = ("-m", f"pair={PAIRS}", f"distill={METHODS}", f"seed={','.join(map(str, SEEDS))}")
    return {
        "`run.py ... dry_run=true`, 420 runs": ["run.py", *axes, f"paths.outputs={outputs}", "dry_run=true"],
        "`kdexp.record list`": ["-m", "kdexp.record", "list", str(outputs)],
        "`summarize.py`": ["analysis/summarize.py", str(outputs)],
        "`summarize.py --watch`, one drawing": ["-c", ONE_REFRESH.format(outputs)],
    }


def main(counts: list[int]) -> None:
    """Print a Markdown table: a row for each command; seconds, CPU seconds and MB for each number of records in `counts`."""
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        outputs, records = Path(folder, "outputs"), written(Path(folder, "outputs"))
        for more in np.diff([0, *counts]):
            with patch("os.fsync"):  # do not wait for the disk: writing is not measured
                collections.deque(itertools.islice(records, int(more)), maxlen=0)
            for name, words in commands(outputs).items():
                rows.setdefault(name, []).extend(measured(words))
    heads = [f"{count:,} runs: {unit}" for count in counts for unit in ("s", "s of CPU", "MB")]
    print(tabulate([[name, *cells] for name, cells in rows.items()], ["", *heads], "github", disable_numparse=True))


# until it execs, a forked process counts its parent's memory as its own, so measure from a small parent
MEASURED = """
import resource, subprocess, sys, time
began = time.perf_counter()
subprocess.run([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def measured(words: list[str]) -> list[str]:
    """Run `python ...`: wall seconds, CPU seconds, peak MB. Raises CalledProcessError."""
    command = [sys.executable, "-c", MEASURED, *words]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    clock, processor, memory = map(float, done.stdout.split())
    return [f"{clock:.1f}", f"{processor:.1f}", f"{memory:.0f}"]


def written(outputs: Path) -> Iterator[None]:
    """Write one more record at each step, without end; those of the dry_run command come first."""
    cli.register()
    pairs, methods = PAIRS.split(","), METHODS.split(",")
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        words = [[f"pair={pair}", f"distill={name}", f"paths.outputs={outputs}"] for pair in pairs for name in methods]
        chosen = [plain(compose("config", without_pair(line))) for line in words]
        texts = [OmegaConf.to_yaml(OmegaConf.create(config)) for config in chosen]  # slow, so only once for each choice
        sizes = itertools.count(chosen[0]["batch_size"])
        runs = ((size, *run) for size in sizes for run in itertools.product(zip(chosen, texts), SEEDS))
        for number, (size, (config, text), seed) in enumerate(runs):
            own = {"seed": seed, "batch_size": size}
            for key, value in own.items():
                text = text.replace(f"\n{key}: {config[key]}\n", f"\n{key}: {value}\n")
            yield _write(config | own, text, number)


def _write(config: dict, text: str, number: int) -> None:
    """Write the record of a run whose config.yaml is `text`."""
    record, draw = Record(naming.folder(config)), random.Random(number)
    fingerprint = naming.fingerprint(config)
    record.folder.mkdir(parents=True)
    write_atomically(record.folder / "config.yaml", text.encode())
    epochs = range(1, config["epochs"] + 1)
    rows = [{name: draw.random() for name in COLUMNS} | {"epoch": epoch, "val_acc": None} for epoch in epochs]
    if number % 47 == 0:
        record.save_rows(rows[:120])
        return record.heartbeat(fingerprint=fingerprint, heartbeat=0.0)
    record.save_rows(rows)
    record.heartbeat(fingerprint=fingerprint, started="2026-01-01 00:00:00")
    if full_size := number < RUNS:
        record.save_logits(np.zeros((IMAGES, CLASSES)))
    right = np.random.default_rng(number).random(IMAGES) < 0.7
    record.save_right(np.packbits(right))
    weights = draw.randbytes(10**6 if full_size else 1000)
    record.finish(weights, np.zeros(IMAGES, "int64"), _result(config, fingerprint, 100 * right.mean(), weights))
    record.log("done")


def _result(config: dict, fingerprint: str, accuracy: float, weights: bytes) -> dict:
    """What kdexp.result.result_of would return: the result of a published run, with this run's names and accuracy."""
    run = "cifar100/wrn16_2-resnet8/kd/dataset.limit=10000,epochs=12/seed1/result.json"
    published = json.loads((ROOT / "analysis/results/cpu-cifar100" / run).read_text())
    names = {role: node and node["name"] for role, node in config["model"].items()}
    names |= {key: config[key]["name"] for key in ("dataset", "distill", "recipe")}
    own = {key: config[key] for key in ("seed", "teacher_seed", "epochs", "batch_size")}
    own |= {"test_acc": accuracy, "limit": None, "fingerprint": fingerprint, "student_sha256": seal.sha256(weights)}
    return {key: value for key, value in published.items() if key != "seal"} | names | own
