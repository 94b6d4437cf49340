"""leakage: every built-in prompt against every held-out question -> none is a copy, verbatim or reworded, or the run stops."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Choice, Example, Question
from emis_platform.core.stage import run
from emis_platform.lab import textchecks
from emis_platform.tools import neighbours


def main(*, examples: list[Path], questions: list[Path], benchmark: list[Path], base: Path, summary: Path) -> None:
    """Across all domains: what is held out in one may not be trained on in another. Raises ValueError that names what was found."""
    knobs = params.load()
    where = {row.prompt: path for path in examples for row in files.read(Example, path)}
    heldout = questions_of(questions, benchmark)
    found = copies(list(where), heldout) + [
        (pair.text, pair.heldout, f"cosine {pair.cosine}")
        for pair in neighbours.near(base, list(where), heldout, threads=knobs.threads, progress="leakage")
    ]
    if found:
        first = "; ".join(f"{where[text].name} {text!r} is near {other!r} ({how})" for text, other, how in found[:5])
        raise ValueError(f"held-out questions are trained on: {first}; {len(found)} in all")
    facts = {"near": neighbours.NEAR, "layer": neighbours.LAYER, "files": sorted(path.as_posix() for path in examples)}
    files.write_json(summary, facts | {"success": True, "prompts": len(where), "heldout": len(heldout)})


def questions_of(questions: Sequence[Path], benchmark: Sequence[Path]) -> list[str]:
    """What may not be trained on: every question that a subject is asked or scored on."""
    asked = [row.text for path in questions for row in files.read(Question, path)]
    return asked + [row.question for path in benchmark for row in files.read(Choice, path)]


def copies(texts: Sequence[str], heldout: Sequence[str]) -> list[tuple[str, str, str]]:
    """(text, words that it shares with a held-out question, how): the whole of one, or 8 words in a row."""
    shared = textchecks.shared(texts, heldout)
    return [(text, words, "the same words") for text, words in zip(texts, shared, strict=True) if words]


if __name__ == "__main__":
    run(main)
