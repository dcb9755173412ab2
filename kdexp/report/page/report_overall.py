"""The top of the page: which method is best over all pairs, and can it be believed?"""

from collections.abc import Sequence

import pandas as pd

from kdexp.report.showing import labels, overall
from kdexp.report.showing.paper import ABSENT, notes, parts, title

FIRST = ("matrix", "over_pairs", "heat_map")  # the figures over all pairs, in the order they are shown


def papers(pages: Sequence[pd.DataFrame], drawn: dict[str, str]) -> list[dict]:
    """The data for report.html about each paper with more than one pair. drawn: figures as data URIs by name."""
    return [_paper(page, number, drawn) for number, page in enumerate(pages) if overall.many(page)]


def _paper(page: pd.DataFrame, number: int, drawn: dict[str, str]) -> dict:
    answer, reasons = overall.verdict(page)
    against = overall.against_baseline(page)
    names = [f"{name}_{page.dataset.iloc[0]}_{number}" for name in FIRST]
    return {
        "heading": f"{page.dataset.iloc[0]}, {page.pair.nunique()} pairs",
        "circumstances": labels.circumstances(page),
        "answer": answer,
        "reasons": reasons,
        "small_print": overall.sentences(page)[1 + len(reasons) :],
        "columns": list(against.columns),
        "rows": against.to_numpy().tolist(),
        "figures": [(name, drawn[name]) for name in names if name in drawn],
        "title": title(page),
        "parts": [
            {
                "title": part.title,
                "heads": part.heads,
                "rows": [(name, _cells(cells), gain) for name, cells, gain in part.rows],
            }
            for part in parts(page)
        ],
        "notes": notes(page),
    }


def _cells(cells: list[tuple[str, str]]) -> list[tuple[str, bool]]:
    """(text, whether it may be the best)."""
    return [(f"{text} {mark}".strip() if text != ABSENT else text, mark == "*") for text, mark in cells]
