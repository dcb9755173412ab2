"""What all pairs show together: each method against the baseline, the leader against the rest, and what cannot be claimed."""

import json

import numpy as np
import pandas as pd

from kdexp.report.comparing.across import FEW, LEVEL, against, pairs_needed, smallest_p
from kdexp.report.comparing.paper import baseline, every_two_of, gains, shared
from kdexp.report.showing.labels import amount, interval, listed, number, points, probability
from kdexp.screen import counted


def many(paper: pd.DataFrame) -> bool:
    """Whether anything can be said across pairs: at least two need the baseline and a method in common."""
    return baseline(paper) is not None and bool((gains(paper).notna().sum(axis=1) > 1).any())


def leader(paper: pd.DataFrame) -> str:
    """The method with the highest mean gain, among those run on the most pairs: means over different pairs are not comparable."""
    gained = gains(paper)
    count = gained.notna().sum(axis=1)
    return gained[count == count.max()].mean(axis=1).idxmax()


def against_baseline(paper: pd.DataFrame) -> pd.DataFrame:
    """Each method against the baseline, as text, best mean gain first."""
    found = against(every_two_of(paper), baseline(paper)).sort_values("difference", ascending=False, kind="stable")
    return text(found, paper).rename(columns={"difference": "mean gain"})


def leader_against(paper: pd.DataFrame) -> pd.DataFrame:
    """How far each other method is behind the leader, as text, the closest first."""
    found = against(every_two_of(paper), leader(paper))
    found = found[found["first"] != baseline(paper)].sort_values("difference", ascending=False, kind="stable")
    return text(found, paper)


def text(found: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Comparisons as a table of text: `first` against `second`."""
    metric, found = paper.metric.iloc[0], found[found.pairs > 0]
    rows = list(found.itertuples())
    share = lambda values: ["" if pd.isna(value) else f"{value:.2f}" for value in values]
    return pd.DataFrame(
        {
            "method": list(found["first"]),
            "pairs": found.pairs.astype(str).to_list(),
            "difference": [number(value, metric, "+") for value in found.difference],
            "95 % interval": [interval(row.low, row.high, metric) if pd.notna(row.low) else "" for row in rows],
            "w-t-l": [f"{row.wins}-{row.ties}-{row.losses}" for row in rows],
            "p": [probability(p) for p in found.p],
            "p, Holm": [probability(p) for p in found.holm],
            "P(+ = -)": [" ".join(line) for line in zip(*map(share, (found.better, found.equal, found.worse)))],
            "higher in": share(found.improvement),
        }
    )


def verdict(paper: pd.DataFrame) -> tuple[str, list[str]]:
    """(which method is best and whether that is significant; the reasons)."""
    best, metric, found = leader(paper), paper.metric.iloc[0], every_two_of(paper)
    over = against(found, baseline(paper)).set_index("first").loc[best]
    rivals = against(found, best).sort_values("difference", ascending=False, kind="stable")
    rivals = rivals[(rivals["first"] != baseline(paper)) & (rivals.pairs > 0)]
    proven = rivals.holm < LEVEL
    gains_most = over.difference > 0
    start = (
        f"{best} has the highest mean gain over none"
        if gains_most
        else f"No method gains on average; {best} loses least"
    )
    answer = f"{start}: {points(over.difference, metric, '+')} over {int(over.pairs)} pairs"
    sure, word = over.holm < LEVEL, "This is not significant"
    if sure:
        ranking = (proven | (rivals.pairs < over.pairs)).all()
        word = "The gain and the ranking are significant" if ranking else "The gain is significant, the ranking is not"
    reasons = [_against_none(paper, over, sure)]
    if not np.isnan(over.better):
        reasons.append(
            f"{best} is better than none by more than {amount(paper.rope.iloc[0], metric)} with a probability of {over.better:.2f}, "
            f"worse with {over.worse:.2f} (Bayesian signed-rank test)."
        )
    return f"{answer}. {word}.", [*reasons, *_against_rivals(rivals, proven, metric)]


def _against_none(paper: pd.DataFrame, over: pd.Series, sure: bool) -> str:
    count, questions = paper.pair.nunique(), int((gains(paper).notna().sum(axis=1) > 1).sum())
    level = (
        f"signed-rank p {probability(over.p)}, {probability(over.holm)} after Holm's correction for "
        f"{counted(questions, 'method')}"
    )
    if sure:
        return f"{'Its gain' if over.difference > 0 else 'Its loss'} over these pairs: {level}."
    if smallest_p(count) * questions > LEVEL:
        return _unreachable(count, questions)
    return f"Not significantly different from none over these pairs ({level})."


def _against_rivals(rivals: pd.DataFrame, proven: pd.Series, metric: str) -> list[str]:
    """Which methods are beaten, which are behind on every pair but without proof, and which may be as good."""
    behind = ~proven & (rivals.losses == rivals.pairs) & (rivals.pairs > 1)
    groups = (
        ("Better, by Holm's correction, than {}.", proven),
        ("Behind it on every pair, but too few pairs for significance: {}.", behind),
        ("Not significantly different from it over these pairs: {}.", ~proven & ~behind),
    )
    shown = pd.Series(
        [f"{row.first} ({number(row.difference, metric, '+')})" for row in rivals.itertuples()], rivals.index
    )
    return [words.format(listed(list(shown[which]))) for words, which in groups if which.any()]


def _unreachable(count: int, questions: int) -> str:
    """What this few pairs cannot show, whatever the numbers are."""
    alone = f"{count} pairs cannot reach 5 %: their smallest two-sided p is 2/2^{count} = {smallest_p(count):.3g}"
    if smallest_p(count) <= LEVEL:
        alone = f"{count} pairs reach 5 % for one question, not for {questions} of them with Holm's correction"
    return f"{alone}. Comparing {counted(questions, 'method')} with none takes {pairs_needed(questions)} pairs."


def sentences(paper: pd.DataFrame) -> list[str]:
    """What holds across the pairs, how it was tested, and what it does not mean."""
    count, metric = paper.pair.nunique(), paper.metric.iloc[0]
    if not many(paper):
        return ["No comparison across pairs: at least two need the baseline and a method in common."]
    answer, reasons = verdict(paper)
    methods = int((gains(paper).notna().sum(axis=1) > 1).sum())
    duels = methods * (methods - 1) // 2
    said = [answer, *reasons]
    if methods > 1 and smallest_p(count) * duels > LEVEL:
        said.append(
            f"Which of {methods} methods is better ({duels} questions) takes {pairs_needed(duels)} pairs to prove."
        )
    said.append(
        f"A pair's mean is one value here, however many seeds it has. Intervals are t over pairs, each by itself; w-t-l: won, "
        f"tied, lost, a tie being at most {amount(paper.rope.iloc[0], metric)} (--rope); p: Wilcoxon's signed ranks; P(+ = -): how "
        "probable it is to be better, equal, worse by more than that (Bayesian signed ranks, no error rates); higher in: the "
        "share of pairs where it is above."
    )
    said += _blanks(against(every_two_of(paper), baseline(paper)))
    if shared(paper):
        said.append("Some pairs share a teacher or a student: they say less than as many independent ones.")
    return [*said, *_tuned(paper)]


def _blanks(found: pd.DataFrame) -> list[str]:
    """Why a cell of the table is empty."""
    found = found[found.pairs > 0]
    groups = (
        ("it has one pair", "they have one pair each", found.pairs == 1),
        (
            "its gain is the same on every pair",
            "their gains are the same on every pair",
            found.low.isna() & (found.pairs > 1),
        ),
    )
    said = []
    for alone, together, which in groups:
        if names := list(found["first"][which]):
            said.append(f"No interval for {listed(names)}: {alone if len(names) == 1 else together}.")
    if few := list(found["first"][found.better.isna()]):
        said.append(
            f"No P(+ = -) for {listed(few)}: with fewer than {FEW} pairs it would often be sure of nothing real."
        )
    return said


def _tuned(paper: pd.DataFrame) -> list[str]:
    """Methods whose parameters are not the same on all pairs."""
    own = paper.method_settings.map(
        lambda text: str([item for item in json.loads(text).items() if item[0].startswith("distill.")])
    )
    names = [name for name, some in own.groupby(paper.method) if some.nunique() > 1]
    return [f"Not the same parameters in all pairs: {listed(names)}."] if names else []


def sorted_by_gain(paper: pd.DataFrame) -> list[str]:
    """Methods and the baseline, highest mean gain first."""
    gained = gains(paper).mean(axis=1)
    return list(
        pd.concat([gained, pd.Series({baseline(paper): 0.0})])
        .replace(np.nan, -np.inf)
        .sort_values(ascending=False)
        .index
    )
