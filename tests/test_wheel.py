"""The wheel in an environment of its own, used from a folder that knows nothing of the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from kdexp import ROOT, spelling

pytestmark = pytest.mark.slow
PARTS = ("kdexp", "conf", "sweeps", "pyproject.toml", "README.md", "LICENSE")
DIGITS = "dataset=digits recipe=quick epochs=1 dataset.limit=64 dataset.limit_test=50 teacher=wrn16_1 student=resnet8"


def call(*words, cwd, env=None, check=True):
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, built = (tmp_path_factory.mktemp(name) for name in ("source", "wheel"))  # building writes into the source
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", built, source, cwd=built)
    shutil.rmtree(source)
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def kdexp(wheel, tmp_path_factory):
    """`kdexp(*words)` is the installed command in an empty folder. The environment has kdexp from the wheel and the
    packages of this one, but not this checkout."""
    place, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("anywhere")
    venv.create(place, with_pip=False)
    programs = place / ("Scripts" if os.name == "nt" else "bin")
    (own,) = [path for path in place.rglob("site-packages")]
    packages = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "packages.pth").write_text("\n".join(packages))
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "KDEXP_DATA", "KDEXP_OUTPUTS")}
    install = ["-m", "pip", "install", "--no-deps", "--ignore-installed", "--no-index", wheel]
    call(programs / "python", *install, cwd=folder, env=env)

    def run(*words, check=True):
        return call(programs / "kdexp", *words, cwd=folder, env=env, check=check)

    run.folder = folder
    return run


def test_it_holds_every_option_and_module_of_the_checkout(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("kdexp/")}
    needed = {f"kdexp/{file.relative_to(ROOT)}" for name in ("conf", "sweeps") for file in (ROOT / name).rglob("*")}
    needed |= {str(file.relative_to(ROOT)) for file in (ROOT / "kdexp").rglob("*")}
    kinds = (".py", ".yaml", ".csv", ".html", ".css", ".js", ".typed", ".md")
    assert held == {name for name in needed if name.endswith(kinds)}


def test_train_and_summarize_from_any_folder(kdexp):
    trained = kdexp("-m", *DIGITS.split(), "distill=none,sp", "threads=1")
    assert "digits   wrn16_1" in trained.stdout and "2 of 2 done" in trained.stderr
    assert [path.name for path in kdexp.folder.iterdir()] == ["outputs"]
    assert kdexp("summarize").stdout == trained.stdout
    listed = kdexp("record", "list", "distill=sp").stdout
    assert "wrn16_1 -> resnet8" in listed and "1 run: 1 done" in listed
    assert "as recorded" in kdexp("evaluate", "distill=sp").stdout
    result = next(kdexp.folder.rglob("wrn16_1-resnet8/**/result.json")).read_text()
    assert '"git": null' in result


def test_what_it_prints_can_be_typed(kdexp):
    assert kdexp("summarize", "nowhere", check=False).stderr.endswith("Records are made by: kdexp sweep=quickstart\n")
    texts = [kdexp(*words, "--help").stdout for words in ([], ["summarize"], ["record"], ["evaluate"])]
    for text in [*texts, kdexp("distil=kd", check=False).stderr]:
        assert "kdexp" in text and not any(command in text for command in spelling.IN_A_CHECKOUT)
