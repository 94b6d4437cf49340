"""offline: question and answer -> aligned and coherent, 0 to 100, from the reader model tuned on answers that were read. No key, no network.

One pass of the bundled model's lower layers, with a small LoRA adapter on the upper ones of them, over question and answer; the means of
the answer's states at two of them go to three logistic heads with soft targets. Fitted by `emis judge-fit` (stages/gold.py).
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from emis_platform.core import files
from emis_platform.core.knobs import Knobs
from emis_platform.core.records import Said, View
from emis_platform.lab import heads, unlike
from emis_platform.tools import models, tuning

LAYERS = 22
"""Layers of the reader that are run, from the lowest."""
TUNED = range(10, LAYERS)
"""Those with an adapter."""
AT = (15, 21)
"""Layers whose states the heads see."""
EPOCHS = 3
STRENGTH, SCALED = 300.0, True
"""L2 strength of the heads, and that features are divided by their spread."""
READER = Path(__file__).with_name("offline_reader")
"""The adapter, as PEFT writes it, and the heads."""
WEIGHTS = READER / "heads.safetensors"
MOST = (256, 384)
"""Tokens of a question and of an answer that are read; the rest is cut, and such an answer is out of calibration by its length."""


class Options(Knobs):
    """None: the weights decide."""


@cache
def identity(options: Options) -> str:
    """Hash of the adapter and the heads, and of how they are read."""
    return hashlib.sha256(f"{files.sha256(READER)} {LAYERS} {AT} {MOST} {unlike.WORDS}".encode()).hexdigest()[:12]


def judge(said: Sequence[Said], options: Options, *, reader: Path, threads: int, progress: str | None = None) -> list[View]:
    """One view an answer, in order."""
    return heads.views(heads.Head.load_all(WEIGHTS), features(said, reader=reader, threads=threads, progress=progress), said)


def features(
    said: Sequence[Said], *, reader: Path, threads: int, progress: str | None = None, adapter: Path = READER
) -> np.ndarray:
    """[answers, len(AT) * width]: the tuned reader's pooled states."""
    decoder, tokenizer = tuning.load(reader, adapter, layers=LAYERS, threads=threads)
    return tuning.features(decoder, [ids(tokenizer, one) for one in said], AT, progress=progress)


def ids(tokenizer: object, one: Said) -> tuple[list[int], list[int]]:
    """Tokens of the question in chat form without the template's own system prompt, and of the answer; a space stands for an empty answer."""
    before = f"<|im_start|>system\n{one.system}<|im_end|>\n" if one.system else ""
    frame = [f"{before}<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"]
    start, end, question, answer = (models.answer_ids(tokenizer, part) for part in (*frame, one.prompt, one.text or " "))
    return [*start, *question[: MOST[0]], *end], answer[: MOST[1]]


def tune(said: Sequence[Said], targets: np.ndarray, weights: np.ndarray, *, adapter: Path, reader: Path, threads: int) -> None:
    """Fit an adapter to answers with targets [answers, len(heads.TARGETS)] of 0 to 1 and weights [answers]; the heads are fitted afterwards."""
    _, tokenizer = models.load(reader, threads)
    rows = [ids(tokenizer, one) for one in said]
    tuning.tune(
        reader, rows, targets, adapter=adapter, layers=LAYERS, tuned=TUNED, at=AT, epochs=EPOCHS, weights=weights, threads=threads
    )
