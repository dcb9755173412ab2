"""Evaluation: measures against slow references, the command, other data sets in their own formats, metrics of the table."""

import json

import numpy as np
import pytest
import scipy.io
import torch
from conftest import TINY

import kdexp
from kdexp.command import evaluate as command
from kdexp.command import summarize
from kdexp.datasets import DatasetError
from kdexp.evaluate.measures import calibration, fidelity
from kdexp.evaluate.sets import SETS
from kdexp.storage import seal


def logits(seed, count=200, classes=5):
    draws = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=draws)
    return 2 * torch.randn(count, classes, generator=draws) + 2 * torch.eye(classes)[labels], labels


def softmax(row, temperature=1.0):
    powers = np.exp(np.array(row) / temperature - max(row) / temperature)
    return powers / powers.sum()


def test_calibration_slow():
    z, labels = logits(0)
    rows = [softmax(row) for row in z.double().tolist()]
    sure, right = [row.max() for row in rows], [row.argmax() == label for row, label in zip(rows, labels.tolist())]
    total = 0.0
    for number in range(15):
        members = [i for i, c in enumerate(sure) if number / 15 < c <= (number + 1) / 15]
        if members:
            gap = np.mean([right[i] for i in members]) - np.mean([sure[i] for i in members])
            total += len(members) / len(rows) * abs(gap)
    found = calibration(z, labels)
    assert found["ece"] == pytest.approx(100 * total, rel=1e-9)
    truth = np.eye(5)[labels]
    assert found["brier"] == pytest.approx(np.mean([((row - one) ** 2).sum() for row, one in zip(rows, truth)]))
    assert found["nll"] == pytest.approx(-np.mean([np.log(row[label]) for row, label in zip(rows, labels.tolist())]))


def test_a_network_that_is_sure_and_right_is_calibrated():
    labels = torch.arange(10)
    assert calibration(100 * torch.eye(10), labels)["ece"] < 1e-6
    assert calibration(torch.zeros(10, 10), labels)["ece"] == pytest.approx(0.0, abs=1e-9)  # 10 % sure, 10 % right
    assert calibration(100 * torch.eye(10).roll(1, 0), labels)["ece"] == pytest.approx(100)


def test_fidelity_slow():
    (s, labels), (t, _) = logits(0), logits(1)
    t = torch.where(torch.rand(200, 1, generator=torch.Generator().manual_seed(2)) < 0.5, s, t)
    found = fidelity(s, t, labels)
    for key, temperature in (("kl_teacher", 1.0), ("kl_teacher_t4", 4.0)):
        pairs = [
            (softmax(a, temperature), softmax(b, temperature)) for a, b in zip(t.double().tolist(), s.double().tolist())
        ]
        assert found[key] == pytest.approx(np.mean([(p * np.log(p / q)).sum() for p, q in pairs]), rel=1e-9)
    ours, theirs, truth = s.argmax(1).tolist(), t.argmax(1).tolist(), labels.tolist()
    wrong = [i for i in range(200) if theirs[i] != truth[i]]
    assert found["agreement"] == pytest.approx(100 * np.mean([a == b for a, b in zip(ours, theirs)]))
    assert found["agreement_wrong"] == pytest.approx(100 * np.mean([ours[i] == theirs[i] for i in wrong]))
    chances = []
    for i in wrong:
        others = [ours[j] for j in range(200) if j != i and truth[j] == truth[i]]
        chances.append(np.mean([other == theirs[i] for other in others]))
    assert found["agreement_wrong_chance"] == pytest.approx(100 * np.mean(chances))


def test_fidelity_to_itself_and_to_a_teacher_without_errors():
    z, labels = logits(0)
    same = fidelity(z, z, labels)
    assert same["kl_teacher"] == same["kl_teacher_t4"] == 0 and same["agreement"] == same["agreement_wrong"] == 100
    right = fidelity(z, 10 * torch.eye(5)[labels], labels)
    assert right["agreement_wrong"] is None and right["agreement_wrong_chance"] is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from conftest import Forked

    folder = tmp_path_factory.mktemp("trained")
    Forked(folder, "-m", "distill=none,kd", "dataset.validation=20", "seed=1,2").wait(check=0)
    return folder / "outputs"


def evaluated(capsys, *words):
    command.main([*map(str, words)])
    return capsys.readouterr()


def test_a_run_scores_what_its_record_says(trained, capsys):
    """To the last prediction; written beside it, sealed; numbers of the logits that were kept are the same."""
    told = evaluated(capsys, trained, "distill=kd", "--on", "test", "held-out").out.splitlines()
    assert len(told) == 5 and sum("as recorded" in line for line in told) == 2
    for folder in (path.parent for path in trained.glob("*/*/kd/*/*/result.json")):
        result, written = (seal.read_json(folder / name) for name in ("result.json", "evaluated-test.json"))
        assert (written["acc"], written["top5"], written["loss"]) == tuple(
            result[key] for key in ("test_acc", "test_top5", "test_loss")
        )
        assert written["ece"] == result["ece"] and written["brier"] == result["brier"]
        held_out = seal.read_json(folder / "evaluated-held-out.json")
        assert held_out["images"] == 20 and held_out["acc"] == result["val_acc"]
        kept = np.load(folder / "logits.npy")
        assert kept.dtype == np.float16 and kept.shape == (50, 10)
        assert (kept.astype(np.float32).argmax(1) == np.load(folder / "predictions.npy")).mean() > 0.95
        assert 0 <= result["agreement"] <= 100 and result["kl_teacher"] > 0
        assert seal.damaged(folder) == []


def test_another_weight_is_not_as_recorded(trained, capsys, tmp_path):
    (folder,) = trained.glob("digits/*/kd/*/seed2")
    predictions = np.load(folder / "predictions.npy")
    content = (folder / "predictions.npy").read_bytes()
    np.save(folder / "predictions.npy", (predictions + 1) % 10)
    with pytest.raises(SystemExit, match="damaged predictions.npy"):
        evaluated(capsys, folder)
    (folder / "predictions.npy").write_bytes(content)
    assert "as recorded" in evaluated(capsys, folder).out


def test_evaluations_are_metrics_of_the_table(trained, capsys, tmp_path, monkeypatch):
    def summarized(metric):
        words = ["summarize.py", str(trained), "--metric", metric, "--out", str(tmp_path)]
        monkeypatch.setattr("sys.argv", words)
        summarize.main()
        return capsys.readouterr()

    evaluated(capsys, trained, "--on", "held-out")
    for metric in ("held-out.acc", "ece", "kl_teacher_t4", "agreement_wrong", "test_acc_best_val"):
        table = summarized(metric).out
        assert "KD" in table and "\nnone" in table
    (first, *_) = trained.glob("digits/*/kd/*/seed1/evaluated-held-out.json")
    content = seal.read_json(first)
    first.write_text(json.dumps({**content, "acc": 99.0}))  # its seal does not fit any more
    assert "evaluated-held-out.json is damaged" in summarized("held-out.acc").err
    first.unlink()


def test_any_file_with_its_network(trained, capsys, tmp_path):
    (folder,) = trained.glob("digits/wrn16_1/none/*/seed1")
    torch.save({"state_dict": kdexp.load(folder).state_dict()}, tmp_path / "mine.pt")
    words = [word for word in TINY if word.startswith("dataset")]
    told = evaluated(capsys, tmp_path / "mine.pt", "teacher=wrn16_1", *words).out
    assert f"{seal.read_json(folder / 'result.json')['test_acc']:7.2f}" in told
    with pytest.raises(SystemExit, match="say which network it is, as in teacher="):
        evaluated(capsys, tmp_path / "mine.pt", *words)
    with pytest.raises(SystemExit):
        evaluated(capsys, tmp_path / "mine.pt", "teacher=resnet8", *words)
    assert "does not fit resnet8" in capsys.readouterr().err


def test_what_cannot_be_evaluated_is_one_sentence(trained, capsys):
    with pytest.raises(SystemExit, match="cifar10.1: .*cifar10.1_v6_data.npy does not exist"):
        evaluated(capsys, trained, "--on", "cifar10.1", "--data", trained)
    with pytest.raises(SystemExit, match="resnet20.th: there is no such file"):
        evaluated(capsys, "resnet20.th", "teacher=resnet20a", "dataset=cifar10")
    with pytest.raises(SystemExit, match="nowhere: there is no such folder"):
        evaluated(capsys, "nowhere")
    with pytest.raises(SystemExit, match="no run has sp"):
        evaluated(capsys, trained, "distill=sp")
    assert capsys.readouterr().out == ""  # the message alone, without the head of an empty table


def test_sets_in_their_own_formats(tmp_path, monkeypatch):
    """Files like the authors': names, shapes, axis orders, first labels."""
    draws = np.random.default_rng(0)
    images, labels = draws.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8), np.arange(10)
    np.save(tmp_path / "cifar10.1_v6_data.npy", images)
    np.save(tmp_path / "cifar10.1_v6_labels.npy", labels.astype(np.int32))
    (found,) = SETS["cifar10.1"](tmp_path).values()
    assert found.images.shape == (10, 3, 32, 32) and found.labels.dtype == torch.int64
    assert np.array_equal(found.images[3].permute(1, 2, 0), images[3])

    for name in ("CIFAR-10-C", "CIFAR-100-C"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "labels.npy", labels)
        for corruption in ("fog", "gaussian_noise"):
            np.save(tmp_path / name / f"{corruption}.npy", images)
        sets = SETS[name.lower().replace("-c", "-c").replace("cifar-", "cifar")](tmp_path)
        assert [*sets] == [f"{name.lower().replace('cifar-', 'cifar')}-{one}" for one in ("fog", "gaussian_noise")]

    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": (labels + 1)[:, None]})
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda path, md5: True)
    (found,) = SETS["svhn"](tmp_path).values()
    assert np.array_equal(found.images[3].permute(1, 2, 0), images[3])
    assert found.labels.tolist() == [*range(1, 10), 0]  # ten stands for zero in the file

    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    large = draws.integers(0, 256, (10, 3, 96, 96), dtype=np.uint8)
    large.transpose(0, 1, 3, 2).tofile(folder / "test_X.bin")  # columns first
    (labels + 1).astype(np.uint8).tofile(folder / "test_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    monkeypatch.setattr("torchvision.datasets.STL10._check_integrity", lambda self: True)
    (found,) = SETS["stl10"](tmp_path).values()
    assert found.images.shape == (9, 3, 32, 32) and found.labels.tolist() == [0, 2, 1, 3, 4, 5, 7, 8, 9]  # no monkey
    assert abs(float(found.images[0, 0, 0, 0]) - large[0, 0, :3, :3].mean()) <= 0.5


def test_sets_that_are_not_there(tmp_path):
    for name, load in SETS.items():
        with pytest.raises(DatasetError, match="Get it from its authors"):
            load(tmp_path / name)
