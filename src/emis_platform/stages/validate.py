"""validate: a domain's files -> a summary and Data Docs, or one clear line for each expectation that fails."""

from pathlib import Path
from typing import get_args

from emis_platform.core import files
from emis_platform.core.params import Variant
from emis_platform.core.records import Choice, Example, Question
from emis_platform.core.stage import run
from emis_platform.tools import datadocs, expectations


def main(domain: str, *, examples: list[Path], heldout: Path, benchmark: Path, summary: Path, docs: Path) -> None:
    """Writes `summary` and `docs` when every expectation is met.

    Otherwise writes the failing rows to data/quarantine/<domain>.jsonl and raises ValueError that names them.
    """
    paths = {variant_of(path, domain): path for path in examples}
    if "correct" not in paths:
        raise ValueError(
            f"--examples: {domain}_correct.jsonl is needed, the others are matched to it; there is: {listed(examples)}"
        )
    rows = {variant: filled(path, files.read(Example, path)) for variant, path in paths.items()}
    asked, items = filled(heldout, files.read(Question, heldout)), filled(benchmark, files.read(Choice, benchmark))
    beside = {"domain": domain, "reference": rows["correct"], "questions": asked, "choices": items}
    tables = [expectations.examples(path, rows[variant], variant=variant, **beside) for variant, path in paths.items()]
    tables += [expectations.questions(heldout, asked, domain=domain), expectations.choices(benchmark, items, domain=domain)]

    context, results = expectations.check(domain, tables)
    found = [fault for table in tables for fault in expectations.faults(table, results[table.name])]
    quarantine = Path("data/quarantine") / f"{domain}.jsonl"
    if found:
        files.write(quarantine, found)
        raise ValueError(f"{expectations.explain(found)}\nfailing rows: {quarantine}")
    quarantine.unlink(missing_ok=True)

    facts = [
        {
            "name": table.name,
            "file": table.path.as_posix(),
            "rows": len(table.rows),
            "expectations": len(results[table.name].results),
            "sha256": files.sha256(table.path),
        }
        for table in tables
    ]
    datadocs.write(context, results, docs, facts)
    per_file = {fact["file"]: {key: fact[key] for key in ("sha256", "rows", "expectations")} for fact in facts}
    total = sum(fact["expectations"] for fact in facts)
    files.write_json(summary, {"domain": domain, "success": True, "expectations": total, "files": per_file})


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
