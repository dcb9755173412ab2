"""`python -m kdexp.record COMMAND`: list, delete and pack records, and export a trained network."""

import argparse
import os
import sys
from pathlib import Path

from kdexp import screen
from kdexp.errors import UsageError
from kdexp.record import listing, remove, runs
from kdexp.spelling import as_typed

HOME = os.environ.get("KDEXP_OUTPUTS", "outputs")
SELECT = f"""OUTPUTS: folders of records (default: {HOME}). KEY=VALUE: only these runs; VALUE may be a list a,b.
KEY: dataset, teacher, student, distill, seed, variant, recipe, epochs, status (done, running, stopped, failed,
diverged, damaged), or any setting of config.yaml by its dotted name."""
EXAMPLES = """examples:
  python -m kdexp.record list status=failed,diverged
  python -m kdexp.record list outputs /mnt/other/outputs distill=sp distill.weight=500
  python -m kdexp.record rm distill=sp seed=3
  python -m kdexp.record pack paper.zip dataset=cifar100      (then: python analysis/summarize.py paper.zip)
  python -m kdexp.record export outputs/digits/wrn16_4-resnet8/kd/base/seed1 --to model"""
WORDS = "[OUTPUTS ...] [KEY=VALUE ...]"


def parser() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        prog=as_typed("python -m kdexp.record"),
        description="List, delete and pack the records of runs, and export a trained network.",
        epilog=as_typed(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = line.add_subparsers(metavar="COMMAND", required=True)

    def command(function, usage: str, what: str, more: str = "") -> argparse.ArgumentParser:
        one = commands.add_parser(
            function.__name__.rstrip("_"),
            help=what,
            description=f"{what[0].upper()}{what[1:]}.{more}",
            usage=as_typed(f"python -m kdexp.record {function.__name__.rstrip('_')} {usage}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(function=function)
        return one

    one = command(list_, WORDS, "list every run with its state, accuracy and size")
    one.add_argument("words", nargs="*", metavar="OUTPUTS, KEY=VALUE", help=SELECT)

    one = command(rm, "[OUTPUTS ...] KEY=VALUE ... [--yes]", "show the runs, ask, and delete them")
    one.add_argument("words", nargs="*", metavar="OUTPUTS, KEY=VALUE", help=SELECT)
    one.add_argument("--yes", action="store_true", help="do not ask")

    private = "\nPaths, the host name and the user name are removed; runs that are still running are left out."
    one = command(pack, f"OUT.zip {WORDS} [--weights]", "pack finished and failed runs into a zip to share", private)
    one.add_argument("words", nargs="*", metavar="OUT.zip, OUTPUTS, KEY=VALUE", help=SELECT)
    one.add_argument("--to", metavar="OUT.zip", help="another way to name the zip")
    one.add_argument("--weights", action="store_true", help="include student.pt and logits.npy")

    inside = "\nBoth take images (N, channels, H, W) float32 in 0..1 and return logits; normalization is built in."
    one = command(
        export,
        "RUN_FOLDER [--to DIR] [--format onnx|pt]",
        "export a trained network as model.onnx and model.pt",
        inside,
    )
    one.add_argument("run_folder", metavar="RUN_FOLDER", type=Path, help="the folder of a finished run")
    one.add_argument("--to", metavar="DIR", type=Path, help="where the files go (default: RUN_FOLDER)")
    one.add_argument(
        "--format",
        choices=("onnx", "pt"),
        help=as_typed('write only one of the two; onnx needs pip install -e ".[onnx]"'),
    )
    return line


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The typed words as (folders, conditions); a folder's name may contain a =."""
    conditions = [word for word in words if "=" in word and not os.path.isdir(word)]
    return [word for word in words if word not in conditions] or [HOME], conditions


def list_(arguments: argparse.Namespace) -> None:
    outputs, conditions = split(arguments.words)
    print(listing.table(runs.select(runs.find(outputs), conditions)))


def rm(arguments: argparse.Namespace) -> None:
    outputs, conditions = split(arguments.words)
    if not conditions:
        raise UsageError("Nothing was deleted: say which runs, as in rm distill=sp seed=3, or rm status=failed")
    there = runs.find(outputs)
    chosen = runs.select(there, conditions)
    print(listing.table(chosen), flush=True)
    remove.remark(chosen, there)
    remove.refuse_live(chosen)
    remove.confirm(chosen, arguments.yes)
    size = listing.megabytes(chosen)
    gone = [run for run in chosen if remove.delete(run, outputs)]
    print(f"deleted {screen.counted(len(gone), 'run')}" + (f", {size} MB" if gone == chosen else ""), file=sys.stderr)


def pack(arguments: argparse.Namespace) -> None:
    from kdexp.record.pack import pack

    zips = [word for word in arguments.words if word.endswith(".zip") and not os.path.isdir(word)][: not arguments.to]
    to = arguments.to or "".join(zips)
    if not to.endswith(".zip"):
        raise UsageError(f"{to or 'No zip'}: name the zip to write, as in pack paper.zip dataset=cifar100")
    outputs, conditions = split([word for word in arguments.words if word not in zips])
    within = pack(runs.select(runs.find(outputs), conditions), Path(to), arguments.weights)
    print(f"{to}   {listing.states(within)}   {os.path.getsize(to) / 1e6:,.2f} MB")
    print(as_typed(f"Open it: python analysis/summarize.py {to}"), file=sys.stderr)


def export(arguments: argparse.Namespace) -> None:
    folder = arguments.run_folder
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such folder. List the runs with: python -m kdexp.record list")
    if not (folder / "config.yaml").exists():
        raise UsageError(
            f"{folder}: this folder itself holds no run. See what is below it: python -m kdexp.record list {folder}"
        )
    if not ((folder / "student.pt").exists() and (folder / "result.json").exists()):
        raise UsageError(f"{folder}: no weights there: the run has not finished, or was packed without --weights")
    from kdexp.command.export import export  # imports torch, which the other commands don't need

    kinds = (arguments.format,) if arguments.format else ("pt", "onnx")
    print("\n".join(export(folder, arguments.to or folder, kinds)))


def main(typed: list[str] | None = None) -> None:
    line = parser()
    arguments, more = line.parse_known_args(typed)  # argparse alone refuses words that follow an option
    if more and (any(word.startswith("-") for word in more) or "words" not in arguments):
        line.error(f"unrecognized arguments: {' '.join(more)}")
    if more:
        arguments.words += more
    try:
        arguments.function(arguments)
    except UsageError as error:
        sys.exit(as_typed(str(error)))
    except KeyboardInterrupt:
        sys.exit(130)
