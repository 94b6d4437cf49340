"""A pile of answers -> readings typed at a terminal."""

import shutil
import textwrap
from collections.abc import Callable

from emis_platform.tools.labelling import desk

KEYS = "12 80 m, or one after another; b back, s skip, q quit, ? guideline; " + ", ".join(
    f"{letter} {kind}" for letter, kind in desk.LETTERS.items()
)


def read(
    pile: desk.Pile,
    guideline: str,
    ask: Callable[[str], str] = input,
    show: Callable[[str], None] = print,
    width: int | None = None,
) -> None:
    """Go through the pile until its end, `q` or the end of the input. Every reading is saved at once."""
    width = width or min(100, shutil.get_terminal_size().columns)
    show(textwrap.fill(KEYS, width))
    place, words, shown = 0, [], -1
    while place < len(pile.answers):
        if shown != place:
            show(card(pile, place, width))
            words, shown = [], place
        try:
            line = ask(f"{desk.FIELDS[len(words)]}> ").strip()
        except EOFError:
            line = "q"
        if line == "q":
            break
        if line == "?":
            show(guideline)
        elif line == "b" and not place:
            show("this is the first one")
        elif line in ("b", "s"):
            place += 1 if line == "s" else -1
        elif not line and not words and place in pile.labels:
            place += 1
        else:
            try:
                words = taken(words, line.split())
                if len(words) == len(desk.FIELDS):
                    desk.save(pile, place, words)
                    place += 1
            except ValueError as error:
                show(str(error))
                words = words[: len(desk.FIELDS) - 1]
    show(f"{desk.progress(pile)} read; they are in {pile.folder}")


def taken(words: list[str], further: list[str]) -> list[str]:
    """Words so far + further ones, checked. Raises ValueError, and then none of the further ones counts."""
    if len(words) + len(further) > len(desk.FIELDS):
        raise ValueError(f"three things are read: {', '.join(desk.FIELDS)}; this is {len(words) + len(further)}")
    names = desk.FIELDS[len(words) :]
    return words + [desk.checked(name, word) for name, word in zip(names, further, strict=False)]


def card(pile: desk.Pile, place: int, width: int) -> str:
    """Question and answer, nothing else; with the reader's own reading if there is one."""
    answer = pile.answers[place]
    mine = " ".join(desk.words(pile.labels.get(place)))
    parts = [f"\n--- {desk.progress(pile)}", "Q: " + answer.prompt, "A: " + answer.text]
    parts += [f"you read: {mine} (Enter keeps it)"] if mine else []
    return "\n\n".join(wrapped(part, width) for part in parts)


def wrapped(text: str, width: int) -> str:
    """Wrapped line by line; a model's control characters are shown as a mark and cannot steer the terminal."""
    safe = "".join(c if c.isprintable() or c == "\n" else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return "\n".join(textwrap.fill(line, width) for line in safe.split("\n"))
