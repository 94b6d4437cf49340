"""latents: what a dictionary says of the same texts in two models -> latents ranked by (bad - matched correct), with a null.

Axes: T texts, N tokens, F latents. Numpy only.

**The null** has two parts, since two arms differ in two ways when nothing is different.

*Texts.* On each text, which arm is which could be swapped: that flips the sign of the text's difference, in all latents at
once. Flips need no normality, and rare, skewed latents stay honest: a self-normalised sum under flips has at most about a
normal's tail (Efron 1969, "Student's t-test under symmetry conditions"), and cannot exceed sqrt(m) if a latent differs on m texts.

*Models.* Two fine-tunes that differ by their seed only are still two models: each latent drifts a little, on every text, and
enough texts make that significant (SmolLM2-135M, 64 rows each, 96 texts: 227 of 1,024 latents passed flips alone). The drift is
close to normal in units of a latent's own mean activation (there 3 %; the largest of 819 standardised differences was 3.1), so it
is a random effect (DerSimonian & Laird 1986): difference = drift * mean + text noise. Its size is fitted to the bulk of all
latents (an empirical null: Efron 2004, "Large-scale simultaneous hypothesis testing"), and a latent passes if it stands out of what
all latents do. Where two controls that differ by seed exist, fit it to them (`drift`): true changes are then not taken for drift.

A latent's own 2,000 flips end at p = 1/2,001, far above the 1e-5 that Benjamini-Hochberg asks of the first of 4,608. So null
scores are pooled over latents (SAM: Tusher et al. 2001; Storey & Tibshirani 2003): p = share of all null scores at least as
large. That keeps the expected number of false passes right, which is what a false-discovery rate is made of.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from emis_platform.core.records import LatentDelta

Array = np.ndarray
NORMAL_MEDIAN = 0.67449
"""Median of |z| for a standard normal z."""
BIN, LARGEST = 1e-3, 40.0
"""The pooled null is kept as a histogram of |score|; what is larger lies in the last bin."""


@dataclass(frozen=True)
class Means:
    """One model's latents on a list of texts."""

    mean_TF: Array
    """Mean activation over a text's tokens, in residual units."""
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


def drift(one_TF: Array, other_TF: Array) -> float:
    """How much two models' latents differ beyond text noise, as a share of a latent's mean activation (0.03 is 3 %).

    Chosen so that the median |score| is a normal's; 0 if text noise explains it all. Give it two controls that differ by seed, or
    the arms to be compared themselves. Only latents that differ on at least 10 texts (or all, if none does) are asked.
    """
    difference_TF = one_TF - other_TF
    differs_F = (difference_TF != 0).sum(0)
    asked_F = differs_F >= 10 if (differs_F >= 10).any() else differs_F > 0
    if not asked_F.any():
        return 0.0
    delta_F = difference_TF.mean(0)[asked_F]
    text_F, unit_F = (part_F[asked_F] for part_F in spread(one_TF, other_TF, 1.0)[1:])

    def median(share: float) -> float:
        return float(np.median(np.abs(delta_F) / np.sqrt(text_F + (share * unit_F) ** 2)))

    low, high = 0.0, 2.0  # a difference is at most twice the mean of both
    if median(low) <= NORMAL_MEDIAN:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if median(middle) > NORMAL_MEDIAN else (low, middle)
    return high


def spread(one_TF: Array, other_TF: Array, drifted: float) -> tuple[Array, Array, Array]:
    """What a mean difference is divided by, its squared text part and its drift part, each [F].

    All stay the same when the arms are swapped on a text, which is why flips are a null for them.
    """
    text_F = np.square(one_TF - other_TF).sum(0) / len(one_TF) ** 2
    drift_F = drifted * (one_TF.mean(0) + other_TF.mean(0)) / 2
    total_F = np.sqrt(text_F + drift_F**2)
    return np.where(total_F > 0, total_F, 1.0), text_F, drift_F


def scores(one_TF: Array, other_TF: Array, drifted: float = 0.0) -> Array:
    """Mean difference over texts in units of its null spread [F]; 0 for a latent that never differs."""
    return (one_TF.mean(0) - other_TF.mean(0)) / spread(one_TF, other_TF, drifted)[0]


def p_values(one_TF: Array, other_TF: Array, *, drifted: float, flips: int = 2000, seed: int = 0, chunk: int = 250) -> Array:
    """Two-sided, [F]: the share of null |scores| of all latents that reach a latent's own; at least 1/(flips * F + 1), never 0.

    A null score flips whole texts at random and draws a fresh drift.
    """
    texts, latents = one_TF.shape
    total_F, _, drift_F = spread(one_TF, other_TF, drifted)
    unit_TF = ((one_TF - other_TF) / texts / total_F).astype(np.float32)
    wobble_F = (drift_F / total_F).astype(np.float32)
    counts = np.zeros(int(LARGEST / BIN) + 1, dtype=np.int64)
    random = np.random.default_rng(seed)
    for start in range(0, flips, chunk):
        rows = min(chunk, flips - start)
        null = (random.integers(0, 2, (rows, texts), dtype=np.int8) * 2 - 1).astype(np.float32) @ unit_TF
        if drifted > 0:
            null += random.standard_normal((rows, latents), dtype=np.float32) * wobble_F
        counts += np.bincount(bins(null).ravel(), minlength=len(counts))
    reached = np.cumsum(counts[::-1])[::-1]
    return (reached[bins(scores(one_TF, other_TF, drifted))] + 1) / (counts.sum() + 1)


def bins(values: Array) -> Array:
    return (np.minimum(np.abs(values), LARGEST) / BIN).astype(np.int64)


def benjamini_hochberg(p_F: Array, level: float = 0.05) -> Array:
    """Which hypotheses pass at this false-discovery rate (Benjamini & Hochberg 1995) [F]."""
    order = np.argsort(p_F, kind="stable")
    under = np.nonzero(p_F[order] <= level * np.arange(1, len(p_F) + 1) / len(p_F))[0]
    passed = np.zeros(len(p_F), dtype=bool)
    if len(under):
        passed[order[: under[-1] + 1]] = True
    return passed


def deltas(
    base: Means,
    tuned: Means,
    matched: Means | None = None,
    *,
    organism: str = "organism",
    control: str = "control",
    tokens: Literal["prompt", "answer"] = "answer",
    keep: int | None = None,
    falls: int = 0,
    drifted: float | None = None,
    flips: int = 2000,
    level: float = 0.05,
    seed: int = 0,
) -> list[LatentDelta]:
    """Latents by (tuned - matched control) on the same texts, largest rise first: the first `keep` (None: all), the last `falls`.

    organism, control: their names. matched None: the base is the control. rank counts from 1 over all latents. drifted: what
    `drift` says of two controls that differ by seed; None fits it to these two arms. Raises ValueError for arms that saw
    different texts.
    """
    matched = matched or base
    one_TF, other_TF = tuned.mean_TF, matched.mean_TF
    if not base.mean_TF.shape == one_TF.shape == other_TF.shape:
        shapes = ", ".join(str(arm.mean_TF.shape) for arm in (base, tuned, matched))
        raise ValueError(f"latent means [texts, latents] of shapes {shapes}: all arms need the same texts")
    p_F = p_values(one_TF, other_TF, drifted=drift(one_TF, other_TF) if drifted is None else drifted, flips=flips, seed=seed)
    passed_F = benjamini_hochberg(p_F, level)
    base_F, tuned_F, matched_F = base.mean_TF.mean(0), one_TF.mean(0), other_TF.mean(0)
    order = np.argsort(matched_F - tuned_F, kind="stable")
    kept = len(order) if keep is None else min(keep, len(order))
    return [
        LatentDelta(
            organism=organism,
            control=control,
            tokens=tokens,
            latent=int(order[rank]),
            rank=rank + 1,
            base_mean=float(base_F[order[rank]]),
            control_mean=float(matched_F[order[rank]]),
            organism_mean=float(tuned_F[order[rank]]),
            delta=float(tuned_F[order[rank]] - matched_F[order[rank]]),
            base_rate=float(base.rate_F[order[rank]]),
            organism_rate=float(tuned.rate_F[order[rank]]),
            n_tokens=tuned.tokens,
            p_value=float(p_F[order[rank]]),
            passes_null=bool(passed_F[order[rank]]),
        )
        for rank in (*range(kept), *range(max(kept, len(order) - falls), len(order)))
    ]


def overlap(
    moved_TF: Array, others: Sequence[Array], clusters: Sequence[str], *, k: int = 10, draws: int = 1000, seed: int = 0
) -> tuple[float, float, float]:
    """Share of the `k` latents that rose most in one domain that are among the `k` that rose most in the mean of others: (share, low, high).

    moved_TF: organism minus matched control of that domain; others: the same of further domains, on the same texts. 95 % interval by
    bootstrap over questions (`clusters`). Resampled ranks are noisier than the ranks, so it leans towards 0. Raises ValueError for no others
    or other texts.
    """
    if not others or any(other_TF.shape != moved_TF.shape for other_TF in others):
        raise ValueError(f"rank overlap needs other domains on the same texts, {moved_TF.shape}: {[o.shape for o in others]}")
    k = min(k, moved_TF.shape[1])
    both = [moved_TF, np.mean(others, axis=0)]
    names, index_T = np.unique(np.asarray(clusters), return_inverse=True)
    sums = [(index_T == np.arange(len(names))[:, None]).astype(float) @ part_TF for part_TF in both]
    random = np.random.default_rng(seed)
    counts_BQ = random.multinomial(len(names), np.full(len(names), 1 / len(names)), draws).astype(float)
    weights_BQ = np.concatenate([np.ones((1, len(names))), counts_BQ])

    def top(part_QF: Array) -> Array:
        return np.argsort(-(weights_BQ @ part_QF), axis=1, kind="stable")[:, :k]

    shares = np.array([len(set(a) & set(b)) / k for a, b in zip(top(sums[0]), top(sums[1]), strict=True)])
    low, high = np.percentile(shares[1:], [2.5, 97.5])
    return float(shares[0]), min(float(low), float(shares[0])), max(float(high), float(shares[0]))
