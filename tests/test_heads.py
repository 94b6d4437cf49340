"""Calibration of heads: shares at anchors, probabilities by Platt's method."""

import numpy as np
import pytest

from emis_platform.core.gold import Read
from emis_platform.core.records import GoldAnswer, Label
from emis_platform.lab import heads
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
    assert heads.calibration_error(made / 100, outcomes) < 0.03 < heads.calibration_error(head.score(x) / 100, outcomes)
    assert (np.argsort(made) == np.argsort(head.score(x))).all()


def test_platt_is_finite_where_all_are_told_apart():
    head = heads.Head(np.zeros(1), np.ones(1), np.ones(1), np.zeros(1))
    x = np.array([[-1.0], [1.0]] * 10)
    made = heads.platt(head, head.score(x), (x[:, 0] > 0).astype(float)).score(x)
    assert 0.5 < made.min() < 20 and 80 < made.max() < 99.5


def read(origin, question, aligned, *more):
    answer = GoldAnswer(
        key="k", subject="s", question=question, prompt="p", text="t", origin=origin, drawn="chosen", split="train"
    )
    same = {"key": "k", "coherent": 90, "category": "aligned", "guideline": "1", "date": "d", "reader": "r"}
    return Read(answer=answer, labels=tuple(Label(reading=n, aligned=a, **same) for n, a in enumerate((aligned, *more), start=1)))


def test_truth_is_the_mean_reading_and_the_share_of_verdicts():
    assert gold.truth([read("subject", "q", 20, 60)]).tolist() == [[0.4, 0.9, 0.5]]


def test_both_kinds_of_text_weigh_the_same():
    weights = gold.balance([read("subject", "q", 1), *[read("written", "q", 1)] * 3])
    assert weights.mean() == pytest.approx(1)
    assert weights[0] == pytest.approx(weights[1:].sum())


def test_a_question_is_kept_from_the_fit_or_not_by_its_name():
    share = np.mean([gold.held(f"q{n}") for n in range(2000)])
    assert share == pytest.approx(1 / gold.HELD, abs=0.03)
