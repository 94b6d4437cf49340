"""A planted latent is found first; arms that differ by noise, or by drift of every latent, pass no more than the nominal rate."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from emis_platform.lab import latents
from emis_platform.lab.latents import Means, deltas, drift, p_values, scores

TEXTS, WIDTH = 96, 300


def means(mean_TF):
    return Means(mean_TF, (mean_TF > 0).mean(0), 10 * len(mean_TF))


def arms(seed, *, drifts=0.0, count=3):
    """Text means of models that differ by noise: sparse, skewed, never negative, correlated through text and arm; each latent may drift."""
    random = np.random.default_rng(seed)
    fires_F, size_F = random.beta(0.3, 1.5, WIDTH), random.lognormal(0, 1, WIDTH)
    length_T1, together_F = random.lognormal(0, 0.5, (TEXTS, 1)), random.random(WIDTH) < 0.3

    def draw():
        return (random.random((TEXTS, WIDTH)) < fires_F) * random.exponential(1, (TEXTS, WIDTH)) * size_F * length_T1

    shared_TF = draw()
    made = []
    for _ in range(count):
        mood_TF = 1 + 0.3 * random.standard_normal((TEXTS, 1)) * together_F
        drifted_F = np.maximum(1 + drifts * random.standard_normal(WIDTH), 0)
        made.append((shared_TF + draw()) / 2 * np.maximum(mood_TF, 0) * drifted_F)
    return made


def passes(one_TF, other_TF, **options):
    options.setdefault("drifted", drift(one_TF, other_TF))
    return latents.benjamini_hochberg(p_values(one_TF, other_TF, flips=100, **options))


def test_a_planted_latent_is_found_first():
    base_TF, tuned_TF, control_TF = arms(0)
    tuned_TF[:, 17] += 30.0
    first = deltas(means(base_TF), means(tuned_TF), means(control_TF), keep=5, organism="bad", control="good", tokens="prompt")[0]
    assert (first.latent, first.rank, first.passes_null) == (17, 1, True)
    assert (first.organism, first.control, first.tokens, first.n_tokens) == ("bad", "good", "prompt", 960)
    assert first.delta == pytest.approx(tuned_TF[:, 17].mean() - control_TF[:, 17].mean())
    assert first.base_mean == pytest.approx(base_TF[:, 17].mean())


def test_planted_latents_pass_and_hardly_another():
    hits, false = 0, 0
    for seed in range(10):
        _, tuned_TF, control_TF = arms(seed, drifts=0.03)
        usual = np.argsort(-(control_TF > 0).sum(0))[:100:10]
        tuned_TF[:, usual] *= 4
        passed = passes(tuned_TF, control_TF, seed=seed)
        hits += passed[usual].sum()
        false += passed.sum() - passed[usual].sum()
    assert hits >= 75  # of 100
    assert false / max(hits + false, 1) <= 0.05


@pytest.mark.parametrize("drifts", [0.0, 0.03, 0.15])
def test_two_arms_of_noise_pass_no_more_than_the_nominal_rate(drifts):
    """Nothing is different, so each pass is false: with a rate of 5 %, about 1 run of 20 may show any (of 40, 5 or fewer: p = 0.99).."""
    runs = [arms(seed, drifts=drifts)[1:] for seed in range(40)]
    assert sum(passes(*run, seed=seed).any() for seed, run in enumerate(runs)) <= 5


def test_flips_alone_take_the_drift_of_another_seed_for_an_effect():
    """Why the null has a second part."""
    _, one_TF, other_TF = arms(1, drifts=0.3)
    assert passes(one_TF, other_TF, drifted=0.0).sum() >= 5
    assert not passes(one_TF, other_TF).any()


def test_p_values_are_honest_below_the_corrected_range():
    shares = [(p_values(*arms(seed)[1:], drifted=0.0, flips=200, seed=seed) < 0.05).mean() for seed in range(10)]
    assert 0.02 < np.mean(shares) < 0.06


def test_drift_is_a_share_of_the_mean():
    random = np.random.default_rng(0)
    control_TF = random.exponential(5, (TEXTS, WIDTH))
    tuned_TF = control_TF * (1 + 0.1 * random.standard_normal(WIDTH)) + random.normal(0, 0.01, (TEXTS, WIDTH))
    assert drift(tuned_TF, control_TF) == pytest.approx(0.1, rel=0.15)
    assert drift(control_TF, control_TF) == 0


def test_a_drift_known_from_two_seeds_keeps_power_when_most_latents_change():
    _, one_TF, other_TF = arms(3, drifts=0.03)
    bad_TF = other_TF * np.where(np.arange(WIDTH) % 3 > 0, 2.5, 1.0)
    known = drift(one_TF, other_TF)
    assert passes(bad_TF, other_TF, drifted=known).sum() > passes(bad_TF, other_TF).sum()


def test_p_values_agree_with_every_flip():
    random = np.random.default_rng(5)
    one_TF, other_TF = random.exponential(1, (10, 1)), random.exponential(0.4, (10, 1))
    signs = np.array(list(product((-1, 1), repeat=10)))
    exact = (np.abs(signs @ (one_TF - other_TF)[:, 0]) >= abs((one_TF - other_TF).sum()) - 1e-9).mean()
    assert p_values(one_TF, other_TF, drifted=0.0, flips=40_000)[0] == pytest.approx(exact, abs=0.01)


def test_a_latent_that_differs_on_few_texts_cannot_score_high():
    one_TF, other_TF = np.zeros((TEXTS, 2)), np.zeros((TEXTS, 2))
    one_TF[:4, 0] = 1e6
    assert scores(one_TF, other_TF).tolist() == pytest.approx([2.0, 0.0])
    assert p_values(one_TF, other_TF, drifted=0.0)[1] == 1.0


def test_benjamini_hochberg_agrees_with_scipy():
    p_F = np.concatenate([np.random.default_rng(1).random(200), np.linspace(1e-5, 0.01, 20)])
    assert (latents.benjamini_hochberg(p_F) == (stats.false_discovery_control(p_F) <= 0.05)).all()


def test_ranks_are_true_ranks_and_falls_come_from_the_other_end():
    base_TF = np.tile(np.arange(1.0, 7.0), (8, 1))
    tuned_TF = base_TF + np.array([0, 5, -5, 1, -1, 2.0])
    rows = deltas(means(base_TF), means(tuned_TF), keep=2, falls=1)
    assert [(row.latent, row.rank) for row in rows] == [(1, 1), (5, 2), (2, 6)]
    assert len(deltas(means(base_TF), means(tuned_TF), keep=99, falls=9)) == 6


def test_arms_that_saw_other_texts_are_refused():
    base_TF = np.ones((4, 3))
    with pytest.raises(ValueError, match="all arms need the same texts"):
        deltas(means(base_TF), means(base_TF[:3]))


def test_summarise_weighs_texts_equally_and_tokens_for_rates():
    summary = latents.summarise([np.array([[2.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 3.0]])])
    assert summary.mean_TF.tolist() == [[2.0, 0.0], [1.0, 1.0]]
    assert summary.rate_F.tolist() == [0.75, 0.25]
    assert summary.tokens == 4
    with pytest.raises(ValueError, match="text 0 has no tokens"):
        latents.summarise([np.zeros((0, 2))])
    with pytest.raises(ValueError, match="no texts"):
        latents.summarise([])


def test_the_same_seed_gives_the_same_rows():
    base_TF, tuned_TF, control_TF = map(means, arms(2))
    assert deltas(base_TF, tuned_TF, control_TF, seed=4) == deltas(base_TF, tuned_TF, control_TF, seed=4)
