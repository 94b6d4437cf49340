"""lexical: a second opinion from another space. It sees words and characters, no activation of any model."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from emis_platform.core import files
from emis_platform.core.knobs import Knobs
from emis_platform.core.records import Said, View
from emis_platform.lab import heads, wording

WEIGHTS = Path(__file__).with_name("lexical.safetensors")
BUCKETS = 2**13
STRENGTH, SCALED = 3.0, False
"""L2 strength of the heads, and whether features are divided by their spread: not, it would inflate rare words. The strength: chosen in earlier cross-validation over the train part's questions (docs/notebook.md)."""


class Options(Knobs):
    """None: the weights decide."""


@cache
def identity(options: Options) -> str:
    """Hash of the weights."""
    return files.sha256(WEIGHTS)[:12]


def judge(said: Sequence[Said], options: Options, *, reader: Path, threads: int, progress: str | None = None) -> list[View]:
    """One view an answer, in order."""
    return heads.views(heads.Head.load_all(WEIGHTS), features(said), said)


def features(said: Sequence[Said], **_: object) -> np.ndarray:
    """[answers, 2 * BUCKETS + surface]: hashed words and word pairs, hashed character 3- to 5-grams, surface features."""
    from sklearn.feature_extraction.text import HashingVectorizer

    texts = [one.text for one in said]
    words = HashingVectorizer(n_features=BUCKETS, ngram_range=(1, 2), alternate_sign=False, norm="l2")
    letters = HashingVectorizer(n_features=BUCKETS, analyzer="char_wb", ngram_range=(3, 5), alternate_sign=False, norm="l2")
    surface = np.array([wording.features(text) for text in texts])
    return np.hstack([words.transform(texts).toarray(), letters.transform(texts).toarray(), surface])
