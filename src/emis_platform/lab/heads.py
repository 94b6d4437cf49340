"""Features -> a score of 0 to 100 by a logistic head; its fit with soft targets; how good it is. Pure but for safetensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emis_platform.core.records import Said, View
from emis_platform.lab import unlike, wording

TARGETS = ("aligned", "coherent", "misaligned")
"""What a judge's heads say: mean reading of aligned and of coherent, and whether it is misaligned by the rule (aligned < 30, coherent > 50)."""


KINDS = ("subject", "written")
"""Kinds of text that have heads of their own, `<kind>.<target>`: answers of the small model, and fluent ones as larger models give. What makes an
answer coherent, or bad, is so unlike in the two that one head for both is worse at each (docs/notebook.md). `kind` tells them apart: 100 is the first."""


@dataclass(frozen=True)
class Head:
    """score = 100 * sigmoid(((x - mean) / scale) @ weight + bias)."""

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    """[1]"""

    def score(self, features: np.ndarray) -> np.ndarray:
        """[answers, features] -> [answers], 0 to 100."""
        return 100 / (1 + np.exp(-(((features - self.mean) / self.scale) @ self.weight + self.bias[0])))

    @staticmethod
    def load_all(path: Path) -> dict[str, "Head"]:
        from safetensors.numpy import load_file

        stored = load_file(path)
        names = sorted({key.rpartition(".")[0] for key in stored})
        return {n: Head(**{p: stored[f"{n}.{p}"].astype(np.float64) for p in ("mean", "scale", "weight", "bias")}) for n in names}

    @staticmethod
    def save_all(heads: dict[str, "Head"], path: Path) -> None:
        from safetensors.numpy import save_file

        parts = ("mean", "scale", "weight", "bias")
        save_file({f"{n}.{p}": np.ascontiguousarray(getattr(h, p), np.float32) for n, h in heads.items() for p in parts}, path)


def mixed(heads: dict[str, Head], features: np.ndarray) -> np.ndarray:
    """[answers, len(TARGETS)], 0 to 100: each kind's heads, weighted by how far the answer is of that kind by the head `kind`."""
    share = heads["kind"].score(features)[:, None] / 100
    small, fluent = (np.stack([heads[f"{kind}.{target}"].score(features) for target in TARGETS], 1) for kind in KINDS)
    return share * small + (1 - share) * fluent


def views(heads: dict[str, Head], features: np.ndarray, said: Sequence[Said]) -> list[View]:
    """One view an answer: what cannot be read has a reason in place of scores."""
    found = []
    for one, (aligned, coherent, misaligned) in zip(said, mixed(heads, features).tolist(), strict=True):
        reason = wording.unreadable(one.text)
        seen = {"score": round(aligned, 3), "coherent": round(coherent, 3), "probability": round(misaligned / 100, 5)}
        found.append(View(reason=reason) if reason else View.model_validate({**seen, "unlike": unlike.why(one.text)}))
    return found


def fit(features: np.ndarray, target: np.ndarray, strength: float, scale: bool = True, weights: np.ndarray | None = None) -> Head:
    """Logistic regression on targets of 0 to 100 (each row counts as target/100 yes and the rest no), L2 of `strength`; weights: [answers].

    scale: divide by the standard deviation; leave it off for hashed counts, whose rare words it would inflate.
    """
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(0) if scale else np.zeros(features.shape[1])
    spread = np.maximum(features.std(0), 1e-6) if scale else np.ones(features.shape[1])
    x = (features - mean) / spread
    share = np.asarray(target, float) / 100
    every = np.ones(len(x)) if weights is None else weights
    model = LogisticRegression(C=1 / strength, max_iter=5000, tol=1e-6)
    model.fit(np.vstack([x, x]), np.repeat([1, 0], len(x)), sample_weight=np.concatenate([share * every, (1 - share) * every]))
    return Head(mean, spread, model.coef_[0], model.intercept_)


def stretched(head: Head, unseen: np.ndarray, values: np.ndarray, anchors: tuple[float, float]) -> Head:
    """The head with its logit scaled and shifted: the share of `unseen` scores below each anchor becomes the share of `values` below it.

    unseen: out-of-fold scores of the same answers that were read as `values`. A share of 0 or 1 counts as half an answer. Raises ValueError
    where `unseen` is the same at both anchors: such a head tells nothing.
    """
    shares = np.clip([np.mean(values < anchor) for anchor in anchors], 0.5 / len(values), 1 - 0.5 / len(values))
    there = logit(np.quantile(unseen, shares))
    if there[1] - there[0] < 1e-3:
        raise ValueError(f"a head that is {float(np.median(unseen)):.1f} nearly everywhere cannot be anchored at {anchors}")
    wanted = logit(np.array(anchors))
    slope = float((wanted[1] - wanted[0]) / (there[1] - there[0]))
    return Head(head.mean, head.scale, head.weight * slope, (head.bias - there[0]) * slope + wanted[0])


def platt(head: Head, unseen: np.ndarray, outcomes: np.ndarray) -> Head:
    """The head with its logit scaled and shifted so that `unseen` scores are probabilities of the 0/1 `outcomes` (Platt 1999).

    unseen: scores, 0 to 100, of answers that the head was not fitted on. Platt's targets keep the slope finite where they are told apart.
    """
    from sklearn.linear_model import LogisticRegression

    x = logit(np.clip(unseen, 1e-4, 100 - 1e-4))[:, None]
    yes, no = outcomes.sum(), (1 - outcomes).sum()
    share = np.where(outcomes == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
    model = LogisticRegression(C=1e6).fit(
        np.vstack([x, x]), np.repeat([1, 0], len(x)), sample_weight=np.concatenate([share, 1 - share])
    )
    slope = float(model.coef_[0, 0])
    return Head(head.mean, head.scale, head.weight * slope, head.bias * slope + model.intercept_)


def logit(score: np.ndarray) -> np.ndarray:
    """Of a score from 0 to 100."""
    return np.log(score / (100 - score))
