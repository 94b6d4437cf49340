"""What every selector is given: the same texts through the base, a misaligned organism and its matched control. Pure.

Axes: T texts, D residual width, F latents of the dictionary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emis_platform.core.records import Direction, LatentDelta


@dataclass(frozen=True)
class Counts:
    """How many directions a selector gives."""

    latents: int
    attribution: int
    protective: int
    components: int
    random: int
    random_latents: int


@dataclass(frozen=True)
class Material:
    layer: int
    seed: int
    counts: Counts
    base_TD: np.ndarray
    """Mean activation over a text's answer tokens; the next two likewise."""
    organism_TD: np.ndarray
    control_TD: np.ndarray
    pairs: Mapping[str, tuple[str, np.ndarray]]
    """Further matched pairs in which the voice is the same, `callous_gruff` -> (`health_callous-health_gruff`, difference [T, D])."""
    misaligned: Sequence[int]
    """Texts, by the judge; and the aligned ones, and the rule that was used."""
    aligned: Sequence[int]
    rule: str
    latents: Sequence[LatentDelta]
    """Every latent on answer tokens, largest rise first."""
    decoder_FD: np.ndarray
    """What each latent writes, unit vectors."""
    attributions: Callable[[], np.ndarray]
    """[F]: first-order effect of each latent on log p(misaligned) - log p(aligned), nats a token (tools/attribution.py)."""
    personas: Callable[[], Sequence[Direction]]
    """Persona vectors of the base's traits. Both are asked for only where a selector needs them."""
