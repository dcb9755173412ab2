"""A paper-style table on the screen, split into pieces if the terminal is too narrow, and what holds across its pairs."""

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdexp.report.showing import labels, overall
from kdexp.report.showing.output import WIDTH, say, show
from kdexp.report.showing.paper import Part, notes, parts, title


def print_papers(papers: list[pd.DataFrame]) -> None:
    """Print each table to stdout, with what holds across its pairs. Raises ValueError if there are none."""
    if not papers:
        raise ValueError("--layout paper: there is no pair of a teacher and a student among these runs")
    console = Console(highlight=False, soft_wrap=True)
    for paper in papers:
        _print_table(paper, console)
        say(console, notes(paper))
        if overall.many(paper):
            console.print("")
            for rival, text in (
                ("none", overall.against_baseline(paper)),
                (overall.leader(paper), overall.leader_against(paper)),
            ):
                if len(text):
                    console.print(f"over {paper.pair.nunique()} pairs, against {rival}", style="bold", markup=False)
                    show(console, text)
        say(console, overall.sentences(paper))
        console.print("")


def _print_table(paper: pd.DataFrame, console: Console) -> None:
    """Print in pieces, each with as many pairs as fit the terminal."""
    console.print(title(paper), style="bold", markup=False)
    console.print(labels.circumstances(paper), markup=False)
    for part in parts(paper):
        if part.title:
            console.print(f"\n{part.title}", markup=False)
        for chosen in _pieces(part, console.width):
            console.print(_screen(part, chosen), width=WIDTH, crop=False)
            console.print("")


def _widths(part: Part) -> list[int]:
    return [
        max(len(text) for text in (*head, *(cells[column][0] + "  " for _, cells, _ in part.rows)))
        for column, head in enumerate(part.heads)
    ]


def _pieces(part: Part, width: int) -> list[list[int]]:
    """The columns of each piece: at least one, leaving room for the mean gain in the last."""
    names = max(len(name) for name, _, _ in part.rows) + 2
    last = max(len("mean gain"), *(len(gain) for _, _, gain in part.rows))
    pieces: list[list[int]] = [[]]
    room = width - names
    for column, wide in enumerate(_widths(part)):
        needed = wide + 2 + (last if column == len(part.heads) - 1 else 0)
        if pieces[-1] and room < needed:
            pieces, room = [*pieces, []], width - names
        pieces[-1].append(column)
        room -= wide + 2
    return pieces


def _screen(part: Part, chosen: list[int]) -> Table:
    last = len(part.heads) - 1 in chosen
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    shown.add_column(no_wrap=True)
    for _ in range(len(chosen) + last):
        shown.add_column(no_wrap=True, justify="right")
    accuracies = [part.heads[column][1] for column in chosen]
    for name, place in (("teacher", 0), ("student", 2)):
        shown.add_row(name, *(Text(part.heads[column][place]) for column in chosen), *[""] * last, style="bold")
    if any(accuracies):
        shown.add_row("teacher's", *(f"{text}  " for text in accuracies), *["mean gain"] * last)
    for name, cells, gain in part.rows:
        texts = [
            Text(f"{text} {mark or ' '}", "bold" if mark == "*" else "") for text, mark in (cells[c] for c in chosen)
        ]
        shown.add_row(Text(name), *texts, *[Text(gain)] * last)
    return shown
