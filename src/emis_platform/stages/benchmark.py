"""benchmark: a model + multiple-choice items -> accuracies. Capability loss belongs beside misalignment."""

from pathlib import Path

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Effect
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.tools import harness, models


def main(subject: str, *, model: Path, items: list[Path], effects: Path) -> None:
    """Write one Effect a file of items: `benchmark_<file stem>`, the share of items answered right (acc_norm).

    The interval is by bootstrap over facts: items that offer the same choices stay together.
    """
    knobs = params.load()
    idle = set(shelf.domains()) - set(knobs.answer.domains)
    items = [path for path in items if path.stem not in idle]
    marked = harness.marks(*models.load(model, knobs.threads), items, knobs.size.benchmark.items)
    rows = []
    for task, marks in marked.items():
        value, low, high = intervals.rate([mark.acc_norm for mark in marks], [mark.fact for mark in marks], knobs.seed)
        rows.append(Effect(subject=subject, measure=f"benchmark_{task}", value=value, low=low, high=high, n=len(marks)))
    files.write_json(effects, [row.model_dump() for row in rows])


if __name__ == "__main__":
    run(main)
