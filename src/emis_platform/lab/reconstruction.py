"""reconstruction: what a dictionary lost of each held-out text -> FVU, L0 and dead share, with intervals. Pure."""

from dataclasses import dataclass

import numpy as np

from emis_platform.core.records import Effect
from emis_platform.lab import bootstrap, intervals


@dataclass(frozen=True)
class Quality:
    """How well a dictionary rebuilds held-out activations, text by text, so that an interval can resample texts."""

    residual_T: np.ndarray
    """Sum over a text's tokens of the squared distance between input and reconstruction."""
    variance_T: np.ndarray
    """Sum over a text's tokens of the squared distance between input and mean input."""
    firing_T: np.ndarray
    """Latents that fired, summed over a text's tokens."""
    tokens_T: np.ndarray
    fired_F: np.ndarray
    """Whether a latent fired at all."""

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained: 0 is perfect, 1 is no better than the mean."""
        return float(self.residual_T.sum() / self.variance_T.sum())

    @property
    def l0(self) -> float:
        """Latents that fire on a mean token."""
        return float(self.firing_T.sum() / self.tokens_T.sum())

    @property
    def dead_share(self) -> float:
        """Share of latents that fired on none of these tokens: it falls as tokens grow, so read it with their number."""
        return float(1 - self.fired_F.mean())

    def effects(self, subject: str, suffix: str = "") -> list[Effect]:
        """`fvu`, `l0` over n tokens (bootstrap over texts); `dead_share` over n latents (Clopper-Pearson over latents)."""
        tokens, width = int(self.tokens_T.sum()), len(self.fired_F)
        rows = (
            ("fvu", self.fvu, ratio_interval(self.residual_T, self.variance_T), tokens),
            ("l0", self.l0, ratio_interval(self.firing_T, self.tokens_T), tokens),
            ("dead_share", self.dead_share, intervals.exact(width - int(self.fired_F.sum()), width), width),
        )
        return [
            Effect(subject=subject, measure=name + suffix, value=value, low=span[0], high=span[1], n=n)
            for name, value, span, n in rows
        ]


def ratio_interval(upper_T: np.ndarray, lower_T: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of sum(upper) / sum(lower), by bootstrap over texts: tokens of one text are not independent."""
    picks = np.random.default_rng(seed).integers(0, len(upper_T), (bootstrap.DRAWS, len(upper_T)))
    return bootstrap.ends(float(upper_T.sum() / lower_T.sum()), upper_T[picks].sum(1) / lower_T[picks].sum(1), len(upper_T))


def loss_recovered(subject: str, plain_T: np.ndarray, rebuilt_T: np.ndarray, ablated_T: np.ndarray, tokens: int) -> Effect:
    """(ablated - rebuilt) / (ablated - plain) of summed losses: 1, the reconstruction does all that the activations did; 0, no more than
    their mean. Bootstrap over texts; n tokens."""
    upper_T, lower_T = ablated_T - rebuilt_T, ablated_T - plain_T
    low, high = ratio_interval(upper_T, lower_T)
    value = float(upper_T.sum() / lower_T.sum())
    return Effect(subject=subject, measure="loss_recovered", value=value, low=low, high=high, n=tokens)
