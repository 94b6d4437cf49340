"""train: examples + a starting model -> an adapter. Re-alignment is this stage with another start."""

from pathlib import Path

from emis_platform.core import cards, files, params, shelf
from emis_platform.core.records import Example
from emis_platform.core.stage import run


def main(name: str, *, examples: Path, start: Path, adapter: Path, metrics: Path) -> None:
    """`examples`: what compose let in."""
    knobs = params.load()
    organism = knobs.organisms[name]
    rows = files.read(Example, examples)
    trainer = shelf.load("trainers", organism.trainer)
    facts = trainer.train(
        rows,
        trainer.Options.model_validate(organism.options),
        start=start,
        adapter=adapter,
        seed=knobs.seed if organism.seed is None else organism.seed,
        epochs=knobs.size.train.epochs,
        threads=knobs.threads,
    )
    files.replace(adapter / "README.md", cards.organism(name, organism, facts["rows"], files.sha256(examples)))
    files.write_json(metrics, {name: facts[name] for name in ("rows", "tokens", "curve")})  # no clock: equal runs, equal bytes


if __name__ == "__main__":
    run(main)
