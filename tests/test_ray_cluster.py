"""A Ray cluster of two nodes on this machine: the same records, also when one of them dies in mid-run."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from conftest import TINY, Forked
from test_survival import numbers

from kdexp import ROOT

SWEEP = ("-m", "distill=none,kd,sp", "seed=1,2", "threads=1", "epochs=60", "batch_size=4")


def running(words):
    """Process ids of those whose command line has these words."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found[int(file.parent.name)] = file.read_bytes().decode()
    return {pid for pid, line in found.items() if all(word in line for word in words)}


@pytest.fixture
def cluster(monkeypatch):
    """(address, process id of the node that is not the head)."""
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    folder = tempfile.mkdtemp(prefix="ray")  # short: sockets are below it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--object-store-memory=100000000"]
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    nodes = []
    try:
        for options in (head, [f"--address=127.0.0.1:{port}"]):
            started = subprocess.run([*ray, *options, "--node-ip-address=127.0.0.1"], capture_output=True, text=True)
            assert started.returncode == 0, started.stdout + started.stderr
            nodes += running(["/raylet/raylet", folder]) - {*nodes}
        yield f"127.0.0.1:{port}", nodes[1]
    finally:
        for pid in running([folder]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def command(outputs, *words):
    return [sys.executable, str(ROOT / "run.py"), *TINY, f"paths.outputs={outputs}", *words]


@pytest.mark.slow
def test_a_node_that_dies_in_mid_run(tmp_path, tmp_path_factory, cluster):
    address, node = cluster
    calm = tmp_path_factory.mktemp("calm")
    Forked(calm, *SWEEP).wait(check=0)
    sweep = command(tmp_path, *SWEEP, "engine=ray", f"engine.address={address}")
    with open(tmp_path / "told", "w") as told:
        going = subprocess.Popen(sweep, stderr=told, stdout=told)
    while len({path.parent.name for path in tmp_path.rglob("*-resnet8/*/*/*/checkpoint.pt")}) < 2:
        time.sleep(0.02)
        assert going.poll() is None, (tmp_path / "told").read_text()
    os.kill(node, signal.SIGKILL)  # both seeds are at work, one on each node
    assert going.wait(300) == 0, (tmp_path / "told").read_text()
    print((tmp_path / "told").read_text())
    assert "goes on at epoch" in (tmp_path / "told").read_text()
    assert numbers(tmp_path) == numbers(calm / "outputs")


@pytest.mark.slow
def test_an_address_that_does_not_answer(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as silent:  # nobody listens behind it
        silent.bind(("127.0.0.1", 0))
        began, address = time.monotonic(), f"127.0.0.1:{silent.getsockname()[1]}"
        done = Forked(tmp_path, *SWEEP, "engine=ray", f"engine.address={address}").wait(check=1)
    assert time.monotonic() - began < 30  # ten where nothing else runs
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"engine.address={address}: no Ray cluster answers there (") and not list(tmp_path.iterdir())
