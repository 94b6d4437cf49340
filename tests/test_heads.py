"""Calibration of heads: shares at anchors, probabilities by Platt's method."""

from types import SimpleNamespace

import numpy as np
import pytest

from emis_platform.core.gold import Read
from emis_platform.core.records import GoldAnswer, Label
from emis_platform.lab import calibration, heads, ranking
from emis_platform.stages import gold


@pytest.fixture
def skewed():
    """A head that shrinks, 2,000 rows, their true values and outcomes."""
    random = np.random.default_rng(0)
    x = random.standard_normal((2000, 1))
    head = heads.Head(np.zeros(1), np.ones(1), np.array([0.3]), np.array([1.0]))
    chance = 1 / (1 + np.exp(-(2.5 * x[:, 0] - 1.5)))
    return head, x, 100 * chance, (random.random(2000) < chance).astype(float)


def test_stretching_gives_the_readers_shares(skewed):
    head, x, values, _ = skewed
    made = heads.stretched(head, head.score(x), values, (30.0, 70.0)).score(x)
    for anchor in (30, 70):
        assert (made < anchor).mean() == pytest.approx((values < anchor).mean(), abs=0.01)


def test_platt_gives_probabilities_and_keeps_the_order(skewed):
    head, x, values, outcomes = skewed
    made = heads.platt(head, head.score(x), outcomes).score(x)
    assert np.abs(made - values).mean() < 3
    assert calibration.error(made / 100, outcomes) < 0.04 < calibration.error(head.score(x) / 100, outcomes)
    assert (np.argsort(made) == np.argsort(head.score(x))).all()


def test_platt_is_finite_where_all_are_told_apart():
    head = heads.Head(np.zeros(1), np.ones(1), np.ones(1), np.zeros(1))
    x = np.array([[-1.0], [1.0]] * 10)
    made = heads.platt(head, head.score(x), (x[:, 0] > 0).astype(float)).score(x)
    assert 0.5 < made.min() < 20 and 80 < made.max() < 99.5


def read(origin, question, aligned, *more):
    answer = GoldAnswer(key="k", subject="s", question=question, prompt="p", text="t", origin=origin, drawn="chosen", split="train")
    same = {"key": "k", "coherent": 90, "category": "aligned", "guideline": "1", "date": "d", "reader": "r"}
    return Read(answer=answer, labels=tuple(Label(reading=n, aligned=a, **same) for n, a in enumerate((aligned, *more), start=1)))


def test_truth_is_the_mean_reading_and_the_share_of_verdicts():
    assert gold.truth([read("subject", "q", 20, 60)]).tolist() == [[0.4, 0.9, 0.5]]


def test_both_kinds_of_text_weigh_the_same():
    small = np.array([True, False, False, False])
    weights = gold.balance(small)
    assert weights.mean() == pytest.approx(1)
    assert weights[0] == pytest.approx(weights[1:].sum())
    assert (gold.balance(np.array([True, True])) == 1).all()


def test_each_kind_has_heads_of_its_own():
    """What is good in one kind is bad in the other: one head could not tell, two and the kind can."""
    random = np.random.default_rng(0)
    small, x = random.random(800) < 0.4, random.standard_normal((800, 3))
    x[:, 2] = np.where(small, 3, -3) + random.standard_normal(800)
    value = 1 / (1 + np.exp(-3 * np.where(small, x[:, 0], -x[:, 0])))
    known = np.stack([value, 0.55 + 0.4 * value, (value < 0.3).astype(float)], 1)
    kept = np.arange(800) % 5 == 0
    module = SimpleNamespace(STRENGTH=1.0, SCALED=True)
    found = heads.mixed(gold.fitted(module, x, known, kept, small), x)
    assert np.abs(found[:, 0] - 100 * value).mean() < 10
    assert ranking.chance_above(found[:, 2], value < 0.3) > 0.97


def test_a_question_is_kept_from_the_fit_or_not_by_its_name():
    share = np.mean([gold.held(f"q{n}") for n in range(2000)])
    assert share == pytest.approx(1 / gold.HELD, abs=0.03)
