"""metrics/judges.json, which `emis judge-report --write` makes -> how good the judges are, as records and as effects."""

from collections.abc import Collection

from pydantic import BaseModel

from emis_platform.core.records import Effect

Ends = list[float | None]
"""[value, low, high] with a 95 % interval; None where a number does not exist."""


class Bin(BaseModel):
    """A point of a reliability curve: mean forecast and mean outcome of n answers."""

    p: float
    share: float
    n: int


class Measured(BaseModel):
    """One judge on one kind of read answers; stages/judge_report.measured says what each number is."""

    judge: str
    data: str
    n: int
    positives: int
    auroc: Ends | None
    auroc_probability: Ends | None
    auroc_coherent: Ends | None
    forecast: str | None
    ece: float | None
    brier: float | None
    reliability: list[Bin]
    sensitivity: Ends | None
    specificity: Ends | None
    missing: dict[str, int]
    abstained: int
    out_of_calibration: float | None
    seconds_per_1000: float | None


class Readers(BaseModel):
    """How far the two readings of one answer agree: Krippendorff's alpha."""

    data: str
    n: int
    aligned: Ends | None
    coherent: Ends | None
    misaligned: Ends | None


class Measurement(BaseModel):
    """What the page shows of metrics/judges.json."""

    rows: list[Measured]
    outside: dict[str, dict[str, int]]
    """File of outside labels -> n, and left_out: rows without labels."""
    readers: list[Readers]


def as_effects(measured: Measurement, judges: Collection[str]) -> list[Effect]:
    """AUROC of the default judge as effects that claims may look at; none if it has changed since it was measured.

    judges: the default judge's names with the hash, as they stand in this run's judgements.
    """
    found = []
    for row in measured.rows:
        if row.judge in judges and row.auroc and row.auroc[0] is not None:
            measure = f"judge_{'outside' if row.data in measured.outside else 'test'}_auroc_{row.data}"
            ends = dict(zip(("value", "low", "high"), row.auroc, strict=True))
            found.append(Effect(subject=row.judge, measure=measure, n=row.n, missing=sum(row.missing.values()), **ends))
    return found
