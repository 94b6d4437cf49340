"""Debiased rates: coverage by simulation, against methods that are known to fail, and the corners by hand."""

import numpy as np
import pytest

from emis_platform.lab import debiased, intervals

GOOD, POOR = (0.8, 0.93), (0.6, 0.8)
"""Sensitivity and specificity."""


def answers(random, questions, samples, rate, judge, alike=0.0):
    """Label, verdict and question of each answer; alike: intraclass correlation of the labels of one question."""
    scale = 1 / alike - 1 if alike else None
    chance = random.beta(rate * scale, (1 - rate) * scale, questions) if alike else np.full(questions, rate)
    label = (random.random((questions, samples)) < chance[:, None]).astype(float).ravel()
    verdict = (random.random(len(label)) < np.where(label == 1, judge[0], 1 - judge[1])).astype(float)
    return label, verdict, np.repeat(np.arange(questions), samples)


def read_part(random, label, n):
    return np.where(random.permutation(len(label)) < n, label, np.nan)


def simulate(seed, draws, questions, samples, n, rate, judge, alike, weight=None, alone=False):
    """[draws, (value, low, high, weight)]; alone: every answer is its own question, which is wrong if they are alike."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        label, verdict, of = answers(random, questions, samples, rate, judge, alike)
        of = np.arange(len(label)) if alone else of
        rows.append(debiased.prediction_powered(verdict, read_part(random, label, n), of, weight))
    return np.array(rows)


def coverage(rows, rate):
    return float(((rows[:, 1] <= rate) & (rate <= rows[:, 2])).mean())


SETTINGS = [
    # questions, samples, read, rate, judge, alike, and the width that the good judge must save
    (84, 1, 30, 0.5, GOOD, 0.0, 0.92),
    (300, 1, 60, 0.1, GOOD, 0.0, 0.90),
    (600, 1, 120, 0.3, GOOD, 0.0, 0.80),
    (600, 1, 60, 0.05, POOR, 0.0, 1.0),
    (84, 2, 60, 0.3, GOOD, 0.2, 0.90),
    (84, 4, 60, 0.05, GOOD, 0.2, 0.95),
    (84, 7, 120, 0.1, GOOD, 0.2, 0.90),
    (84, 7, 120, 0.5, GOOD, 0.2, 0.86),
    (84, 8, 30, 0.1, POOR, 0.2, 1.0),
]


@pytest.mark.parametrize(("questions", "samples", "n", "rate", "judge", "alike", "saves"), SETTINGS)
def test_the_interval_covers_and_is_narrower_than_labels_alone(questions, samples, n, rate, judge, alike, saves):
    tuned = simulate(1, 1500, questions, samples, n, rate, judge, alike)
    labels = simulate(1, 300, questions, samples, n, rate, judge, alike, weight=0.0)
    ratio = np.diff(tuned[:, 1:3]).mean() / np.diff(labels[:, 1:3]).mean()
    print(f"{questions} x {samples}, {n} read, rate {rate}: covered {coverage(tuned, rate):.3f}, width x {ratio:.2f}")
    assert 0.93 <= coverage(tuned, rate) <= 0.97
    assert ratio < saves
    assert abs(tuned[:, 0].mean() - rate) < 0.01


def test_thirty_labels_and_a_rare_label_cover_too_often_rather_than_too_seldom():
    rows = simulate(2, 1500, 84, 1, 30, 0.05, GOOD, 0.0)
    assert 0.93 <= coverage(rows, 0.05) <= 0.99


@pytest.mark.parametrize(
    ("questions", "samples", "n", "rate", "judge", "alike"),
    [(120, 1, 90, 0.2, (0.7, 0.9), 0.0), (450, 1, 40, 0.07, (0.9, 0.97), 0.0), (60, 5, 40, 0.4, (0.9, 0.97), 0.3)],
)
def test_settings_that_nothing_was_chosen_on_are_covered_too(questions, samples, n, rate, judge, alike):
    rows = simulate(101, 1000, questions, samples, n, rate, judge, alike)
    print(f"{questions} x {samples}, {n} read, rate {rate}, judge {judge}: covered {coverage(rows, rate):.3f}")
    assert 0.93 <= coverage(rows, rate) <= 0.99


@pytest.mark.parametrize(("questions", "rate"), [(8, 0.3), (12, 0.5)])
def test_few_questions_still_cover(questions, rate):
    assert 0.915 <= coverage(simulate(3, 1000, questions, 8, 50, rate, GOOD, 0.2), rate) <= 0.98


def test_the_judge_alone_does_not_cover():
    random = np.random.default_rng(4)
    covered = 0
    for draw in range(60):
        _, verdict, of = answers(random, 300, 1, 0.05, GOOD)
        _, low, high = intervals.rate(verdict, of, seed=draw)
        covered += low <= 0.05 <= high
    assert covered < 20


def test_ignoring_the_questions_does_not_cover():
    assert coverage(simulate(5, 600, 84, 8, 400, 0.3, GOOD, 0.5), 0.3) >= 0.93
    assert coverage(simulate(5, 600, 84, 8, 400, 0.3, GOOD, 0.5, alone=True), 0.3) < 0.85


def test_without_the_pseudo_labels_a_lucky_judge_is_trusted(monkeypatch):
    assert coverage(simulate(6, 600, 600, 1, 30, 0.05, GOOD, 0.0), 0.05) >= 0.93
    monkeypatch.setattr(debiased, "PSEUDO", 1e-6)
    assert coverage(simulate(6, 600, 600, 1, 30, 0.05, GOOD, 0.0), 0.05) < 0.92


def test_the_value_by_hand():
    judged, labels = [1, 1, 0, 0, 1, 0], [1, 0, None, 0, None, None]
    value, low, high, weight = debiased.prediction_powered(judged, labels, list("abcdef"), weight=1.0)
    assert (value, weight) == (pytest.approx(1 / 3 + 1 / 2 - 2 / 3), 1.0)
    assert low < value < high
    value, *_ = debiased.prediction_powered(judged, labels, list("abcdef"), weight=0.0)
    assert value == pytest.approx(1 / 3)


def test_the_weight_is_the_one_of_least_variance():
    random = np.random.default_rng(7)
    label, verdict, of = answers(random, 60, 4, 0.3, GOOD, 0.2)
    part = read_part(random, label, 80)
    _, _, _, weight = debiased.prediction_powered(verdict, part, of)
    first, second = debiased.influences(verdict, np.nan_to_num(part), ~np.isnan(part), of, 60)
    tried = np.linspace(0, 1, 1001)
    assert weight == pytest.approx(tried[((first + tried[:, None] * second) ** 2).sum(1).argmin()], abs=1e-3)


def test_a_judge_that_knows_nothing_is_given_no_weight():
    label, _, of = answers(np.random.default_rng(8), 100, 1, 0.4, GOOD)
    part = read_part(np.random.default_rng(9), label, 50)
    value, _, _, weight = debiased.prediction_powered(np.zeros(100), part, of)
    assert weight < 0.1
    assert value == pytest.approx(np.nanmean(part))


def test_a_judge_that_agrees_with_every_label_is_not_taken_for_perfect():
    label, _, of = answers(np.random.default_rng(10), 600, 1, 0.2, GOOD)
    _, low, high, weight = debiased.prediction_powered(label, read_part(np.random.default_rng(11), label, 40), of)
    assert 0.7 < weight < 1
    _, judge_low, judge_high = intervals.rate(label, of)
    assert high - low > 1.3 * (judge_high - judge_low)


def test_probabilities_do_as_verdicts():
    random = np.random.default_rng(12)
    chance = random.beta(0.5, 1.5, 500)
    label = (random.random(500) < chance).astype(float)
    value, low, high, weight = debiased.prediction_powered(chance, read_part(random, label, 100), np.arange(500))
    assert 0.7 < weight <= 1
    assert low < 0.25 < high
    assert value == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize("all_of", [0.0, 1.0])
def test_labels_and_verdicts_all_alike_leave_an_honest_interval(all_of):
    labels = [all_of] * 30 + [None] * 54
    value, low, high, _ = debiased.prediction_powered([all_of] * 84, labels, np.arange(84))
    bound = intervals.exact(0, 30)[1]
    assert value == all_of
    assert (low == 0 and bound <= high < 0.2) if all_of == 0 else (high == 1 and 0.8 < low <= 1 - bound)
    in_questions = debiased.prediction_powered([all_of] * 84, [all_of] * 84, np.repeat(np.arange(12), 7))
    assert in_questions[2] - in_questions[1] >= intervals.exact(0, 12)[1]


@pytest.mark.parametrize(
    ("judged", "labels", "clusters", "says"),
    [
        ([0, 1, 1], [None, None, None], "abc", "no labels"),
        ([0, 1, 1, 0], [0, 1, 1, None], "aabc", "three"),
        ([0, None, 1], [0, 1, 1], "abc", "verdict"),
        ([0, 80, 1], [0, 1, 1], "abc", "verdict"),
        ([0, 0, 1], [0, 30, 1], "abc", "labels are 0 or 1"),
    ],
)
def test_what_cannot_be_corrected_is_refused(judged, labels, clusters, says):
    with pytest.raises(ValueError, match=says):
        debiased.prediction_powered(judged, labels, list(clusters))


def test_rogan_gladen_by_hand_and_by_lang_and_reiczigel():
    judged, positive, negative = np.repeat([1, 0], [60, 140]), np.repeat([1, 0], [40, 10]), np.repeat([1, 0], [5, 45])
    read = np.concatenate([positive, negative])
    labels = np.repeat([1, 0], 50)
    value, low, high = debiased.rogan_gladen(judged, np.arange(200), read, labels, np.arange(100))
    assert value == pytest.approx((0.3 + 0.9 - 1) / (0.8 + 0.9 - 1))
    z, n, m = 1.959964, 199, 49  # the variance over clusters divides by one less
    share, yes, no = (n * 0.3 + z**2 / 2) / (n + z**2), (m * 0.8 + 1) / (m + 2), (m * 0.9 + 1) / (m + 2)
    middle = (share + no - 1) / (yes + no - 1)
    of_yes, of_no = yes * (1 - yes) / (m + 2), no * (1 - no) / (m + 2)
    shift = 2 * z**2 * (middle * of_yes - (1 - middle) * of_no)
    half = z * (share * (1 - share) / (n + z**2) + middle**2 * of_yes + (1 - middle) ** 2 * of_no) ** 0.5 / (yes + no - 1)
    assert (low, high) == pytest.approx((middle + shift - half, middle + shift + half))


@pytest.mark.parametrize(
    ("questions", "samples", "read_questions", "read_samples", "rate", "judge", "alike"),
    [(300, 1, 120, 1, 0.1, GOOD, 0.0), (84, 4, 60, 5, 0.3, GOOD, 0.2), (84, 8, 60, 5, 0.5, POOR, 0.2)],
)
def test_rogan_gladen_covers_when_the_reads_come_from_elsewhere(
    questions, samples, read_questions, read_samples, rate, judge, alike
):
    random = np.random.default_rng(13)
    covered = known = 0
    for _ in range(1000):
        _, verdict, of = answers(random, questions, samples, rate, judge, alike)
        read_label, read_verdict, read_of = answers(random, read_questions, read_samples, 0.35, judge, alike)
        _, low, high = debiased.rogan_gladen(verdict, of, read_verdict, read_label, read_of)
        covered += low <= rate <= high
        share, n = debiased.effective(verdict, np.arange(len(verdict)))
        yes, no = read_verdict[read_label == 1].mean(), 1 - read_verdict[read_label == 0].mean()
        half = 1.96 * (share * (1 - share) / n) ** 0.5 / (yes + no - 1)
        known += abs((share + no - 1) / (yes + no - 1) - rate) <= half
    assert 0.93 <= covered / 1000 <= 0.975
    assert known / 1000 < 0.9  # sensitivity and specificity taken for known, and answers for independent


def test_rogan_gladen_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="no better than chance"):
        debiased.rogan_gladen([0, 1], ["a", "b"], [1, 0, 1, 0], [1, 1, 0, 0], list("abcd"))
    with pytest.raises(ValueError, match="both labels"):
        debiased.rogan_gladen([0, 1], ["a", "b"], [1, 0], [1, 1], ["a", "b"])


def test_rogan_gladen_stays_within_0_and_1():
    read, labels = [1] * 9 + [0] + [0] * 8 + [1] * 2, [1] * 10 + [0] * 10
    value, low, high = debiased.rogan_gladen([0] * 50, np.arange(50), read, labels, np.arange(20))
    assert (value, low) == (0, 0)
    assert 0.01 < high < 0.3
    value, low, high = debiased.rogan_gladen([1] * 50, np.arange(50), read, labels, np.arange(20))
    assert (value, high) == (1, 1)
    assert 0.5 < low < 0.99
