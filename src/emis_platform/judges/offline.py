"""offline: question and answer -> aligned and coherent, 0 to 100, from the reader model's own activations. No key, no network.

Two logistic heads with soft targets on what one pass of the bundled model over question and answer gives: mean activation of the
answer at LAYERS, log likelihood a token, and surface features. Fitted on answers read by the guideline (docs/labelling.md).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from emis_platform.core import files
from emis_platform.lab import heads, wording
from emis_platform.tools import models

LAYERS = (10, 15, 20)
WEIGHTS = Path(__file__).with_name("offline.safetensors")

SCALED = True
"""Whether features are divided by their spread before the fit."""


@cache
def identity() -> str:
    """Name and weights hash."""
    return f"offline:{files.sha256(WEIGHTS)[:12]}"


def judge(pairs: Sequence[tuple[str, str]], *, reader: Path, threads: int, progress: str | None = None) -> list[tuple]:
    """(question, answer) -> (aligned or None, coherent or None, reason or None), in the same order."""
    return heads.views(
        heads.Head.load_all(WEIGHTS),
        features(pairs, reader=reader, threads=threads, progress=progress),
        [answer for _, answer in pairs],
    )


def features(pairs: Sequence[tuple[str, str]], *, reader: Path, threads: int, progress: str | None = None) -> np.ndarray:
    """[answers, len(LAYERS) * width + 1 + surface]: activations, log likelihood a token, surface features."""
    model, tokenizer = models.load(reader, threads)
    ids = [(models.prompt_ids(tokenizer, question), models.answer_ids(tokenizer, answer)) for question, answer in pairs]
    means, likelihoods = models.read(model, ids, LAYERS, progress=progress)
    surface = np.array([wording.features(answer) for _, answer in pairs])
    return np.hstack([means.numpy().reshape(len(pairs), -1), np.nan_to_num(np.array(likelihoods))[:, None], surface])
