"""conf/ and sweeps/: every file composes; names and fingerprints follow from values; mistakes get an answer."""

import re

import pictures
import pytest
import torch
import yaml
from conftest import DISTILL, METHODS, NETWORKS
from hydra import compose as hydra_compose
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdexp import ROOT, SWEEPS
from kdexp.command import cli, hints
from kdexp.config import compose, naming, network_names, plugins, resolve
from kdexp.datasets import Images
from kdexp.datasets.digits import digits
from kdexp.errors import UsageError
from kdexp.experiment.data import load_data
from kdexp.experiment.objects import check_objects
from kdexp.jobs.job import Job

GROUPS = sorted({file.parent.name for folder in plugins.folders for file in folder.glob("*/*.yaml")} - {"model"})
PAIRS = ROOT / "kdexp/distill/README.md"
FILES = [file for group in GROUPS for file in plugins.options(group)]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}-{f.stem}")
def test_every_option_composes_and_builds(hydra, tmp_path, file):
    more = ()
    if "root" in yaml.safe_load(file.read_text()):  # a folder of the user's
        pictures.make(tmp_path / "pictures", train=1, test=1, broken=())
        more = (f"dataset.root={tmp_path}/pictures", f"paths.data={tmp_path}/data")
    pair = ("teacher=wrn40_2", "student=wrn16_2")  # of equal widths, which any method can do
    config = hydra(*pair, f"{file.parent.name}={file.stem}", *more)
    if file.parent.name != "experiment":
        assert config[file.parent.name]["name"] == file.stem
    if file.parent.name == "logger" and file.stem == "mlflow":  # which the test extra does not install
        pytest.importorskip("mlflow")
    Job(config)


def test_a_sweep_composes_each_method_and_each_pair_once_and_gets_what_hydra_gives(hydra):
    calls = []

    def by_hydra(words):
        calls.append(words)
        return hydra_compose("config", words)

    composer = compose.Composer(by_hydra, is_group=lambda key: key != "seed")
    pairs = [["teacher=wrn40_2", "student=wrn16_2"], ["teacher=vgg13", "student=vgg8"], ["student=resnet8"]]
    sweep = [["seed=2", f"distill={method}", *pair] for pair in pairs for method in DISTILL]
    configs = [composer(words) for words in sweep]
    assert len(calls) == len(pairs) + len(DISTILL)
    # Hydra takes 0.2 s each; it composed those of the first pair itself, the others are merged
    hydras = sweep[:1] + sweep[len(DISTILL) : 2 * len(DISTILL)] + sweep[-1:]
    for words, config in zip(sweep, configs):
        assert config.distill._parent is config and config.distill.name == words[1].removeprefix("distill=")
        assert words not in hydras or config == hydra_compose("config", words)


def test_files_that_change_the_same_section_are_composed_together():
    """An experiment that sets a method's weight, and a method that sets its recipe's epochs."""

    def by_hydra(words):
        chosen = {"experiment": "", "distill": "kd"} | dict(word.split("=") for word in words)
        weight = 7 if chosen["experiment"] == "heavy" else {"kd": 1, "sp": 2, "long": 3}[chosen["distill"]]
        epochs = 9 if chosen["distill"] == "long" else 5
        return OmegaConf.create(chosen | {"distill": {"weight": weight}, "recipe": {"epochs": epochs}})

    composer = compose.Composer(by_hydra, is_group=lambda key: True)
    for rest in ([], ["experiment=usual"], ["experiment=heavy"]):
        for method in ("kd", "sp", "long"):
            words = [*rest, f"distill={method}"]
            assert composer(words) == by_hydra(words)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_in_both_roles_and_both_spellings(hydra, name):
    short = hydra(f"teacher={name}", f"student={name}")
    assert short == hydra(f"model/teacher={name}", f"model/student={name}")
    assert short["model"]["teacher"] == short["model"]["student"]
    check_objects(short)


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_sweep_names_real_options(hydra, file):
    common = yaml.safe_load(file.read_text())
    for step in common.pop("steps", [{}]):
        axes = common | step
        axes |= {"pair": axes.pop("pairs")} if "pairs" in axes else {}
        axes.pop("teacher_checkpoint", None)  # of an earlier step: see test_omit.py
        values = {key: value if isinstance(value, list) else [value] for key, value in axes.items()}
        typed = {key: [cli._axis(one) for one in every] for key, every in values.items()}
        first = [f"{key}={every[0]}" for key, every in typed.items()]
        for key, every in typed.items():
            for value in every:
                words = [*[one for one in first if not one.startswith(f"{key}=")], f"{key}={value}"]
                Job(hydra(*compose.without_pair(words)))


@pytest.mark.parametrize("name, more, runs, teachers", [("same", ",fsp", 57, 5), ("cross", "", 30, 4)])
def test_the_pairs_of_repdistillers_tables(run, name, more, runs, teachers):
    """Seven pairs with six different students, six pairs with four; FSP has no published number for one of the seven."""
    done = run(f"sweep=repdistiller-{name}", f"distill=none,kd{more}", "dry_run=true", tiny=False, check=0)
    assert f"{runs} runs: 0 done, {runs} to run, and {teachers} teachers first" in done.stdout
    assert ("optimizer.lr=0.01" in done.stdout) == (name == "cross")
    left_out = [line.partition(":")[0] for line in done.stderr.splitlines()]
    assert left_out == ["left out   wrn40_2 -> wrn40_1   fsp"] * (name == "same")


def test_words_behind_a_pair_are_the_students(hydra):
    own = compose.without_pair(["distill=kd", "pair='vgg13-mobilenetv2 optimizer.lr=0.01'"])
    assert own == ["distill=kd", "teacher=vgg13", "student=mobilenetv2", "optimizer.lr=0.01"]
    config = hydra(*own)
    assert config["optimizer"]["lr"] == 0.01 and resolve.teachers_of(config)[0]["optimizer"]["lr"] == 0.05
    assert compose.without_pair(["pair=a-b seed=2 tag=x", "seed=3"]) == ["seed=3", "teacher=a", "student=b", "tag=x"]
    for word in ("pair=a-b c", "pair=a b", "pair='", "pair= "):
        with pytest.raises(UsageError, match="a pair is TEACHER-STUDENT"):
            compose.without_pair([word])


def test_a_method_is_left_out_of_a_pair_that_it_cannot_do(run):
    """Warns once; rejected if it cannot work at all, which may be due to its values."""
    words = ("dataset=digits", "distill=kd,od", "seed=1,2", "dry_run=true")
    done = run("-m", *words, "pair=wrn16_1-resnet8,shufflenetv2-resnet8", tiny=False, check=0)
    assert done.stderr.splitlines() == [
        "left out   shufflenetv2 -> resnet8   od: the teacher's stage1_pre has no BatchNorm, "
        "which OD computes its margin from"
    ]
    assert "6 runs: 0 done, 6 to run" in done.stdout
    for refused in (
        ["pair=shufflenetv2-resnet8"],
        ["pair=wrn16_1-resnet8", "distill.teacher_mode=other", "distill=od"],
    ):
        done = run("-m", *words, *refused, tiny=False, check=1)
        assert len(done.stderr.splitlines()) == 1 and "left out" not in done.stderr, done.stderr


@pytest.mark.parametrize("words", re.findall(r"^\| `(pair=.+?)`", PAIRS.read_text(), re.M))
def test_the_weights_per_pair_can_be_typed(hydra, words):
    typed = compose.without_pair(words.split())
    chosen = dict(word.split("=") for word in typed)
    missing = {chosen["teacher"], chosen["student"]} - {*NETWORKS} | {chosen["distill"]} - {*METHODS}
    if missing:
        pytest.skip(f"not here: {', '.join(sorted(missing))}")
    config = hydra(*typed)
    check_objects(config)
    for key, value in chosen.items():
        if key.startswith("distill."):
            assert config["distill"][key.removeprefix("distill.")] == yaml.safe_load(value)


@pytest.mark.parametrize(
    "name",
    [
        "resnet20",
        "resnet26",
        "resnet14x4",
        "wrn22_3",
        "resnet50w16_16_32_64",
        "resnet8w4_4_8_16a",
        "mlp30",
        "mlp9_8drop0_0.5norm2",
    ],
)
def test_the_words_for_a_network_give_the_network(hydra, name):
    assert hydra(*network_names.network_words("student", name).split())["model"]["student"]["name"] == name


def test_lists_are_typed_with_commas_and_named_with_plus(hydra):
    config = hydra("optimizer=adamw", "optimizer.betas=[0.8,0.99]")
    words = naming.words(naming.differing(config))
    assert sorted(words) == ["optimizer.betas=[0.8,0.99]", "optimizer=adamw"]
    assert naming.folder(hydra(*words)) == naming.folder(config) and "0.8+0.99" in str(naming.folder(config))


@pytest.mark.parametrize("name", DISTILL)
def test_both_cases_are_one_method(hydra, name):
    assert hydra(f"distill={name}") == hydra(f"distill={name.upper()}")


def test_no_method_is_named_in_code():
    """Behavior differs by constructor arguments and methods of objects, never by comparing names."""
    for file in [*ROOT.glob("kdexp/**/*.py"), ROOT / "run.py"]:
        assert not re.search(r"(if|elif)\b.*(==|in)\s*\(?['\"](%s)['\"]" % "|".join(METHODS), file.read_text()), file


def test_folders(hydra):
    def folder(*overrides):
        return str(naming.folder(hydra(*overrides)))

    assert folder("distill=sp") == "outputs/cifar100/wrn16_4-resnet32/sp/base/seed1"
    assert folder("distill=SP", "seed=3") == "outputs/cifar100/wrn16_4-resnet32/sp/base/seed3"
    assert folder("distill=none", "teacher=wrn40_2") == "outputs/cifar100/resnet32/none/base/seed1"
    assert folder("distill=sp", "epochs=240", "device=cpu", "compile=false", "rerun=all", "share=1") == folder(
        "distill=sp"
    )
    assert folder("distill=sp", "epochs=2", "dataset.limit=500").endswith("/sp/dataset.limit=500,epochs=2/seed1")
    assert folder("distill=kd", "distill.temperature=2", "recipe=wrn200").endswith(
        "/kd/distill.temperature=2,recipe=wrn200/seed1"
    )
    assert folder("recipe.lr=0.1").endswith("/kd/recipe.lr=0.1/seed1")
    assert folder("optimizer=adamw", "tag=x").endswith("/kd/optimizer=adamw,tag=x/seed1")
    assert folder("student=resnet", "model.student.depth=26").startswith("outputs/cifar100/wrn16_4-resnet26/")
    long = folder(
        "recipe.lr=0.1",
        "recipe.momentum=0.5",
        "recipe.weight_decay=0.01",
        "batch_size=32",
        "dataset.limit=100",
        "epochs=7",
    )
    assert len(long.split("/")[4]) == 80 and re.search(r"-[0-9a-f]{8}/seed1$", long)


def test_a_baseline_is_the_run_of_distill_none(hydra):
    """It is the same for every method and teacher."""
    shared = ("dataset=digits", "epochs=3", "student=wrn16_1", "optimizer.lr=0.5", "seed=2", "tag=mine")
    asked = hydra(*shared, "distill=sp", "distill.weight=7", "teacher=wrn16_2", "teacher_seed=5")
    direct = hydra(*shared, "distill=none")
    assert resolve.baseline_of(asked) == direct


def test_a_teacher_is_the_run_of_distill_none(hydra):
    """Student-side settings do not affect it; the run's data and recipe do."""
    shared = ("dataset=digits", "dataset.limit=100", "recipe=quick", "epochs=3", "batch_size=8", "precision=fp32")
    asked = hydra(
        *shared,
        "teacher=wrn16_1",
        "teacher_seed=5",
        "distill=sp",
        "distill.weight=7",
        "optimizer=adamw",
        "optimizer.lr=0.5",
        "tag=mine",
        "seed=2",
    )
    direct = hydra(*shared, "student=wrn16_1", "seed=5", "distill=none")
    teacher = resolve.teachers_of(asked)[0]
    assert naming.folder(teacher) == naming.folder(direct)
    assert naming.fingerprint(teacher) == naming.fingerprint(direct)


def test_a_stopped_teacher_is_a_run_with_stop_epoch(hydra):
    shared = ("dataset=digits", "recipe=quick", "epochs=3")
    asked = hydra(*shared, "teacher=wrn16_1", "distill=kd", "teacher_epoch=2")
    direct = hydra(*shared, "student=wrn16_1", "distill=none", "stop_epoch=2")
    assert naming.folder(resolve.teachers_of(asked)[0]) == naming.folder(direct)
    assert naming.fingerprint(resolve.teachers_of(asked)[0]) == naming.fingerprint(direct)
    assert resolve.baseline_of(asked) == hydra(*shared, "distill=none")


CHANGES = [
    "seed=2",
    "teacher_seed=2",
    "teacher_epoch=2",
    "stop_epoch=2",
    "epochs=3",
    "batch_size=8",
    "dataset.limit=9",
    "dataset.limit_test=9",
    "dataset.validation=9",
    "teacher=wrn16_2",
    "student=resnet20",
    "distill=sp",
    "distill.temperature=2",
    "optimizer.lr=1",
    "optimizer=adamw",
    "recipe=wrn200",
    "recipe.drop_factor=0.5",
    "recipe.schedule=cosine",
    "recipe.warmup=0.05",
    "recipe.smoothing=0.1",
    "recipe.clip=5",
    "recipe.ema=0.999",
    "augment=none",
    "augment=cutout",
    "augment=mixup",
    "augment.crop_and_flip=false",
    "precision=bf16",
    "deterministic=false",
    "dataset=cifar10",
]


def test_the_fingerprint_knows_what_decides_the_numbers(hydra):
    prints = [naming.fingerprint(hydra(*change)) for change in ([], *([change] for change in CHANGES))]
    assert len(set(prints)) == len(prints)
    for change in (
        "device=cpu",
        "compile=true",
        "paths.data=elsewhere",
        "paths.outputs=elsewhere",
        "tag=x",
        "share=2",
        "rerun=failed",
    ):
        assert naming.fingerprint(hydra(change)) == prints[0], change
    assert naming.fingerprint(hydra("student=resnet", "model.student.depth=32")) == prints[0]
    assert naming.fingerprint(hydra("distill=none")) == naming.fingerprint(
        hydra("distill=none", "teacher=wrn40_2", "teacher_seed=3")
    )


def test_a_new_key_at_its_default_changes_no_fingerprint(hydra, monkeypatch):
    config = hydra("distill=sp")
    before = naming.fingerprint(config)
    from kdexp.distill.sp import SP

    class Newer(SP):
        def __init__(self, student_taps, teacher_taps, stages=("stage3",)):
            super().__init__(student_taps, teacher_taps)

    monkeypatch.setattr("kdexp.distill.sp.SP", Newer)
    assert naming.fingerprint(config | {"distill": config["distill"] | {"stages": ["stage3"]}}) == before
    assert naming.fingerprint(config | {"distill": config["distill"] | {"stages": ["stage2"]}}) != before
    monkeypatch.setattr(Newer, "version", 2)
    assert naming.fingerprint(config) != before


def noisy(root, noise=0.0, kinds=("salt",)):
    """A data set of the user's, with parameters of its own."""
    if noise > 1:
        raise ValueError(f"noise={noise}: must be 1 or less")
    train, test = digits()
    return Images(train.images * (1 - noise), train.labels), test, f"noise is {noise}"


NOISY = ("dataset=digits", "dataset._target_=test_config.noisy", "plugins=[test_config]")


def test_a_data_set_may_have_parameters_of_its_own(hydra, capsys):
    plain, default = hydra(*NOISY), hydra(*NOISY, "+dataset.noise=0", "+dataset.kinds=[salt]")
    changed = hydra(*NOISY, "+dataset.noise=0.5")
    assert naming.fingerprint(plain) == naming.fingerprint(default) != naming.fingerprint(changed)
    assert "dataset.noise=0.5" in str(naming.folder(changed))
    data = load_data(changed, torch.device("cpu"))
    assert data.train.images.max() == 127.5 and data.remarks == ("noise is 0.5",)
    assert capsys.readouterr().err == "digits   noise is 0.5\n"
    Job(changed)
    assert refused(hydra, *NOISY, "+dataset.nois=1").startswith("digits has no parameter 'nois'. It has: noise, kinds,")
    with pytest.raises(UsageError, match="digits: noise=2: must be 1 or less"):
        load_data(hydra(*NOISY, "+dataset.noise=2"), torch.device("cpu"))


def test_values_of_a_data_set_have_their_types(hydra):
    node = hydra("dataset.limit='10'", "dataset.mean=[0,1,0]", "dataset.flip=no")["dataset"]
    assert node["limit"] == 10 and node["flip"] is False
    assert [type(value) for value in node["mean"]] == [float] * 3


def refused(hydra, *arguments):
    """The message a user gets for an invalid command line."""
    try:
        Job(hydra(*arguments))
    except UsageError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:
        return hints.explain(list(arguments), error)
    raise AssertionError(f"{arguments} was accepted")


MISTAKES = [
    (("seed=abc",), "seed.*abc.*Integer|abc.*Integer"),
    (("optimizer.lr=-1",), "optimizer.lr=-1: must be a number greater than 0"),
    (("epochs=0",), "epochs=0: must be a number greater than 0"),
    (("+distill.tempp=3",), "kd has no parameter 'tempp'. It has: temperature, standardise, weight"),
    (("device=gpu",), "device=gpu: must be one of auto, cpu"),
    (("precision=fp16",), "precision=fp16: must be one of auto, fp32, bf16"),
    (("compile=maybe",), "compile=maybe: must be one of"),
    (("recipe.drops=[2]",), "between 0 and 1"),
    (("+colour=red",), "colour=red: there is no such option"),
    (("distill.temperature=0",), "temperature=0: must be greater than 0"),
    (("student=resnet", "model.student.depth=31"), "6n.2 layers.*26 and 32"),
    (("distill=od", "distill.teacher_mode=train"), "eval or batch_stats"),
    (("model.student._target_=os.system",), "only names below kdexp"),
    (("teacher_checkpoint=nowhere.pt",), "teacher_checkpoint=nowhere.pt: No such file"),
    (("optimizer.lr=fast",), "optimizer.lr=fast: must be a number"),
    (("dataset.limit=-5",), "dataset.limit=-5"),
    (("dataset.limit=abc",), "dataset.limit=abc: .*could not be converted to Integer"),
    (("dataset.flip=maybe",), "dataset.flip=maybe: .*not a valid bool"),
    (("dataset.mean=3",), "dataset.mean=3: "),
    (("dataset.padding=null",), "dataset.padding=None: .*not Optional"),
    (("dataset.limitt=5",), "cifar100 has no parameter 'limitt'. Did you mean dataset.limit=5. It has: num_classes"),
    (("+dataset.noise=1",), "cifar100 has no parameter 'noise'. It has: num_classes, image_size, channels, mean"),
    (("optimizer.lr=nan",), "optimizer.lr=nan"),
    (("recipe.schedule=cosin",), "recipe.schedule=cosin: must be one of step, cosine, linear"),
    (("recipe.ema=1",), r"recipe.ema=1.0: must be a number from 0 \(off\) to below 1"),
    (("recipe.warmup=-0.1",), r"recipe.warmup=-0.1: must be a number from 0 \(off\) to below 1"),
    (("distill.until=1.5",), "distill.until=1.5: must be a number from 0 to 1: a fraction of the epochs"),
    (("distill.fade=slow",), "distill.fade=slow: must be a number from 0 to 1"),
    (("augment=cutmx",), "augment=cutmx: no such augmentation. Did you mean augment=cutmix"),
    (("augment=cutout", "augment.size=0"), "cutout: size=0: must be above 0"),
    (("augment=cutout", "augment.sise=1"), "cutout has no parameter 'sise'. Did you mean augment.size=1"),
    (("augment=mixup", "augment.alpha=0"), "mixup: alpha=0: must be greater than 0"),
    (("augment=rand", "augment.magnitude=31"), "rand: magnitude=31: must be a whole number from 0 to 30"),
    (("augment=rand", "augment.operations=0"), "rand: operations=0: must be a whole number, 1 or more"),
    (("augment.crop_and_flip=maybe",), "augment.crop_and_flip=maybe: must be one of true, false"),
    (("distill=dkd", "augment=mixup"), "dkd: needs one class for each image, and augment=mixup mixes images of two"),
    (("recipe.clip=-1",), "recipe.clip=-1.0: must be a number 0 or more"),
]


@pytest.mark.parametrize("arguments, message", MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, tuple) else "")
def test_values_without_sense_are_refused(hydra, arguments, message):
    assert re.search(message, refused(hydra, *arguments))
