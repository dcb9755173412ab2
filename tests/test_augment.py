"""Augmentations: their distribution, the labels of mixed images, and equal views alone, in a group and after a resume."""

import copy

import numpy as np
import pytest
import torch
from conftest import METHODS
from scipy import stats
from test_train import CPU, Stop, Trial, equal, teacher  # noqa: F401
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode, v2

from kdexp.augment.cutout import Cutout
from kdexp.augment.mixing import CutMix, MixUp
from kdexp.augment.operations import OPERATIONS, apply
from kdexp.augment.policies import AutoAugment, RandAugment, TrivialAugment
from kdexp.config import naming, plugins, resolve
from kdexp.datasets import Images
from kdexp.datasets.batches import Pixels, TrainBatches
from kdexp.errors import Unfit
from kdexp.experiment.data import build_augmentation, load_data, train_batches
from kdexp.jobs.job import Job
from kdexp.training.learner import hits

AUGMENTS = [file.stem for file in plugins.options("augment")]


def first(config, count=3):
    data = load_data(config, CPU.device)
    batches = train_batches(config, data).epoch(0)
    return data, [next(batches) for _ in range(count)]


def test_the_default_is_crop_and_flip_as_ever(tiny):
    config = tiny("distill=none")
    data, seen = first(config)
    before = TrainBatches(data.train, data.pixels, 16, 1, 1, "constant", False).epoch(0)
    for one, other in zip(seen, before):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_none_leaves_the_images(tiny):
    data, seen = first(tiny("distill=none", "augment=none"))
    for images, labels, indices in seen:
        assert torch.equal(images, data.pixels.normalise(data.train.images[indices]))
        assert torch.equal(labels, data.train.labels[indices])


def test_cutout_by_hand():
    """Every pixel is equally likely to be the center; rows and columns -2 to +1 around it are zero, the rest is untouched."""
    images = torch.rand(6400, 3, 8, 8) + 1
    torch.manual_seed(0)
    cut, labels = Cutout(10, size=0.5)(images, torch.arange(6400))
    covered = cut == 0
    assert torch.equal(cut[~covered], images[~covered]) and labels.tolist() == list(range(6400))
    expected = {}
    for y in range(8):
        for x in range(8):
            mask = np.zeros((8, 8), bool)
            mask[max(y - 2, 0) : y + 2, max(x - 2, 0) : x + 2] = True
            expected[mask.tobytes()] = 0
    assert len(expected) == 64 and torch.equal(covered, covered[:, :1].expand_as(covered))
    for mask in covered[:, 0].numpy():
        expected[mask.tobytes()] += 1  # raises for one that cannot be
    assert len(expected) == 64 and stats.chisquare([*expected.values()]).pvalue > 1e-3


@pytest.mark.parametrize("ours, theirs", [(MixUp, v2.MixUp), (CutMix, v2.CutMix)])
def test_mixing_is_torchvisions(ours, theirs):
    images, labels = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    torch.manual_seed(3)
    mixed, shares = ours(5, alpha=0.4)(images, labels)
    torch.manual_seed(3)
    torch.rand(())  # whether the batch is mixed
    expected = theirs(alpha=0.4, num_classes=5)(images, labels)
    assert torch.equal(mixed, expected[0]) and torch.equal(shares, expected[1])
    assert not torch.equal(mixed, images) and shares.sum(1).tolist() == pytest.approx([1] * 6)


@pytest.mark.parametrize("name, most", [(name, 2e-4 if name == "Color" else 0) for name in OPERATIONS])
def test_operations_are_torchvisions(name, most):
    """Each image has its own magnitude; compared with torchvision image by image. Colors may be rounded differently."""
    torch.manual_seed(0)
    theirs, nothing = v2.TrivialAugmentWide(), {torch.Tensor: None, "others": None}
    for side in (32, 9):
        images = torch.randint(0, 256, (30, 3, side, side), dtype=torch.uint8)
        amounts = torch.rand(30) * 2 - 1
        amounts *= {"Rotate": 135, "TranslateX": side, "TranslateY": side}.get(name, 1)
        amounts = {"Posterize": torch.randint(2, 9, (30,)).float(), "Solarize": amounts.abs()}.get(name, amounts)
        expected = [
            theirs._apply_image_or_video_transform(image, name, amount, InterpolationMode.NEAREST, nothing)
            for image, amount in zip(images, amounts.tolist())
        ]
        differ = apply(images, torch.full((30,), list(OPERATIONS).index(name)), amounts) != torch.stack(expected)
        assert differ.float().mean() <= most


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (TrivialAugment(10), v2.TrivialAugmentWide()),
        (RandAugment(10), v2.RandAugment()),
        (RandAugment(10, operations=1, magnitude=25), v2.RandAugment(1, 25)),
        (AutoAugment(10), v2.AutoAugment(AutoAugmentPolicy.CIFAR10)),
    ],
    ids=["trivial", "rand", "rand-1-25", "auto"],
)
def test_policies_have_torchvisions_distribution(ours, theirs):
    """On one image, each outcome is equally frequent in both; each image of a batch is drawn independently."""
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 9, 9), dtype=torch.uint8)
    count = 4000
    found = [each.numpy().tobytes() for each in ours.pixels(image.expand(count, 3, 9, 9).float())]
    expected = [theirs(image).numpy().tobytes() for _ in range(count)]
    values = lambda key: np.frombuffer(key, np.uint8).astype(int)
    for key in {*found} - {*expected}:  # a color that is rounded elsewhere is the same outcome
        twin = next((other for other in {*expected} if abs(values(other) - values(key)).max() <= 1), key)
        found = [twin if one == key else one for one in found]
    counts = {key: [0, 0] for key in {*found, *expected}}
    for column, keys in enumerate((found, expected)):
        for key in keys:
            counts[key][column] += 1
    often = np.array([pair for pair in counts.values() if sum(pair) >= 20])
    rest = 2 * count - often.sum(), [count - value for value in often.sum(0)]
    table = np.vstack([often, [rest[1]]]) if rest[0] >= 20 else often
    assert len(often) > 10 and stats.chi2_contingency(table).pvalue > 1e-3


def test_a_policy_may_cut_out_behind_it():
    images = torch.rand(50, 3, 8, 8) + 1
    cut, _ = TrivialAugment(10, cutout=0.5)(images, torch.arange(50))
    assert ((cut == 0).sum((1, 2, 3)) >= 3 * 4).all() and torch.equal(TrivialAugment(10)(images, None)[0], images)


def shares_of(make, count):
    """The share of itself that the first of two images keeps, in so many batches; checked in the pixels."""
    images, labels, found = torch.stack([torch.zeros(3, 32, 32), torch.ones(3, 32, 32)]), torch.tensor([0, 1]), []
    for _ in range(count):
        mixed, shares = make(images, labels)
        assert 1 - mixed[0].mean().item() == pytest.approx(shares[0, 0].item(), abs=1e-5)
        found.append(shares[0, 0].item())
    return found


def test_shares_are_those_of_the_papers():
    """mixup: Beta. CutMix: the area left by a box of area 1 - l, in numpy as the paper's section 3.1 says it."""
    torch.manual_seed(0)
    for alpha in (0.2, 1.0):
        assert stats.kstest(shares_of(MixUp(2, alpha), 1500), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    rng, expected = np.random.default_rng(0), []
    for _ in range(1500):
        half, (y, x) = int(32 * np.sqrt(1 - rng.beta(1, 1))) // 2, rng.integers(0, 32, 2)
        height, width = (min(max(c + half, 0), 32) - min(max(c - half, 0), 32) for c in (y, x))
        expected.append(1 - height * width / 32**2)
    found = shares_of(CutMix(2, 1), 1500)
    assert abs(np.mean(found) - np.mean(expected)) < 0.03
    assert np.quantile(found, [0.1, 0.3, 0.5, 0.7, 0.9]) == pytest.approx(
        np.quantile(expected, [0.1, 0.3, 0.5, 0.7, 0.9]), abs=0.06
    )


def test_a_part_of_the_batches_is_mixed():
    torch.manual_seed(0)
    shares = torch.tensor(shares_of(CutMix(2, 1, probability=0.25), 800))
    assert stats.binomtest(int((shares < 1).sum()), 800, 0.25 * 0.98).pvalue > 1e-3
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    same, shares = MixUp(4, probability=0)(images, labels)
    assert torch.equal(same, images) and torch.equal(shares, torch.eye(4))


def test_accuracy_of_mixed_images_is_the_share_of_the_class():
    logits = torch.tensor([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert hits(logits, torch.tensor([1, 2])).item() == 1
    assert hits(logits, torch.tensor([[0.7, 0.3, 0.0], [0.6, 0.0, 0.4]])).item() == pytest.approx(0.9)


@pytest.mark.parametrize("augment", AUGMENTS)
def test_each_step_has_its_own_view_and_can_be_entered_anywhere(augment, hydra):
    config = hydra("dataset=digits", f"augment={augment}", "batch_size=16", "recipe=quick")
    make = build_augmentation(config)
    image = torch.randint(60, 255, (1, 3, 8, 8), dtype=torch.uint8).expand(50, 3, 8, 8)
    data = Images(image, torch.arange(50) % 10)
    batches = TrainBatches(data, Pixels([0] * 3, [1] * 3), 16, 1, 0, "constant", False, make)
    epoch = list(batches.epoch(3))
    assert [len(images) for images, *_ in epoch] == [16, 16, 16, 2]
    for one, other in zip(epoch[2:], batches.epoch(3, start=2)):
        assert all(torch.equal(a, b) for a, b in zip(one, other))
    state = torch.get_rng_state()
    next(batches.epoch(0))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("augment", AUGMENTS)
def test_alone_equals_together_and_going_on_is_exact(tiny, teacher, augment):  # noqa: F811
    configs = [tiny(f"distill={name}", f"augment={augment}") for name in ("none", "kd", "fn", "ft")]
    expected, weights = Trial(configs, teacher).train()
    for i, config in enumerate(configs):
        rows, alone = Trial([config], teacher).train()
        assert rows[0] == expected[i] and equal(alone[0], weights[i])
    stopped, count = Trial(configs, teacher), iter(range(1, 1000))

    def stop():
        if next(count) == 6:
            raise Stop

    with pytest.raises(Stop):
        list(stopped.rows(after_step=stop))
    again = Trial(configs, teacher)
    for old, new in zip(stopped.learners, again.learners):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    rows, after = again.train()
    for i in range(len(configs)):
        assert rows[i] == expected[i][1:] and equal(after[i], weights[i])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_mixed_images_or_is_refused_before(tiny, teacher, name):  # noqa: F811
    config = tiny(f"distill={name}", "augment=cutmix", "augment.probability=1", "epochs=1")
    try:
        Job(config)
    except Unfit as error:
        assert f"{name}: needs one class for each image, and augment=cutmix mixes images of two" in str(error)
        plain = Trial([tiny(f"distill={name}", "augment=cutout", "epochs=1")], teacher, 1)
        assert plain.learners[0].method.hard_labels
        return
    trial = Trial([config], teacher, 1)
    ((row,),) = trial.rows()
    assert not trial.learners[0].failure and 0 <= row["train_acc"] <= 100


def test_a_method_is_left_out_where_images_are_mixed(run):
    words = ("dataset=digits", "distill=none,kd,dkd", "augment=crop_flip,mixup", "dry_run=true")
    done = run("-m", *words, "teacher=wrn16_1", "student=resnet8", tiny=False, check=0)
    assert [line.partition(", and")[0] for line in done.stderr.splitlines()] == [
        "left out   wrn16_1 -> resnet8   dkd: needs one class for each image"
    ]
    assert "5 runs: 0 done, 5 to run, and 2 teachers first" in done.stdout


def test_it_is_the_teachers_too_and_named_where_it_is_not_the_default(hydra):
    plain, cut = hydra("distill=sp"), hydra("distill=sp", "augment=cutout", "augment.size=0.5")
    assert resolve.teachers_of(cut)[0]["augment"] == cut["augment"]
    assert "augment=cutout,augment.size=0.5" in str(naming.folder(cut))
    assert naming.folder(hydra("distill=sp", "augment=crop_flip")) == naming.folder(plain)
    older = {key: value for key, value in plain.items() if key != "augment"}
    assert naming.fingerprint(older) == naming.fingerprint(plain)
    assert len({Job(hydra("distill=none", f"augment={name}")).batch_key for name in AUGMENTS}) == len(AUGMENTS)
