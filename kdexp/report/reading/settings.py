"""Which runs may be averaged: the settings of a run, split into those its baseline has too and those it does not.

shared_settings: what a run has in common with its label-only baseline (data, student, recipe, optimizer, precision, device ...).
method_settings: what only the method and its teacher have (parameters, teacher_seed, the checkpoint's sha256 and normalization).
Two runs with the same shared_settings and method_settings differ only in their seed.
"""

from omegaconf import MISSING

from kdexp.config.schema import CIRCUMSTANCES, DISTILL, Config, Dataset, Recipe, flatten, without_places

BASELINE, KD = "none", "kd"  # what all other methods are compared with
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
    circumstances (paths, logging, ...), names and seed."""
    return {
        key.removesuffix(".name"): _plain(value)
        for key, value in without_places(flatten(config)).items()
        if key.partition(".")[0] not in CIRCUMSTANCES and key not in IDENTITY | WORDS
    }


def _plain(value):
    """10.0 becomes 10, so that both spellings are equal; a list becomes text."""
    whole = isinstance(value, float) and value.is_integer()
    return str(value) if isinstance(value, list) else int(value) if whole else value


DEFAULTS = settings(_defaults())  # for keys that older records lack: a new key at its default splits no group


def fill_absent(all_settings: list[dict], names: list[dict]) -> None:
    """If some records lack a constructor parameter, fill in, in place, the value that all other records with the same
    option have (names: the option chosen in each section, per record). If those differ, it stays absent, which counts as
    a value of its own."""
    for section in SECTIONS:
        members: dict[str, list[dict]] = {}
        for own, chosen in zip(all_settings, names):
            members.setdefault(chosen[section], []).append(own)
        for group in members.values():
            kinds = {tuple(own) for own in group}
            if len(kinds) == 1:
                continue
            for key in {key for keys in kinds for key in keys if key.startswith(section + ".")}:
                values = {own[key] for own in group if key in own}
                for own in group if len(values) == 1 else ():
                    own.setdefault(key, *values)


def split(own: dict) -> tuple[dict, dict]:
    """Settings of a run -> (shared_settings, method_settings)."""
    method = {key: value for key, value in own.items() if key.startswith(OF_THE_METHOD)}
    return {key: value for key, value in own.items() if key not in method}, method


def differing(rows: list[dict]) -> list[str]:
    """The fewest keys, named options and short keys first, that tell these settings apart.

    For example, a recipe sets its own learning rate, batch size and epochs; then only `recipe` is listed.
    """
    keys = dict.fromkeys(key for row in rows for key in row)
    varying = [key for key in keys if len({str(row.get(key)) for row in rows}) > 1]
    named: list[str] = []
    groups: dict[tuple, list[dict]] = {(): rows}
    for key in sorted(varying, key=lambda key: (key.count("."), key in ("epochs", "batch_size"), key)):
        finer: dict[tuple, list[dict]] = {}
        for value, group in groups.items():
            for row in group:
                finer.setdefault((*value, str(row.get(key))), []).append(row)
        if len(finer) > len(groups):
            named, groups = [*named, key], finer
    return named
