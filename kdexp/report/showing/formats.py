"""The table in files: CSV, Markdown, LaTeX and JSON, from the same frame as the screen."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from kdexp.report.comparing.images import COLUMNS as IMAGES
from kdexp.report.comparing.recipes import places
from kdexp.report.comparing.table import FIRST, HIDDEN, LAST, method_setting_columns, setting_columns
from kdexp.report.showing import findings, image_findings, labels
from kdexp.report.showing.cautions import cautions, untraced
from kdexp.report.showing.output import display, paragraph
from kdexp.report.showing.recipes import Section, sections


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table as written to CSV: plain, unrounded numbers. A baseline shared by several pairs appears once."""
    frame = _known(table.drop(columns=HIDDEN).astype({"best": int}))
    frame.loc[frame.teacher == "", ["sigma", "df", "resolves"]] = np.nan  # these belong to a pair, not to a network
    return frame.drop_duplicates([column for column in frame if column not in LAST[4:]], ignore_index=True)


def _known(frame: pd.DataFrame) -> pd.DataFrame:
    """Drops the columns about images if nothing is known about them."""
    return frame.drop(columns=[name for name in IMAGES if frame[name].isna().all()])


def bold(rows: pd.DataFrame, mark: str) -> pd.DataFrame:
    """A block as text with the names and means of the best in `mark` (a format), not starred."""
    shown = display(rows).drop(columns=" ", errors="ignore")
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
        parts.append(pd.concat([pd.DataFrame(place), bold(rows, "**{}**")], axis=1))
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
        shown = display(rows).drop(columns=" ", errors="ignore").map(escape)
        for column in ("method", "mean"):
            shown[column] = [f"\\textbf{{{value}}}" if best else value for value, best in zip(shown[column], rows.best)]
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
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
}
LATEX |= {
    "<": "$<$",
    ">": "$>$",
    "†": "$^\\dagger$",
    "±": "$\\pm$",
    "·": "$\\cdot$",
    "->": "$\\rightarrow$",
    "--": "-{}-",
}


def prose(line: str) -> str:
    """A line from the screen for LaTeX: without options of the command line, with commas for gaps."""
    line = re.sub(r" \(--[^)]*\)", "", line.replace("*  may", "Bold: may"))
    return escape(re.sub(r"(?<=\S) {2,}", ", ", line).replace(".,", "."))


def escape(text: str) -> str:
    """Escapes any text for LaTeX; minus signs become math, and characters its fonts may lack become question marks."""
    signs = {"+": "$+$", "-": "$-$"}

    def one(match: re.Match) -> str:
        found = match.group()
        plain = found.isascii() or (found.isalpha() and ord(found) < 256)
        return signs[found] if found in signs else LATEX.get(found, found if plain else "?")

    return re.sub(r"(?<![\w,.=+-])[+-](?=\d)|->|--|[^A-Za-z0-9\s]", one, text)


def to_json(table: pd.DataFrame) -> str:
    """A list of blocks: what they are, their rows as plain numbers, and the sentences. The last block of a pair with several
    recipes also says what holds across them (`recipes`)."""
    found, below = [], {section.block: section for section in sections(table)}
    for rows in labels.blocks(table):
        plain = _known(rows).drop(columns=[name for name in HIDDEN if name not in ("ranked", "wide", "apart")])
        section = below.get(rows.block[0])
        found.append(
            {
                "heading": labels.heading(rows) if (rows.teacher != "").any() else None,
                "settings": json.loads(rows.shared_settings[0]),
                "rows": json.loads(plain.to_json(orient="records", double_precision=15)),
                "findings": [
                    *cautions(rows),
                    *findings.sentences(rows),
                    *image_findings.sentences(rows),
                    *untraced(rows),
                ],
                "notes": labels.footnotes(rows),
                "missing": findings.commands(rows),
                **({"recipes": _numbers(section)} if section else {}),
            }
        )
    return json.dumps(found, indent=1, ensure_ascii=False)


def _numbers(section: Section) -> dict:
    """What holds across the recipes of a pair; only for the pair's last block."""
    frames = {"changes": section.changes, "order": section.order, "pairs": places(section.order)}
    return {
        "recipes": section.recipes,
        **{name: json.loads(frame.to_json(orient="records", double_precision=15)) for name, frame in frames.items()},
        "findings": [section.answer, *section.reasons],
    }


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
