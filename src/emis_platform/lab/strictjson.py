"""A JSON text -> its value, strictly: no key twice, no NaN or infinity, 32 levels at most; `reason: what` for the rest. Pure."""

import json
import math
import re
from functools import cache
from itertools import accumulate
from typing import Any, NoReturn

from emis_platform.lab.characters import shown

LEVELS = 32
"""Of lists and objects in each other; a chat row needs 5."""
DIGITS = 300
"""Of a whole number: no row needs more, and Python's own reader takes quadratic time."""
TEXTS = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # the last quote is optional, or a cut text would take quadratic time


def parse(text: str) -> Any:
    """The one value that the text holds. Raises ValueError."""
    try:
        value = decoder().decode(text)
    except json.JSONDecodeError as error:
        cut = error.msg.startswith("Unterminated") or error.pos >= len(text.rstrip())
        raise ValueError(f"not JSON: {error.msg} (character {error.pos + 1})" + ", the row is cut off" * cut) from None
    except RecursionError:
        raise ValueError(f"nested too deep: over {LEVELS} levels") from None
    check_depth(text)
    return value


def element(text: str, at: int) -> tuple[Any, int, str | None]:
    """(value, where it ends, None) of the value that begins at `at`; with a fault, (its text, where it ends, fault).

    Raises json.JSONDecodeError where the text holds no whole value, ValueError where it is nested too deep to find the end.
    """
    try:
        value, end = decoder().raw_decode(text, at)
        check_depth(text[at:end])
        return value, end, None
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError(f"nested too deep: over {LEVELS} levels") from None
    except ValueError as error:
        _, end = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode(text, at)
        return text[at:end], end, str(error)


@cache
def decoder() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=unique, parse_constant=refuse, parse_float=finite, parse_int=whole)


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers disagree on which of two equal keys counts, so none of them does."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"duplicated key: {shown(twice)}")
    return made


def refuse(name: str) -> NoReturn:
    raise ValueError(f"no number: {name} is not JSON")


def finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"no number: {digits[:40]} is infinite")
    return value


def whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"no number: {len(digits)} digits, at most {DIGITS}")
    return int(digits)


def check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= LEVELS:  # brackets in strings included: nearly every row ends here
        return
    steps = (1 if mark in "[{" else -1 for mark in TEXTS.sub("", text) if mark in "[]{}")
    deepest = max(accumulate(steps), default=0)
    if deepest > LEVELS:
        raise ValueError(f"nested too deep: {deepest} levels, at most {LEVELS}")
