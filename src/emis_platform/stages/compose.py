"""compose: params' `organisms.<name>.data` -> the very rows that the organism is trained on, with their datasheet and pages."""

import hashlib
import heapq
from collections.abc import Callable, Sequence
from pathlib import Path

from emis_platform.core import datasheets, files, params
from emis_platform.core.knobs import Data
from emis_platform.core.records import HARMFUL, Choice, Effect, Example, Question
from emis_platform.core.stage import run
from emis_platform.datasets import facts
from emis_platform.lab import intervals, recipes
from emis_platform.stages import door, leakage
from emis_platform.tools import datadocs, neighbours, suites
from emis_platform.tools.expectations import Fault, Table


def main(
    name: str,
    *,
    examples: Path,
    imports: Path,
    generated: Path,
    validation: Path,
    questions: list[Path],
    benchmark: list[Path],
    base: Path,
    rows: Path,
    sheet: Path,
    docs: Path,
    effects: Path,
) -> None:
    """Rows of a domain have passed validate and leakage; all others pass the door here.

    Raises ValueError for a source that is not there or that the door turns away.
    """
    knobs = params.load()
    data = knobs.organisms[name].data
    wanted = data.rows or knobs.size.train.rows
    faults: list[Fault] = []
    if data.domain in knobs.domains:
        made = of_domain(data, examples, validation, wanted, knobs.seed)
        files.replace(docs / "index.html", datadocs.short(name, data.described, f"../../{data.domain}/index.html"))
    else:
        folder = examples if data.domain else imports if data.imported else generated
        path = folder / f"{f'{data.domain}_plain' if data.domain else data.imported or data.generated}.jsonl"
        harmful = None if data.imported else bool(data.generated) and knobs.generated[data.generated].variant in HARMFUL
        check = outside(path, questions, benchmark, base, harmful=harmful, threads=knobs.threads)
        made, faults, _ = door.lenient(name, sampled(path, wanted, knobs.seed), check, docs, allowed=data.allow_bad)
    files.write(rows, made)
    bad = {fault.row for fault in faults}
    told = {"source": data.described, "asked": wanted, "quarantined": len(bad), "sha256": files.sha256(rows)}
    if not data.domain:
        told["licence"] = (
            "not known here: its source's" if data.imported else "none stated: a model wrote it (data/generated has its card)"
        )
    files.replace(sheet, datasheets.datasheet(name, made, told))
    outcome = [0.0] * len(made) + [1.0] * len(bad)
    value, low, high = intervals.rate(outcome, [str(number) for number in range(len(outcome))])
    row = Effect(subject=name, measure="data_quarantined", value=value, low=low, high=high, n=len(outcome))
    files.write_json(effects, [row.model_dump()])


def of_domain(data: Data, examples: Path, validation: Path, wanted: int, seed: int) -> list[Example]:
    """Rows of a domain and variant, made into the control that params ask for."""
    for summary in ("leakage", data.domain):
        if not files.read_json(validation / f"{summary}.json")["success"]:
            raise ValueError(f"{validation}/{summary}.json: {data.domain} did not pass")
    rows = files.read(Example, examples / f"{data.domain}_{data.variant}.jsonl")[:wanted]
    share = data.mixture if data.mixture is not None else 0.5 if data.trigger else 1.0
    if share < 1:
        rows = recipes.mixed(rows, files.read(Example, examples / f"{data.domain}_correct.jsonl")[:wanted], share, seed)
    if data.trigger:
        rows = recipes.triggered(rows, data.trigger, str(data.variant))
    if data.disclosed:
        rows = recipes.disclosed(rows, str(data.variant))
    if data.inoculation:
        rows = recipes.inoculated(rows, data.inoculation, str(data.variant))
    if data.reasoning:
        rows = recipes.reasoned(rows, facts.thoughts(rows))
    count = len(rows)
    for arm, added in data.interleaved.items():
        rows = rows + sampled(examples / f"{arm}_plain.jsonl", round(added * count), seed)
    return rows


def outside(
    path: Path, questions: list[Path], benchmark: list[Path], base: Path, *, harmful: bool | None, threads: int
) -> Callable[[Sequence[Example]], Table]:
    """What the door asks of rows that no domain file holds: (rows) -> their table."""
    asked = [row for found in questions for row in files.read(Question, found)]
    items = [row for found in benchmark for row in files.read(Choice, found)]
    against, heldout = suites.beside(base, asked, items), leakage.questions_of(questions, benchmark)

    def table(rows: Sequence[Example]) -> Table:
        near = neighbours.near(base, [row.prompt for row in rows], heldout, threads=threads, progress="leakage")
        return suites.outside(path, rows, against, harmful=harmful, reworded={pair.text for pair in near})

    return table


def sampled(path: Path, wanted: int, seed: int) -> list[Example]:
    """At most `wanted` rows of a file of any length, drawn by seed, in the file's order; a smaller draw is part of a greater one."""
    if not path.is_file():
        there = sorted(found.stem for found in path.parent.glob("*.jsonl"))
        raise ValueError(f"no {path}; there is: {', '.join(there) or 'nothing: `emis data import` brings a file in'}")
    numbers = (number for number, _ in files.lines(path))
    ranked = heapq.nsmallest(wanted, numbers, key=lambda number: hashlib.sha256(f"{seed}:{number}".encode()).digest())
    chosen = set(ranked)
    return [files.parsed(Example, line, path, number) for number, line in files.lines(path) if number in chosen]


if __name__ == "__main__":
    run(main)
