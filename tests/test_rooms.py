"""The rooms of the house: a module imports only from its own room and from rooms below it."""

import ast
from pathlib import Path

from kdexp import ROOT
from kdexp.config.checks import CHOICES
from kdexp.training.schedules import SHAPES, STEP

# from the top; a tuple is several rooms on one floor, which do not know each other
FLOORS = [
    ("api", "__main__", "_hydra"),
    ("command",),
    ("engines",),
    ("training",),
    ("teachers",),
    ("jobs", "report"),
    ("experiment",),
    ("record",),
    ("evaluate", "loggers"),
    ("datasets",),
    ("config",),
    ("compute", "distill"),
    ("storage", "models", "augment"),
    ("screen", "spelling"),
    ("errors", "places"),
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
UP = {  # entry points: `python -m kdexp.record`, `python -m kdexp.evaluate`
    ("kdexp/record/__main__.py", "command"),
    ("kdexp/evaluate/__main__.py", "command"),
}


def room(path: Path) -> str:
    return path.relative_to(ROOT / "kdexp").parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The rooms that a module imports from, at its top or later; `from kdexp import load` is of api."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kdexp.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "kdexp":
            found |= {alias.name for alias in node.names if alias.name in FLOOR}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdexp."):
            found.add(node.module.split(".")[1])
    return found


def test_imports_lead_down():
    files = [path for path in (ROOT / "kdexp").rglob("*.py") if path != ROOT / "kdexp" / "__init__.py"]
    assert {room(path) for path in files} == set(FLOOR)
    up = {
        (path.relative_to(ROOT).as_posix(), other)
        for path in files
        for other in imported(path) - {room(path)}
        if FLOOR[other] <= FLOOR[room(path)]
    }
    assert up == UP


def test_a_recipe_may_have_every_schedule():
    assert CHOICES["recipe.schedule"] == (STEP, *SHAPES)
