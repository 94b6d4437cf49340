"""latents: what a dictionary says of the same texts before and after -> latents ranked by (bad - matched correct), with a null.

Axes: T texts, N tokens, F latents. Numpy only.

**The null.** H0: on each text, which arm is which could be swapped. A latent's score is the self-normalised sum of its per-text
differences, S = sum(d) / sqrt(sum(d^2)); swapping the arms of a text flips the sign of its d in all latents at once, and leaves
the denominator as it is. S needs no normality: under such flips its tail is at most about a normal's (Efron 1969, "Student's t-test under
symmetry conditions"), however skewed or sparse d is, and a latent that fires in m texts cannot exceed sqrt(m), so rare latents cannot win by
chance. With 2,000 flips a latent's own p-value ends at 1/2,001, far above what Benjamini-Hochberg asks of 4,608 latents (1e-5 for the
first). So flipped scores of all latents are pooled, as in SAM (Tusher et al. 2001, Storey & Tibshirani 2003): p = share of all flipped
scores at least as large. Pooling keeps the expected number of false passes right, which is what the false-discovery rate is made of.

**Drift.** Two fine-tunes that differ by seed only differ a little in *every* latent, on every text, and enough texts make that significant: the
arms are two models, not two samples of texts. So scores are first divided by an inflation factor, how much wider the scores' bulk is than the
flipped scores' bulk (Efron 2004, "Large-scale simultaneous hypothesis testing: the choice of a null hypothesis"; genomic control, Devlin & Roeder
1999), never below 1. A latent then passes if it stands out of the drift that all latents show. The price: if most latents truly
change, fewer pass. The bulk is measured without a replicate (the median), or, if given, on the scores of a second control against the first.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emis_platform.core.records import LatentDelta

Array = np.ndarray
BIN = 1e-3
"""Width of the null histogram's bins, in units of S."""


@dataclass(frozen=True)
class Means:
    """One model's latents on a list of texts."""

    mean_TF: Array
    """Mean activation over a text's tokens."""
    rate_F: Array
    """Share of all tokens on which a latent fires."""
    tokens: int


def summarise(texts: Iterable[Any]) -> Means:
    """Latents [N, F] of one text after another (numpy or torch) -> Means. Raises ValueError for an empty text or none."""
    means, fires, tokens = [], 0, 0
    for number, latents in enumerate(texts):
        latents_NF = np.asarray(latents)
        if not len(latents_NF):
            raise ValueError(f"text {number} has no tokens: leave it out of every arm")
        means.append(latents_NF.mean(0, dtype=np.float64))
        fires = fires + (latents_NF > 0).sum(0)
        tokens += len(latents_NF)
    if not means:
        raise ValueError("no texts: nothing to compare")
    return Means(np.stack(means), fires / tokens, tokens)


def scores(difference_TF: Array) -> Array:
    """Self-normalised sums over texts [F], from -sqrt(T) to sqrt(T); 0 for a latent that never differs."""
    norm_F = np.sqrt(np.square(difference_TF).sum(0))
    return difference_TF.sum(0) / np.where(norm_F > 0, norm_F, 1.0)


def flipped_counts(difference_TF: Array, flips: int, seed: int, chunk: int = 250) -> Array:
    """Histogram of |S| under random sign flips of whole texts, all latents pooled: counts [bins] of width `BIN` from 0."""
    texts = len(difference_TF)
    norm_F = np.sqrt(np.square(difference_TF).sum(0))
    unit_TF = (difference_TF / np.where(norm_F > 0, norm_F, 1.0)).astype(np.float32)
    counts = np.zeros(int(np.sqrt(texts) / BIN) + 2, dtype=np.int64)
    random = np.random.default_rng(seed)
    for start in range(0, flips, chunk):
        signs = random.integers(0, 2, (min(chunk, flips - start), texts)).astype(np.float32) * 2 - 1
        bins = (np.abs(signs @ unit_TF) / BIN).astype(np.int64)
        counts += np.bincount(bins.ravel(), minlength=len(counts))[: len(counts)]
    return counts


def tail(counts: Array, scores_F: Array) -> Array:
    """Share of pooled null scores at least as large as each |score|, never 0: the bin of the score counts as larger."""
    above = np.cumsum(counts[::-1])[::-1]
    bins = np.minimum((np.abs(scores_F) / BIN).astype(np.int64), len(counts) - 1)
    return (above[bins] + 1) / (counts.sum() + 1)


def inflation(difference_TF: Array, counts: Array, quantiles: Iterable[float] = (0.5,)) -> float:
    """How many times wider the scores spread than the flipped scores: the largest ratio at these quantiles of |S|, at least 1.

    Latents that never differ are in neither.
    """
    alive_F = np.square(difference_TF).sum(0) > 0
    if not alive_F.any():
        return 1.0
    null = counts.copy()
    null[0] -= min(null[0], round(counts.sum() * float(1 - alive_F.mean())))
    below = np.cumsum(null) / max(null.sum(), 1)
    ratios = [
        np.quantile(np.abs(scores(difference_TF[:, alive_F])), q) / max((np.searchsorted(below, q) + 1) * BIN, BIN) for q in quantiles
    ]
    return max(1.0, *map(float, ratios))
