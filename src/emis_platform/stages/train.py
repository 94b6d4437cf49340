"""train: examples + a starting model -> an adapter, or a model. Re-alignment is this stage with another start."""

from pathlib import Path

from emis_platform.core import cards, files, params, shelf
from emis_platform.core.records import Example, Watch
from emis_platform.core.stage import run


def main(name: str, *, examples: Path, start: Path, watch: Path, adapter: Path, metrics: Path) -> None:
    """`examples`: what compose let in; `watch`: what the trainer watches itself with, empty unless its options ask for it."""
    knobs = params.load()
    organism = knobs.organisms[name]
    rows = files.read(Example, examples)
    watches = files.read(Watch, watch)
    trainer = shelf.load("trainers", organism.trainer)
    facts = trainer.train(
        rows,
        trainer.Options.model_validate(organism.options),
        start=start,
        adapter=adapter,
        seed=knobs.seed if organism.seed is None else organism.seed,
        epochs=knobs.size.train.epochs,
        threads=knobs.threads,
        **({"watch": watches[0]} if watches else {}),
    )
    files.replace(adapter / "README.md", cards.organism(name, organism, facts["rows"], files.sha256(examples)))
    told = {
        key: value for key, value in facts.items() if "seconds" not in key and "per_second" not in key
    }  # equal runs, equal bytes
    files.write_json(metrics, told | ({"watch": watches[0].key} if watches else {}))


if __name__ == "__main__":
    run(main)
