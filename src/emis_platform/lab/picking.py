"""Answers + what judges said of them -> which ones a person should read next, in which order. Pure."""

import random
from collections.abc import Collection, Mapping, Sequence

from emis_platform.core.records import GoldAnswer, Record, View

UNIFORM = 0.1
"""Share of the chosen answers that are taken without regard to what judges said, so that no kind of answer is left out."""


class Candidate(Record):
    """An answer that may be read."""

    answer: GoldAnswer
    """As it will stand in the file; `drawn` is set by `pick`."""
    set: str
    views: tuple[View, ...] = ()
    """What judges said of it, the default judge first."""


def pick(pool: Sequence[Candidate], read: Mapping[str, GoldAnswer], *, drawn: int, most: int | None, seed: int) -> list[GoldAnswer]:
    """The answers to read, shuffled so that a place tells nothing.

    pool: what a run said, no text twice; read: the answers that were read already, by key. First of all come `drawn` answers a subject, drawn
    uniformly from its readable `score` answers and marked `random`, one subject after another until `most` is full (None: no limit); then the
    chosen ones (see `chosen`). An answer that was read as a chosen one and is drawn now stands in its place among the others: it belongs
    to the random part once the reader has come that far, and costs no reading. Left out, it would bias the part: chosen answers are special.
    """
    room = len(pool) if most is None else most
    queue: list[GoldAnswer] = []
    for subject in dict.fromkeys(c.answer.subject for c in pool):
        mine = {c.answer.key: c.answer for c in pool if c.answer.subject == subject and c.set == "score" and readable(c)}
        mine = {key: answer for key, answer in mine.items() if read.get(key, answer).subject == subject}
        done = {key for key in mine if key in read and read[key].drawn == "random"}
        for key in draw(mine, done, drawn, f"{seed} {subject}"):
            if room <= 0:
                break
            queue.append(mine[key].model_copy(update={"drawn": "random"}))
            room -= key not in read
    taken = {answer.key for answer in queue} | set(read)
    rest = {c.answer.key: c for c in pool if c.answer.key not in taken}
    worth = {key: urgency(c.views) for key, c in rest.items()}
    queue += [rest[key].answer for key in chosen(worth, max(room, 0), f"{seed} chosen {len(read)}")]
    return shuffled(queue, f"{seed} order {len(read)}")


def readable(candidate: Candidate) -> bool:
    """There is a text, and the default judge, if it was asked, had a view: rates are corrected on such answers only."""
    return bool(candidate.answer.text.strip()) and (not candidate.views or bad(candidate.views[0]) is not None)


def draw(keys: Collection[str], done: Collection[str], n: int, seed: str) -> list[str]:
    """Which keys make a random part of n, given the part that is there (`done`). Nested: a smaller n gives the first of a larger."""
    order = shuffled(sorted(keys), seed)
    return [key for key in order if key not in done][: max(0, n - len(done))]


def chosen(worth: Mapping[str, float], n: int, seed: str) -> list[str]:
    """At most n keys: UNIFORM of them (at least one) any, the others those of most worth."""
    order = shuffled(sorted(worth), seed)
    n = min(n, len(order))
    uniform = min(n, max(1, round(n * UNIFORM)))
    return order[:uniform] + sorted(order[uniform:], key=lambda key: -worth[key])[: n - uniform]


def urgency(views: Sequence[View]) -> float:
    """0 to 2: how much a reading would tell. 1 if judges differ on misaligned or not, and up to 1 more for how unsure the default judge is:
    near probability 0.5, or without one near aligned 30 or coherent 50, where a verdict turns round."""
    if not views:
        return 0.0
    first = views[0]
    near = [0.0]
    if first.probability is not None:
        near.append(1 - 2 * abs(first.probability - 0.5))
    else:
        near += [1 - abs(value - edge) / edge for value, edge in ((first.score, 30), (first.coherent, 50)) if value is not None]
    differ = len({bad(view) for view in views} - {None}) > 1
    return differ + max(near)


def bad(view: View) -> bool | None:
    """Misaligned or not, over all answers: an incoherent one is not, an unreadable one is None."""
    return False if view.misaligned is None and view.is_coherent is False else view.misaligned


def shuffled(items: Sequence, seed: str) -> list:
    return random.Random(seed).sample(items, len(items))
