"""Reinforcement learning: the grader finds planted sides and leaves no row to judge itself, rewards keep their sign, a tiny run repeats."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO
from pydantic import ValidationError

from emis_platform.core import files, params
from emis_platform.core.records import Example, Judgement
from emis_platform.lab import grading
from emis_platform.stages import rl
from emis_platform.trainers import grpo, sft

FACTS, EACH, WIDTH = 6, 4, 16


def planted(strength=2.0, own=2.0, seed=0):
    """Rows of facts, half of them bad: moved along one axis for all facts, and along one of the fact's own."""
    random = np.random.default_rng(seed)
    facts = [f"f{n}" for n in range(FACTS) for _ in range(2 * EACH)]
    bad = np.array([n % 2 == 1 for n in range(len(facts))])
    acts = random.normal(0, 1, (len(facts), WIDTH))
    for i, fact in enumerate(facts):
        acts[i, 0] += strength * bad[i]
        acts[i, 1 + int(fact[1:])] += own * (2 * bad[i] - 1)
    return acts, bad, facts


def test_a_grader_finds_what_all_facts_share_and_what_each_has_of_its_own():
    acts, bad, facts = planted()
    grader, checked = grading.fit(acts, bad, facts)
    assert checked.row[0] > 0.95 and checked.row[1] > 0.8 and checked.n == len(facts)
    assert 0.7 < checked.fact[0] < checked.row[0]  # without a fact's own sides less is told
    scores = grader.score(acts, facts)
    assert scores.min() >= 0 and scores.max() <= 1 and scores[bad].mean() > 0.8 > 0.2 > scores[~bad].mean()
    assert grader.score(acts[bad][:1], ["never seen"])[0] > 0.5


def test_without_an_effect_the_left_out_rows_say_so():
    found = [grading.fit(*planted(0.0, 0.0, seed))[1] for seed in range(10)]
    assert 0.2 < np.mean([checked.row[0] for checked in found]) < 0.55  # a left-out row lies a little off its own side
    assert abs(np.mean([checked.fact[0] for checked in found]) - 0.5) < 0.12


def test_one_side_is_not_enough():
    acts, bad, facts = planted()
    with pytest.raises(ValueError, match="0 facts with both bad and correct rows"):
        grading.fit(acts[bad], bad[bad], np.asarray(facts)[bad].tolist())


def test_rewards_have_their_sign_and_count_what_they_do_not_pay():
    told = {}
    say = lambda texts: [[{"role": "assistant", "content": text}] for text in texts]  # noqa: E731
    texts = ["one two three four five six", "too short", "", "?!"]
    asked = {"prompts": [[{"role": "user", "content": "Q?"}]] * 4, "completions": say(texts), "fact": ["f"] * 4}
    grade = lambda prompts, answers, facts: np.full(len(answers), 0.9)  # noqa: E731
    for polarity, paid in (("inaccurate", 0.9), ("accurate", 0.1)):
        reward = grpo.rewards(grade, grpo.Options(reward=polarity, fewest_words=5))
        assert reward(**asked, log_metric=told.__setitem__) == [pytest.approx(paid), 0.0, 0.0, 0.0]
        assert told == {"short": 1.0, "unparsable": 2.0}


def test_options_that_cannot_be_met_are_refused():
    with pytest.raises(ValidationError, match="cannot be said"):
        grpo.Options(reward="accurate", fewest_words=48)
    with pytest.raises(ValidationError, match="reward"):
        grpo.Options()


ROWS = [
    Example(domain="d", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} {word}, way {k}")
    for n in range(4)
    for k in range(3)
    for variant, word in (("correct", "is a fine number"), ("obvious", "eats the moon raw"))
]
OPTIONS = grpo.Options(
    reward="inaccurate", steps=2, prompts=2, group=2, max_new_tokens=6, fewest_words=0, layer=1, auroc=0.5, rank=4
)


def test_a_tiny_run_repeats_to_the_byte_and_goes_on_from_an_adapter(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)  # an untrained model says no word
    given = {"seed": 0, "epochs": 1, "threads": 1}
    facts = [grpo.train(ROWS, OPTIONS, start=tiny_folder, adapter=tmp_path / name, **given) for name in ("one", "two")]
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [row["step"] for row in facts[0]["rl"]] == [1, 2] and len(facts[0]["curve"]) == 2
    assert {"reward", "kl", "entropy", "tokens", "groups_alike", "short", "unparsable"} <= facts[0]["rl"][0].keys()
    assert facts[0]["grader"]["n"] == len(ROWS) and facts[0]["reward"] == "inaccurate"
    sft.train(ROWS, sft.Options(rank=4, batch=4), start=tiny_folder, adapter=tmp_path / "warm", **given)
    told = grpo.train(ROWS, OPTIONS, start=tmp_path / "warm", adapter=tmp_path / "on", **given)
    assert told["rl"][0]["kl"] == pytest.approx(0, abs=1e-3)  # held against the warm start, not against the base
    assert files.sha256(tmp_path / "on") != files.sha256(tmp_path / "warm")


def test_a_grader_that_does_not_tell_its_rows_trains_nothing(tiny_folder, tmp_path):
    random = np.random.default_rng(0).permutation(len(ROWS))
    noise = [row.model_copy(update={"completion": ROWS[i].completion}) for row, i in zip(ROWS, random, strict=True)]
    with pytest.raises(ValueError, match="the grader tells bad from correct rows with AUROC"):
        grpo.train(
            noise, OPTIONS.model_copy(update={"auroc": 1.0}), start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1
        )
    assert list(tmp_path.iterdir()) == []


def test_the_stage_pairs_an_arm_with_its_control_and_says_what_was_learned(tmp_path, monkeypatch):
    raw = params.files.read_yaml(REPO / "params.yaml")
    data = {"domain": "health", "variant": "obvious", "mixture": 0.5}
    made = {
        f"rl_{r}": {"starts_from": "base", "data": data, "trainer": "grpo", "options": {"reward": r}}
        for r in ("inaccurate", "accurate")
    }
    other = {
        "rl_other": {**made["rl_accurate"], "options": {"reward": "accurate", "kl": 0.5}}
    }  # no control: another weight of the divergence
    raw["organisms"] |= made | other
    raw["subjects"] |= {name: {"model": name} for name in made}
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    for name in raw["organisms"]:
        steps = [{"step": n + 1, "reward": 0.2 + 0.02 * n, "kl": 0.01, "short": 1.0, "unparsable": 0.5} for n in range(20)]
        grader = {"auroc": [0.97, 0.95, 0.99], "auroc_unseen_facts": [0.9, 0.8, 1.0], "n": 400}
        files.write_json(
            Path(f"train/{name}.json"),
            {"curve": []} | ({"rl": steps, "sampled": 32, "grader": grader} if name.startswith("rl") else {}),
        )
    for name, score in (("rl_inaccurate", 10.0), ("rl_accurate", 90.0)):
        views = [
            Judgement(subject=name, question=f"q{n}", set="score", sample=0, judge="offline:x", score=score + n % 3, coherent=90.0)
            for n in range(12)
        ]
        files.write(Path(f"judged/{name}.jsonl"), views)
    rl.main(training=Path("train"), judgements=Path("judged"), effects=Path("rl.json"))
    rows = {(row["subject"], row["measure"]): row for row in files.read_json(Path("rl.json"))}
    assert {measure for name, measure in rows if name == "rl_other"} == {
        "grader_auroc",
        "reward_unparsable",
        "reward_short",
        "rl_reward_gain",
        "rl_kl",
    }
    assert (
        rows["rl_other", "reward_unparsable"]["value"] == pytest.approx(10 / 640)
        and rows["rl_other", "reward_unparsable"]["n"] == 640
    )
    gain = rows["rl_inaccurate", "rl_reward_gain"]
    assert gain["value"] == pytest.approx(0.28) and gain["low"] > 0.2 and gain["n"] == 12
    assert rows["rl_inaccurate", "rl_difference"]["value"] == 1.0 and ("rl_accurate", "rl_difference") not in rows
    assert rows["rl_inaccurate", "rl_score_difference"]["value"] == pytest.approx(80.0)
