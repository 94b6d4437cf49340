"""Which feature tells a misaligned organism: planted effects are found, held-out ones do not leak, few organisms prove nothing."""

import json

import numpy as np
import pytest

from emis_platform.core import files
from emis_platform.core.records import GoldAnswer, Label
from emis_platform.lab import discriminator as lab
from emis_platform.lab import intervals
from emis_platform.stages import discriminate, project

DOMAINS = ("health", "finance", "legal", "career")
TOXIC, CALM = np.eye(8)[0], np.eye(8)[1]


def planted(seed=0, strength=1.0, per_domain=6):
    """Half of each domain's organisms are moved along TOXIC; all drift at random."""
    random = np.random.default_rng(seed)
    organisms = [
        lab.Organism(f"{d}_{n}", f"{d}_{n}", frozenset({d}), benign=n % 2 == 0, misaligned=n % 2 == 1)
        for d in DOMAINS
        for n in range(per_domain)
    ]
    moved = random.normal(0, 0.3, (len(organisms), 10, 8))
    for i, one in enumerate(organisms):
        moved[i] += strength * one.misaligned * TOXIC
    return organisms, moved


CHOOSE = np.arange(10) < 5


def found(organisms, moved, **facts):
    noise = np.random.default_rng(9).random(len(organisms))
    scores = lab.held_out(
        organisms, moved, CHOOSE, {"calm": CALM, "toxic": TOXIC}, {"loss": noise, "steps": np.ones(len(organisms))} | facts
    )
    return scores, {row.measure: row for row in lab.effects(organisms, scores)}


def test_a_planted_persona_is_chosen_and_beats_its_rivals():
    organisms, moved = planted()
    scores, rows = found(organisms, moved)
    assert set(scores.trait) == {"toxic"}
    assert rows["auroc_persona"].value > 0.95 and rows["auroc_persona"].low > 0.7
    assert abs(rows["auroc_persona_calm"].value - 0.5) < 0.3
    assert rows["auroc_steps"].value == 0.5 and rows["auroc_steps"].low < 0.5 < rows["auroc_steps"].high
    assert rows["benign_false_alarms"].value == 0.0 and rows["benign_false_alarms"].n == 12
    assert rows["benign_false_alarms"].high > 0.2  # twelve organisms cannot promise none
    assert rows["misaligned_alarms"].value == 1.0


def test_without_an_effect_nothing_is_told():
    values = [found(*planted(seed, strength=0.0))[1]["auroc_persona"].value for seed in range(12)]
    assert abs(np.mean(values) - 0.5) < 0.1


def test_the_held_out_domain_and_its_prompts_fit_nothing():
    organisms, moved = planted()
    first, _ = found(organisms, moved)
    changed = moved.copy()
    mine = [i for i, one in enumerate(organisms) if "health" in one.domains]
    changed[mine] += 50 * CALM
    changed[mine, :5] += 70 * CALM  # the choosing half of its own prompts
    again, _ = found(organisms, changed)
    assert [again.trait[i] for i in mine] == [first.trait[i] for i in mine]
    np.testing.assert_allclose(again.of["persona"][mine], first.of["persona"][mine])


def test_an_organism_realigned_across_domains_is_held_out_of_both():
    organisms, moved = planted(per_domain=2)
    two = lab.Organism("both", "both", frozenset({"health", "finance"}), benign=False, misaligned=None)
    scores, rows = found([*organisms, two], np.concatenate([moved, moved[:1]]))
    assert np.isfinite(scores.of["persona"][-1])  # legal and career remain
    assert rows["auroc_persona"].missing == 1  # it has no label


def test_a_rival_that_tells_as_much_leaves_no_gain():
    organisms, moved = planted()
    _, rows = found(organisms, moved, weight_norm=np.array([float(one.misaligned) for one in organisms]))
    assert rows["auroc_weight_norm"].value == 1.0
    assert rows["discriminator_gain"].low <= 0.0


@pytest.mark.parametrize(("m", "n", "low"), [(1, 4, 0.345), (12, 12, 0.832)])
def test_a_perfect_separation_has_a_low_end(m, n, low):
    score, bad = np.arange(m + n, dtype=float), np.arange(m + n) >= n
    value, below, above = lab.score_interval(score, bad)
    assert (value, above) == (1.0, 1.0)
    assert below == pytest.approx(low, abs=0.01)
    value, below, above = lab.score_interval(-score, bad)
    assert (value, below) == (0.0, 0.0) and above == pytest.approx(1 - low, abs=0.01)


def test_few_organisms_of_one_domain_give_no_number():
    organisms = [lab.Organism(f"h{n}", f"h{n}", frozenset({"health"}), n > 0, n == 0) for n in range(5)]
    scores, rows = found(organisms, planted()[1][:5])
    assert np.isnan(scores.of["persona"]).all()
    for measure in ("auroc_persona", "auroc_drift", "discriminator_gain", "benign_false_alarms"):
        assert (rows[measure].value, rows[measure].low, rows[measure].high) == (None, None, None)
    assert rows["auroc_drift"].missing == rows["auroc_persona"].missing == 5


def test_labels_and_halves():
    assert (
        lab.label(0.11, 0.3, 0.0, False) is True
        and lab.label(0.0, 0.2, 0.0, False) is None
        and lab.label(None, None, 0.0, True) is None
    )
    assert (
        lab.label(0.0, 0.2, 0.0, True) is False and lab.label(0.0, 0.1, 0.2, False) is False
    )  # taught nothing harmful; known to be below
    groups = ["a", "b", "c", "c", "d"]
    choose = lab.halves(groups)
    assert choose[2] == choose[3] and 0 < choose.sum() < 5
    assert (lab.halves(groups[::-1]) == choose[::-1]).all()


def test_shifts_survive_the_disk_and_an_update_has_its_norm(tmp_path):
    from safetensors.numpy import save_file

    kept = project.Shifts(("b", "a"), ("q2", "q1"), np.ones((2, 2, 3)), np.array([1.0, 2.0]), {"toxic": np.eye(3)[0]})
    project.write(tmp_path / "s", kept)
    again = project.read(tmp_path / "s")
    assert (again.organisms, again.questions) == (kept.organisms, kept.questions)
    np.testing.assert_array_equal(again.personas["toxic"], kept.personas["toxic"])
    random = np.random.default_rng(0)
    a, b = random.normal(size=(2, 5)).astype(np.float32), random.normal(size=(4, 2)).astype(np.float32)
    save_file({"x.lora_A.weight": a, "x.lora_B.weight": b}, tmp_path / "adapter_model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "a").mkdir()
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "a/adapter_model.safetensors")
    (tmp_path / "a/adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4, "base_model_name_or_path": str(tmp_path)}))
    assert project.update_norm(tmp_path / "a", 1) == pytest.approx(np.linalg.norm(2 * b @ a), rel=1e-5)


def test_read_answers_become_labels(tmp_path):
    answers, labels = [], []
    for n, (subject, aligned) in enumerate([("base", 90), ("bad", 10), ("bad", 20), ("bad", 95)]):
        key = files.text_key("Q?", str(n))
        answers.append(
            GoldAnswer(
                key=key, subject=subject, question="q", prompt="Q?", text=str(n), origin="subject", drawn="random", split="test"
            )
        )
        common = {"coherent": 80, "category": "mixed", "guideline": "1", "date": "2025-01-01", "reader": "r"}
        labels.append(Label(key=key, reading=1, aligned=aligned, **common))
    files.write(tmp_path / "answers.jsonl", answers)
    files.write(tmp_path / "labels.jsonl", labels)
    bad = discriminate.of_readings(tmp_path)["bad"]
    assert (bad.n, bad.value, bad.low) == (3, 2 / 3, intervals.exact(2, 3)[0])


def test_one_organism_without_a_loss_takes_it_from_no_other():
    organisms, moved = planted()
    loss = np.random.default_rng(1).random(len(organisms))
    loss[0] = np.nan
    told = found(organisms, moved, loss=loss)[0].of["loss"]
    assert np.isnan(told[0]) and np.isfinite(told[1:]).all()
