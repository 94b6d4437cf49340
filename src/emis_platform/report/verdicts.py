"""An interval and a stated threshold -> a verdict. Nothing here sees a point estimate: only the ends of the interval decide."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN = "supported", "contradicted", "inconclusive", "not run yet"
VERDICTS = (SUPPORTED, CONTRADICTED, INCONCLUSIVE, NOT_RUN)

Rule = Callable[[float, float], str]
"""(low, high) of a 95 % interval -> verdict."""


@dataclass(frozen=True)
class Part:
    """One number that a claim rests on."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Answers (or items) that the value rests on, all arms together."""
    missing: int = 0
    """Answers that were asked and that the judge gave no value."""
    seeds: int = 0
    """Organisms of the same recipe, differing by seed, in the smallest arm."""
    verdict: str | None = NOT_RUN
    """None: shown beside the others and not judged."""
    unit: str = "share"
    """share (a fraction), points (a difference of fractions), score (0 to 100), change (a difference of scores) or number."""

    @property
    def half_width(self) -> float | None:
        """The power reached: a true value is known to plus or minus this."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def at_most(limit: float) -> Rule:
    """Supported if the whole interval lies at or below the limit, contradicted if it lies above."""
    return lambda low, high: SUPPORTED if high <= limit else CONTRADICTED if low > limit else INCONCLUSIVE


def at_least(limit: float) -> Rule:
    """Supported if the whole interval lies at or above the limit, contradicted if it lies below."""
    return lambda low, high: SUPPORTED if low >= limit else CONTRADICTED if high < limit else INCONCLUSIVE


def above(limit: float) -> Rule:
    """Supported if the whole interval lies above the limit: an end that only touches it, as with one differing answer, decides nothing."""
    return lambda low, high: SUPPORTED if low > limit else CONTRADICTED if high < limit else INCONCLUSIVE


def below(limit: float) -> Rule:
    """Supported if the whole interval lies below the limit, contradicted if it lies above."""
    return lambda low, high: SUPPORTED if high < limit else CONTRADICTED if low > limit else INCONCLUSIVE


def within(margin: float) -> Rule:
    """Equivalence: supported if the whole interval lies in [-margin, margin], contradicted if it lies outside.

    With a 95 % interval this is two one-sided tests at 2.5 % each, stricter than the usual 5 %.
    """
    return lambda low, high: (
        SUPPORTED if -margin <= low and high <= margin else CONTRADICTED if low > margin or high < -margin else INCONCLUSIVE
    )


def decide(rule: Rule, low: float | None, high: float | None) -> str:
    """Without an interval there is no verdict."""
    return INCONCLUSIVE if low is None or high is None else rule(low, high)


def together(verdicts: Iterable[str | None]) -> str:
    """A claim with several parts: one contradiction contradicts it, only all of them support it."""
    judged = [verdict for verdict in verdicts if verdict is not None]
    if CONTRADICTED in judged:
        return CONTRADICTED
    if not judged or set(judged) == {NOT_RUN}:
        return NOT_RUN
    return SUPPORTED if set(judged) == {SUPPORTED} else INCONCLUSIVE


def at_least_of(parts: Iterable[str], wanted: int, of: int) -> str:
    """At least `wanted` of `of` groups (domains): those not run may still fall either way."""
    seen = list(parts)
    if not seen or set(seen) == {NOT_RUN}:
        return NOT_RUN
    if seen.count(SUPPORTED) >= wanted:
        return SUPPORTED
    return CONTRADICTED if seen.count(CONTRADICTED) > of - wanted else INCONCLUSIVE
