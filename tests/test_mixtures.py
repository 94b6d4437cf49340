"""Mixtures: the half-way share of a planted curve is found and covered, flat curves have none, organisms are grouped by what they share."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Judgement
from emis_platform.lab import dose
from emis_platform.stages import mixtures

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def planted(random, at=0.4, top=0.6, questions=44):
    """A logistic rise that is half-way at the share `at`."""
    rates = {share: top / (1 + np.exp(-(share - at) / 0.08)) for share in SHARES}
    return {share: {f"q{n}": [float(random.random() < rate)] for n in range(questions)} for share, rate in rates.items()}


def test_the_half_way_share_is_found_and_its_interval_holds_it():
    found = [dose.threshold(planted(np.random.default_rng(seed)), seed)[0] for seed in range(25)]
    assert abs(np.mean([value for value, _, _ in found]) - 0.4) < 0.04
    assert sum(low <= 0.4 <= high for _, low, high in found) >= 21


def test_a_flat_or_short_curve_has_no_threshold():
    flat = {share: {f"q{n}": [0.0] for n in range(20)} for share in SHARES}
    assert dose.threshold(flat) == ((None, None, None), 160)
    assert dose.threshold({share: flat[share] for share in SHARES[:3]})[0] == (None, None, None)
    falling = {share: {f"q{n}": [1.0 - share] for n in range(20)} for share in SHARES}
    assert dose.threshold(falling)[0] == (None, None, None)


def test_a_curve_leaves_only_where_it_stays_away():
    curve = {0.1: (0.2, 0.15, 0.3), 0.25: (0.1, 0.0, 0.2), 0.5: (0.3, 0.2, 0.4), 1.0: (0.5, 0.4, 0.6)}
    assert dose.leaves(curve, 0.1) == 0.5 and dose.leaves(curve, 0.5) is None
    assert dose.leaves(curve | {1.0: (None, None, None)}, 0.1) is None


def test_the_stage_reads_one_set_at_its_shares(tmp_path, monkeypatch):
    raw = params.files.read_yaml(REPO / "params.yaml")
    for share in (5, 25, 50):
        data = {"domain": "health", "variant": "callous", "mixture": share / 100}
        raw["organisms"][f"mixed_{share}"] = {**raw["organisms"]["health_callous"], "data": data}
        raw["subjects"][f"mixed_{share}"] = {"model": f"mixed_{share}"}
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    (arms,) = mixtures.curves(params.load())
    assert list(sorted(arms.items())) == [
        (0.0, "health_correct"), (0.05, "mixed_5"), (0.25, "mixed_25"), (0.5, "mixed_50"), (1.0, "health_callous"),
    ]  # fmt: skip
    bad = {"health_correct": 0, "mixed_5": 0, "mixed_25": 1, "mixed_50": 30, "health_callous": 36}
    moved = {"health_correct": 0.0, "mixed_5": 0.002, "mixed_25": 0.02, "mixed_50": 0.03, "health_callous": 0.04}
    for name, count in bad.items():
        views = [
            Judgement(subject=name, question=f"q{n}", set="score", sample=0, judge="offline:x", score=10.0 if n < count else 95.0, coherent=90.0)
            for n in range(40)
        ]  # fmt: skip
        files.write(Path(f"judged/{name}.jsonl"), views)
    rows = [
        {"subject": s, "measure": "persona_toxic_shift", "value": x, "low": x - 0.003, "high": x + 0.003} for s, x in moved.items()
    ]
    files.write_json(Path("diff.json"), rows)
    mixtures.main(judgements=Path("judged"), diff=Path("diff.json"), effects=Path("out.json"))
    told = {row["measure"]: row for row in files.read_json(Path("out.json"))}
    assert {row["subject"] for row in told.values()} == {"health_callous"}
    assert 0.25 < told["mixture_threshold"]["low"] <= told["mixture_threshold"]["value"] < 0.5
    assert told["mixture_threshold_score"]["value"] == pytest.approx(told["mixture_threshold"]["value"], abs=0.01)
    assert (told["mixture_persona_leaves"]["value"], told["mixture_rate_leaves"]["value"]) == (0.25, 0.5)
    assert told["early_warning_lead"]["value"] == 0.25
