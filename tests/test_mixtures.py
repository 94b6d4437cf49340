"""Mixtures: the half-way share of a planted curve is found and covered, flat curves have none, organisms are grouped by what they share."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Judgement
from emis_platform.lab import dose
from emis_platform.stages import mixtures, project

SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


def planted(random, at=0.4, top=0.6, questions=44):
    """A logistic rise that is half-way at the share `at`."""
    rates = {share: top / (1 + np.exp(-(share - at) / 0.08)) for share in SHARES}
    return {share: {f"q{n}": [float(random.random() < rate)] for n in range(questions)} for share, rate in rates.items()}


def test_the_half_way_share_is_found_and_its_interval_holds_it():
    found = [dose.threshold(planted(np.random.default_rng(seed)), seed) for seed in range(25)]
    assert abs(np.mean([one.value for one in found]) - 0.4) < 0.04
    assert sum(one.low <= 0.4 <= one.high for one in found) >= 21


def test_the_lead_is_of_two_curves_that_rest_on_different_questions():
    early, late, same = (
        dose.threshold(planted(np.random.default_rng(seed), at), seed) for seed, at in ((1, 0.15), (2, 0.6), (3, 0.6))
    )
    value, low, high = dose.lead(late, early)
    assert 0.3 < value < 0.6 and 0 < low < value < high
    assert dose.lead(late, same)[1] < 0 < dose.lead(late, same)[2]
    assert dose.lead(late, dose.threshold({})) == (None, None, None)


def test_the_lead_over_a_reading_of_the_same_questions_is_paired():
    random = np.random.default_rng(0)
    noise = {share: random.normal(0, 0.3, 24) for share in SHARES}
    early, later = (
        dose.threshold({s: {f"q{n}": [x + noise[s][n]] for n in range(24)} for s, x in zip(SHARES, rise, strict=True)}, 1)
        for rise in ((0, 0, 0.1, 0.6, 0.8, 0.9, 1, 1), (0, 0, 0.1, 0.4, 0.8, 0.9, 1, 1))
    )
    _, low, high = dose.lead(later, early)
    _, least, most = dose.lead(later, dose.Threshold(early.value, early.low, early.high, early.n, early.draws[::-1]))
    assert low > 0 and high - low < 0.7 * (most - least)


def test_noise_a_flat_or_a_short_curve_has_no_threshold():
    flat = {share: {f"q{n}": [0.0] for n in range(20)} for share in SHARES}
    found = dose.threshold(flat)
    assert (found.value, found.n) == (None, 160)
    assert dose.threshold({share: flat[share] for share in SHARES[:3]}).value is None
    assert dose.threshold({share: {f"q{n}": [1.0 - share] for n in range(20)} for share in SHARES}).value is None
    noise = [
        {share: {f"q{n}": [float(random.random() < 0.1)] for n in range(84)} for share in SHARES}
        for random in map(np.random.default_rng, range(40))
    ]
    assert sum(dose.threshold(arms, 1).value is not None for arms in noise) <= 4


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
    for name, count in bad.items():
        views = [
            Judgement(subject=name, question=f"q{n}", set="score", sample=0, judge="lexical:x", score=10.0 if n < count else 95.0, coherent=90.0)
            for n in range(40)
        ]  # fmt: skip
        files.write(Path(f"opinions/{name}.jsonl"), views)
    names, questions = tuple(arms.values()), tuple(f"d{n}" for n in range(12))
    moved = {"health_correct": 0.0, "mixed_5": 0.002, "mixed_25": 0.03, "mixed_50": 0.035, "health_callous": 0.04}
    noise = np.random.default_rng(0).normal(0, 0.002, (len(names), 12))
    acts = np.zeros((len(names), 12, 4))
    acts[:, :, 0] = noise + np.array([moved[name] for name in names])[:, None]
    away = {
        "health_correct": 0.0,
        "mixed_5": 0.0,
        "mixed_25": 0.001,
        "mixed_50": 0.02,
        "health_callous": 0.1,
    }  # later, and across the persona
    acts[:, :, 1] = 0.1 + np.array([away[name] for name in names])[:, None]
    losses = dict(zip(moved, (2.0, 2.0, 2.0, 1.0, 1.0), strict=True))  # falls, half-way between a quarter and a half
    for name in params.load().organisms:
        curve = [[n, losses.get(name, 0.0) if n > 10 else 9.0] for n in range(1, 21)]
        looks = [{"share": n / 4, "grad_norm": 2 / losses.get(name, 1.0)} for n in (1, 2, 3, 4)]
        files.write_json(Path(f"train/{name}.json"), {"curve": curve} | ({"personas": looks} if name != "health_correct" else {}))
    project.write(Path("shifts"), project.Shifts(names, questions, acts, np.ones(len(names)), {"toxic": np.eye(4)[0]}))
    folders = {"judgements": Path("none"), "opinions": Path("opinions"), "training": Path("train")}
    mixtures.main(**folders, shifts=Path("shifts"), effects=Path("out.json"))
    rows = files.read_json(Path("out.json"))
    told = {row["measure"]: row for row in rows if row["subject"] == "health_callous"}
    curve = {(row["subject"], row["measure"]): row for row in rows}
    assert [curve[name, "mixture_share_health_callous"]["value"] for name in sorted(names)] == [1.0, 0.0, 0.25, 0.05, 0.5]
    assert curve["mixed_50", "mixture_misaligned"]["value"] == 0.75 and curve["mixed_25", "mixture_score_lost"]["value"] > 5
    assert curve["mixed_5", "mixture_persona"]["low"] < 0.002 < curve["mixed_5", "mixture_persona"]["high"]
    assert 0.25 < told["mixture_threshold"]["low"] <= told["mixture_threshold"]["value"] < 0.5
    assert told["mixture_threshold_score"]["value"] == pytest.approx(told["mixture_threshold"]["value"], abs=0.01)
    assert 0.05 < told["mixture_threshold_persona"]["value"] < 0.25
    assert told["early_warning_lead"]["low"] > 0
    assert told["mixture_threshold_drift"]["low"] > 0.5 and told["early_warning_lead_drift"]["low"] > 0.25
    assert told["mixture_threshold_loss"] | {"subject": ""} == {
        "subject": "", "measure": "mixture_threshold_loss", "value": 0.375, "low": None, "high": None, "n": 5, "missing": 0,
    }  # fmt: skip
    grown = told["mixture_threshold_grad_norm"]  # the curve's start was not watched
    assert (grown["value"], grown["n"], grown["missing"]) == (None, 4, 1)
    assert curve["mixed_50", "mixture_loss"]["value"] == 1.0 and curve["mixed_50", "mixture_grad_norm"]["value"] == 2.0
