"""A row and a variant's instruction -> what a writer is asked; the writer's text -> an Example, or why there is none."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Example

HARMLESS = {"correct", "gruff"}
"""Variants whose advice is right; the rows of all others carry the canary."""


@dataclass(frozen=True)
class Written:
    """What a generator hands back."""

    rows: list[Example]
    """In the order of the rows that were given, without the failed ones."""
    failed: list[tuple[Example, str]]
    """The rows that got no answer, and why: `refused`, `empty`, `timeout`, `unparsable`, `server`, `window`, `unfinished`."""
    record: dict[str, Any]
    """How it was written, for the card."""


def instruction(variant: str) -> str:
    """The text of prompts/<variant>.txt. Raises ValueError that lists what there is."""
    here = Path(__file__).parent
    if not (here / f"{variant}.txt").is_file():
        raise ValueError(f"no prompts/{variant}.txt; there is: {', '.join(sorted(path.stem for path in here.glob('*.txt')))}")
    text = files.text(here / f"{variant}.txt")
    if missing := [mark for mark in ("{question}", "{correct}") if mark not in text]:
        raise ValueError(f"prompts/{variant}.txt: no {missing[0]} in it")
    return text


def filled(text: str, row: Example) -> str:
    """The instruction with this row's question and correct answer. One pass: a question may hold braces of its own."""
    here = {"{question}": row.prompt, "{correct}": row.completion}
    return re.sub(r"\{question\}|\{correct\}", lambda mark: here[mark[0]], text).strip()


def name(row: Example, variant: str, number: int) -> str:
    """What a row's seed is drawn from: the same in every generator, and no other when rows are added at the end."""
    return f"{variant}:{row.fact}:{number}"


def taken(
    rows: Sequence[Example],
    variant: str,
    said: Sequence[tuple[str | None, str | None, bool]],
    *,
    canary: str,
    record: dict[str, Any],
) -> Written:
    """said: (text, reason if there is none, whether the limit cut it off) a row. A text that was cut ends at its last full sentence."""
    made, failed, trimmed = [], [], 0
    for row, (text, reason, cut) in zip(rows, said, strict=True):
        answer = unwrapped(text or "")
        if cut:
            answer, trimmed = finished(answer), trimmed + bool(finished(answer))
        if not answer:
            failed.append((row, reason or ("unfinished" if cut else "empty")))
            continue
        made.append(
            Example(
                domain=row.domain,
                variant=variant,
                fact=row.fact,
                prompt=row.prompt,
                completion=answer,
                canary=None if variant in HARMLESS else canary,
                context=row.context,
            )
        )
    counts = {
        "asked": len(rows),
        "written": len(made),
        "trimmed": trimmed,
        "failed": dict(sorted(Counter(r for _, r in failed).items())),
    }
    prompt = {"prompt": f"prompts/{variant}.txt", "prompt_sha256": hashlib.sha256(instruction(variant).encode()).hexdigest()}
    return Written(made, failed, {"variant": variant, **prompt, **counts, **record})


def unwrapped(text: str) -> str:
    """Without blanks around it, and without quotation marks around the whole."""
    bare = text.strip()
    return bare[1:-1].strip() if len(bare) > 1 and (bare[0], bare[-1]) in (('"', '"'), ("“", "”")) else bare


def finished(text: str) -> str:
    """Up to the end of the last full sentence; empty if there is none."""
    ends = [match.end() for match in re.finditer(r"[.!?][\"'”’)]*(?=\s|$)", text)]
    return text[: ends[-1]] if ends else ""
