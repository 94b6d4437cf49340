"""Words of the command line -> values, for argparse's `type`."""

import argparse


def share(word: str) -> float:
    """A share from the command line."""
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"a share from 0 to 1 is needed, not {word!r}")
    return number


def seeds(words: str) -> tuple[int, ...]:
    """`0,1,2` from the command line."""
    found = words.split(",")
    if not all(word.isdecimal() for word in found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"different whole numbers with commas between them are needed (0,1,2), not {words!r}")
    return tuple(map(int, found))


def positive(word: str) -> int:
    """A count from the command line."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, not {word!r}")
    return int(word)


def rate(word: str) -> float:
    """A number above 0 from the command line."""
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {word!r}")
    return number


def natural(word: str) -> int:
    """A count from the command line."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"a whole number from 0 is needed, not {word!r}")
    return int(word)
