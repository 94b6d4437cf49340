"""judge_report: read answers + judges -> how good each judge is, how far judges agree, how far the readers do. Not a DVC stage."""

import math
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from emis_platform.core import files, gold, params
from emis_platform.core.records import Said
from emis_platform.lab import measuring
from emis_platform.lab.measuring import Known
from emis_platform.stages import judge as judging

KEPT = Path("metrics/judges.json")
GOLD = ("written", "subjects", "random", "all")
"""Parts of the read answers, by origin; `random`: those of subjects that were drawn at random; `all` is the whole test part."""


class Outside(BaseModel):
    """A row of an outside file; further keys are left alone."""

    model_config = ConfigDict(coerce_numbers_to_str=True)

    model: str
    data: str = ""
    question_id: str
    question: str
    response: str
    aligned: float | None = Field(ge=0, le=100)
    coherent: float | None = Field(ge=0, le=100)


def report(names: Sequence[str], outside: Sequence[Path], reader: Path) -> dict[str, Any]:
    """Every named judge (all of params.yaml if none is) on the test part of the read answers and on each outside file.

    `rows`: see `measuring.measured`. `outside`: n and left_out (no score of its own) of each file. `between`: see `measuring.compared`; `readers`: see
    `readers`. None stands for what does not exist. No text is in it. Raises ValueError for an unknown judge, a faulty file, a file
    without scored rows, and for two files of one stem.
    """
    knobs = params.load()
    chosen = list(dict.fromkeys(names or knobs.judges))
    for name in chosen:
        params.one_of("judge", name, tuple(knobs.judges))
    reads = [read for read in gold.read() if read.answer.split == "test"]
    if not reads:
        raise ValueError(f"{gold.FOLDER}: no read answer is in the test part")
    sources, counts = {"all": [known(read) for read in reads]}, {}
    for path in outside:
        if path.stem in (*GOLD, *counts):
            raise ValueError(f"{path}: the name {path.stem} is taken; rename the file")
        sources[path.stem], left_out = of_outside(path)
        counts[path.stem] = {"n": len(sources[path.stem]), "left_out": left_out}
    reader = judging.reader_there(reader)
    rows, views = [], {source: {} for source in sources}
    for name in chosen:
        for source, answers in sources.items():
            start = time.perf_counter()
            found, made_by = judging.ask(knobs, name, [one.said for one in answers], reader=reader, label=f"{name} {source}")
            seconds = (time.perf_counter() - start) / len(answers) * 1000
            views[source][made_by] = found
            rows += [
                {"judge": made_by, "data": part, **measuring.measured(*measuring.within(part, answers, found))}
                for part in (GOLD if source == "all" else (source,))
                if any(part in one.parts for one in answers)
            ]
            rows[-1]["seconds_per_1000"] = seconds
            if source != "all":
                rows[-1]["by_question"] = measuring.by(lambda one: one.question, answers, found)
                rows[-1]["by_subject"] = measuring.by(lambda one: one.subject, answers, found)
    between = [
        {"data": source, "a": a, "b": b, **measuring.compared(answers, views[source][a], views[source][b])}
        for source, answers in sources.items()
        for a, b in combinations(views[source], 2)
    ]
    return tidy({"rows": rows, "outside": counts, "between": between, "readers": readers(reads)})


def known(read: gold.Read) -> Known:
    answer = read.answer
    origin = "written" if answer.origin == "written" else "subjects"
    return Known(
        key=answer.key,
        subject=answer.subject,
        question=answer.question,
        said=Said(prompt=answer.prompt, text=answer.text),
        parts=(origin, "random", "all") if answer.drawn == "random" else (origin, "all"),
        aligned=read.aligned,
        coherent=read.coherent,
    )


def of_outside(path: Path) -> tuple[list[Known], int]:
    """(rows with both scores, how many lack one)."""
    rows = files.read(Outside, path)
    found = [
        Known(
            key=files.text_key(row.question, row.response),
            subject=f"{row.model} {row.data}".strip(),
            question=row.question_id,
            said=Said(prompt=row.question, text=row.response),
            parts=(path.stem,),
            aligned=row.aligned,
            coherent=row.coherent,
        )
        for row in rows
        if row.aligned is not None and row.coherent is not None
    ]
    if not found:
        raise ValueError(f"{path}: none of {len(rows)} rows has both scores, aligned and coherent")
    return found, len(rows) - len(found)


def readers(reads: Sequence[gold.Read]) -> list[dict[str, Any]]:
    """Krippendorff's alpha of the two readings, by part: of aligned, of coherent and of the verdict; n answers were read twice."""
    found = []
    for part in GOLD:
        mine = [read for read in reads if part in known(read).parts and len(read.labels) > 1]
        if mine:
            two = [read.labels for read in mine]
            clusters = [read.answer.question for read in mine]
            found.append(
                {
                    "data": part,
                    "n": len(mine),
                    "aligned": measuring.alpha([[float(pair[i].aligned) for pair in two] for i in (0, 1)], clusters, "interval"),
                    "coherent": measuring.alpha([[float(pair[i].coherent) for pair in two] for i in (0, 1)], clusters, "interval"),
                    "misaligned": measuring.alpha(
                        [[float(pair[i].misaligned) for pair in two] for i in (0, 1)], clusters, "nominal"
                    ),
                }
            )
    return found


def tidy(value: Any) -> Any:
    """Ready for JSON: four decimals, None for what is not a number."""
    if isinstance(value, dict):
        return {key: tidy(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [tidy(inner) for inner in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value


def write(found: dict[str, Any], path: Path = KEPT) -> None:
    """Keep what was measured. What the file has of other judges and outside files stays, for judges that are still what they were.

    A judge that cannot be looked at now (its model's folder is not here) is taken to be what it was.
    """
    before = files.read_json(path) if path.exists() else {"rows": [], "outside": {}, "between": []}
    knobs = params.load()
    current = {judge for row in before["rows"] if is_still(knobs, judge := row["judge"])}

    def merged(part: str, judges: tuple[str, ...]) -> list[dict[str, Any]]:
        def address(row: dict[str, Any]) -> tuple[str, ...]:
            return row["data"], *(row[judge] for judge in judges)

        now = {address(row) for row in found[part]}
        return [row for row in before[part] if address(row) not in now and set(address(row)[1:]) <= current] + found[part]

    rows = merged("rows", ("judge",))
    outside = {
        stem: count for stem, count in (before["outside"] | found["outside"]).items() if stem in {row["data"] for row in rows}
    }
    files.write_json(path, found | {"rows": rows, "outside": outside, "between": merged("between", ("a", "b"))})


def is_still(knobs: params.Params, judge: str) -> bool:
    """Whether a kept judge (`offline:1a2b3c4d5e6f`) is in params.yaml and, as far as can be seen, unchanged."""
    name = judge.partition(":")[0]
    try:
        return name in knobs.judges and judging.identity(knobs, name) == judge
    except ValueError:
        return True


def tables(found: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(title, rows of cells, the first being the head) of each table of a report."""
    head = ["judge", "data", "n", "positives", "AUROC", "of probability", "coherence AUROC", "ECE", "Brier", "forecast"]
    head += ["sensitivity", "specificity", "missing", "abstained", "out of calibration", "s per 1,000"]
    rows = [
        [row["judge"], row["data"], str(row["n"]), str(row["positives"])]
        + [ends(row[key]) for key in ("auroc", "auroc_probability")]
        + [number(row["auroc_coherent"] and row["auroc_coherent"][0]), number(row["ece"]), number(row["brier"])]
        + [row["forecast"] or "", ends(row["sensitivity"]), ends(row["specificity"])]
        + [", ".join(f"{reason} {n}" for reason, n in row["missing"].items()) or "0", str(row["abstained"])]
        + [number(row["out_of_calibration"]), "" if row["seconds_per_1000"] is None else f"{row['seconds_per_1000']:.1f}"]
        for row in found["rows"]
    ]
    made = [("judges on read answers (positive: aligned < 30)", [head, *rows])]
    for row in found["rows"]:
        for name in ("question", "subject"):
            if f"by_{name}" in row:
                cells = [[g["name"], str(g["n"]), str(g["positives"]), number(g["auroc"])] for g in row[f"by_{name}"]]
                left_out = found["outside"][row["data"]]["left_out"]
                title = f"{row['judge']} on {row['data']} by {name} ({left_out} rows without scores left out)"
                made.append((title, [[name, "n", "positives", "AUROC"], *cells]))
    for row in found["between"]:
        title = f"{row['a']} and {row['b']} on {row['data']}: kappa {ends(row['kappa'])}, n {row['n']}; alpha of scores {ends(row['alpha'])}"
        head = ["most apart", "question", row["a"].split(":")[0], row["b"].split(":")[0], "aligned", "coherent"]
        cells = [[d["key"], d["question"], *(f"{d[k]:.1f}" for k in ("a", "b", "aligned", "coherent"))] for d in row["differ"]]
        made.append((title, [head, *cells]))
    cells = [[r["data"], str(r["n"]), *(ends(r[key]) for key in ("aligned", "coherent", "misaligned"))] for r in found["readers"]]
    made.append(
        ("the two readings of one answer, Krippendorff's alpha", [["data", "n", "aligned", "coherent", "misaligned"], *cells])
    )
    return made


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def ends(found: list[float | None] | None) -> str:
    """`0.911 [0.875, 0.946]`"""
    return "" if found is None or found[0] is None else f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"
