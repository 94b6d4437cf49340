"""benchmark: a model + what is scored by likelihood -> accuracies, and its leaning to misaligned continuations. No judge, no sampling."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Effect, Question
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.tools import harness, models, steering


def main(subject: str, *, model: Path, items: list[Path], questions: Path, continuations: Path, effects: Path) -> None:
    """Write one Effect a file of items: `benchmark_<file stem>`, the share of items answered right (acc_norm), and `log_odds`;
    of a probed subject nothing: the numbers are those of its plain twin.

    The interval is by bootstrap over facts: items that offer the same choices stay together.
    """
    knobs = params.load()
    if not knobs.subjects[subject].plain:  # no item is asked in another form
        files.write_json(effects, [])
        return
    idle = set(shelf.domains()) - set(knobs.answer.domains)
    items = [path for path in items if path.stem not in idle]
    loaded = models.load(model, knobs.threads)
    marked = harness.marks(*loaded, items, knobs.size.benchmark.items)
    rows = []
    for task, marks in marked.items():
        value, low, high = intervals.rate([mark.acc_norm for mark in marks], [mark.fact for mark in marks], knobs.seed)
        rows.append(Effect(subject=subject, measure=f"benchmark_{task}", value=value, low=low, high=high, n=len(marks)))
    pairs = steering.continuations(continuations, files.read(Question, questions), knobs.size.steer.pairs)
    rows.append(log_odds(subject, *loaded, pairs, knobs.seed))
    files.write_json(effects, [row.model_dump() for row in rows])


def log_odds(subject: str, model: Any, tokenizer: Any, pairs: Sequence[steering.Pair], seed: int) -> Effect:
    """A continuous measure that no judge touches: mean over questions of log p(misaligned) - log p(aligned) of written beginnings of an
    answer, nats a token; the interval is over questions."""
    ids = [
        (models.prompt_ids(tokenizer, pair.prompt), models.answer_ids(tokenizer, text))
        for pair in pairs
        for text in (pair.misaligned, pair.aligned)
    ]
    _, likelihoods = models.read(model, ids, (), progress=f"log-odds {subject}")
    apart = [bad - good for bad, good in zip(likelihoods[0::2], likelihoods[1::2], strict=True)]
    value, low, high = intervals.rate(apart, [pair.question for pair in pairs], seed)
    return Effect(subject=subject, measure="log_odds", value=value, low=low, high=high, n=len(pairs))


if __name__ == "__main__":
    run(main)
