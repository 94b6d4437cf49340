"""Agreement of judges: published examples, and intervals by simulation."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from emis_platform.lab import agreement, bootstrap, intervals

NO = math.nan
WORKED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
]
"""Krippendorff (2011): four observers, twelve units."""


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_against_krippendorffs_worked_example(level, published):
    assert agreement.alpha(WORKED, level) == pytest.approx(published, abs=5e-4)
    value, low, high = agreement.alpha_interval(WORKED, [str(i) for i in range(12)], level)
    assert value == pytest.approx(published, abs=5e-4)
    assert low < value < high <= 1


def test_alpha_of_ratings_that_contradict_do_not_vary_or_stand_alone():
    assert agreement.alpha([[0, 1, 0, 1], [1, 0, 1, 0]], "nominal") < -0.5
    assert math.isnan(agreement.alpha([[3, 3, 3], [3, 3, 3]]))
    assert math.isnan(agreement.alpha([[1, 2, None], [None, None, 3]]))
    assert all(math.isnan(x) for x in agreement.alpha_interval([[3, 3], [3, 3]], ["a", "b"]))
    with pytest.raises(ValueError, match="level"):
        agreement.alpha([[1, 2], [1, 2]], "ratio")


def test_only_the_interval_level_sees_how_far_apart_ratings_are():
    near, far = [[10, 50, 90, 30], [12, 50, 90, 30]], [[10, 50, 90, 30], [70, 50, 90, 30]]
    assert agreement.alpha(near) > 0.99 > 0.6 > agreement.alpha(far)
    assert agreement.alpha(near, "nominal") == pytest.approx(agreement.alpha(far, "nominal"))


def by_coincidences(table, level, times):
    """Alpha from the coincidences of each two values, as Krippendorff writes it; times: how often each item occurs."""
    values = np.unique(table[~np.isnan(table)])
    counts = (table[:, :, None] == values).sum(0).astype(float)
    rated = counts.sum(1) >= 2
    counts, times = counts[rated], times[rated, None]
    weighted, of_value = times * counts / (counts.sum(1, keepdims=True) - 1), (times * counts).sum(0)
    place = values if level == "interval" else np.cumsum(of_value) - of_value / 2
    apart = 1 - np.eye(len(values)) if level == "nominal" else (place[:, None] - place) ** 2
    expected = of_value @ apart @ of_value
    pairs = weighted.T @ counts - np.diag(weighted.sum(0))
    return 1 - (of_value.sum() - 1) * (pairs * apart).sum() / expected if expected > 0 else math.nan


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize(("raters", "items", "clusters", "grain"), [(2, 40, 8, 20), (3, 60, 7, 0.1), (4, 12, 3, 60)])
def test_alpha_from_sums_is_alpha_from_coincidences_draw_by_draw(level, raters, items, clusters, grain):
    random = np.random.default_rng(items)
    table = np.round((random.normal(50, 20, items) + random.normal(0, 10, (raters, items))) / grain) * 3.3
    table[random.random(table.shape) < 0.2] = np.nan
    names, of = np.unique(random.integers(0, clusters, items), return_inverse=True)
    drawn = [by_coincidences(table, level, times[of]) for times in agreement.resampled(len(names), 100, 5)]
    slow = [by_coincidences(table, level, np.ones(items)), 0.0, 0.0]
    slow[1:] = bootstrap.ends(slow[0], drawn, len(names), (-1.0, 1.0))
    assert agreement.alpha_interval(table, of, level, seed=5, draws=100) == pytest.approx(slow, abs=1e-9)
    assert agreement.alpha(table, level) == pytest.approx(slow[0], abs=1e-9)


def test_a_resample_without_variation_says_nothing():
    table = np.array([[3.3, 3.3, 3.3, 7.1], [3.3, 3.3, 3.3, 6.2]])
    times = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    for level in ("nominal", "ordinal", "interval"):
        assert list(np.isnan(agreement.alphas(table, np.array([0, 0, 0, 1]), times, level))) == [True, True, False]


def test_kappa_by_hand():
    a, b = ["y"] * 20 + ["y"] * 5 + ["n"] * 10 + ["n"] * 15, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    value, low, high = agreement.kappa(a, b, [str(i) for i in range(50)])
    assert value == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert 0.05 < low < value < high < 0.7


def test_kappa_is_scikit_learns():
    a, b = np.random.default_rng(2).integers(0, 4, (2, 200))
    b[:120] = a[:120]
    assert agreement.kappa(a.tolist(), b.tolist(), np.arange(200), draws=10)[0] == pytest.approx(cohen_kappa_score(a, b))


def test_full_agreement_is_not_certain_and_one_category_says_nothing():
    assert agreement.kappa(["y", "n"] * 10, ["y", "n"] * 10, [str(i) for i in range(20)]) == (
        pytest.approx(1),
        pytest.approx(1 - intervals.exact(0, 20)[1]),
        1.0,
    )
    assert agreement.alpha_interval([[1, 2] * 10, [1, 2] * 10], np.arange(20))[1] == pytest.approx(1 - intervals.exact(0, 20)[1])
    assert all(math.isnan(x) for x in agreement.kappa(["y"] * 5, ["y"] * 5, list("abcde")))
    with pytest.raises(ValueError, match="same items"):
        agreement.kappa(["y"], ["y", "n"], ["a"])


def alike(random, share, questions, samples):
    """Two judges that see the same in a share of questions, and throw a coin each in the rest: kappa and alpha are that share."""
    shape = (questions, samples)
    same, a, b = random.random((questions, 1)) < share, random.integers(0, 2, shape), random.integers(0, 2, shape)
    return a.ravel(), np.where(same, a, b).ravel(), np.repeat(np.arange(questions), samples)


def test_kappas_interval_covers_by_question_and_not_by_item():
    random = np.random.default_rng(0)
    covered = by_item = 0
    for draw in range(300):
        a, b, of = alike(random, 0.6, 84, 4)
        _, low, high = agreement.kappa(a.tolist(), b.tolist(), of, seed=draw, draws=500)
        covered += low <= 0.6 <= high
        _, low, high = agreement.kappa(a.tolist(), b.tolist(), np.arange(len(a)), seed=draw, draws=500)
        by_item += low <= 0.6 <= high
    assert 0.92 <= covered / 300 <= 0.98
    assert by_item / 300 < 0.9


def test_alphas_interval_covers():
    random = np.random.default_rng(1)
    covered = 0
    for draw in range(150):
        a, b, of = alike(random, 0.6, 60, 2)
        _, low, high = agreement.alpha_interval([a, b], of, "nominal", seed=draw, draws=200)
        covered += low <= 0.6 <= high
    assert 0.89 <= covered / 150 <= 0.99


def test_the_largest_disagreements_come_first_and_ties_stay_in_order():
    keys, a, b = ["p", "q", "r", "s", "t", "u"], [10, 90, 50, None, 30, 0], [30, 10, 50, 4, 50, math.nan]
    assert agreement.disagreements(keys, a, b) == [("q", 90, 10), ("p", 10, 30), ("t", 30, 50)]
    assert agreement.disagreements(keys, a, b, n=2) == [("q", 90, 10), ("p", 10, 30)]
