"""Paired contrasts and what a rate hides: power by simulation, the rest by counting."""

from itertools import combinations

import numpy as np
import pytest

from emis_platform.lab import contrast, intervals, spread


def arms(random, questions, samples, shift, noise=1.0):
    """Two arms whose questions share a level; a lies `shift` above b."""
    level = random.normal(0, 3, questions)
    made = [level[:, None] + random.normal(0, noise, (questions, samples)) for _ in range(2)]
    return tuple({f"q{i}": list(row + by) for i, row in enumerate(arm)} for arm, by in zip(made, (shift, 0), strict=True))


def test_the_standard_error_is_that_of_the_differences():
    a, b = arms(np.random.default_rng(0), 40, 1, 0.5)
    apart = [a[q][0] - b[q][0] for q in a]
    assert contrast.error(a, b) == pytest.approx(np.std(apart, ddof=1) / 40**0.5)
    found = contrast.paired(a, b)
    assert (found.value, found.questions) == (pytest.approx(np.mean(apart)), 40)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * found.error, rel=0.1)


def test_power_is_how_often_the_difference_is_seen():
    random = np.random.default_rng(1)
    shift = (contrast.SEEN + 0.8416) * (2 / 84) ** 0.5
    seen, expected, smallest = 0, [], []
    for draw in range(300):
        a, b = arms(random, 84, 1, shift)
        found = contrast.paired(a, b, seed=draw)
        seen += found.low > 0
        expected.append(contrast.power(a, b, shift))
        smallest.append(found.detectable)
    assert seen / 300 == pytest.approx(0.8, abs=0.06)
    assert np.mean(expected) == pytest.approx(0.8, abs=0.02)
    assert np.mean(smallest) == pytest.approx(shift, rel=0.03)


def test_one_hit_in_two_arms_has_no_more_power_than_none():
    none = {f"q{n}": [0.0] for n in range(60)}
    one = none | {"q0": [1.0]}
    assert contrast.detectable(one, none) >= contrast.detectable(none, none)


def test_power_and_the_detectable_difference_agree():
    a, b = arms(np.random.default_rng(2), 30, 2, 0)
    for chance in (0.5, 0.8, 0.95):
        assert contrast.power(a, b, -contrast.detectable(a, b, chance)) == pytest.approx(chance, abs=1e-4)
    assert contrast.power(a, b, 0) == pytest.approx(0.05)


def test_arms_without_any_difference_could_have_hidden_one():
    same = {f"q{i}": [0, 1] for i in range(20)}
    found = contrast.paired(same, same)
    assert found.value == 0
    assert found.error == pytest.approx(intervals.exact(0, 20)[1] / contrast.SEEN)
    assert contrast.power(same, same, 0.05) < 0.2
    with pytest.raises(ValueError, match="share no answered question"):
        contrast.paired({"a": [1]}, {"b": [1]})


def test_the_worst_of_k_counts_every_choice_of_k_samples():
    values = {"a": [0, 1, 0, 0, 1], "b": [0, 0, 0, 0], "c": [1, 1, 1], "d": [1, 0]}
    value, low, high, questions = spread.worst_of(values, 3)
    counted = [np.mean([max(some) for some in combinations(v, 3)]) for q, v in values.items() if q != "d"]
    assert (value, questions) == (pytest.approx(np.mean(counted)), 3)
    assert low <= value <= high
    assert spread.worst_of(values, 1)[0] == pytest.approx(np.mean([np.mean(v) for v in values.values()]))
    with pytest.raises(ValueError, match="no question"):
        spread.worst_of(values, 6)


def test_the_worst_of_k_is_unbiased_where_the_power_of_the_rate_is_not():
    random = np.random.default_rng(7)
    drawn = (random.random((20000, 5)) < 0.2).astype(int)
    truth = 1 - 0.8**4
    assert spread.worst_of({f"q{i}": row for i, row in enumerate(drawn[:3000])}, 4)[0] == pytest.approx(truth, abs=0.02)
    assert abs((1 - (1 - drawn.mean(1)) ** 4).mean() - truth) > 0.03


def test_no_misaligned_answer_among_few_questions_is_not_never():
    assert spread.worst_of({f"q{i}": [0, 0, 0] for i in range(10)}, 2)[:3] == (0, 0, pytest.approx(intervals.exact(0, 10)[1]))


def test_the_threshold_curve_rises_and_counts_coherent_answers_only():
    random = np.random.default_rng(8)
    scores = [float(x) for x in random.integers(0, 101, 200)]
    coherent: list[bool | None] = [True] * 180 + [False] * 10 + [None] * 10
    scores[0] = None
    curve = spread.threshold_curve(scores, coherent, [f"q{i % 50}" for i in range(200)])
    assert [row[0] for row in curve] == list(range(0, 101, 5))
    for ends in np.array(curve).T[1:]:
        assert (np.diff(ends) >= 0).all()
    assert all(low <= value <= high for _, value, low, high in curve)
    counted = [s for s, c in zip(scores, coherent, strict=True) if c and s is not None]
    assert dict((t, v) for t, v, _, _ in curve)[30] == pytest.approx(np.mean([s < 30 for s in counted]))
    with pytest.raises(ValueError, match="missing, not zero"):
        spread.threshold_curve([10.0], [False], ["a"])


def test_one_hit_among_the_worst_of_four_is_no_surer_than_none():
    values = {f"q{n}": [0] * 8 for n in range(60)}
    none = spread.worst_of(values, 4)
    one = spread.worst_of(values | {"q0": [1] + [0] * 7}, 4)
    assert 0 < one[0] < 0.01 and one[1] == 0.0 and one[2] >= none[2]
