"""The command line: Hydra composes, kdexp runs. `python run.py --help` shows what can be chosen."""

import sys

import hydra

from kdexp.config import cli, help, plugins

with cli.messages():
    cli.register(plugins.typed(sys.argv))


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    from kdexp.command.sweep import run_jobs  # imports torch, which --help and tab completion do without

    with cli.messages():  # Hydra would print a heading of its own above the message
        run_jobs([config])


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv[1:]):
        sys.exit(print(help.text()))
    with cli.messages():
        sys.argv[1:] = cli.arguments(sys.argv[1:])
        main()
