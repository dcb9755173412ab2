"""What can be claimed about the rows of a block: against its baseline, against KD, against the best."""

import numpy as np

from kdexp.report.comparing.comparisons import among_best, compare, paired_p
from kdexp.report.comparing.model import Fit, fit
from kdexp.report.comparing.multivariate_t import smallest_difference
from kdexp.report.comparing.resolution import of_fit
from kdexp.report.reading.settings import BASELINE, KD


def compared(rows: list[dict], values: np.ndarray, unpaired: np.ndarray, sign: int, percent: bool) -> None:
    """Add the comparisons of a block in place: with its baseline, with KD, with the best. unpaired: the baseline's values on
    seeds that no method has."""
    methods = [index for index, row in enumerate(rows) if row["distill"] != BASELINE and row["ranked"]]
    baseline = [index for index, row in enumerate(rows) if row["distill"] == BASELINE]
    kd = [index for index in methods if rows[index]["distill"] == KD and not rows[index]["control"]]
    none = baseline[0] if len(baseline) == 1 else None
    model = fit(values, percent, none, unpaired if len(baseline) == 1 else None)
    separate = bool(model.noise)
    among = smallest_difference(model.sigma, len(methods) + (not separate), values.shape[1])
    resolves = of_fit(model, len(methods)).gain() if separate or model.saved else among
    for index, row in enumerate(rows):
        row |= {name: np.nan for name in ("baseline", "paired_p")}
        row |= {"test": "", "sigma": model.sigma, "df": model.df, "resolves": resolves, "one_way": False}
        row |= {"wide": bool(model.wide[index]), "apart": bool(model.apart[index]), "resolves_methods": among}
        row |= {"noisy": separate, "saved": 0.0, "more": 0}
    _among_best(rows, fit(sign * values, baseline=none) if sign < 0 else model, methods)
    _against(rows, model, baseline, methods, ("gain", "low", "high", "p"))
    others = [index for index in methods if index not in kd]
    _against(rows, model, kd, others, ("over_kd", "over_kd_low", "over_kd_high", "over_kd_p"))
    if none is None:
        return
    _of_baseline(rows[none], model)
    for index, row in enumerate(rows):
        row["baseline"] = rows[none]["mean"] + model.added
        if index in methods:
            row["test"] = _test(model, index, none)
            row["paired_p"] = paired_p(values[index], values[none])
            row["one_way"] = _one_way(values[index] - values[none])


def _of_baseline(row: dict, model: Fit) -> None:
    """Add in place its own noise, and what further seeds of it contribute."""
    row |= {"saved": model.saved, "more": len(model.unpaired)}
    if model.noise:
        row |= {"sigma": float(np.sqrt(model.noise.variance)), "df": model.noise.df}


def _test(model: Fit, index: int, reference: int) -> str:
    """The name of the test that compares these two."""
    shared = model.shared(index, reference)
    if shared:
        return "log odds" if shared is not model else "noisy baseline" if model.noise else "model"
    return "Welch: wide" if model.wide[index] or model.wide[reference] else "Welch: unpaired"


def _among_best(rows: list[dict], model: Fit, methods: list[int]) -> None:
    """Add two columns in place. `best`: no other method is above this one for certain. `open`: the same, but for a wide row
    that is below the best mean on every seed by more than the others' noise explains. Together they contain the truly best
    method with 95 % confidence."""
    best = dict(zip(methods, among_best(model, methods)))
    top = max(methods, key=lambda index: np.nanmean(model.values[index]), default=0)
    for index, row in enumerate(rows):
        left, gap = bool(best.get(index, False)), model.values[top] - model.values[index]
        far = left and bool(model.wide[index]) and np.nanmean(gap) > row["resolves_methods"] and _one_way(gap)
        row |= {"best": left and not far, "open": far}


def _one_way(differences: np.ndarray) -> bool:
    """Whether there are two or more values, all with the same sign."""
    signs = np.sign(differences[np.isfinite(differences)])
    return len(signs) > 1 and bool(abs(signs.sum()) == len(signs))


def _against(rows: list[dict], model: Fit, references: list[int], ranked: list[int], names: tuple[str, ...]) -> None:
    """Add in place every method's difference from the reference, and the interval and p of the ranked methods. If there is
    not exactly one reference, nothing is claimed."""
    for row in rows:
        row |= dict.fromkeys(names, np.nan)
    if len(references) != 1:
        return
    (reference,), (difference, *claims) = references, names
    for index, row in enumerate(rows):
        if index != reference and row["distill"] != BASELINE:
            row[difference] = model.difference(index, reference)
    if ranked:
        comparison = compare(model, reference, ranked)
        for index, *numbers in zip(ranked, comparison.low, comparison.high, comparison.p):
            rows[index] |= dict(zip(claims, numbers))
