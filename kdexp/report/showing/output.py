"""The table on the screen: blocks as text, grids, and the sentences below them."""

import textwrap

import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdexp.report.comparing.block import natural
from kdexp.report.comparing.table import method_setting_columns, setting_columns
from kdexp.report.once import once
from kdexp.report.showing import findings, image_findings, labels
from kdexp.report.showing.cautions import cautions, untraced
from kdexp.report.showing.labels import interval, number, probability
from kdexp.report.showing.recipes import sections

LEGEND = "may be the best (Hsu's MCB, 95 %).   Interval, p and † (differs from KD): Dunnett, 95 %."
OPEN = "far behind the best mean, but too uneven to be ruled out."
WIDTH = 1000  # a table is as wide as it needs: a narrow terminal wraps it, and nothing is cut off


@once
def display(rows: pd.DataFrame) -> pd.DataFrame:
    """A block as text, with the columns that a paper shows; every format but CSV and JSON uses it."""
    metric = rows.metric.iloc[0]
    text = pd.DataFrame({"method": rows.label})
    for column in method_setting_columns(rows):
        text[column] = rows[column].map(lambda value: "" if pd.isna(value) else str(value))
    accuracies = rows.teacher_accs[rows.teacher != ""]
    if accuracies.nunique() > 1 or accuracies.str.contains(",").any():
        text["teacher"] = rows.teacher_accs
    text["mean"] = [number(value, metric) for value in rows["mean"]]
    text["std"] = [number(value, metric) for value in rows["std"]]
    text["n"] = rows.state
    intervals = _intervals(rows, rows.low, rows.high)
    text["gain over none"] = [number(value, metric, "+") for value in rows.gain]
    if any(intervals):
        text["95 % interval"] = intervals
        if (rows.over == "images").any():
            text["seeds and images"] = _intervals(rows, rows.low_images, rows.high_images)
        text["p"] = rows.p.map(probability)
    elif (rows.over == "images").any():  # one seed
        text["images alone"] = [f"±{number(value, metric)}" if pd.notna(value) else "" for value in rows.images_alone]
    if rows.over_kd.notna().any():
        sure = (rows.over_kd_low > 0) | (rows.over_kd_high < 0)
        text["over KD"] = [number(value, metric, "+") + " †" * differs for value, differs in zip(rows.over_kd, sure)]
    if rows.best.any():
        text[" "] = [mark(row) for row in rows.itertuples()]
    return text


def _intervals(rows: pd.DataFrame, lows: pd.Series, highs: pd.Series) -> list[str]:
    metric = rows.metric.iloc[0]
    uneven = findings.uneven_and_far(rows) & (lows < 0) & (highs > 0)
    return [
        "too uneven" if silly else interval(low, high, metric) if pd.notna(low) else ""
        for low, high, silly in zip(lows, highs, uneven)
    ]


def mark(row) -> str:
    """* may be the best, ? far behind but too uneven to be ruled out."""
    return "*" if row.best else "?" if row.open else ""


def grids(table: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """(heading, text) of tables with a row for each value of `by` and a column for each method: mean, std, star.

    Raises ValueError if the rows do not differ in this column.
    """
    settings = setting_columns(table)
    allowed = ["dataset", "teacher", "student", *settings]
    if by not in allowed:
        raise ValueError(f"--by {by}: the rows do not differ in that. Choose one of: distill, {', '.join(allowed)}")
    pairs = labels.pairs(table)
    if not pairs:
        raise ValueError(f"--by {by}: none of these runs has a teacher, so there is nothing to compare")
    rows = pd.concat([rows.assign(teacher=labels.teacher_of(rows)) for rows in pairs])
    metric, keys = rows.metric.iloc[0], [key for key in allowed if key != by]
    rows["cell"] = [
        f"{number(row['mean'], metric)}{'*' if row.best else ''}"
        + (f"\n±{number(row['std'], metric)}" if pd.notna(row["std"]) else "")
        for _, row in rows.iterrows()
    ]
    tables = []
    for values, group in rows.groupby(keys, sort=False, dropna=False):
        shown = [f"{key}={value}" for key, value in zip(keys, values) if pd.notna(value)]
        cells: dict = {}
        for value, label, cell in zip(group[by], group.label, group.cell):
            cells.setdefault("" if pd.isna(value) else value, {})[label] = cell
        lines = [
            {by: str(value), **line}
            for value, line in sorted(cells.items(), key=lambda item: (item[0] != "", natural(item[0])))
        ]
        grid = pd.DataFrame(lines, columns=[by, *dict.fromkeys(group.label)]).fillna("")
        tables.append(("   ".join([*shown, labels.measured(metric)]), grid))
    return tables


def screen(text: pd.DataFrame, title: str | None, styles: list[str | None] | None = None) -> Table:
    """A table for the terminal, with a style for each row; as wide as its cells, so a narrow terminal cuts nothing off."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=title, title_justify="left", title_style="bold")
    widths = []
    for position, column in enumerate(text):
        left = position == 0 or column in ("n", "statistic", "source")
        widest = max(cell_len(line) for cell in [column, *text.iloc[:, position]] for line in str(cell).split("\n"))
        widths.append(widest)
        shown.add_column(column.strip(), justify="left" if left else "right", no_wrap=True, min_width=widest)
    for row, style in zip(text.itertuples(index=False), styles or [None] * len(text)):
        shown.add_row(*(Text(cell) for cell in row), style=style)
    shown.width = sum(widths) + 2 * (len(widths) - 1)  # else a narrow terminal drops the column of stars
    return shown


def show(console: Console, text: pd.DataFrame, styles: list[str | None] | None = None) -> None:
    """Print a table and an empty line."""
    console.print(screen(text, None, styles), width=WIDTH, crop=False)
    console.print("")


def say(console: Console, lines: list[str]) -> None:
    """Print sentences, wrapped and indented."""
    for line in lines:
        console.print(textwrap.fill(line, console.width, initial_indent="  ", subsequent_indent="  "), markup=False)


def print_table(table: pd.DataFrame, runs: pd.DataFrame, by: str = "distill") -> None:
    """Print every pair to stdout: its rows, the findings, footnotes, and what is missing with the command that runs it; then
    what holds across recipes."""
    console = Console(highlight=False, soft_wrap=True)
    for title, grid in grids(table, by) if by != "distill" else ():
        console.print(screen(grid, title), width=WIDTH, crop=False)
        console.print(f"\n  *  {LEGEND.partition('   ')[0]}\n")
    pairs = labels.pairs(table)
    for rows in pairs if by == "distill" else ():
        console.print(labels.heading(rows), style="bold", markup=False)
        console.print(labels.circumstances(rows), markup=False)
        for line in cautions(rows):
            console.print(line, style="bold", markup=False)
        show(console, display(rows), ["bold" if best else None for best in rows.best])
        say(console, remarks(rows))
        for line in findings.commands(rows):  # on one line, so that it can be pasted
            console.print(f"  {line}", markup=False)
        console.print("")
    print_sections(table, console)
    taught = {(rows.dataset[0], labels.teacher_of(rows)) for rows in pairs}
    for rows in labels.blocks(table):
        if (rows.teacher == "").all() and (rows.dataset[0], rows.student[0]) not in taught and rows.n[0]:
            mean = number(rows["mean"][0], rows.metric[0])
            place = f"{rows.dataset[0]}   {rows.student[0]} trained on the labels alone"
            console.print(f"{place}: {mean} (n={rows.state[0]})   {labels.circumstances(rows)}", markup=False)
    for row in runs[runs.status != "done"].itertuples():
        console.print(f"{row.status}: {row.folder}", markup=False)


def print_sections(table: pd.DataFrame, console: Console) -> None:
    """Print the same methods under several recipes to stdout."""
    for section in sections(table):
        console.print(section.heading, style="bold", markup=False)
        for text in filter(len, (section.gains, section.changed)):
            show(console, text)
        say(console, [section.answer, *section.reasons])
        console.print("")


def remarks(rows: pd.DataFrame) -> list[str]:
    """The lines below a block, except for the commands that run what is missing."""
    legend = [f"*  {LEGEND}"] if rows.best.any() else []
    legend += [f"?  {OPEN}"] if rows.open.any() else []
    return [*legend, *claims(rows), *labels.footnotes(rows)]


def claims(rows: pd.DataFrame) -> list[str]:
    """What a block shows, whatever the format."""
    return [*findings.sentences(rows), *image_findings.sentences(rows), *untraced(rows)]


def paragraph(rows: pd.DataFrame) -> list[str]:
    """The remarks, with what belongs in front of the numbers on the screen."""
    return [*cautions(rows), *remarks(rows)]
