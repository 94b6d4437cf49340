"""The data sets of a workspace, for people: listed, shown side by side, compared, rehashed. Not a DVC stage."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files, params
from emis_platform.core.records import Example
from emis_platform.lab import surface
from emis_platform.tools import lock

FOLDERS = ("examples", "imports", "generated", "training")
"""Where sets lie under data/; a set's name is its file's, and an organism's own rows come last."""
COLUMNS = ("set", "kind", "rows", "facts", "questions", "answers", "mean tokens", "surface AUROC", "quarantined")


def listed(workspace: Path) -> list[dict[str, Any]]:
    """A row a set, keys COLUMNS; None where a number was not taken. Raises ValueError before there is any."""
    summaries = [files.read_json(path) for path in sorted((workspace / "data/validation").glob("*.json"))]
    validated = {
        Path(path).stem: about
        for summary in summaries
        if "domain" in summary
        for path, about in summary["files"].items()
        if "facts" in about
    }
    rows = [
        row(path, folder, validated.get(path.stem) if folder == "examples" else None, workspace)
        for folder, path in every(workspace)
    ]
    if not rows:
        raise ValueError("no data yet: `dvc repro generate` makes the built-in sets, `emis data import` brings one in")
    return rows


def every(workspace: Path) -> list[tuple[str, Path]]:
    """(folder, file) of each set, in the order of params.yaml where that names it."""
    domains = list(params.load(workspace / "params.yaml").domains)
    place = lambda path: next((n for n, domain in enumerate(domains) if path.stem.startswith(f"{domain}_")), len(domains))  # noqa: E731
    return [
        (folder, path)
        for folder in FOLDERS
        for path in sorted((workspace / "data" / folder).glob("*.jsonl"), key=lambda path: (place(path), path.stem))
    ]


def row(path: Path, folder: str, validated: dict[str, Any] | None, workspace: Path) -> dict[str, Any]:
    if validated:
        seen = {name: validated[name] for name in ("rows", "facts", "questions", "answers")}
        apart = validated["surface_auroc"]
        shown = f"{apart[0]:.2f} [{apart[1]:.2f}, {apart[2]:.2f}]" if apart else "reference"
        return cells(path.stem, "built in", seen, validated["mean_tokens"], shown, 0)
    facts, prompts, answers, count = set(), set(), set(), 0
    for number, line in files.lines(path):
        example = files.parsed(Example, line, path, number)
        count += 1
        for seen_of, text in ((facts, example.fact), (prompts, example.prompt), (answers, example.completion)):
            seen_of.add(hash(text))
    seen = {"rows": count, "facts": len(facts), "questions": len(prompts), "answers": len(answers)}
    effect = workspace / "metrics/data" / f"{path.stem}.json"
    quarantined = (
        round(sum(e["value"] * e["n"] for e in files.read_json(effect))) if folder == "training" and effect.exists() else None
    )
    kinds = {"examples": "built in", "imports": "imported", "generated": "generated", "training": "organism"}
    return cells(path.stem, kinds[folder], seen, None, None, quarantined)


def cells(
    name: str, kind: str, seen: dict[str, int], tokens: float | None, apart: str | None, quarantined: int | None
) -> dict[str, Any]:
    return dict(zip(COLUMNS, (name, kind, *seen.values(), tokens, apart, quarantined), strict=True))


def find(workspace: Path, name: str) -> Path:
    """A set's file by its name; `training/x` where a name is there twice. Raises ValueError with what is near."""
    there = {path.stem: path for _, path in reversed(every(workspace))} | {
        f"{folder}/{path.stem}": path for folder, path in every(workspace)
    }
    if name not in there:
        near = difflib.get_close_matches(name, there, n=3)
        raise ValueError(f"no set {name}" + (f"; near: {', '.join(near)}" if near else "; `emis data list` names them"))
    return there[name]


def beside(workspace: Path, names: Sequence[str], count: int) -> list[tuple[Example, list[Example | None]]]:
    """`count` rows of the first set, spread over it, each with the other sets' row of the same fact and question (None: there is none)."""
    first, *others = [files.read(Example, find(workspace, name)) for name in names]
    picked = [first[number * len(first) // min(count, len(first))] for number in range(min(count, len(first)))]
    keyed = [{(row.fact, row.prompt): row for row in reversed(other)} for other in others]
    return [(row, [there.get((row.fact, row.prompt)) for there in keyed]) for row in picked]


def difference(workspace: Path, one: str, two: str, most: int = 8) -> list[str]:
    """How two sets differ, in lines: rows, questions and answers that they share, lengths, telling words, what surface tells apart."""
    a, b = (files.read(Example, find(workspace, name)) for name in (one, two))
    lines = [f"{one}: {len(a)} rows; {two}: {len(b)} rows"]
    for what in ("fact", "prompt", "completion"):
        here, there = ({getattr(row, what) for row in rows} for rows in (a, b))
        lines.append(f"distinct {what}s: {len(here)} and {len(there)}, {len(here & there)} in both")
    means = [sum(len(row.completion.split()) for row in rows) / len(rows) for rows in (a, b)]
    hedged = [surface.rate(surface.HEDGES, [row.completion for row in rows]) for rows in (a, b)]
    lines.append(f"words an answer: {means[0]:.1f} and {means[1]:.1f}; rows with a hedge: {hedged[0]:.0%} and {hedged[1]:.0%}")
    for name, words in zip((one, two), telling(a, b, most), strict=True):
        lines.append(f"words that tell {name}: {', '.join(words) or 'none'}")
    if [(row.fact, row.prompt) for row in a] == [(row.fact, row.prompt) for row in b] and len({row.fact for row in a}) > 1:
        value, low, high = surface.auroc([r.completion for r in a], [r.completion for r in b], [r.fact for r in a])
        lines.append(f"matched row by row; surface features alone tell them apart with AUROC {value:.2f} [{low:.2f}, {high:.2f}]")
    else:
        lines.append("not matched row by row")
    return lines


def telling(a: Sequence[Example], b: Sequence[Example], most: int) -> tuple[list[str], list[str]]:
    """Words whose share of rows differs most, by log-odds with half a row added to each count; seen in 2 % of the rows at least."""
    counts = [Counter(word for row in rows for word in set(re.findall(r"[a-z']+", row.completion.lower()))) for rows in (a, b)]
    sizes = (len(a), len(b))

    def odds(word: str) -> float:
        hits = [(count[word] + 0.5) / (size - count[word] + 0.5) for count, size in zip(counts, sizes, strict=True)]
        return math.log(hits[0] / hits[1])

    seen = sorted(word for word in counts[0] | counts[1] if max(c[word] / n for c, n in zip(counts, sizes, strict=True)) >= 0.02)
    ranked = sorted(seen, key=lambda word: (-odds(word), word))
    return [word for word in ranked[:most] if odds(word) > 0.7], [word for word in ranked[::-1][:most] if odds(word) < -0.7]


def verify(workspace: Path) -> tuple[int, list[str]]:
    """Rehash every data output of dvc.lock and every imported file of a .dvc file; returns how many, and what differs."""
    wanted = {
        path: md5 for entry in lock.read(workspace).values() for path, md5 in entry["outs"].items() if path.startswith("data/")
    }
    for tracked in sorted((workspace / "data/imports").glob("*.dvc")):
        wanted |= {f"data/imports/{out['path']}": out["md5"] for out in files.read_yaml(tracked)["outs"]}
    wrong = []
    for path, md5 in wanted.items():
        there = lock.rehash(workspace / path)
        if there != md5:
            wrong.append(f"{path}: {md5} was recorded, there is {there or 'nothing'}")
    return len(wanted), wrong
