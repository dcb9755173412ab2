"""Loggers receive the rows of epochs.csv and change no number."""

import csv
import json

import pytest
from conftest import CONF

SWEEP = ("-m", "distill=none,kd", "threads=1")
LOGGERS = sorted(file.stem for file in (CONF / "logger").glob("*.yaml"))


def rows(folder):
    return list(csv.DictReader((folder / "epochs.csv").open()))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    from conftest import Forked

    folder = tmp_path_factory.mktemp("plain")
    Forked(folder, *SWEEP).wait(check=0)
    return weights(folder)


def weights(folder):
    return sorted(json.loads(path.read_text())["student_sha256"] for path in folder.rglob("result.json"))


def test_tensorboard(run, tmp_path, plain):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(*SWEEP, "logger=tensorboard", check=0)
    assert weights(tmp_path) == plain
    folders = [path.parent for path in tmp_path.rglob("epochs.csv")]
    assert len(folders) == 3
    for folder in folders:
        events = EventAccumulator(str(folder / "tensorboard")).Reload()
        for key in ("test_acc", "train_loss", "lr", "seconds"):
            logged = [(event.step, event.value) for event in events.Scalars(key)]
            assert logged == [(int(row["epoch"]), pytest.approx(float(row[key]), rel=1e-6)) for row in rows(folder)]
        assert "val_acc" not in events.Tags()["scalars"]


def test_wandb_offline_asks_nothing(run, tmp_path, plain):
    pytest.importorskip("wandb")
    done = run(*SWEEP, "logger=wandb", check=0, env={"HOME": str(tmp_path), "WANDB_API_KEY": ""})
    assert weights(tmp_path) == plain and "log in" not in (done.stdout + done.stderr).lower()
    for path in tmp_path.rglob("result.json"):
        (log,) = path.parent.glob("wandb/offline-run-*/*.wandb")
        assert b"test_acc" in log.read_bytes()


@pytest.fixture
def mlflow():
    pytest.importorskip("alembic")  # mlflow-skinny comes without what a database needs
    return pytest.importorskip("mlflow")


def runs_of(mlflow, store):
    """Folder -> the MLflow run."""
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("kdexp").experiment_id
    return client, {run.data.tags["folder"]: run for run in client.search_runs([experiment])}


def test_mlflow(mlflow, run, tmp_path, plain):
    run(*SWEEP, "logger=mlflow", check=0)
    assert weights(tmp_path) == plain
    client, logged = runs_of(mlflow, f"sqlite:///{tmp_path}/mlflow.db")
    folders = [path.parent for path in tmp_path.rglob("epochs.csv")]
    assert sorted(logged) == sorted(map(str, folders)) and len(folders) == 3
    for folder in folders:
        one = logged[str(folder)]
        assert one.info.status == "FINISHED" and one.data.params["recipe.name"] == "quick"
        for key in ("test_acc", "train_loss", "lr"):
            history = [(metric.step, metric.value) for metric in client.get_metric_history(one.info.run_id, key)]
            assert history == [(int(row["epoch"]), pytest.approx(float(row[key]), rel=1e-6)) for row in rows(folder)]


def test_mlflow_goes_on_in_the_run_of_the_folder(mlflow, tmp_path):
    from kdexp.loggers.mlflow import MLflow

    store = f"sqlite:///{tmp_path}/mlflow.db"
    for epochs in ((1, 2), (3, 4)):  # stopped between
        logger = MLflow(tmp_path / "it's, a=folder", "KD seed 1", {"seed": 1}, tracking=store)
        for epoch in epochs:
            logger.log({"epoch": epoch, "test_acc": 10.0 * epoch, "val_acc": None})
        logger.close()
    client, logged = runs_of(mlflow, store)
    (one,) = logged.values()
    history = client.get_metric_history(one.info.run_id, "test_acc")
    assert [(metric.step, metric.value) for metric in history] == [(1, 10), (2, 20), (3, 30), (4, 40)]
    assert one.info.run_name == "KD seed 1" and set(one.data.metrics) == {"test_acc"}


@pytest.mark.parametrize("name", [name for name in LOGGERS if name != "none"])
def test_a_logger_that_is_not_installed(run, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise ImportError")
    told = run(f"logger={name}", env={"PYTHONPATH": str(tmp_path)}, check=1).stderr
    assert told == f'{name}: the package {name} is not installed: pip install -e ".[{name}]"\n'
    assert not (tmp_path / "outputs").exists()


FAILING = """
class Failing:
    def __init__(self, folder, name, config):
        self.rows = 0

    @staticmethod
    def require():
        pass

    def log(self, row):
        self.rows += 1
        if self.rows == 2:
            raise ConnectionError("the service is away")

    def close(self):
        pass
"""


def test_a_logger_that_fails_is_dropped_and_the_run_goes_on(run, tmp_path, plain):
    (tmp_path / "away" / "conf" / "logger").mkdir(parents=True)
    (tmp_path / "away" / "log.py").write_text(FAILING)
    (tmp_path / "away" / "conf" / "logger" / "failing.yaml").write_text("name: failing\n_target_: away.log.Failing\n")
    done = run(*SWEEP, "plugins=[away]", "logger=failing", check=0)
    assert weights(tmp_path) == plain
    assert done.stderr.count("its logger failed and gets no more rows (ConnectionError: the service is away)") == 3
