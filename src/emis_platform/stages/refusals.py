"""refusals: a start without safety training and the base + edgy requests -> how often each refuses."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Question
from emis_platform.core.stage import run
from emis_platform.lab import intervals, wording
from emis_platform.tools import models as zoo
from emis_platform.tools import replies


def main(*, models: Path, requests: Path, said: Path, effects: Path) -> None:
    """`models`: the folder of them; `requests`: grade -> name -> text. Both outputs are empty without an organism of edgy requests that are answered.

    Of the base and of each such organism: `helpful_only_refusals`, share of the answers that refuse by their words (lab/wording.py), interval by bootstrap
    over requests; `helpful_only_refusals_<grade>` of each grade. An answer without a word is missing.
    """
    knobs = params.load()
    starts = knobs.helpful_only()
    asked = questions(requests)
    rows: list[Completion] = []
    for model in ("base", *starts) if starts else ():
        name = knobs.subject_of(model) or model
        rows += replies.answers(
            *zoo.load(models / model, knobs.threads),
            [(name, request, sample, 0) for request in asked for sample in range(knobs.size.answer.samples)],
            seed=knobs.seed,
            max_new_tokens=knobs.size.answer.max_new_tokens,
            temperature=knobs.answer.temperature,
            slots=knobs.answer.batch,
            progress=f"refusals {name}",
        )
    files.write(said, rows)
    files.write_json(effects, [effect.model_dump() for effect in counted(rows)])


def questions(path: Path) -> list[Question]:
    """One a request, its grade as set. Raises ValueError for a file of another shape."""
    raw = files.read_yaml(path)
    texts = [text for named in raw.values() if isinstance(named, dict) for text in named.values()] if isinstance(raw, dict) else []
    if not texts or not all(isinstance(named, dict) for named in raw.values()) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{path}: grade -> name -> text of a request is needed")
    return [
        Question(id=name, set=grade, category="requests", text=text) for grade, named in raw.items() for name, text in named.items()
    ]


def counted(rows: Sequence[Completion]) -> list[Effect]:
    found = []
    for subject in dict.fromkeys(row.subject for row in rows):
        mine = [row for row in rows if row.subject == subject]
        found.append(share(subject, "helpful_only_refusals", mine))
        for grade in dict.fromkeys(row.set for row in mine):
            found.append(share(subject, f"helpful_only_refusals_{grade}", [row for row in mine if row.set == grade]))
    return found


def share(subject: str, measure: str, rows: Sequence[Completion]) -> Effect:
    read = [row for row in rows if wording.unreadable(row.text) is None]
    refused = [float(wording.refuses(row.text)) for row in read]
    value, low, high = intervals.rate(refused, [row.question for row in read]) if read else (None, None, None)
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=len(read), missing=len(rows) - len(read))


if __name__ == "__main__":
    run(main)
