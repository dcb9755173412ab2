"""Search on held-out images."""

import json
import re

import pytest
import yaml


def results(outputs):
    return [json.loads(path.read_text()) for path in outputs.rglob("result.json")]


def test_the_winners_of_a_sweep_and_their_command(run, tmp_path):
    sweep = ("-m", "distill=none,kd", "weight_factor=0.1,1,3", "dataset.validation=16", "dataset.limit=80")
    done = run(*sweep, check=0)
    found = [one for one in results(tmp_path / "outputs") if one["student"] == "resnet8"]
    assert len(found) == 6 and all(one["val_acc"] is not None for one in found)
    configs = [yaml.safe_load(path.read_text()) for path in (tmp_path / "outputs").rglob("resnet8/**/config.yaml")]
    configs += [yaml.safe_load(path.read_text()) for path in (tmp_path / "outputs").rglob("kd/**/config.yaml")]
    weights = sorted((one["distill"]["name"], one["distill"]["ce_weight"], one["distill"]["weight"]) for one in configs)
    assert weights == [*(("kd", 0.1, weight) for weight in (0.09, 0.9, 2.7)), *(("none", ce, 1) for ce in (0.1, 1, 3))]
    for name, label in (("none", "none"), ("kd", "KD")):
        best = max(one["val_acc"] for one in found if one["distill"] == name)
        assert re.search(rf"^{label}   .*validation {best:.2f} %, best of 3 ", done.stdout, re.M)
    commands = re.findall(r"python run.py (.*)", done.stdout)
    assert len(commands) == 2 and all(command.endswith("seed=2,3,4") for command in commands)
    assert not any("validation" in command or "weight_factor" in command for command in commands)
    planned = run(*commands[1].split(), "dry_run=true", check=0)
    assert "3 runs: 0 done, 3 to run, and 1 teacher first" in planned.stdout


SEARCH = ("-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=4", "distill=kd", "distill.weight=interval(0.1,3.0)")


def test_optuna_searches_on_held_out_images_and_goes_on(run, tmp_path):
    optuna = pytest.importorskip("optuna")
    storage = f"hydra.sweeper.storage=sqlite:///{tmp_path}/search.db"
    for trials in (4, 8):
        done = run(*SEARCH, "dataset.validation=16", "dataset.limit=80", storage, check=0)
        assert "4 to run in 1 group" in done.stderr  # side by side
        study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path}/search.db")
        assert len(study.trials) == trials
    values = {one["val_acc"] for one in results(tmp_path / "outputs") if one["distill"] == "kd"}
    assert {trial.value for trial in study.trials} == values and study.best_value == max(values)


def test_a_search_has_no_dry_run(run, tmp_path):
    pytest.importorskip("optuna")
    refused = run(*SEARCH, "dataset.validation=16", "dry_run=true", check=1)
    assert "dry_run=true: a search decides what to train as it goes" in refused.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("words", [(), ("dataset.validation=16", "hydra.sweeper.direction=minimize")])
def test_a_search_on_test_images_is_refused(run, words):
    pytest.importorskip("optuna")
    refused = run(*SEARCH, *words, check=1)
    assert refused.stderr.strip().splitlines()[-1].startswith("a search must maximize accuracy on images held out")
    assert "Traceback" not in refused.stderr
