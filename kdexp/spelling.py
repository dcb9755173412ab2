"""How commands are typed: with the files of a checkout, or with the installed `kdexp`."""

import re
import sys
from pathlib import Path

from kdexp import INSTALLED

IN_A_CHECKOUT = {
    "python run.py": "kdexp",
    "python analysis/summarize.py": "kdexp summarize",
    "python -m kdexp.record": "kdexp record",
    "python -m kdexp.evaluate": "kdexp evaluate",
    'pip install -e ".[': 'pip install "kdexp[',
}


def as_typed(text: str) -> str:
    """Rewrite a text's commands, which are those of a checkout, as this user types them. Columns stay aligned."""
    if INSTALLED or Path(sys.argv[0]).stem == "kdexp":
        for there, here in IN_A_CHECKOUT.items():
            in_a_column = rf"({re.escape(there)}\S*(?: \S+)*   )"
            text = re.sub(in_a_column, r"\1" + " " * (len(there) - len(here)), text).replace(there, here)
    return text
