"""Where conf/ and sweeps/ are: beside kdexp/ in a checkout, inside it in a wheel."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
INSTALLED = (_HERE / "conf").is_dir()  # from a wheel; False in a checkout, also after pip install -e
ROOT = _HERE if INSTALLED else _HERE.parent
CONF, SWEEPS = ROOT / "conf", ROOT / "sweeps"

# Hydra finds launchers and sweepers only in the namespace package hydra_plugins; ours is inside this package.
if str(_HERE / "_hydra") not in sys.path:
    sys.path.append(str(_HERE / "_hydra"))
