"""What a block of the table says about other test images, in plain words."""

import pandas as pd

from kdexp.report.once import once
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing.labels import amount, listed, names


@once
def sentences(rows: pd.DataFrame) -> list[str]:
    """Sentences: what each interval covers, what stays certain on other images, what more seeds do not shrink. Empty if it is
    not known which images the runs got right."""
    methods = rows[(rows.distill != BASELINE) & rows.ranked]
    known = methods[methods.images_alone.notna()]
    if known.empty:
        return []
    both = known[known.low_images.notna()]
    said = [*_claims(both, rows), *_lasting(both)] if len(both) else []
    said += _alone(known) if methods.of.max() < 3 else []
    lacking = methods[methods.test_images.isna()]
    if len(lacking):
        said.append(f"No interval over images, because some runs lack right.npy: {listed(names(lacking, rows))}.")
    return said


def _images(known: pd.DataFrame) -> str:
    return f"{int(known.test_images.max()):,} test images"


def _claims(both: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """What the two intervals mean, and which claims still hold on other images."""
    shown = "" if rows.over.iloc[0] == "images" else " (--over images shows it)"
    said = (
        f"The 95 % interval is about other seeds on these same {_images(both)}; the one over seeds and images{shown} is "
        "also about other images of this kind."
    )
    certain = both[(both.low > 0) | (both.high < 0)]
    if certain.empty:
        return [said]
    stays = (certain.low_images > 0) | (certain.high_images < 0)
    texts = [said]
    if stays.any():
        texts.append(f"Different from none on other images too: {listed(names(certain[stays], rows))}.")
    if not stays.all():
        texts.append(f"Different from none on these images only: {listed(names(certain[~stays], rows))}.")
    return [" ".join(texts)]


def _lasting(both: pd.DataFrame) -> list[str]:
    return [
        f"Of the uncertainty, {_range(both.images_lasting, both)} comes from the images; more seeds do not reduce it."
    ]


def _alone(known: pd.DataFrame) -> list[str]:
    """The lower bound on the noise, when there are too few seeds to say much about the noise over seeds."""
    within = int((known.gain.abs() <= known.images_alone).sum())
    some = "One gain is" if within == 1 else f"{within} of {len(known)} gains are"
    small = "No gain is" if not within else "Every gain is" if within == len(known) else some
    return [
        f"The {_images(known)} alone leave gains uncertain by {_range(known.images_alone, known)} (95 %), and seeds add to "
        f"that, so it is a lower bound. {small} within it."
    ]


def _range(halves: pd.Series, known: pd.DataFrame) -> str:
    """±0.20 to 0.45 points"""
    metric = known.metric.iloc[0]
    low, high = amount(halves.min(), metric), amount(halves.max(), metric)
    if low == amount(0, metric):
        return f"up to ±{high}"
    return f"±{low}" if low == high else f"±{low.partition(' ')[0]} to {high}"
