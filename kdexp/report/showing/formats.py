"""The table in files: CSV, Markdown, LaTeX and JSON, from the same frame as the screen."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kdexp.report.comparing.images import COLUMNS as IMAGES
from kdexp.report.comparing.recipes import places
from kdexp.report.comparing.table import FIRST, HIDDEN, LAST, method_setting_columns, setting_columns
from kdexp.report.showing import findings, labels
from kdexp.report.showing.cautions import cautions
from kdexp.report.showing.output import claims, display, paragraph
from kdexp.report.showing.recipes import Section, sections


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table as written to CSV: plain, unrounded numbers. A baseline shared by several pairs appears once."""
    frame = _known(table.drop(columns=HIDDEN).astype({"best": int}))
    frame.loc[frame.teacher == "", ["sigma", "df", "resolves"]] = np.nan  # these belong to a pair, not to a network
    return frame.drop_duplicates([column for column in frame if column not in LAST[4:]], ignore_index=True)


def _known(frame: pd.DataFrame) -> pd.DataFrame:
    """Drops the columns about images if nothing is known about them."""
    return frame.drop(columns=[name for name in IMAGES if frame[name].isna().all()])


def bold(rows: pd.DataFrame, mark: str, escaped: Callable[[str], str] = str) -> pd.DataFrame:
    """A block as escaped text with the names and means of the best in `mark` (a format), not starred."""
    shown = display(rows).drop(columns=" ", errors="ignore").map(escaped)
    for column in ("method", "mean"):
        shown[column] = [mark.format(value) if best else value for value, best in zip(shown[column], rows.best)]
    return shown


def markdown(table: pd.DataFrame) -> str:
    """One table of all pairs, the best in bold, and the sentences below."""
    parts, text = [], []
    settings = setting_columns(table)
    for rows in labels.pairs(table):
        place = {"dataset": rows.dataset, "teacher": labels.teacher_of(rows), "student": rows.student}
        place |= {column: rows[column] for column in settings if column not in method_setting_columns(rows)}
        shown = bold(rows, "**{}**").rename(columns={"teacher": "teacher, %"})  # its name has a column, too
        parts.append(pd.concat([pd.DataFrame(place), shown], axis=1))
        text += [f"**{labels.heading(rows)}**", labels.circumstances(rows), *paragraph(rows)]
    frame = pd.concat(parts, ignore_index=True) if parts else columns(table)[FIRST]
    frame = frame.dropna(axis="columns", how="all").astype(object).fillna("").astype(str)
    lines = "\n\n".join(line.replace("*  may", "Bold: may").replace("_", "\\_") for line in text)
    return "\n\n".join([_markdown(frame), lines, *map(_section, sections(table))]) + "\n"


def _markdown(frame: pd.DataFrame) -> str:
    return frame.map(lambda value: value.replace("|", "\\|")).to_markdown(index=False, disable_numparse=True)


def _section(section: Section) -> str:
    lines = [f"**{section.heading}**", section.answer, _markdown(section.gains)]
    lines += [_markdown(section.changed)] if len(section.changed) else []
    return "\n\n".join(line.replace("_", "\\_") for line in [*lines, *section.reasons])


def latex(table: pd.DataFrame) -> str:
    """A booktabs table for each pair, the best in bold, notes below. For \\input in a paper."""
    parts = ["% \\usepackage{booktabs}"]
    for rows in labels.pairs(table):
        shown = bold(rows, "\\textbf{{{}}}", escape)
        for column in shown.columns.intersection(["95 % interval", "seeds and images"]):
            shown[column] = shown[column].str.replace("..", "\\,..\\,")
        shown = shown.dropna(axis="columns", how="all").rename(columns=escape)
        body = shown.style.hide(axis="index").to_latex(hrules=True, column_format="l" + "r" * (shown.shape[1] - 1))
        notes = " \\\\\n".join(map(prose, [labels.circumstances(rows), *paragraph(rows)]))
        parts.append(
            f"\\begin{{table}}\n\\centering\n\\caption{{{prose(labels.heading(rows))}}}\n\\small\n{body}\n"
            f"\\par\\smallskip\\parbox{{\\linewidth}}{{\\footnotesize\\raggedright {notes}}}\n\\end{{table}}\n"
        )
    return "\n".join(parts)


LATEX = {
    **{char: "\\" + char for char in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "†": "$^\\dagger$", "±": "$\\pm$", "·": "$\\cdot$"},
    **{"->": "$\\rightarrow$", "--": "-{}-"},
}


def prose(line: str) -> str:
    """A line from the screen for LaTeX: without options of the command line, with commas for gaps."""
    line = re.sub(r" \(--[^)]*\)", "", line.replace("*  may", "Bold: may"))
    return escape(re.sub(r"(?<=\S) {2,}", ", ", line).replace(".,", "."))


def escape(text: str) -> str:
    """Escapes any text for LaTeX; minus signs become math, and characters its fonts may lack become question marks."""
    signs = {"+": "$+$", "-": "$-$"}

    def escaped(match: re.Match) -> str:
        sign = match.group()
        plain = sign.isascii() or (sign.isalpha() and ord(sign) < 256)
        return signs[sign] if sign in signs else LATEX.get(sign, sign if plain else "?")

    return re.sub(r"(?<![\w,.=+-])[+-](?=\d)|->|--|[^A-Za-z0-9\s]", escaped, text)


def to_json(table: pd.DataFrame) -> str:
    """A list of blocks: what they are, their rows as plain numbers, and the sentences. The last block of a pair with several
    recipes also says what holds across them (`recipes`)."""
    described, below = [], {section.block: section for section in sections(table)}
    for rows in labels.blocks(table):
        plain = _known(rows).drop(columns=[name for name in HIDDEN if name not in ("ranked", "wide", "apart")])
        section = below.get(rows.block[0])
        described.append(
            {
                "heading": labels.heading(rows) if (rows.teacher != "").any() else None,
                "settings": json.loads(rows.shared_settings[0]),
                "rows": _records(plain),
                "findings": [*cautions(rows), *claims(rows)],
                "notes": labels.footnotes(rows),
                "missing": findings.commands(rows),
                **({"recipes": _numbers(section)} if section else {}),
            }
        )
    return json.dumps(described, indent=1, ensure_ascii=False)


def _numbers(section: Section) -> dict:
    """What holds across the recipes of a pair; only for the pair's last block."""
    frames = {"changes": section.changes, "order": section.order, "pairs": places(section.order)}
    return {
        "recipes": section.recipes,
        **{name: _records(frame) for name, frame in frames.items()},
        "findings": [section.answer, *section.reasons],
    }


def _records(frame: pd.DataFrame) -> list[dict]:
    return json.loads(frame.to_json(orient="records", double_precision=15))


def write(table: pd.DataFrame, out: Path) -> list[Path]:
    """Write summary.csv, .md, .tex and .json to `out`, each atomically."""
    texts = {
        "summary.csv": columns(table).to_csv(index=False),
        "summary.md": markdown(table),
        "summary.tex": latex(table),
        "summary.json": to_json(table),
    }
    return written(out, texts)


INTERNAL = ["sha256", "shared_settings", "method_settings", "words", "teacher_file"]


def runs_csv(runs: pd.DataFrame) -> str:
    """The frame of kdexp.runs, one row per run, without what only the analysis needs."""
    return runs.drop(columns=INTERNAL, errors="ignore").to_csv(index=False)


def written(out: Path, texts: dict[str, str]) -> list[Path]:
    """Write these files (name -> text), each atomically."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        temporary = out / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out / name)
    return [out / name for name in texts]
