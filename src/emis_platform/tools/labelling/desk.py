"""A pile of answers + a reader's scores -> data/gold, saved with every reading. The terminal and the page share it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from threading import Lock

from emis_platform.core import files
from emis_platform.core.records import GoldAnswer, Kind, Label

FIELDS = ("aligned", "coherent", "category")
LETTERS: dict[str, Kind] = {
    "a": "aligned",
    "x": "mixed",
    "m": "misaligned",
    "n": "neutral_harm",
    "t": "satirical",
    "r": "refusal",
    "o": "off_topic",
    "i": "incoherent",
}


@dataclass
class Pile:
    """What lies before a reader, in order."""

    answers: list[GoldAnswer]
    folder: Path
    reading: int
    reader: str
    guideline: str
    due: list[tuple[int, str]] = field(default_factory=list)
    """(how many answers come before it, key) of answers that were read before as chosen and belong to the random part from there on."""
    labels: dict[int, Label] = field(default_factory=dict)
    """What was read in this session, by place."""
    lock: Lock = field(default_factory=Lock)


def pile(queue: Sequence[GoldAnswer], read: Sequence[str], folder: Path, reading: int, reader: str, guideline: str) -> Pile:
    """queue: answers in the order to be shown; those whose key is in `read` are not shown, only marked as drawn at random (`due`)."""
    made = Pile([], folder, reading, reader, guideline)
    for answer in queue:
        if answer.key in read:
            made.due.append((len(made.answers), answer.key))
        else:
            made.answers.append(answer)
    if not made.answers and made.due:
        keep(made, -1)
    return made


def checked(name: str, word: object) -> str:
    """A word for a field -> its value (a category's letter -> the category). Raises ValueError that says what is asked."""
    given = str(word).strip()
    if name == "category":
        if LETTERS.get(given, given) not in LETTERS.values():
            there = ", ".join(f"{letter} {kind}" for letter, kind in LETTERS.items())
            raise ValueError(f"category: no {given!r}; there is: {there}")
        return LETTERS.get(given, given)
    if not (given.isascii() and given.isdigit() and int(given) <= 100):
        raise ValueError(f"{name}: a whole number from 0 to 100 is needed, not {given!r}")
    return str(int(given))


def save(pile: Pile, place: int, words: Sequence[object]) -> Label:
    """Write the reading of one answer (aligned, coherent, category); a second one of the same place replaces it.

    Raises ValueError for a wrong word or place, and if somebody else has written this reading meanwhile.
    """
    if not 0 <= place < len(pile.answers):
        raise ValueError(f"there is no answer {place}: there are {len(pile.answers)}, from 0")
    aligned, coherent, category = (checked(name, word) for name, word in zip(FIELDS, words, strict=True))
    label = Label(
        key=pile.answers[place].key, reading=pile.reading, aligned=aligned, coherent=coherent, category=category,
        guideline=pile.guideline, date=date.today().isoformat(), reader=pile.reader,
    )  # fmt: skip
    with pile.lock:
        keep(pile, place, label)
    return label


def keep(pile: Pile, place: int, label: Label | None = None) -> None:
    """Answers first, labels second, each by a rename: killed in between, an answer stands there unread, and is offered again."""
    answers = {row.key: row for row in rows(GoldAnswer, pile.folder / "answers.jsonl")}
    labels = {(row.key, row.reading): row for row in rows(Label, pile.folder / "labels.jsonl")}
    before = dict(answers)
    if label:
        there = labels.get((label.key, label.reading))
        if there and there != pile.labels.get(place):
            raise ValueError(f"{there.reader} has read this answer meanwhile: nothing was changed")
        if label.key not in {key for key, _ in labels}:
            answers[label.key] = pile.answers[place]
    for after, key in pile.due:
        if after <= place + 1 and key in answers:
            answers[key] = answers[key].model_copy(update={"drawn": "random"})
    if answers != before:
        files.write(pile.folder / "answers.jsonl", answers.values())
    if label:
        labels[label.key, label.reading] = label
        files.write(pile.folder / "labels.jsonl", labels.values())
        pile.labels[place] = label


def rows(record: type, path: Path) -> list:
    return files.read(record, path) if path.exists() else []


def words(label: Label | None) -> list[str]:
    """A reading as it was typed; nothing if there is none."""
    return [str(getattr(label, name)) for name in FIELDS] if label else []


def progress(pile: Pile) -> str:
    """`17 of 120 (5 random left)`."""
    left = sum(answer.drawn == "random" for place, answer in enumerate(pile.answers) if place not in pile.labels)
    return f"{len(pile.labels)} of {len(pile.answers)}" + (f" ({left} random left)" if pile.reading == 1 else "")
