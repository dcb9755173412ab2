"""A sweep in which everything goes wrong at once: three processes run the same command while a chaos monkey stops, kills
and interrupts them, fills the disk, truncates files and shifts the timestamps that leases rely on. Then one plain command
finishes the sweep, and the result is bitwise that of an undisturbed sweep.

KDEXP_CHAOS_SECONDS=600 KDEXP_CHAOS_SEEDS=1,2,3 python -m pytest -m slow tests/test_chaos.py     (60 seconds of seed 1)
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import TINY, Forked, _run_py
from test_survival import numbers, states

from kdexp.storage import lease, seal
from kdexp.training import recorded_fit

SECONDS = float(os.environ.get("KDEXP_CHAOS_SECONDS", "60"))
SEEDS = os.environ.get("KDEXP_CHAOS_SEEDS", "1").split(",")
SHORT = ("threads=1", "epochs=6", "batch_size=4")
SWEEP = ("-m", "distill=none,kd,sp", "seed=1,2,3,4", *SHORT)
TEACHER = ("distill=none", "student=wrn16_1", *SHORT)  # whose students are all done is not looked at by the sweep
ENGINE = ("engine=joblib", "engine.workers=1")
QUICK = {"SILENT": 6.0, "HEARTBEAT": 0.5}  # seconds; for people ten minutes and one
WORKERS = f"from kdexp.record import lease\nlease.__dict__.update({QUICK})\n"  # sitecustomize.py of new interpreters
KEPT = {*seal.SEALED, "result.json", "status.json", "run.log"}


def _command(arguments, folder, files, environment):
    """In a new process: run.py in a session of its own, whose leases expire sooner."""
    os.setsid()
    vars(lease).update(QUICK)
    recorded_fit.HEARTBEAT = QUICK["HEARTBEAT"]
    _run_py(arguments, folder, files, None, environment)


def processes(sessions):
    """The live processes of these sessions: commands, their workers and orphans."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.append(int(stat.parent.name))
    return found


class Monkey:
    """Three commands on one sweep below `folder`, and the faults they suffer, drawn from `seed`."""

    def __init__(self, folder, seed, small_disk):
        self.folder, self.outputs, self.draw = folder, folder / "outputs", random.Random(seed)
        self.going, self.sessions, self.asleep, self.files = [], set(), {}, []
        self.did, self.damaged = Counter(), Counter()
        self.acts = [self.stop, self.truncate, self.move_time] * 2 + [self.kill, self.interrupt]
        self.acts += [self.fill] * small_disk

    def play(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.wake(time.monotonic())
            self.going = [one for one in self.going if one.is_alive()]
            while len(self.going) < 3:
                self.begin()
            time.sleep(self.draw.uniform(0.5, 3))
            act = self.draw.choice(self.acts)
            act()
            self.did[act.__name__] += 1
        self.wake(float("inf"))

    def begin(self):
        one = self.type(*SWEEP, *ENGINE)
        self.going.append(one)
        self.sessions.add(one.pid)

    def type(self, *words):
        """The started process of a command."""
        self.files.append([self.folder.parent / f"{len(self.files)}.{name}" for name in ("out", "err")])
        words = (*TINY, f"paths.outputs={self.outputs}", *words)
        environment = {"PYTHONPATH": f"{self.folder.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
        one = Forked.context.Process(target=_command, args=(words, self.folder.parent, self.files[-1], environment))
        one.start()
        return one

    def send(self, number, pids):
        if pids:
            pid = self.draw.choice(sorted(pids))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            return pid

    def stop(self):
        """For longer than a heartbeat, and sometimes for longer than a lease."""
        if pid := self.send(signal.SIGSTOP, processes(self.sessions)):
            self.asleep[pid] = time.monotonic() + self.draw.uniform(2 * QUICK["HEARTBEAT"], 2 * QUICK["SILENT"])

    def wake(self, now):
        for pid in [pid for pid, until in self.asleep.items() if until < now]:
            del self.asleep[pid]
            self.send(signal.SIGCONT, [pid])

    def kill(self):
        self.send(signal.SIGKILL, processes(self.sessions))

    def interrupt(self):
        self.send(signal.SIGINT, [one.pid for one in self.going])

    def fill(self):
        filler = self.outputs / ".filler"
        try:
            with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                while file.write(bytes(2**20)):
                    pass
            time.sleep(self.draw.uniform(0.5, 3))
        finally:
            filler.unlink()

    def truncate(self):
        """A file of a finished run, or a checkpoint."""
        done = [path for result in self.outputs.rglob("result.json") for path in result.parent.glob("[!.]*.*")]
        done = [path for path in done if path.name in KEPT - {"run.log"}]
        if found := sorted({*done, *self.outputs.rglob("checkpoint.pt")}):
            path = self.draw.choice(found)
            with contextlib.suppress(FileNotFoundError):
                os.truncate(path, path.stat().st_size // 2)
                self.damaged[path.parent] += 1

    def move_time(self):
        """Of a lease file by up to a day, or of a state's heartbeat by years."""
        files = [*self.outputs.rglob(".*.lock"), *self.outputs.rglob("status.json")]
        with contextlib.suppress(FileNotFoundError, IndexError):
            path = self.draw.choice(sorted(files))
            if path.suffix == ".lock":
                now = time.time() + self.draw.uniform(-86400, 86400)
                return os.utime(path, (now, now))
            with open(path, "r+b") as file:
                at = file.read().find(b'"heartbeat": 1') + len(b'"heartbeat": 1')
                file.seek(at)
                file.write(self.draw.choice([b"0", b"9"]))

    def end(self):
        """Kill everything that is still running."""
        while left := processes(self.sessions):
            for pid in left:
                self.send(signal.SIGKILL, [pid])
            time.sleep(0.1)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    Forked(folder, *SWEEP).wait(check=0)
    return numbers(folder / "outputs")


@pytest.fixture
def disk(tmp_path):
    """A folder on its own small disk, if this user may mount one; (folder, whether it is)."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True)
    (folder / "outputs").mkdir()
    if mounted.returncode:
        print(f"the disk is never full: {mounted.stderr.decode().strip()}")
    yield folder, not mounted.returncode
    if not mounted.returncode:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_chaos(tmp_path, calm, disk, seed):
    folder, small_disk = disk
    (tmp_path / "sitecustomize.py").write_text(WORKERS)
    monkey = Monkey(folder, seed, small_disk)
    try:
        monkey.play(SECONDS)
    finally:
        monkey.end()
    again = (
        f"again: KDEXP_CHAOS_SECONDS={SECONDS:g} KDEXP_CHAOS_SEEDS={seed} python -m pytest -m slow tests/test_chaos.py"
    )
    print(f"seed {seed}: {dict(monkey.did)}, {monkey.damaged.total()} files truncated, {len(monkey.files)} commands")
    for words in (SWEEP, TEACHER):
        last = monkey.type(*words)  # with leases as short: a killed worker that nobody has reaped yet counts as alive
        last.join(120)
        assert last.exitcode == 0, f"{again}\n{monkey.files[-1][1].read_text()}"
    said = [file.read_text() for _, file in monkey.files if file.exists()]
    ours = re.compile(r'File "\S*/kdexp/')  # a killed worker's library has tracebacks of its own
    assert not [text for text in said if ours.search(text)], f"{again}\n" + "\n".join(said)
    check(folder / "outputs", calm, monkey.damaged, again)


def check(outputs, calm, damaged, again):
    """The numbers are those of the undisturbed sweep; each run finished once, and was repeated at most as often as one of
    its files was truncated; nothing else is left over."""
    assert numbers(outputs) == calm, again
    assert states(outputs) == ["done"] * len(calm), again
    for result in outputs.rglob("result.json"):
        log, folder = result.with_name("run.log").read_text(), result.parent
        assert seal.damaged(folder) == [], again
        assert log.count("done   test") <= 1 + damaged[folder], f"{again}\n{folder}\n{log}"
        assert json.loads(result.read_text())["student_sha256"] == seal.sha256((folder / "student.pt").read_bytes())
        for path in folder.iterdir():
            told = f"was set aside as {path.name}" in log
            assert path.name in KEPT or (path.suffix == ".damaged" and told), f"{again}\n{path}\n{log}"
    folders = {above for result in outputs.rglob("result.json") for above in result.parents}
    left = [path for path in outputs.rglob("*") if path.parent not in {r.parent for r in outputs.rglob("result.json")}]
    assert not [path for path in left if path not in folders], again
