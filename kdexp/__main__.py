"""`kdexp`, the installed command: the same as `python run.py`, and `kdexp summarize`, `kdexp evaluate`, `kdexp record`."""

import importlib
import sys

import hydra

from kdexp import CONF
from kdexp.command import cli, help
from kdexp.config import plugins

COMMANDS = {
    "summarize": "kdexp.command.summarize",
    "evaluate": "kdexp.command.evaluate",
    "record": "kdexp.command.record",
}


def main() -> None:
    """Run what was typed after `kdexp`."""
    typed = sys.argv[1:]
    if typed and typed[0] in COMMANDS:
        importlib.import_module(COMMANDS[typed[0]]).main(typed[1:])
    else:
        run()


def run() -> None:
    """Run what was typed after `python run.py`: Hydra composes, kdexp runs."""
    with cli.messages():
        cli.register(plugins.typed(sys.argv))
    if {"-h", "--help"} & set(sys.argv[1:]):
        return print(help.text())
    if sys.argv[1:] == ["--info"]:  # with a topic, --info is Hydra's own: --info defaults-tree
        from kdexp.command import info  # imports torch

        return print(info.text())
    with cli.messages():
        sys.argv[1:] = cli.arguments(sys.argv[1:])
        _composed()


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _composed(config) -> None:
    # imports torch, which --help and tab completion don't need
    from kdexp.command.sweep import exit_unless_done, run_jobs

    with cli.messages():  # Hydra would print a heading of its own above the message
        exit_unless_done(run_jobs([config]))


if __name__ == "__main__":
    main()
