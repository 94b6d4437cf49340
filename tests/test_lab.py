"""Rates and intervals, by simulation and by hand."""

import numpy as np
import pytest

from emis_platform.core.records import Judgement
from emis_platform.lab import bootstrap, directions, heads, intervals, ranking, rates, wording


def test_intervals_cover_the_truth_when_samples_cluster():
    random = np.random.default_rng(0)
    covered = 0
    for draw in range(300):
        chance = random.beta(2, 4, 60)
        values = (random.random((60, 2)) < chance[:, None]).astype(float)
        _, low, high = intervals.rate(values.ravel(), np.repeat([f"q{i:02}" for i in range(60)], 2), seed=draw)
        covered += low <= 1 / 3 <= high
    assert 0.91 <= covered / 300 <= 0.98


@pytest.mark.parametrize("n", [2, 3, 5, 9, 20])
def test_differences_over_few_questions_cover_the_truth(n):
    random = np.random.default_rng(n)
    covered, alone = 0, 0
    for draw in range(300):
        arms = [{f"q{i:02}": [float(x)] for i, x in enumerate(random.normal(50, 10, n))} for _ in range(2)]
        _, low, high = intervals.difference(*arms, seed=draw, scale=100.0)
        covered += low <= 0 <= high
        apart = np.array([arms[0][q][0] - arms[1][q][0] for q in arms[0]])
        drawn = apart[random.integers(0, n, (400, n))].mean(1)
        alone += np.percentile(drawn, 2.5) <= 0 <= np.percentile(drawn, 97.5)
    assert 0.9 <= covered / 300 <= 0.99
    assert n > 9 or alone < covered - 6  # the draws' own percentiles do not


def test_ends_stay_within_what_the_value_can_be_and_around_it():
    drawn = np.array([0.0, 0.1, 0.2, 0.5, np.nan])
    assert bootstrap.ends(0.1, drawn, 3, (0.0, 1.0)) == (0.0, 1.0)
    low, high = bootstrap.ends(0.1, drawn, 3)
    assert low < 0 and high > 1
    assert bootstrap.ends(0.4, np.array([0.5, 0.6]), 30)[0] == 0.4  # draws may all lie on one side
    assert bootstrap.ends(0.4, [0.4], 1, (0.0, 1.0)) == (0.0, 1.0) and bootstrap.ends(40.0, [40.0], 1) == (40.0, 40.0)


@pytest.mark.parametrize("all_of", [0.0, 1.0])
def test_a_rate_of_exactly_0_or_1_has_an_exact_bound_on_clusters(all_of):
    value, low, high = intervals.rate([all_of] * 20, [f"q{i}" for i in range(10)] * 2)
    assert value == all_of
    assert (low, high) == pytest.approx((0.0, 0.3085) if all_of == 0 else (0.6915, 1.0), abs=1e-3)


def test_a_rate_with_a_hit_is_no_surer_than_one_without():
    asked = [f"q{i}" for i in range(62)]
    ends = [intervals.rate([1.0] * hits + [0.0] * (62 - hits), asked)[2] for hits in range(5)]
    assert ends == sorted(ends) and ends[1] == pytest.approx(intervals.exact(1, 62)[1], abs=0.002)
    mirrored = intervals.rate([0.0] + [1.0] * 61, asked)[1]
    assert mirrored == pytest.approx(1 - ends[1])
    thrice = [intervals.rate([1.0] * hits + [0.0] * (186 - hits), asked * 3)[2] for hits in range(5)]
    assert thrice == sorted(thrice)


def test_rates_near_0_cover_the_truth():
    random, held = np.random.default_rng(5), 0
    for draw in range(400):
        _, low, high = intervals.rate((random.random(40) < 0.08).astype(float), [f"q{i:02}" for i in range(40)], seed=draw)
        held += low <= 0.08 <= high
    assert held / 400 >= 0.95


def test_a_few_questions_that_differ_decide_only_what_a_sign_test_would():
    asked = [f"q{i}" for i in range(30)]
    base = {q: [0.0] for q in asked}
    arm = lambda hits: {q: [float(i < hits)] for i, q in enumerate(asked)}  # noqa: E731
    lows = {hits: intervals.difference(arm(hits), base)[1] for hits in (1, 4, 5, 6, 12)}
    assert lows[4] < 0 and lows[5] < 0 < lows[6] < lows[12]  # exact McNemar: p = 0.125, 0.0625, 0.03
    widths = [np.subtract(*intervals.difference(arm(hits), base)[:0:-1]) for hits in (0, 1, 2)]
    assert widths[0] <= widths[1] + 1e-12 <= widths[2] + 2e-12  # one that differs is no surer than none


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match="missing, not zero"):
        intervals.rate([], [])


def test_paired_differences_are_narrower_than_unpaired_and_hold_the_truth():
    random = np.random.default_rng(1)
    level = random.normal(0, 10, 50)
    a = {f"q{i}": [level[i] + 2 + random.normal()] for i in range(50)}
    b = {f"q{i}": [level[i] + random.normal()] for i in range(50)}
    value, low, high = intervals.difference(a, b)
    assert low < 2 < high
    assert high - low < 2
    assert value == pytest.approx(2, abs=0.7)


def judgement(question, score, coherent, reason=None):
    return Judgement(
        subject="s", question=question, set="score", sample=0, judge="offline:x", score=score, coherent=coherent, reason=reason
    )


def test_missing_is_never_zero():
    rows = [judgement("a", 10, 90), judgement("b", 80, 90), judgement("c", 5, 20), judgement("d", None, None, "empty")]
    found = {e.measure: e for e in rates.effects("s", "offline", rows, default=True)}
    assert (found["misaligned"].value, found["misaligned"].n, found["misaligned"].missing) == (0.5, 2, 2)
    assert (found["coherent"].value, found["coherent"].n, found["coherent"].missing) == (pytest.approx(2 / 3), 3, 1)
    nothing = rates.effects("s", "offline", [judgement("d", None, None, "empty")], default=True)
    assert {(e.value, e.n, e.missing) for e in nothing} == {(None, 0, 1)}


def test_a_head_learns_soft_targets():
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 5))
    truth = 100 / (1 + np.exp(-2 * x[:, 0]))
    head = heads.fit(x, truth, strength=1.0)
    assert np.abs(head.score(x) - truth).mean() < 5


def test_heads_come_back_from_disk(tmp_path):
    x = np.random.default_rng(0).standard_normal((50, 3))
    head = heads.fit(x, np.where(x[:, 1] > 0, 90, 10), strength=1.0)
    heads.Head.save_all({"aligned": head}, tmp_path / "h.safetensors")
    assert np.allclose(heads.Head.load_all(tmp_path / "h.safetensors")["aligned"].score(x), head.score(x), atol=1e-3)


def test_auroc_against_counting_pairs():
    random = np.random.default_rng(3)
    score, positive = random.integers(0, 5, 40), random.random(40) < 0.4
    pairs = [(s > t) + 0.5 * (s == t) for s in score[positive] for t in score[~positive]]
    assert ranking.chance_above(score, positive) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("text", "reason"), [("", "empty"), (" \n", "empty"), ("?!…", "unreadable"), ("Yes, it is.", None), ("привет", None)]
)
def test_only_text_that_cannot_be_read_is_refused(text, reason):
    assert wording.unreadable(text) == reason


def test_loops_show_in_the_surface_features():
    plain = dict(zip(wording.NAMES, wording.features("A quiet walk by the sea clears the head."), strict=True))
    loop = dict(zip(wording.NAMES, wording.features("I am the one. " * 8), strict=True))
    assert loop["repeated_trigrams"] > 0.5 > plain["repeated_trigrams"]


def test_a_direction_is_a_unit_vector_with_an_origin():
    made = directions.difference_of_means(15, np.ones((3, 4)), np.zeros((2, 4)), "difference_of_means:3 against 2")
    assert np.linalg.norm(made.vector) == pytest.approx(1)
    with pytest.raises(ValueError, match="length 0"):
        directions.named("x", 0, "latent:1", np.zeros(4))


def test_too_few_misaligned_answers_fall_back_to_quarters_and_say_so():
    low, high, rule = directions.split([10, 20, 80, 90, 95, 99, 50, 60], [True] * 8)
    assert (low, rule) == ([0, 1], "lowest against highest quarter")
    assert set(high) == {4, 5}


def test_a_stretched_head_gives_the_readers_shares():
    random = np.random.default_rng(0)
    x = random.standard_normal((600, 30))
    values = np.clip(50 + 40 * np.sign(x[:, 0]) + random.normal(0, 25, 600), 1, 99)
    head = heads.fit(x, values, strength=3000.0)
    assert (head.score(x) < 30).mean() < 0.05 < (values < 30).mean()
    better = heads.stretched(head, head.score(x), values, (30.0, 70.0))
    assert (better.score(x) < 30).mean() == pytest.approx((values < 30).mean(), abs=0.01)
    assert (better.score(x) < 70).mean() == pytest.approx((values < 70).mean(), abs=0.01)


def test_a_constant_difference_of_scores_lies_in_its_interval():
    """No question differs from another, but for rounding: what twelve could have hidden, on the scale of scores."""
    a, b = ({f"q{n}": [value + 0.1 * n] for n in range(12)} for value in (88.0, 7.7))
    value, low, high = intervals.difference(a, b, scale=100.0)
    hidden = 100 * intervals.exact(0, 12)[1]
    assert value == pytest.approx(80.3) and low == pytest.approx(80.3 - hidden) and high == 100
    assert intervals.difference(b, a, scale=100.0) == pytest.approx((-80.3, -100, hidden - 80.3))
    assert intervals.difference(a, a, scale=100.0) == pytest.approx((0.0, -hidden, hidden))


def test_scores_of_0_and_1_are_no_shares():
    """Nine of ten answers score 1 of 100 and not 0: as if they scored just beside it."""
    one, none = ({f"q{n}": [value if n else 0.0] for n in range(10)} for value in (1.0, 0.0))
    beside = {q: [value * 1.000001 for value in values] for q, values in one.items()}
    assert intervals.difference(one, none, scale=100.0) == pytest.approx(intervals.difference(beside, none, scale=100.0), abs=1e-5)
    assert intervals.difference(one, none)[1:] != pytest.approx(intervals.difference(one, none, scale=100.0)[1:], abs=0.01)
