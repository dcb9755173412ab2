"""The pages of the repository: every link leads somewhere, every command and option in them exists."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from kdexp import CONF, ROOT, SWEEPS
from kdexp.config import compose

TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
PAGES = TRACKED or [str(file.relative_to(ROOT)) for file in ROOT.rglob("*.md") if "site-packages" not in file.parts]


def anchors(text: str) -> set[str]:
    """As code hosts make them from headings."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http://", "https://")):
            path, _, anchor = link.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.exists(), link
            assert not anchor or anchor in anchors(file.read_text(encoding="utf-8")), link


def test_every_room_has_a_page_that_the_front_page_leads_to():
    front = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(front) < 8000
    rooms = {Path(page).parent for page in PAGES if page.endswith("README.md")} - {Path(".")}
    for room in rooms:
        assert f"({room}/README.md)" in front, room


def commands(text: str) -> list[str]:
    """`python run.py ...` of code blocks and of lines, without what depends on a user's package or an extra."""
    found = re.findall(r"python run\.py ([^`\n]*)", text)
    found = [re.split(r"\s+&& |   +#|\s#", words)[0].strip() for words in found]
    return [words for words in found if words and not re.search(r"plugins=|hydra/|NAME|\.\.\.|--|DIR", words)]


@pytest.mark.parametrize("page", PAGES)
def test_commands_compose(page, hydra):
    """With the first of several values; a sweep must exist, and so must every option that is chosen."""
    for line in commands((ROOT / page).read_text(encoding="utf-8")):
        words = [word.strip("'\"") for word in line.split() if word != "-m"]
        sweeps = [word.partition("=")[2] for word in words if word.startswith("sweep=")]
        assert all((SWEEPS / f"{name}.yaml").exists() for name in sweeps), line
        first = [word if "[" in word else word.split(",")[0] for word in words if not word.startswith("sweep=")]
        hydra(*compose.without_pair(first))


def test_sweeps_and_recipes_are_listed():
    sweeps, conf = ((ROOT / folder / "README.md").read_text(encoding="utf-8") for folder in ("sweeps", "conf"))
    missing = [file.stem for file in SWEEPS.glob("*.yaml") if f"`{file.stem}`" not in sweeps]
    assert not missing and all(yaml.safe_load(file.read_text()) for file in SWEEPS.glob("*.yaml"))
    assert not [file.stem for file in (CONF / "recipe").glob("*.yaml") if file.stem not in conf]
    assert not [file.stem for file in (CONF / "augment").glob("*.yaml") if file.stem not in conf]
