"""The command line. `python run.py --help` shows the choices."""

from kdexp.__main__ import run

if __name__ == "__main__":
    run()
