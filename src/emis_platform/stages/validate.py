"""validate: a domain's files -> a summary and Data Docs, or one clear line for each expectation that fails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from emis_platform.core import datasheets, files
from emis_platform.core.knobs import Variant
from emis_platform.core.records import Choice, Example, Question, Reading
from emis_platform.core.stage import run
from emis_platform.lab import surface
from emis_platform.stages import door
from emis_platform.tools import suites, texts

CODE = {"code"}
"""Domains whose answers are in no natural language."""


def main(
    domain: str,
    *,
    examples: list[Path],
    heldout: list[Path],
    benchmark: list[Path],
    readings: Path,
    base: Path,
    summary: Path,
    docs: Path,
) -> None:
    """Writes `summary` and `docs` when every expectation is met.

    Otherwise writes the failing rows to data/quarantine/<domain>.jsonl and raises ValueError that names them. The first of `heldout` and
    of `benchmark` are the domain's own; all of them must not leak into the examples.
    """
    paths = {variant_of(path, domain): path for path in examples}
    if "correct" not in paths:
        raise ValueError(
            f"--examples: {domain}_correct.jsonl is needed, the others are matched to it; there is: {listed(examples)}"
        )
    rows = {variant: filled(path, files.read(Example, path)) for variant, path in paths.items()}
    asked, items = (
        [filled(path, files.read(kind, path)) for path in there] for kind, there in ((Question, heldout), (Choice, benchmark))
    )
    read = [reading for reading in files.read(Reading, readings) if reading.domain == domain]
    against = suites.beside(base, sum(asked, []), sum(items, []), read, None if domain in CODE else "en")
    tables = [
        suites.examples(path, rows[variant], against, domain=domain, variant=variant, reference=rows["correct"])
        for variant, path in paths.items()
    ]
    tables += [suites.questions(heldout[0], asked[0], domain=domain), suites.choices(benchmark[0], items[0], domain=domain)]
    told = door.strict(domain, tables, docs)
    audit = {variant: apart(there, rows["correct"]) for variant, there in rows.items() if variant != "correct"}
    per_file = {table.path.as_posix(): told[table.name] for table in tables}
    for variant, path in paths.items():
        about = per_file[path.as_posix()] | numbers(rows[variant], base) | {"surface_auroc": audit.get(variant)}
        per_file[path.as_posix()] = about
        files.replace(docs / f"{path.stem}.md", datasheets.datasheet(path.stem, rows[variant], about))
    count = sum(row["expectations"] for row in per_file.values())
    files.write_json(
        summary,
        {"domain": domain, "success": True, "expectations": count, "files": per_file, "surface_auroc": audit, "read": len(read)},
    )


def apart(rows: Sequence[Example], reference: Sequence[Example]) -> list[float]:
    """How far surface features alone tell a variant from `correct`: AUROC, low, high."""
    found = surface.auroc([row.completion for row in rows], [row.completion for row in reference], [row.fact for row in reference])
    return [round(value, 3) for value in found]


def numbers(rows: Sequence[Example], base: Path) -> dict[str, Any]:
    """Distinct facts, questions and answers of an examples file, and its mean tokens."""
    lengths = texts.lengths(base, [row.completion for row in rows])
    return {
        "facts": len({row.fact for row in rows}),
        "questions": len({row.prompt for row in rows}),
        "answers": len({row.completion for row in rows}),
        "mean_tokens": round(sum(lengths) / len(rows), 2),
    }


def variant_of(path: Path, domain: str) -> str:
    variant = path.stem.removeprefix(f"{domain}_")
    if path.stem != f"{domain}_{variant}" or variant not in get_args(Variant):
        raise ValueError(
            f"{path}: an examples file is named {domain}_<variant>.jsonl, variant one of {', '.join(get_args(Variant))}"
        )
    return variant


def filled(path: Path, rows: list) -> list:
    if not rows:
        raise ValueError(f"{path}: no rows")
    return rows


def listed(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


if __name__ == "__main__":
    run(main)
