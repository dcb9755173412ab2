"""A SLURM cluster of one node on this machine, for as long as a test needs it. Debian: apt-get install slurm-wlm; with
accounting also slurmdbd mariadb-server. As root:

    python tests/slurm_cluster.py [--accounting] COMMAND ...      COMMAND runs with this cluster as its SLURM
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NEEDED = [f"needs {name}" for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]
MISSING = "needs root" if os.geteuid() else "".join(NEEDED[:1])  # why there can be none here
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
# a requeued job starts after cred_expire, 120 s by default and 5 s at least
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# no cgroups: containers have none to give away
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=10
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
{accounting}
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus}
PartitionName=main Nodes=node Default=YES MaxTime=INFINITE State=UP
"""
ACCOUNTING = """
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[2]}
AccountingStoragePass={folder}/munge.socket
"""
SLURMDBD = """
DbdHost=localhost
DbdPort={ports[2]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[3]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


@contextlib.contextmanager
def cluster(cpus: int = 2, accounting: bool = False) -> Iterator[dict[str, str]]:
    """A partition "main" with one node. Yields the environment variables that have SLURM's commands use it."""
    with tempfile.TemporaryDirectory(prefix="slurm") as name, contextlib.ExitStack() as started:
        folder, ports = Path(name), _free_ports(4)
        folder.chmod(0o755)  # munge wants its folder closed to writers, and its socket in reach of all
        values = {"folder": folder, "ports": ports, "host": socket.gethostname(), "cpus": cpus}
        values["accounting"] = ACCOUNTING.format(**values) if accounting else ""
        (folder / "slurm.conf").write_text(CONF.format(**values))
        environment = {"SLURM_CONF": str(folder / "slurm.conf")}

        def start(*command):
            started.enter_context(_daemon(folder, [str(word) for word in command], os.environ | environment))

        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        for place in ("state", "spool"):
            (folder / place).mkdir()
        files = [f"--{what}={folder}/munge.{what[:-5] if what.endswith('-file') else what}" for what in MUNGE]
        start("munged", "--foreground", "--force", "--num-threads=2", *files)
        _until(f"munge --socket={folder}/munge.socket --no-input", environment)
        if accounting:
            _start_accounting(folder, start, values, environment)
        start("slurmctld", "-D", "-f", folder / "slurm.conf")
        start("slurmd", "-D", "-N", "node", "-f", folder / "slurm.conf")
        _until("sinfo --noheader --format=%T | grep -q idle", environment)
        try:
            yield environment
        finally:
            subprocess.run("scancel --user=root --quiet", shell=True, env=os.environ | environment, check=False)
            with contextlib.suppress(TimeoutError):
                _until("test -z \"$(squeue --noheader)\"", environment, seconds=15)


MUNGE = ("socket", "key-file", "pid-file", "log-file", "seed-file")


def _start_accounting(folder: Path, start, values: dict, environment: dict) -> None:
    data = folder / "mariadb"
    made = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root"]
    subprocess.run([*made, "--auth-root-authentication-method=normal"], check=True, stdout=subprocess.DEVNULL)
    where = [f"--socket={folder}/mariadb.socket", f"--port={values['ports'][3]}", "--bind-address=127.0.0.1"]
    start("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", *where)
    rights = "CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm@'127.0.0.1'"
    sql = f"mariadb --no-defaults --socket={folder}/mariadb.socket --execute"
    _until(f"{sql} 'SELECT 1'", environment)
    subprocess.run(f'{sql} "{rights}"', shell=True, check=True)
    (folder / "slurmdbd.conf").write_text(SLURMDBD.format(**values))
    (folder / "slurmdbd.conf").chmod(0o600)  # else it refuses to start
    start("slurmdbd", "-D")
    _until("sacctmgr --immediate add cluster test || sacctmgr --noheader list cluster | grep -q test", environment)


@contextlib.contextmanager
def _daemon(folder: Path, command: list[str], environment: dict) -> Iterator[None]:
    with open(folder / f"{Path(command[0]).name}.out", "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until(command: str, environment: dict, seconds: float = 30) -> None:
    """Repeat a shell command until it succeeds."""
    deadline = time.monotonic() + seconds
    while (done := subprocess.run(command, shell=True, env=os.environ | environment, capture_output=True)).returncode:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{command}\n{(done.stdout + done.stderr).decode()}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    if MISSING:
        sys.exit(f"{MISSING}: {__doc__}")
    with_accounting = sys.argv[1:2] == ["--accounting"]
    with cluster(accounting=with_accounting) as variables:
        sys.exit(subprocess.run(sys.argv[1 + with_accounting :], env=os.environ | variables).returncode)
