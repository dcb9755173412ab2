"""python run.py --info, and what other programs read of the repository."""

import getpass
import re
import socket
import subprocess
import sys

import torch
import yaml

from kdexp import ROOT, __version__


def test_info_names_versions_and_no_user_or_host(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "run.py", "--info"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["kdexp"].startswith(f"{__version__}, checkout") and lines["torch"].startswith(torch.__version__)
    assert lines["devices"].startswith("cpu (") and f"numpy {__import__('numpy').__version__}" in lines["packages"]
    assert lines["paths.data"] == "data, not there yet" and list(tmp_path.iterdir()) == []
    for name in (getpass.getuser(), socket.gethostname()):
        assert not re.search(rf"\b{re.escape(name)}\b", done.stdout)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_workflow_runs_ci_on_every_python_that_is_supported():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]["test"]
    assert job["steps"][-1] == {"run": ".ci/run"}
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text()).groups()
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]
