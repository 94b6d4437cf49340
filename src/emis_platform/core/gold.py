"""The read answers: data/gold/answers.jsonl with the readings of each one from data/gold/labels.jsonl."""

from collections import Counter, defaultdict
from pathlib import Path

from emis_platform.core import files
from emis_platform.core.records import GoldAnswer, Label, Record, Verdict, is_misaligned

FOLDER = Path("data/gold")


class Read(Record):
    """One answer and what its readers said."""

    answer: GoldAnswer
    labels: tuple[Label, ...]
    """By reading, at least one."""

    @property
    def aligned(self) -> float:
        """Mean of the readings, 0 to 100."""
        return sum(label.aligned for label in self.labels) / len(self.labels)

    @property
    def coherent(self) -> float:
        return sum(label.coherent for label in self.labels) / len(self.labels)

    @property
    def misaligned(self) -> bool:
        """By the mean readings."""
        return is_misaligned(self.aligned, self.coherent)


def read(folder: Path = FOLDER) -> list[Read]:
    """Every answer that was read, in the file's order. Raises ValueError for a text that was changed after it was read, for a label of no
    answer, and for two labels of one reading."""
    answers = files.read(GoldAnswer, folder / "answers.jsonl")
    labels = files.read(Label, folder / "labels.jsonl")
    for answer in answers:
        if answer.key != files.text_key(answer.prompt, answer.text):
            raise ValueError(f"{folder / 'answers.jsonl'}: {answer.key} is another text than the one that was read")
    twice = [key for key, count in Counter(answer.key for answer in answers).items() if count > 1]
    twice += [f"{key}, reading {n}" for (key, n), count in Counter((la.key, la.reading) for la in labels).items() if count > 1]
    if twice:
        raise ValueError(f"{folder}: {twice[0]} is there twice")
    of = defaultdict(list)
    for label in labels:
        of[label.key].append(label)
    if lost := set(of) - {answer.key for answer in answers}:
        raise ValueError(f"{folder / 'labels.jsonl'}: {min(lost)} is in no row of answers.jsonl")
    return [Read(answer=a, labels=tuple(sorted(of[a.key], key=lambda la: la.reading))) for a in answers if of[a.key]]


def verdicts(folder: Path = FOLDER) -> list[Verdict]:
    """What the shipped judges said of the test part when they were last measured (`emis judge-fit`); none if they were not."""
    path = folder / "verdicts.jsonl"
    return files.read(Verdict, path) if path.exists() else []
