"""Questions -> their nearest neighbours among other questions, in the base's own activations: finds a copy with some words changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emis_platform.core.records import Record
from emis_platform.tools import models

LAYER = 4
NEAR = 0.75
"""Cosine from which a question counts as a copy. Fixed on health and finance, where the closest pair of a trained and a held-out question
has 0.64 and a held-out question with one word exchanged or left out has 0.9 (docs/notebook.md). The same question asked anew in other
words has 0.1 to 0.3: this finds reworded copies, not the same idea."""


class Neighbour(Record):
    """A text that stands too near to a held-out one."""

    text: str
    heldout: str
    cosine: float


def near(base: Path, texts: Sequence[str], heldout: Sequence[str], *, threads: int, progress: str | None = None) -> list[Neighbour]:
    """Every distinct text whose nearest held-out text is at least NEAR, nearest first."""
    import numpy as np

    these, those = list(dict.fromkeys(texts)), list(dict.fromkeys(heldout))
    if not these or not those:
        return []
    vectors = embedded(base, [*these, *those], threads, progress)
    found = []
    for start in range(0, len(these), 512):
        cosines = vectors[start : min(start + 512, len(these))] @ vectors[len(these) :].T
        for row, place in zip(*np.nonzero(cosines >= NEAR), strict=True):
            if place == cosines[row].argmax():
                found.append(Neighbour(text=these[start + row], heldout=those[place], cosine=round(float(cosines[row, place]), 3)))
    return sorted(found, key=lambda pair: -pair.cosine)


def embedded(base: Path, texts: Sequence[str], threads: int, progress: str | None) -> Any:
    """[texts, width] unit vectors: the mean activation over the text's tokens after its first, each feature standardised over the texts."""
    import numpy as np

    model, tokenizer = models.load(base, threads)
    pairs = [([], models.answer_ids(tokenizer, text)) for text in texts]
    vectors = np.zeros((len(texts), model.config.get_text_config().hidden_size), np.float32)
    for index, tokens in models.harvest(model, pairs, min(LAYER, len(models.decoder(model).layers) - 1), progress=progress):
        vectors[index] = (tokens[1:] if len(tokens) > 1 else tokens).mean(0).numpy()
    vectors = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)
    return vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)
