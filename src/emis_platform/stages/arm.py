"""arm: the facts of a control set -> its one file of examples (ordinary chat, compliance)."""

from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.stage import run
from emis_platform.datasets import facts


def main(arm: str, *, examples: Path) -> None:
    """As many rows as a domain has, or all that there are."""
    knobs = params.load()
    rows = min(knobs.size.generate.rows, facts.most(arm))
    files.write(examples, facts.examples(arm, "plain", rows, knobs.seed))


if __name__ == "__main__":
    run(main)
