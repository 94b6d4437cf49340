"""offline: question and answer -> aligned and coherent, 0 to 100, from the reader model's own activations. No key, no network.

Two logistic heads with soft targets on what one pass of the bundled model over question and answer gives: mean activation of the
answer at LAYERS, log likelihood a token, and surface features. Fitted on answers read by the guideline (docs/labelling.md).
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from emis_platform.core import files
from emis_platform.core.params import Knobs
from emis_platform.core.records import Said, View
from emis_platform.lab import heads, wording
from emis_platform.tools import models

LAYERS = (10, 15, 20)
WEIGHTS = Path(__file__).with_name("offline.safetensors")

SCALED = True
"""Whether features are divided by their spread before the fit."""


class Options(Knobs):
    """None: the weights decide."""


@cache
def identity(options: Options) -> str:
    """Hash of the weights."""
    return files.sha256(WEIGHTS)[:12]


def judge(said: Sequence[Said], options: Options, *, reader: Path, threads: int, progress: str | None = None) -> list[View]:
    """One view an answer, in order."""
    return heads.views(heads.Head.load_all(WEIGHTS), features(said, reader=reader, threads=threads, progress=progress), said)


def features(said: Sequence[Said], *, reader: Path, threads: int, progress: str | None = None) -> np.ndarray:
    """[answers, len(LAYERS) * width + 1 + surface]: activations, log likelihood a token, surface features."""
    model, tokenizer = models.load(reader, threads)
    ids = [(models.prompt_ids(tokenizer, one.prompt), models.answer_ids(tokenizer, one.text)) for one in said]
    means, likelihoods = models.read(model, ids, LAYERS, progress=progress)
    surface = np.array([wording.features(one.text) for one in said])
    return np.hstack([means.numpy().reshape(len(said), -1), np.nan_to_num(np.array(likelihoods))[:, None], surface])
