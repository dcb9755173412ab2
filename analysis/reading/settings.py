"""Which runs may be averaged: the settings of a run, split into what it shares with its baseline and what is its own.

shared_settings: everything a run and its label-only baseline agree in (data, student, recipe, optimizer, precision, device ...).
method_settings: what only the method and its teacher have (their parameters, teacher_seed, the checkpoint's sha256 and constants).
Two runs that agree in both differ in their seed alone.
"""

from omegaconf import MISSING

from kdexp.config.schema import CIRCUMSTANCES, DISTILL, Config, Dataset, Recipe, flatten, without_places

BASELINE, KD = "none", "kd"  # what all others are compared with
IDENTITY = {"seed", "dataset.name", "model.teacher.name", "model.student.name", "distill.name"}
WORDS = {"distill.label", "distill.note", "distill.control"}
OF_THE_METHOD = (
    "distill.",
    "model.teacher",
    "teacher_seed",
    "teacher_epoch",
    "teacher_checkpoint",
    "teacher_normalize",
)
SECTIONS = ("distill", "optimizer", "dataset", "recipe", "model.student", "model.teacher")


def _defaults() -> dict:
    sections = {"dataset": vars(Dataset()), "recipe": vars(Recipe()), "distill": DISTILL}
    top = {key: value for key, value in vars(Config()).items() if key not in (*sections, "model", "optimizer")}
    return {key: value for key, value in {**top, **flatten(sections)}.items() if value != MISSING}


def settings(config: dict) -> dict:
    """A run's config.yaml, or some of its top-level keys -> its settings, flat (`{"optimizer.lr": 0.05}`), without
    circumstances, names and seed."""
    return {
        key.removesuffix(".name"): _plain(value)
        for key, value in without_places(flatten(config)).items()
        if key.partition(".")[0] not in CIRCUMSTANCES and key not in IDENTITY | WORDS
    }


def _plain(value):
    """10.0 is 10, however it was typed; a list is its text."""
    whole = isinstance(value, float) and value.is_integer()
    return str(value) if isinstance(value, list) else int(value) if whole else value


DEFAULTS = settings(_defaults())  # what an older record lacks: a new key at its default splits nothing


def fill_absent(all_settings: list[dict], names: list[dict]) -> None:
    """A constructor's parameter that some records lack takes, in place, the value of all others that chose the same
    option (names: option of each section, per record). If these differ among themselves it stays absent, a value of
    its own."""
    for section in SECTIONS:
        members: dict[str, list[dict]] = {}
        for one, chosen in zip(all_settings, names):
            members.setdefault(chosen[section], []).append(one)
        for group in members.values():
            if len({tuple(one) for one in group}) == 1:
                continue
            for key in {key for one in group for key in one if key.startswith(section + ".")}:
                values = {one[key] for one in group if key in one}
                for one in group if len(values) == 1 else ():
                    one.setdefault(key, *values)


def split(one: dict) -> tuple[dict, dict]:
    """Settings -> (shared_settings, method_settings)."""
    method = {key: value for key, value in one.items() if key.startswith(OF_THE_METHOD)}
    return {key: value for key, value in one.items() if key not in method}, method


def differing(rows: list[dict]) -> list[str]:
    """The fewest keys, named options and short keys first, that tell these settings apart.

    A recipe brings its learning rate, batch size and epochs along: only `recipe` is named then.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    varying = [key for key in keys if len({str(row.get(key)) for row in rows}) > 1]
    named, groups = [], {(): rows}
    for key in sorted(varying, key=lambda key: (key.count("."), key in ("epochs", "batch_size"), key)):
        finer: dict[tuple, list[dict]] = {}
        for value, group in groups.items():
            for row in group:
                finer.setdefault((*value, str(row.get(key))), []).append(row)
        if len(finer) > len(groups):
            named, groups = [*named, key], finer
    return named
