"""Whether gains, and the order of methods, depend on the recipe: compares blocks of the table that differ in nothing else.

Within a recipe, methods share the batches of each seed: a gain is a difference on equal seeds, and its noise is that block's
sigma (kdexp/report/comparing/model.py). Between recipes nothing is paired: seed 1 has other images and other batches there. The
noise levels differ too. If one recipe of three has five times the others' noise, a common sigma would find a change of gains
in 11 % of tables that have none, so each block keeps its own (tests/test_interaction.py).

- Changes: a method's gain under one recipe minus its gain under another, the interaction of method and recipe; for every
  method and every two recipes, jointly at 95 %. The variance is 2 s1²/n1 + 2 s2²/n2, where no baseline has a noise of its own,
  with Satterthwaite's degrees of freedom. The bound is that of the multivariate t with the correlation these variances give,
  each change with its own degrees of freedom (Hasler & Hothorn 2008, Biometrical Journal 50:793); for more than `MANY` changes
  it is Šidák's (1967, JASA 62:626), which is a little wider. The smallest p is the max-t test of "no gain depends on the recipe".
- Order: every two rows, including the baseline, under each recipe; Tukey's comparison in each block, at the level
  0.95^(1/recipes). Recipes are independent, so all of these hold jointly at 95 %. Two rows swap places for certain if one is
  better under one recipe and worse under another. A swap holds on any scale; a change of gains does not: 2 points at 60 %
  and 2 points at 90 % are different things.
- A row that varies far more than its block (`wide`) has its own variance and degrees of freedom in both, as in Welch's t. So
  has a baseline that is noisier than its methods (kdexp/report/comparing/noisy_baseline.py).
"""

import itertools
import json

import numpy as np
import pandas as pd

from kdexp.report.comparing.multivariate_t import LEVEL, critical, sidak, tail
from kdexp.report.comparing.paper import joined, named
from kdexp.report.comparing.table import lower_is_better
from kdexp.report.reading.settings import BASELINE, differing

RECIPE = ("recipe", "augment", "optimizer", "batch_size")  # what may differ; epochs too, if each recipe sets its own
# joint comparisons: the multivariate t takes up to a minute for 900, and over nine minutes and 12 GB for 3,600
MANY = 300


def families(table: pd.DataFrame) -> list[pd.DataFrame]:
    """One frame for each group of two or more blocks with the same pair, data and hardware that differ only in the recipe:
    their rows, with `method` (the row's name in all of them), `place` (its position), `pair` (number of the recipe) and
    `under` (its name). Empty if there are none. Blocks without exactly one baseline have no gains and are left out."""
    groups: dict[tuple, list[pd.DataFrame]] = {}
    for _, rows in table.groupby("block", sort=False):
        if rows.gain.notna().any() and not rows.weights.any():
            key = (rows.dataset.iloc[0], rows.teacher.max(), rows.student.iloc[0], _rest(_shared(rows)))
            groups.setdefault(key, []).append(named(rows))
    return [_labeled(joined(blocks)) for blocks in groups.values() if len(blocks) > 1]


def _shared(rows: pd.DataFrame) -> dict:
    return json.loads(rows.shared_settings.iloc[0])


def _of_recipe(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key.partition(".")[0] in RECIPE}


def _rest(settings: dict) -> str:
    """What the blocks of a family must have in common."""
    rest = {key: value for key, value in settings.items() if key not in _of_recipe(settings)}
    if rest.get("epochs") == settings.get("recipe.epochs"):
        rest["epochs"] = "the recipe's"
    return json.dumps(rest, sort_keys=True)


def _labeled(family: pd.DataFrame) -> pd.DataFrame:
    """With `under`: crd240, or the settings that tell the recipes apart if the name does not."""
    recipes = [_of_recipe(_shared(rows)) for _, rows in family.groupby("pair")]
    names = [str(settings.get("recipe")) for settings in recipes]
    if len(set(names)) < len(names):
        keys = differing(recipes)
        names = [" ".join(f"{key}={settings.get(key)}" for key in keys) for settings in recipes]
    return family.assign(under=family.pair.map(dict(enumerate(names))))


def recipes(family: pd.DataFrame) -> list[str]:
    """The names of a family's recipes, in the order of the table."""
    return list(dict.fromkeys(family.under))


def compared(family: pd.DataFrame) -> pd.DataFrame:
    """The rows used for the interaction: complete ones that share their seeds with a complete baseline."""
    whole = family.ranked & np.isfinite(family.sigma) & (family.test != "Welch: unpaired")
    baseline = family.distill == BASELINE
    both = family.pair.isin(family.pair[whole & baseline]) & family.pair.isin(family.pair[whole & ~baseline])
    return family[whole & both]


def everywhere(family: pd.DataFrame) -> list[str]:
    """The methods, and the baseline, that are compared under every recipe where anything can be claimed."""
    rows = compared(family)
    count = rows.method.value_counts()
    return [name for name in rows.sort_values("place").method.unique() if count[name] == rows.pair.nunique()]


def changes(family: pd.DataFrame) -> pd.DataFrame:
    """One row for each method and two recipes: method, under, other, difference (gain under `under` minus gain under
    `other`, in units of the metric), low, high (jointly 95 %), p (adjusted for all of them), df. Empty if nothing can be
    claimed."""
    rows = compared(family).sort_values(["place", "pair"]).reset_index(drop=True)
    baseline = {row.pair: row.Index for row in rows.itertuples() if row.distill == BASELINE}
    names, contrasts = [], []
    for method, cells in rows[rows.distill != BASELINE].groupby("method", sort=False):
        for first, second in itertools.combinations(cells.itertuples(), 2):
            contrast = np.zeros(len(rows))
            contrast[[second.Index, baseline[first.pair]]], contrast[[first.Index, baseline[second.pair]]] = 1, -1
            contrasts.append(contrast)
            names.append({"method": method, "under": second.under, "other": first.under})
    columns = ["method", "under", "other", "difference", "low", "high", "p", "df"]
    if not names:
        return pd.DataFrame(columns=columns)
    return pd.DataFrame(names).assign(**_together(np.array(contrasts), rows, LEVEL))[columns]


def _together(contrasts: np.ndarray, rows: pd.DataFrame, level: float) -> dict[str, np.ndarray]:
    """Contrasts (count, rows) of the rows' means: difference, low, high, p, jointly at `level`, and df, each (count,)."""
    wide, n = rows.wide.to_numpy(bool), rows.n.to_numpy(float)
    baseline = (rows.distill == BASELINE).to_numpy()
    variance = np.where(wide, rows["std"], rows.sigma) ** 2 * (1 - rows.saved.to_numpy()) / n
    apart = wide | (baseline & rows.noisy.to_numpy(bool))
    source = np.where(apart, -1 - np.arange(len(rows)), rows.pair)  # from the block or from the row itself
    estimates = source[:, None] == np.unique(source)
    df = np.array([np.where(wide, n - 1, rows.df)[estimate].max() for estimate in estimates.T])
    shares = contrasts**2 * variance @ estimates
    own = shares.sum(1) ** 2 / (shares**2 / df).sum(1)
    error, difference = np.sqrt(shares.sum(1)), contrasts @ np.where(baseline, rows.baseline, rows["mean"])
    if len(contrasts) > MANY:
        half, p = sidak(difference / error, own, level)
    else:
        correlation = contrasts * variance @ contrasts.T / np.outer(error, error)
        half = np.array([critical(correlation, float(its_df), level) for its_df in own.round(6)])
        p = np.array([tail(abs(t), correlation, its_df)[0] for t, its_df in zip(difference / error, own)])
    half = half * error
    return {"difference": difference, "low": difference - half, "high": difference + half, "p": p, "df": own}


def order(family: pd.DataFrame) -> pd.DataFrame:
    """One row for every two of `everywhere` and each recipe: first, second, under, difference (mean of first minus mean of
    second), low, high (jointly 95 %), better (1: first is better for certain, -1: second is, 0: cannot tell)."""
    methods, rows, frames = everywhere(family), compared(family), []
    level = 1 - (1 - LEVEL) ** (1 / max(rows.pair.nunique(), 1))
    two = list(itertools.combinations(methods, 2))
    for _, block in rows[rows.method.isin(methods)].groupby("pair") if two else ():
        names = block.method.to_numpy()
        contrasts = np.array([(names == first) * 1.0 - (names == second) for first, second in two])
        frame = pd.DataFrame(two, columns=["first", "second"]).assign(under=block.under.iloc[0])
        frames.append(frame.assign(**_together(contrasts, block, level)))
    columns = ["first", "second", "under", "difference", "low", "high"]
    frame = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    sign = -1 if len(family) and lower_is_better(family.metric.iloc[0]) else 1
    return frame.assign(better=sign * ((frame.low > 0).astype(int) - (frame.high < 0).astype(int)))


def places(order: pd.DataFrame) -> pd.DataFrame:
    """One row for every two of `order`: first, second, verdict ("swapped": each is better for certain under some recipe;
    "kept": the same one is better for certain under every recipe; "open"), crossed (whether the order of their means changes
    between recipes)."""
    verdicts = []
    for (first, second), rows in order.groupby(["first", "second"], sort=False):
        signs = set(rows.better)
        verdict = "swapped" if signs >= {1, -1} else "kept" if signs in ({1}, {-1}) else "open"
        verdicts.append((first, second, verdict, bool(rows.difference.min() < 0 < rows.difference.max())))
    return pd.DataFrame(verdicts, columns=["first", "second", "verdict", "crossed"])
