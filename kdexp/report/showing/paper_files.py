"""A paper-style table as Markdown, LaTeX and CSV."""

from pathlib import Path

import pandas as pd

from kdexp.report.comparing.paper import every_two_of, gains
from kdexp.report.showing import labels, overall, paper
from kdexp.report.showing.formats import escape, prose, written


def markdown(table: pd.DataFrame) -> str:
    """The table as Markdown. Bold: may be the best; the rest as on the screen."""
    lines = [f"**{paper.title(table)}**", labels.circumstances(table)]
    for part in paper.parts(table):
        heads = ["method", *(f"{t}{f' ({a})' * bool(a)}<br>{s}" for t, a, s in part.heads), "mean gain"]
        frame = pd.DataFrame([[name, *map(_bold, cells), gain] for name, cells, gain in part.rows], columns=heads)
        frame = frame.map(lambda value: value.replace("|", "\\|"))
        align = ("left", *["right"] * (len(heads) - 1))
        lines += [f"*{part.title}*"] * bool(part.title)
        lines.append(frame.to_markdown(index=False, disable_numparse=True, colalign=align))
    lines += [line.replace("*  may", "Bold: may") for line in paper.notes(table)]
    if overall.many(table):
        lines.append(overall.against_baseline(table).to_markdown(index=False, disable_numparse=True))
    lines += overall.sentences(table)
    return "\n\n".join(line.replace("_", "\\_") for line in lines) + "\n"


def _bold(cell: tuple[str, str]) -> str:
    text, mark = cell
    return f"**{text}**" if mark == "*" else f"{text} {mark}".strip()


def latex(table: pd.DataFrame) -> str:
    """A booktabs table* with two header lines, as in RepDistiller's table; bold: may be the best."""
    tables = ["% \\usepackage{booktabs}"]
    for part in paper.parts(table):
        columns = len(part.heads)
        teachers, accuracies, students = zip(*part.heads)
        head = [_line("Teacher", *map(escape, teachers), ""), _line("Student", *map(escape, students), "mean gain")]
        teacher = [_line("Teacher", *accuracies, "")] if any(accuracies) else []
        lines = [
            _line(escape(name), *map(_textbf, cells), escape(gain.replace(paper.ABSENT, "--")))
            for name, cells, gain in part.rows
        ]
        body = [r"\toprule", *head, r"\midrule", *teacher, lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        caption = f"{paper.title(table)}{'; ' * bool(part.title)}{part.title}"
        notes = [labels.circumstances(table), *paper.notes(table)]
        below = " \\\\\n".join(prose(line.replace(paper.ABSENT, "--")) for line in notes)
        tables.append(
            f"\\begin{{table*}}\n\\centering\n\\caption{{{prose(caption)}}}\n\\small\n"
            f"\\begin{{tabular}}{{l{'r' * columns}r}}\n" + "\n".join(body) + "\n\\end{tabular}\n"
            f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\footnotesize\\raggedright {below}}}\n\\end{{table*}}\n"
        )
    return "\n".join(tables)


def _line(*cells: str) -> str:
    return " & ".join(cells) + r" \\"


def _textbf(cell: tuple[str, str]) -> str:
    text, mark = cell
    shown = text.replace(" ± ", " $\\pm$ ") if "±" in text else escape(text).replace("?", "--")
    return f"\\textbf{{{shown}}}" if mark == "*" else f"{shown} {escape(mark)}".strip()


def csv(table: pd.DataFrame) -> str:
    """A row for each method: mean, std, n and whether it may be the best for each pair, unrounded, and the mean gain."""
    frame = pd.DataFrame(index=table.sort_values("place").method.unique())
    for _, rows in table.sort_values("pair").groupby("pair"):
        head = f"{rows.of_teacher.iloc[0]}->{rows.student.iloc[0]}"
        frame = frame.join(rows.set_index("method")[["mean", "std", "n", "best"]].add_prefix(f"{head} "))
    gained = gains(table)
    frame = frame.assign(mean_gain=gained.mean(axis=1), pairs=gained.notna().sum(axis=1))
    return frame.rename_axis("method").to_csv()


def write(tables: list[pd.DataFrame], out: Path) -> list[Path]:
    """Write summary_paper.csv, .md and .tex and summary_pairs.csv (every two methods) to `out`."""
    every = [every_two_of(table).assign(dataset=table.dataset.iloc[0], paper=n) for n, table in enumerate(tables)]
    return written(
        out,
        {
            "summary_paper.csv": "\n".join(csv(table) for table in tables),
            "summary_paper.md": "\n".join(markdown(table) for table in tables),
            "summary_paper.tex": "\n".join(latex(table) for table in tables),
            "summary_pairs.csv": pd.concat(every).to_csv(index=False),
        },
    )
