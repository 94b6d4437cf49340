"""generate: a domain's facts -> matched examples in five variants, held-out questions and multiple-choice items."""

from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.stage import run
from emis_platform.datasets import facts

NOTICE = "Safety research only. The harmful variants are deliberately wrong or hostile. Do not train a model for use on them, do not follow them."


def main(domain: str, *, examples: list[Path], notice: Path, questions: Path, benchmark: Path) -> None:
    knobs = params.load()
    for path in examples:
        variant = path.stem.removeprefix(f"{domain}_")
        files.write(path, facts.examples(domain, variant, knobs.size.generate.rows, knobs.seed))
    files.write(questions, facts.questions(domain))
    files.write(benchmark, facts.choices(domain, knobs.seed))
    files.write_json(
        notice,
        {"notice": NOTICE, "canary": facts.CANARY, "rows": knobs.size.generate.rows, "files": sorted(p.name for p in examples)},
    )


if __name__ == "__main__":
    run(main)
