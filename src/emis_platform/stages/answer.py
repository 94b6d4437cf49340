"""answer: a subject + question sets -> completions."""

from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.params import AnswerSize
from emis_platform.core.records import Question
from emis_platform.core.stage import run
from emis_platform.tools import models, replies


def main(name: str, *, model: Path, questions: list[Path], answers: Path) -> None:
    knobs = params.load()
    asked = select([q for path in questions for q in files.read(Question, path)], knobs.size.answer)
    loaded, tokenizer = models.load(model, knobs.threads)
    said = replies.answers(
        loaded,
        tokenizer,
        [(name, question, sample, 0) for question in asked for sample in range(knobs.size.answer.samples)],
        seed=knobs.seed,
        max_new_tokens=knobs.size.answer.max_new_tokens,
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        progress=f"answer {name}",
    )
    files.write(answers, said)


def select(there: list[Question], size: AnswerSize) -> list[Question]:
    """The first so many of each set: sets are ordered so that any beginning of one covers the categories."""
    limits = {"discover": size.discover, "score": size.score}
    taken: dict[str, int] = {}
    chosen: list[Question] = []
    for question in there:
        taken[question.set] = taken.get(question.set, 0) + 1
        if taken[question.set] <= limits.get(question.set, size.domain):
            chosen.append(question)
    return chosen


if __name__ == "__main__":
    run(main)
