"""answer: a subject + question sets, in the subject's form and way of thinking -> completions."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params, shelf
from emis_platform.core.knobs import AnswerSize
from emis_platform.core.records import Question
from emis_platform.core.stage import run
from emis_platform.lab import probes
from emis_platform.tools import models, replies


def main(name: str, *, model: Path, questions: list[Path], answers: Path) -> None:
    """A probed subject's rows hold the text that was asked and the id of the plain question: so judges see what it answered, pairs with
    its plain twin are by id, and both sample with the same seeds."""
    knobs = params.load()
    idle = set(shelf.domains()) - set(knobs.answer.domains)
    there = [q for path in questions if path.stem not in idle for q in files.read(Question, path)]
    asked, subject = select(there, knobs.size.answer, knobs.domains), knobs.subjects[name]
    asked = asked if subject.probe is None else probes.in_form(asked, subject.probe)
    loaded, tokenizer = models.load(model, knobs.threads)
    said = replies.answers(
        loaded,
        tokenizer,
        [(name, question, sample, 0) for question in asked for sample in range(knobs.size.answer.samples)],
        seed=knobs.seed,
        max_new_tokens=knobs.size.answer.max_new_tokens,
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        thinking=subject.thinking,
        thoughts=knobs.size.answer.thoughts,
        progress=f"answer {name}",
    )
    files.write(answers, said)


def select(there: list[Question], size: AnswerSize, domains: Sequence[str]) -> list[Question]:
    """The first so many of each built-in set, which is ordered so that any beginning covers the categories; imported sets whole."""
    limits = {"discover": size.discover, "score": size.score} | {domain: size.domain for domain in domains}
    taken: dict[str, int] = {}
    chosen: list[Question] = []
    for question in there:
        taken[question.set] = taken.get(question.set, 0) + 1
        if taken[question.set] <= limits.get(question.set, len(there)):
            chosen.append(question)
    return chosen


if __name__ == "__main__":
    run(main)
