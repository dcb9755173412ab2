"""Remedies against a baseline that is noisier than the methods, each for thousands of tables at once. Eight rows, the baseline
first; in units of a method's standard deviation."""

import functools

import numpy as np
from scipy import interpolate, optimize, special, stats

from kdexp.report.comparing.multivariate_t import critical

METHODS = 7
GAP = 3.2  # the true gain whose power is measured: 0.8 points at a spread of 0.25


def drawn(tables, seeds, k=1.0, method=1.0, spread=0.0, of_seeds=1.0, more=0, gap=0.0, draw=0):
    """((tables, rows, seeds), (tables, more)) values without a true gain, but `gap` for row 1. k: the baseline's standard
    deviation; method: the last row's; spread: all rows' are exp(normal * spread); of_seeds: that of the seed effects. more:
    seeds of the baseline alone."""
    random = np.random.default_rng(draw)
    sigma = np.exp(random.normal(0, spread, (tables, METHODS + 1)))
    sigma[:, 0] *= k
    sigma[:, -1] *= method
    values = random.normal(size=(tables, METHODS + 1, seeds + more)) * sigma[:, :, None]
    values += random.normal(0, of_seeds, (tables, 1, seeds + more))
    values[:, 1] += gap
    return values[:, :, :seeds], values[:, 0, seeds:]


def equal(count, correlation):
    return np.full((count, count), correlation) + (1 - correlation) * np.eye(count)


@functools.cache
def _bounds():
    correlation = np.append(np.linspace(0.3, 0.9, 7), [0.95, 0.98, 0.999])
    inverse = np.concatenate([[0.001], np.linspace(0.02, 0.5, 12), np.linspace(0.6, 1, 5)])
    found = np.log([[critical(equal(METHODS, one), 1 / df) for df in inverse] for one in correlation])
    return interpolate.RegularGridInterpolator((correlation, inverse), found, method="cubic")


def bound(correlation, df):
    """`critical` for equally correlated methods, interpolated; correlation, df: (tables,)."""
    return np.exp(_bounds()(np.column_stack([np.clip(correlation, 0.3, 0.999), 1 / np.clip(df, 1, 1000)])))


@functools.cache
def _convolved(own_df, df):
    """The bound of Behrens and Fisher as a function of the baseline's share of the variance: the largest |a t + b T_i|, with
    one t of own_df for all methods and T_i those of the methods' deviations from their mean (correlation -1/(methods - 1))."""
    uniform = stats.qmc.Sobol(METHODS + 1, seed=1).random_base2(12).clip(1e-9, 1 - 1e-9)
    normal = special.ndtri(uniform[:, 1:])
    normal = (normal - normal.mean(1, keepdims=True)) * np.sqrt(METHODS / (METHODS - 1))
    deviation = normal / np.sqrt(stats.chi2.ppf(uniform[:, :1], df) / df)
    high, low = deviation.max(1), deviation.min(1)

    def one(share):
        a, b = np.sqrt(share), np.sqrt(1 - share)

        def outside(t):
            inside = stats.t.cdf((t - b * high) / a, own_df) - stats.t.cdf((-t - b * low) / a, own_df)
            return 0.95 - inside.clip(0).mean()

        return optimize.brentq(outside, 0.5, 60)

    shares = np.linspace(0.02, 0.9999, 25)
    return interpolate.PchipInterpolator(shares, [one(share) for share in shares])


def half_widths(values):
    """{remedy: (tables,) half-width of every gain}."""
    seeds, methods = values.shape[2], values[:, 1:]
    variance = (values[:, 0] - methods.mean(1)).var(1, ddof=1)  # of the baseline minus the methods' mean
    own_df, df = seeds - 1, (METHODS - 1) * (seeds - 1)
    usual = (residuals(methods) ** 2).sum((1, 2)) / df
    pooled = (variance * METHODS / (METHODS + 1) + (METHODS - 1) * usual) / METHODS
    found = {"pooled": critical(equal(METHODS, 0.5), METHODS * own_df) * np.sqrt(2 * pooled / seeds)}
    gain = variance + usual * (1 - 1 / METHODS)
    own = variance - usual / METHODS
    own_freedom = own**2 / (variance**2 / own_df + (usual / METHODS) ** 2 / df)
    freedom = gain**2 / (own**2 / own_freedom + usual**2 / df)
    separate = {
        "Satterthwaite": bound(own / gain, freedom),
        "Behrens-Fisher": _convolved(own_df, df)((variance / gain).clip(0.02, 0.9999)),
    }
    ratio = variance / usual / (1 + 1 / METHODS)
    for way, bounds in separate.items():
        half = bounds * np.sqrt(gain / seeds)
        found[f"always, {way}"] = np.where(gain < 2 * pooled, found["pooled"], half)  # never below the pooled one
        for level in (0.10, 0.25, 0.50):
            noisy = ratio > stats.f.isf(level, own_df, df)
            found[f"{level:.0%}, {way}"] = np.where(noisy, half, found["pooled"])
    return found


def residuals(values):
    return values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)


def gains(values):
    return values[:, 1:].mean(2) - values[:, :1].mean(2)


def with_more_seeds(values, more):
    """{use of the baseline's further seeds: ((tables, methods) gains, (tables,) half-width)}, by the rule of 25 % and
    Satterthwaite. more: (tables, further seeds)."""
    seeds, further = values.shape[2], more.shape[1]
    methods, none = values[:, 1:], values[:, 0]
    every = np.concatenate([none, more], 1)
    own_df, df = seeds - 1, (METHODS - 1) * (seeds - 1)
    variance = (none - methods.mean(1)).var(1, ddof=1)
    usual = (residuals(methods) ** 2).sum((1, 2)) / df
    noisy = variance / usual / (1 + 1 / METHODS) > stats.f.isf(0.25, own_df, df)
    own = variance - usual / METHODS
    own_freedom = own**2 / (variance**2 / own_df + (usual / METHODS) ** 2 / df)
    sigma = np.where(noisy, usual, (variance * METHODS / (METHODS + 1) + (METHODS - 1) * usual) / METHODS)
    of_baseline = np.where(noisy, own, sigma)

    def half(saved):
        mean = of_baseline * (1 - saved) / seeds
        gain = mean + sigma / seeds
        freedom = np.where(noisy, gain**2 / (mean**2 / own_freedom + (usual / seeds) ** 2 / df), METHODS * own_df)
        return bound(mean / gain, freedom) * np.sqrt(gain)

    saved = np.minimum(1, of_baseline / every.var(1, ddof=1)) * further / every.shape[1]
    level = none.mean(1) + saved * (more.mean(1) - none.mean(1))
    paired = gains(values), half(0)
    random = methods.mean(2) - level[:, None], half(saved)
    parts = [
        every.var(1, ddof=1) / every.shape[1],
        methods.mean(1).var(1, ddof=1) / seeds,
        usual * (1 - 1 / METHODS) / seeds,
    ]
    total = sum(parts)
    freedom = total**2 / sum(part**2 / one for part, one in zip(parts, (every.shape[1] - 1, own_df, df)))
    width = bound((parts[0] + parts[1] - usual / METHODS / seeds) / total, freedom) * np.sqrt(total)
    unpaired = methods.mean(2) - every.mean(1)[:, None], width

    def either(first, second):
        return np.where(noisy[:, None], first[0], second[0]), np.where(noisy, first[1], second[1])

    return {
        "paired": paired,
        "unpaired": unpaired,
        "unpaired where noisier": either(unpaired, paired),
        "random": random,
        "random where not noisier": either(paired, random),
    }
