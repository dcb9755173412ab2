"""`python analysis/summarize.py`, `kdexp summarize`: records -> the table."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from kdexp.command.options import parser, select
from kdexp.errors import UsageError
from kdexp.report.comparing.paper import papers
from kdexp.report.comparing.table import summarize
from kdexp.report.reading.archives import opened
from kdexp.report.reading.published import as_runs
from kdexp.report.reading.records import epochs, read
from kdexp.report.showing import formats, paper_files
from kdexp.report.showing.beside import distances, print_beside
from kdexp.report.showing.output import print_table
from kdexp.report.showing.overall import many
from kdexp.report.showing.paper_screen import print_papers
from kdexp.report.showing.watch import watch
from kdexp.screen import counted
from kdexp.spelling import as_typed


def main(typed: list[str] | None = None) -> None:
    """The command line. A user's mistake gives one sentence and exit code 1 or 2."""
    arguments = parser().parse_args(typed)
    try:
        with opened([] if arguments.published else arguments.outputs) as (folders, shown):
            run(arguments, folders, shown)
    except (ValueError, UsageError) as error:
        sys.exit(as_typed(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"{error.filename}: cannot be written ({error.strerror}). Choose another folder with --out DIR")


def run(arguments: argparse.Namespace, folders: list[str], shown: Callable[[str], str]) -> None:
    """Do everything requested, in order: watch, the table, its files, figures, the page. shown: replaces temporary
    folders in a text by the names the user typed."""
    if arguments.watch:
        watch(folders)
    runs, left_out = _runs(arguments, folders, shown)
    table = summarize(runs, arguments.metric, arguments.over, arguments.data)
    pages = papers(table, arguments.rope)
    out = Path(arguments.out or arguments.outputs[0].removesuffix(".zip"))
    if arguments.layout == "paper":
        print_papers(pages)
    else:
        print_table(table, runs.assign(folder=runs.folder.map(shown)), arguments.by)
        if any(many(page) for page in pages):
            print("For all pairs in one table, and what holds across them: --layout paper", file=sys.stderr)
    written = formats.write(table, out)
    written += formats.written(out, {"runs.csv": shown(formats.runs_csv(runs))})
    written += paper_files.write(pages, out) if arguments.layout == "paper" else []
    print("   ".join(str(path) for path in written), file=sys.stderr)
    published = None
    if arguments.against:
        published = print_beside(table)
        frames = {"published": published, "published_gains": distances(published)}
        texts = {f"summary_{name}.csv": frame.to_csv(index=False) for name, frame in frames.items()}
        print("   ".join(str(path) for path in formats.written(out, texts)), file=sys.stderr)
    if arguments.figures or arguments.html:
        _draw(arguments, runs, table, pages, published, out, left_out, shown)


def _runs(arguments: argparse.Namespace, folders: list[str], shown: Callable[[str], str]) -> tuple:
    """(the selected runs, what was left out); the latter is also printed to stderr."""
    runs, left_out = (as_runs(arguments.published), []) if arguments.published else read(*folders)
    left_out = [shown(line) for line in left_out]
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    if runs.empty or not (runs.status == "done").any():
        raise ValueError(
            f"no finished runs in {', '.join(arguments.outputs)}. Make some: python run.py sweep=quickstart"
        )
    runs = select(runs, arguments.select)
    if not (runs.status == "done").any():
        raise ValueError(f"--select {' --select '.join(arguments.select)}: none of these runs has finished")
    return runs, left_out


def _draw(
    arguments: argparse.Namespace, runs, table, pages: list, published, out: Path, left_out: list[str], shown
) -> None:
    from kdexp.report.drawing import figures  # matplotlib takes a second to import, and the table does not need it
    from kdexp.report.page import report

    rows = epochs(runs)
    drawn = figures.draw(table, runs, rows, arguments.data, pages, published)
    for line in dict.fromkeys(line for lines in drawn.lacking.values() for line in lines):
        print(f"not drawn: {line}", file=sys.stderr)
    if arguments.figures:
        figures.save(drawn.figures, out / "figures")
        print(f"{counted(len(drawn.figures), 'figure')}: {out / 'figures'}", file=sys.stderr)
    if arguments.html:
        page = report.write(out / "report.html", table, runs, rows, drawn, left_out, bool(arguments.against), pages)
        page.write_text(shown(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(page.resolve())
