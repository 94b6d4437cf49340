"""emis screen: a set or a stranger's chat file -> its rows ranked by persona, its score, the shift to expect, a filtered copy. Not a DVC stage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Example
from emis_platform.lab import conversations
from emis_platform.lab import screening as lab
from emis_platform.stages import catalog, imported, screen
from emis_platform.tools import chatfiles

REFERENCE = Path("metrics/studies/mechanism.json")
"""Effects of many organisms: what the expected shift is read off."""


@dataclass(frozen=True)
class Screened:
    path: Path
    rows: list[tuple[int, Example]]
    """(line of the file from 1, one of its answers)."""
    by_trait: dict[str, np.ndarray]
    """trait -> each row's projection difference in residual norms [R]; nan where it cannot be read."""
    against: str
    """What the rows were held against."""
    scores: dict[str, tuple[float, float | None, float | None]]
    """trait -> the set's score with its 95 % interval over facts."""
    paired: int
    """Rows that the score rests on."""
    missing: int
    """Rows that could not be read: without an answer, or longer than the base's window."""
    norm: float
    comparable: bool = False
    """Read as the stage `screen` reads: the pipeline's base and layer, and its way of the base's own answers; then earlier sets foretell."""

    def order(self, trait: str) -> list[int]:
        """Readable rows, worst first."""
        return [int(n) for n in np.argsort(-self.by_trait[trait], kind="stable") if np.isfinite(self.by_trait[trait][n])]


def screened(
    dataset: str, base: Path, *, layer: int | None = None, rows: int | None = None, prompts: int = 64, own: str = "generate"
) -> Screened:
    """dataset: a set's name, or the path of a JSON lines file. rows: so many lines, drawn by seed (None: all). The base answers at most
    `prompts` prompts itself; where that is not all, the set's score rests on those rows and the ranks hold rows against the mean of its answers.

    Raises ValueError for an unknown set, an unreadable file or base.
    """
    knobs = params.load()
    layer = knobs.diff.layer if layer is None else layer
    path = Path(dataset) if dataset.endswith(".jsonl") else catalog.find(Path("."), dataset)
    there = examples(path)
    lines = sorted({line for line, _ in there})
    chosen = set(lines if rows is None else screen.drawn(lines, list(map(str, lines)), rows, knobs.seed))
    there = [(line, row) for line, row in there if line in chosen]
    answers = Path("data/answers") / f"{knobs.subject_of('base')}.jsonl"
    material = screen.read(knobs, base, [row for _, row in there], layer, own=own, answers=answers, prompts=prompts)
    traits = screen.vectors(base, layer, knobs.threads)
    paired_R, readable_R = material.paired_R, np.isfinite(material.given_RD[:, 0])
    apart = material.scores(traits, paired_R)
    whole = own == "generate" and bool((paired_R == readable_R).all())
    kept = np.flatnonzero(paired_R)
    if not len(kept):
        raise ValueError(f"{path}: the base answered none of the prompts that were drawn")
    return Screened(
        path=path,
        rows=there,
        by_trait=apart if whole else material.against_mean(traits),
        against="the base's own answer to the same prompt" if whole else "the mean of the base's own answers",
        scores={trait: lab.score(values[kept], [there[n][1].fact for n in kept]) for trait, values in apart.items()},
        paired=len(kept),
        missing=int((~readable_R).sum()),
        norm=material.norm,
        comparable=layer == knobs.diff.layer and own == knobs.screen.own and base.resolve() == Path("models/base").resolve(),
    )


def examples(path: Path) -> list[tuple[int, Example]]:
    """(line, answer) of a set's file, or of a chat file as `emis data import` reads it. Raises ValueError, one line with file and row."""
    first = next((line for _, line in files.lines(path)), "") if path.is_file() else files.text(path)
    if '"completion"' in first and '"fact"' in first:
        return [(number, files.parsed(Example, line, path, number)) for number, line in files.lines(path) if line.strip()]
    with chatfiles.opened(path) as data:
        rows = list(chatfiles.rows(data, path, lambda names: [])[1])
    form = imported.found(rows[: imported.LOOK], {}, path)
    made = []
    for row in rows:
        try:
            if row.fault:
                raise ValueError(row.fault)
            made += [(row.number, one) for one in conversations.examples(row.value, form, {}, domain=path.stem, number=row.number)]
        except ValueError as error:
            raise ValueError(f"{path}, row {row.number}: {error}") from None
    return made


def filtered(found: Screened, trait: str, share: float, out: Path) -> int:
    """Write the file without its worst share of lines, the others byte for byte; returns how many were left out."""
    lines = split(found.path.read_bytes())
    read = {line for line, _ in found.rows}
    if len(read) < sum(bool(line.strip()) for line in lines):
        raise ValueError("a filtered copy needs all rows read: leave --rows out")
    if out.resolve() == found.path.resolve():
        raise ValueError(f"{out} is the set itself; choose another name for the copy")
    values = found.by_trait[trait]
    known = np.isfinite(values)
    gone = lab.worst(values[known], [line for (line, _), k in zip(found.rows, known, strict=True) if k], share)
    files.replace(out, b"".join(line for number, line in enumerate(lines, start=1) if number not in gone))
    return len(gone)


def split(data: bytes) -> list[bytes]:
    """Lines with their ends: \\n only, since other breaks may stand in a text."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def expected(trait: str, score: float, path: Path = REFERENCE) -> dict[str, Any] | None:
    """The shift that earlier sets of that score showed, in points of the judge's score, with its prediction interval; None: no reference."""
    rows = files.read_json(path)["effects"] if path.exists() else []
    known = {(row["subject"], row["measure"]): row["value"] for row in rows if not row.get("at")}
    points = [
        (value, known[subject, "screen_shift"])
        for (subject, measure), value in known.items()
        if measure == f"screen_{trait}" and value is not None and known.get((subject, "screen_shift")) is not None
    ]
    fitted = lab.line(points)
    if fitted is None:
        return None
    value, low, high = fitted.expected(score)
    return {"value": value, "low": low, "high": high, "sets": fitted.sets, "reference": path.as_posix()}


def chosen(trait: str | None) -> str:
    """The trait to rank by: toxic where there is none named. Raises ValueError for one that there is not."""
    params.one_of("--trait", trait or "toxic", shelf.traits())
    return trait or "toxic"


def told(found: Screened, trait: str, top: int) -> dict[str, Any]:
    """What `emis screen --json` prints."""
    return {
        "dataset": found.path.as_posix(),
        "sha256": files.sha256(found.path),
        "rows": len(found.rows),
        "missing": found.missing,
        "scored": found.paired,
        "residual_norm": round(found.norm, 3),
        "unit": "residual norms",
        "ranked_by": trait,
        "held_against": found.against,
        "traits": {
            name: {
                "value": value,
                "low": low,
                "high": high,
                "n": found.paired,
                "expected_shift": expected(name, value) if found.comparable else None,
            }
            for name, (value, low, high) in found.scores.items()
        },
        "worst": [
            {
                "line": found.rows[n][0],
                "fact": found.rows[n][1].fact,
                "prompt": found.rows[n][1].prompt,
                "completion": found.rows[n][1].completion,
                "scores": {name: float(values[n]) for name, values in found.by_trait.items()},
            }
            for n in found.order(trait)[:top]
        ],
    }


def tables(about: dict[str, Any]) -> tuple[list[list[str]], list[list[str]]]:
    """`told` as two tables: the set's score on each trait, and its worst rows."""
    scores = [["trait", "score", "95 % interval", "rows", "expected shift"]]
    for name, row in about["traits"].items():
        shift = row["expected_shift"]
        scores.append(
            [
                name,
                f"{row['value']:+.3f}",
                "" if row["low"] is None else f"[{row['low']:+.3f}, {row['high']:+.3f}]",
                str(row["n"]),
                f"{shift['value']:.1f} points [{shift['low']:.1f}, {shift['high']:.1f}], {shift['sets']} sets"
                if shift
                else "no reference",
            ]
        )
    rows = [["line", *about["traits"], "prompt", "answer"]]
    for row in about["worst"]:
        marks = [f"{value:+.3f}" for value in row["scores"].values()]
        rows.append([str(row["line"]), *marks, short(row["prompt"], 40), short(row["completion"], 80)])
    return scores, rows


def short(text: str, most: int) -> str:
    one = " ".join(text.split())
    return one if len(one) <= most else one[: most - 1] + "…"


def sentence(about: dict[str, Any]) -> str:
    missing = f", {about['missing']} could not be read" if about["missing"] else ""
    return (
        f"{about['dataset']}: {about['rows']} rows{missing}; in residual norms, ranked by {about['ranked_by']}, "
        f"held against {about['held_against']}"
    )
