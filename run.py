"""The command line. `python run.py --help` shows what can be chosen."""

from kdexp.__main__ import run

if __name__ == "__main__":
    run()
