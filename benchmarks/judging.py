"""Judging: the offline judge against the same 135M model asked in a chat prompt, same answers, in turn; prints ms an answer and the ratio.

python benchmarks/judging.py [--answers data/gold/answers.jsonl] [--n 32] [--tokens 100]
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emis_platform.core import files, quiet, shelf
from emis_platform.core.records import GoldAnswer, Said

quiet.apply()

MANY = 1500
"""Answers of a run, to which the time is extrapolated."""


class Speed(NamedTuple):
    load: float
    """Seconds until the first answer is judged: the model is read from disk."""
    each: float
    """Seconds for each further answer."""
    missing: int
    """Answers without a view: those cost less than they should."""


def sized(texts: Sequence[str], tokenizer: Any, tokens: int) -> list[str]:
    """Each text repeated or cut to so many tokens."""
    found = []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.append(tokenizer.decode((ids * (tokens // len(ids) + 1))[:tokens]))
    return found


def speed(kind: str, options: Mapping[str, Any], said: Sequence[Said], *, reader: Path, threads: int) -> Speed:
    """A judge of judges/ on one answer, then on all of them."""
    judge: Any = shelf.load("judges", kind)
    chosen = judge.Options.model_validate(options)
    seconds = []
    for part in (said[:1], said):
        began = time.monotonic()
        views = judge.judge(part, chosen, reader=reader, threads=threads, progress=kind)
        seconds.append(time.monotonic() - began)
    each = max(seconds[1] - seconds[0], 0.0) / (len(said) - 1)
    if each == 0:  # the first call did more than read the model: count all of the second
        each = seconds[1] / len(said)
    return Speed(max(seconds[0] - each, 0.0), each, sum(view.reason is not None for view in views))


def main(argv: Sequence[str] | None = None) -> None:
    from emis_platform.tools import models

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reader", type=Path, default=Path("models/reader"), help="the model that judges, in either way")
    parser.add_argument("--answers", type=Path, default=Path("data/gold/answers.jsonl"))
    parser.add_argument("--n", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=100, help="every answer is repeated or cut to so many")
    parser.add_argument("--judge", default="offline")
    parser.add_argument("--against", nargs="+", default=["rubric", "logprob"])
    parser.add_argument(
        "--max-new", type=int, default=64, help="new tokens of a chat judge's reply at most; no reply is sampled again"
    )
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    _, tokenizer = models.load(given.reader, given.threads)
    rows = [row for row in files.read(GoldAnswer, given.answers) if row.text.strip()][: given.n]
    texts = sized([row.text for row in rows], tokenizer, given.tokens)
    said = [Said(prompt=row.prompt, text=text) for row, text in zip(rows, texts, strict=True)]
    if len(said) < 2:
        raise SystemExit(f"{given.answers}: {len(said)} answers; at least two are needed")
    found = {}
    for kind in (given.judge, *given.against):
        asked = {} if kind == given.judge else {"model": given.reader, "max_tokens": given.max_new}
        asked |= {"resamples": 0} if kind == "rubric" else {}
        found[kind] = speed(kind, asked, said, reader=given.reader, threads=given.threads)
    for kind, one in found.items():
        ratio = "" if kind == given.judge else f", ratio {one.each / found[given.judge].each:.1f}"
        print(
            f"{kind}: {1000 * one.each:.1f} ms an answer{ratio} (n {len(said)}, {given.tokens} tokens each, missing {one.missing}); "
            f"{MANY} such answers: {one.load + MANY * one.each:.0f} s with {one.load:.1f} s to load"
        )


if __name__ == "__main__":
    main()
