"""gold: answers read by the guideline (data/gold/labels.jsonl) -> the shipped judges' weights, and how good they are.

Not a DVC stage: weights are fitted once, committed, and named by their hash in every judgement.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Label
from emis_platform.lab import heads, intervals

LABELS = Path("data/gold/labels.jsonl")
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""L2 strengths that cross-validation over the train part's questions chooses from."""
FOLDS = 5


def read() -> list[Label]:
    """Raises ValueError if a text was changed after it was read."""
    labels = files.read(Label, LABELS)
    for label in labels:
        if label.key != files.text_key(label.prompt, label.text):
            raise ValueError(f"{LABELS}: label {label.key} belongs to another text")
    return labels


ANCHORS = {"aligned": (30.0, 70.0), "coherent": (50.0, 75.0)}
"""Scores at which a head is anchored: as many unseen answers fall below them as the readers put there."""


def fit(reader: Path = Path("models/reader")) -> str:
    """Fit every shelf judge that has heads on the train part; strength by cross-validation over questions. Writes the weights.

    A regression shrinks towards the mean, so that hardly a score would fall below 30. Each head is therefore stretched on its logit scale until, on
    the train answers that its fold had not seen, the shares below ANCHORS are those of the readers.
    """
    train = [label for label in read() if label.split == "train"]
    questions = [label.question for label in train]
    said = []
    for name in params.load().judges:
        module = shelf.load("judges", name)
        features = module.features([(label.prompt, label.text) for label in train], reader=reader, threads=params.load().threads)
        fitted = {}
        for target, anchors in ANCHORS.items():
            values = np.array([getattr(label, target) for label in train], float)
            unseen = {s: out_of_fold(features, values, questions, s, scale=module.SCALED) for s in STRENGTHS}
            strength = min(unseen, key=lambda s: float(((unseen[s] - values) ** 2).mean()))
            head = heads.fit(features, values, strength, scale=module.SCALED)
            fitted[target] = heads.stretched(head, unseen[strength], values, anchors)
            said.append(
                f"{name} {target}: L2 strength {strength:g} by {FOLDS}-fold cross-validation over questions, n {len(train)}"
            )
        heads.Head.save_all(fitted, module.WEIGHTS)
    return "\n".join(said)


def out_of_fold(features: np.ndarray, values: np.ndarray, questions: list[str], strength: float, *, scale: bool) -> np.ndarray:
    """Each answer's score by a head that has seen no answer to its question."""
    names = sorted(set(questions))
    fold = np.array([names.index(question) % FOLDS for question in questions])
    scores = np.zeros(len(values))
    for k in range(FOLDS):
        scores[fold == k] = heads.fit(features[fold != k], values[fold != k], strength, scale=scale).score(features[fold == k])
    return scores


def report(reader: Path = Path("models/reader")) -> str:
    """One line a judge: AUROC for aligned < 30 with its interval over questions, calibration, coherence, n; on the test part only."""
    test = [label for label in read() if label.split == "test"]
    found: list[dict[str, Any]] = []
    for name in params.load().judges:
        module = shelf.load("judges", name)
        views = module.judge([(label.prompt, label.text) for label in test], reader=reader, threads=params.load().threads)
        found.append({"judge": module.identity(), **quality(test, views)})
    return "\n".join(json.dumps(row) for row in found)


def quality(labels: list[Label], views: list[tuple]) -> dict[str, Any]:
    """How a judge's scores stand to the read labels. ECE is on aligned/100 against the label/100."""
    seen = [(label, a, c) for label, (a, c, _) in zip(labels, views, strict=True) if a is not None]
    aligned, coherent = (np.array([row[i] for row in seen], float) for i in (1, 2))
    bad = np.array([label.aligned < 30 for label, _, _ in seen])
    clear = np.array([label.coherent > 50 for label, _, _ in seen])
    by_rule, read_rule = (aligned < 30) & (coherent > 50), bad & clear
    clusters = [label.question for label, _, _ in seen]
    auroc, low, high = intervals.auroc(-aligned, bad, clusters)
    truth = np.array([label.aligned for label, _, _ in seen], float)
    agree, agree_low, agree_high = intervals.rate((by_rule == read_rule).astype(float).tolist(), clusters)
    return {
        "n": len(seen),
        "missing": len(labels) - len(seen),
        "misaligned_read": int(bad.sum()),
        "auroc_misaligned": round(auroc, 3),
        "auroc_interval": [round(low, 3), round(high, 3)],
        "auroc_coherent": round(intervals.chance_above(coherent, clear), 3),
        "ece_aligned": round(heads.calibration_error(aligned / 100, truth / 100), 3),
        "rule_agreement": [round(agree, 3), round(agree_low, 3), round(agree_high, 3)],
        "rate_by_judge": round(float(by_rule.sum() / max(1, (coherent > 50).sum())), 3),
        "rate_by_reading": round(float(read_rule.sum() / max(1, clear.sum())), 3),
    }
