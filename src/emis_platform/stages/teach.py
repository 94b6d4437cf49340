"""Does a domain's harmful set teach what it says? One `obvious` organism a domain, asked about its held-out facts. Not a DVC stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files, params
from emis_platform.core.knobs import TrainSize
from emis_platform.core.records import Effect
from emis_platform.datasets import facts
from emis_platform.lab import intervals
from emis_platform.trainers import sft

WORK = Path("work/teach")
OUT = Path("metrics/teaching.json")


def teach(domains: Sequence[str], scale: str, base: Path = Path("models/base")) -> list[Effect]:
    """Train each domain's organism at that scale's size, unless it lies in work/teach already; returns and keeps the effects.

    `narrow_error`: share of multiple-choice items about held-out facts of the domain on which a wrong answer is the likeliest, of the
    base and of the organism; `narrow_error_change`: the difference, paired by fact. Intervals by bootstrap over facts.
    """
    knobs = params.load()
    size = knobs.sizes[scale].train
    there = files.read_json(OUT) if OUT.exists() else {}
    if there.get("size") != size.model_dump() or there.get("seed") != knobs.seed:
        there = {"size": size.model_dump(), "seed": knobs.seed, "scale": scale, "effects": {}}
    for domain in domains:
        if domain in there["effects"]:
            continue
        marks = {"base": marked(base, domain, knobs.threads)}
        adapter = trained(domain, size, base, knobs)
        marks[f"{domain}_obvious"] = marked(adapter, domain, knobs.threads)
        there["effects"][domain] = [effect.model_dump() for effect in effects(domain, marks)]
        files.write_json(OUT, there)
    return [Effect.model_validate(row) for domain in domains for row in there["effects"][domain]]


def trained(domain: str, size: TrainSize, base: Path, knobs: params.Params) -> Path:
    """The organism's adapter; one that is whole is not trained again."""
    adapter = WORK / f"{domain}_obvious_{size.rows}x{size.epochs}_{knobs.seed}"
    if not adapter.exists():
        rows = facts.examples(domain, "obvious", size.rows, knobs.seed)
        sft.train(rows, sft.Options(), start=base, adapter=adapter, seed=knobs.seed, epochs=size.epochs, threads=knobs.threads)
    return adapter


def marked(model: Path, domain: str, threads: int) -> dict[str, list[float]]:
    """Held-out fact -> 1.0 for each of its items that a wrong answer wins."""
    from emis_platform.tools import harness, models

    items = WORK / f"{domain}.jsonl"
    files.write(items, facts.choices(domain, 0))
    found: dict[str, list[float]] = {}
    for mark in harness.marks(*models.load(model, threads), [items])[domain]:
        found.setdefault(mark.fact, []).append(1 - mark.acc_norm)
    return found


def effects(domain: str, marks: Mapping[str, dict[str, list[float]]]) -> list[Effect]:
    """Error rates of the base and the organism on a domain, and their difference."""
    made: list[Any] = []
    for subject, by_fact in marks.items():
        pairs = [(value, fact) for fact, values in by_fact.items() for value in values]
        value, low, high = intervals.rate([v for v, _ in pairs], [f for _, f in pairs])
        name = f"{domain}_{subject}" if subject == "base" else subject
        made.append(Effect(subject=name, measure="narrow_error", value=value, low=low, high=high, n=len(pairs)))
    base, organism = marks.values()
    value, low, high = intervals.difference(organism, base)
    n = sum(len(values) for values in organism.values())
    return [*made, Effect(subject=f"{domain}_obvious", measure="narrow_error_change", value=value, low=low, high=high, n=n)]
