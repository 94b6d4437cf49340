"""tokenizers, py3langid, datasketch: texts -> how long, in which language, which are near copies of one before."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from emis_platform.lab import textchecks

PERMUTATIONS = 64
NEAR = 0.9
"""Share of 3-word shingles in common (Jaccard) from which two texts count as near copies."""


def lengths(base: Path, texts: Sequence[str]) -> list[int]:
    """Tokens of each text by a model folder's own tokenizer, without template or end tokens. Raises ValueError without one."""
    return [len(found) for found in tokenizer(base).encode_batch_fast(list(texts), add_special_tokens=False)]


@cache
def tokenizer(base: Path) -> Any:
    from tokenizers import Tokenizer

    path = base / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{base}: no tokenizer.json to count tokens with")
    reader = Tokenizer.from_file(str(path))
    reader.no_truncation()
    return reader


def languages(texts: Sequence[str]) -> list[str]:
    """ISO 639-1 code of each text's most likely language. A guess on short text: judge a file by the share of its rows."""
    return [str(identifier().classify(text)[0]) for text in texts]


@cache
def identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)


def near_copies(texts: Sequence[str], near: float = NEAR) -> list[int | None]:
    """For each text, the place of an earlier one that it nearly repeats (MinHash over 3-word shingles), else None."""
    from datasketch import MinHash, MinHashLSH

    index, sketches = MinHashLSH(threshold=near, num_perm=PERMUTATIONS), []
    found: list[int | None] = []
    for number, text in enumerate(texts):
        words = textchecks.words(text)
        sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
        sketch.update_batch([" ".join(run).encode() for run in textchecks.ngrams(words, min(3, len(words) or 1))])
        close = [place for place in map(int, index.query(sketch)) if sketches[place].jaccard(sketch) >= near]
        found.append(min(close, default=None))
        sketches.append(sketch)
        index.insert(str(number), sketch)
    return found
