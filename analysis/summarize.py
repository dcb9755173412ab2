"""Records -> the table: `python analysis/summarize.py [OUTPUTS ...]`. What it does is in kdexp/report."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # this checkout, from any folder
from kdexp.command.summarize import main  # noqa: E402

if __name__ == "__main__":
    main()
