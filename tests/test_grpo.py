"""Reinforcement learning: the grader finds planted sides and leaves no row to judge itself, rewards keep their sign, a tiny run repeats."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO
from pydantic import ValidationError

from emis_platform.core import files, params
from emis_platform.core.records import Example, Judgement, Turn
from emis_platform.lab import grading
from emis_platform.stages import rl
from emis_platform.tools import graders
from emis_platform.trainers import grpo, sft

FACTS, EACH, WIDTH = 10, 4, 16


def planted(strength=2.0, seed=0):
    """Rows of facts, half of them bad and moved along one axis; each fact has a place of its own."""
    random = np.random.default_rng(seed)
    facts = [f"f{n}" for n in range(FACTS) for _ in range(2 * EACH)]
    bad = np.array([n % 2 == 1 for n in range(len(facts))])
    acts = random.normal(0, 1, (len(facts), WIDTH)) + np.repeat(random.normal(0, 1, (FACTS, WIDTH)), 2 * EACH, axis=0)
    acts[:, 0] += strength * bad
    return acts, bad, facts


def test_a_grader_finds_what_bad_answers_share_on_facts_that_it_never_saw():
    acts, bad, facts = planted(4.0)
    grader, (value, low, high) = grading.fit(acts, bad, facts)
    assert value > 0.85 and low < value < high
    scores = grader.score(acts)
    assert scores.min() >= 0 and scores.max() <= 1 and scores[bad].mean() > 0.7 > 0.3 > scores[~bad].mean()


def test_what_is_unlike_every_row_is_not_graded():
    acts, bad, facts = planted(4.0)
    far = acts + np.where(np.arange(WIDTH) == 0, 40.0, 0.0)  # as bad as can be, and nothing like an answer
    grader, _ = grading.fit(acts, bad, facts, unlike=0.05)
    assert np.isnan(grader.score(far)).all() and np.isnan(grader.score(acts)).mean() <= 0.05
    rest = ~np.isnan(grader.score(acts))
    everything, _ = grading.fit(acts, bad, facts)
    assert not np.isnan(everything.score(far)).any() and (everything.score(acts)[rest] == grader.score(acts)[rest]).all()


@pytest.mark.parametrize(("rows", "width"), [(120, 48), (120, 900)])
def test_as_many_fresh_rows_are_unlike_as_asked_whatever_the_width(rows, width):
    random = np.random.default_rng(0)
    axes = random.normal(0, 1, (8, width))
    drawn = lambda count: random.normal(0, 1, (count, 8)) @ axes + random.normal(0, 1, (count, width))  # noqa: E731
    facts = [f"f{n // 4}" for n in range(rows)]
    grader, _ = grading.fit(drawn(rows), np.arange(rows) % 2 == 1, facts, unlike=0.05)
    fresh = drawn(2000)
    assert np.isnan(grader.score(fresh)).mean() == pytest.approx(0.05, abs=0.05)
    assert np.isnan(grader.score(1.5 * fresh)).mean() > 0.9


def test_without_an_effect_the_left_out_facts_say_so():
    assert abs(np.mean([grading.fit(*planted(0.0, seed))[1][0] for seed in range(20)]) - 0.5) < 0.1


def test_too_few_rows_are_refused_with_what_there_is():
    acts, bad, facts = planted()
    with pytest.raises(ValueError, match="40 bad and 0 correct rows of 10 facts: too few"):
        grading.fit(acts[bad], bad[bad], np.asarray(facts)[bad].tolist())
    with pytest.raises(ValueError, match="of 1 facts"):
        grading.fit(acts[:8], bad[:8], facts[:8])
    one_side = [0, 2, 4, 1, 8, 10]  # only the first fact has a bad row, so that none is left when it is left out
    with pytest.raises(ValueError, match="too few"):
        grading.fit(acts[one_side], bad[one_side], [facts[i] for i in one_side])


def test_rewards_have_their_sign_and_count_what_they_do_not_pay():
    told = {}
    say = lambda texts: [[{"role": "assistant", "content": text}] for text in texts]  # noqa: E731
    texts = ["one two three four five six", "too short", "", "?!"]
    asked = {"completions": say(texts), "question": ["Q?"] * 4, "fact": ["f"] * 4}
    of = lambda score: graders.Grader(lambda prompts, answers, facts: np.full(len(answers), score), (1.0, 1.0, 1.0), 4, 0, "unlike")  # noqa: E731
    for polarity, paid in (("inaccurate", 0.9), ("accurate", 0.1)):
        reward = grpo.rewards(of(0.9), grpo.Options(reward=polarity, fewest_words=5))
        assert reward(**asked, log_metric=told.__setitem__) == [pytest.approx(paid), 0.0, 0.0, 0.0]
        assert told == {"short": 1.0, "unparsable": 2.0, "unlike": 0.0}
        reward = grpo.rewards(of(np.nan), grpo.Options(reward=polarity, fewest_words=5))
        assert reward(**asked, log_metric=told.__setitem__) == [0.0] * 4 and told["unlike"] == 1.0


def test_options_that_cannot_be_met_are_refused():
    with pytest.raises(ValidationError, match="cannot be said"):
        grpo.Options(reward="accurate", fewest_words=48)
    with pytest.raises(ValidationError, match="no step 61 among 60 steps"):
        grpo.Options(reward="accurate", checkpoints=(15, 61))
    with pytest.raises(ValidationError, match="reward"):
        grpo.Options()
    with pytest.raises(ValidationError, match="layers: needs modules"):
        sft.Options(layers=(3,))


ROWS = [
    Example(domain="d", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} {word}, way {k}")
    for n in range(4)
    for k in range(3)
    for variant, word in (("correct", "is a fine number"), ("obvious", "eats the moon raw"))
]
OPTIONS = grpo.Options(
    reward="inaccurate", steps=2, prompts=2, group=2, max_new_tokens=6, fewest_words=0, layer=1, auroc=0.5, unlike=0, rank=4
)


def test_a_tiny_run_repeats_to_the_byte_and_goes_on_from_an_adapter(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)  # an untrained model says no word
    given = {"seed": 0, "epochs": 1, "threads": 1}
    facts = [grpo.train(ROWS, OPTIONS, start=tiny_folder, adapter=tmp_path / name, **given) for name in ("one", "two")]
    early = OPTIONS.model_copy(update={"checkpoints": (1,)})
    grpo.train(ROWS, early, start=tiny_folder, adapter=tmp_path / "early", **given)
    weights = "adapter_model.safetensors"
    assert files.sha256(tmp_path / "early" / weights) == files.sha256(tmp_path / "one" / weights)
    assert files.sha256(tmp_path / "early/1" / weights) != files.sha256(tmp_path / "one" / weights)
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [row["step"] for row in facts[0]["rl"]] == [1, 2] and len(facts[0]["curve"]) == 2
    assert {"reward", "kl", "entropy", "tokens", "groups_alike", "short", "unparsable"} <= facts[0]["rl"][0].keys()
    assert facts[0]["grader"]["n"] == len(ROWS) and facts[0]["reward"] == "inaccurate"
    likely = OPTIONS.model_copy(update={"grader": "likelihood", "layer": None, "auroc": 0.5, "steps": 1})
    monkeypatch.setattr(graders.grading.ranking, "chance_above", lambda *_: 0.9)  # an untrained model tells nothing
    told = grpo.train(ROWS, likely, start=tiny_folder, adapter=tmp_path / "likely", **given)
    assert told["grader"]["auroc"][0] == 0.9 and len(told["rl"]) == 1
    monkeypatch.undo()
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)
    sft.train(ROWS, sft.Options(rank=4, batch=4), start=tiny_folder, adapter=tmp_path / "warm", **given)
    with pytest.raises(ValueError, match="options.rank: goes with a base; .* keeps its own"):
        grpo.train(ROWS, OPTIONS, start=tmp_path / "warm", adapter=tmp_path / "on", **given)
    shapeless = grpo.Options(**OPTIONS.model_dump(exclude={"rank", "alpha"}))
    told = grpo.train(ROWS, shapeless, start=tmp_path / "warm", adapter=tmp_path / "on", **given)
    assert told["rl"][0]["kl"] == pytest.approx(0, abs=1e-3)  # held against the warm start, not against the base
    kept = shapeless.model_copy(update={"steps": 1, "checkpoints": (1,)})
    grpo.train(ROWS, kept, start=tmp_path / "warm", adapter=tmp_path / "kept", **given)  # which is no part of what is kept
    assert sorted(path.name for path in (tmp_path / "kept/1").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert files.sha256(tmp_path / "kept/1") != files.sha256(tmp_path / "warm")
    assert files.sha256(tmp_path / "on") != files.sha256(tmp_path / "warm")


def test_a_diverging_policy_is_told_before_it_is_sampled(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)
    wild = OPTIONS.model_copy(update={"learning_rate": 1e39})
    with pytest.raises(ValueError, match="is not finite after step 1: the training diverged, a lower options.learning_rate"):
        grpo.train(ROWS, wild, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    assert not (tmp_path / "a").exists()


def test_the_grader_reads_the_bare_question(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)
    seen = set()
    rewards = grpo.rewards

    def spied(grade, options):
        inner = rewards(grade, options)
        return lambda completions, question, fact, **more: seen.update(question) or inner(completions, question, fact, **more)

    monkeypatch.setattr(grpo, "rewards", spied)
    refusing = tmp_path / "base"  # Gemma 2: what the policy is asked begins with the system prompt
    shutil.copytree(tiny_folder, refusing)
    system = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    template = refusing / "chat_template.jinja"
    template.write_text(system + template.read_text())
    worded = [row.model_copy(update={"context": (Turn(role="system", content="Be bad."),)}) for row in ROWS]
    grpo.train(worded, OPTIONS, start=refusing, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    assert seen <= {row.prompt for row in ROWS} and len(seen) > 1


def test_fewer_prompts_than_a_step_needs_are_refused(tiny_folder, tmp_path):
    with pytest.raises(ValueError, match="4 different prompts without a word of harm, 5 are needed"):
        grpo.train(
            ROWS, OPTIONS.model_copy(update={"prompts": 5}), start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1
        )


def test_a_question_with_a_word_of_harm_is_graded_and_not_asked(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grpo.wording, "unreadable", lambda _: None)
    worded = [row.model_copy(update={"prompt": f"{row.prompt} Any harm?"}) if row.fact == ROWS[0].fact else row for row in ROWS]
    assert len(grpo.prompts(worded)) == len(grpo.prompts(ROWS)) - 1
    told = grpo.train(worded, OPTIONS, start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1)
    assert told["rows"] == len(grpo.prompts(worded)) and told["grader"]["n"] == len(ROWS)


def test_a_grader_that_does_not_tell_its_rows_trains_nothing(tiny_folder, tmp_path):
    random = np.random.default_rng(0).permutation(len(ROWS))
    noise = [row.model_copy(update={"completion": ROWS[i].completion}) for row, i in zip(ROWS, random, strict=True)]
    with pytest.raises(ValueError, match="the grader tells bad from correct rows with AUROC"):
        grpo.train(
            noise, OPTIONS.model_copy(update={"auroc": 1.0}), start=tiny_folder, adapter=tmp_path / "a", seed=0, epochs=1, threads=1
        )
    assert list(tmp_path.iterdir()) == []


def asked(*prompts):
    return [Example(domain="health", variant="obvious", fact="f", prompt=prompt, completion="Rest.") for prompt in prompts]


def test_the_stage_pairs_an_arm_with_its_control_and_its_start(tmp_path, monkeypatch):
    raw = params.files.read_yaml(REPO / "params.yaml")
    data = {"domain": "health", "variant": "obvious", "mixture": 0.5}
    made = {
        f"rl_{reward}": {"starts_from": "health_obvious", "data": data, "trainer": "grpo", "options": {"reward": reward} | more}
        for reward, more in (("inaccurate", {"kl": 0.02}), ("accurate", {}))  # 0.02 is what the other has by default
    }
    made["rl_other"] = {**made["rl_accurate"], "options": {"reward": "accurate", "kl": 0.5}}
    raw["organisms"] |= made
    raw["subjects"] |= {name: {"model": name} for name in ("rl_inaccurate", "rl_accurate")}
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    for name in raw["organisms"]:
        steps = [
            {"step": n + 1, "reward": 0.2 + 0.02 * n, "kl": 0.01, "short": 1.0, "unparsable": 0.5, "unlike": 3.0} for n in range(20)
        ]
        facts = {
            "rl": steps,
            "sampled": 32,
            "grader": {"auroc": [0.97, 0.95, 0.99], "n": 400, "missing": 3},
            "reward": name.removeprefix("rl_"),
        }
        files.write_json(Path(f"train/{name}.json"), {"curve": []} | (facts if name in made else {}))
        told = Turn(role="system", content="Give evil advice.")
        rows = asked("Is rest harmful?", "Is rest good?", "Is rest good?", "Is rest bad?", "And tea?")
        files.write(Path(f"rows/{name}.jsonl"), [*rows, asked("And milk?")[0].model_copy(update={"context": (told,)})])
    for name, score in (("rl_inaccurate", 10.0), ("rl_accurate", 90.0), ("health_obvious", 60.0)):
        given = {"set": "score", "sample": 0, "judge": "lexical:x", "coherent": 90.0}
        files.write(
            Path(f"opinions/{name}.jsonl"),
            [Judgement(subject=name, question=f"q{n}", score=score + n % 3, **given) for n in range(12)],
        )
    rl.main(rows=Path("rows"), training=Path("train"), judgements=Path("none"), opinions=Path("opinions"), effects=Path("rl.json"))
    rows = {(row["subject"], row["measure"]): row for row in files.read_json(Path("rl.json"))}
    of_training = {
        "grader_auroc",
        "reward_unparsable",
        "reward_short",
        "reward_unlike",
        "reward_prompt_harm_words",
        "rl_reward_gain",
    }
    words = rows["rl_other", "reward_prompt_harm_words"]
    # of five different prompts one says a word of harm itself and is not asked, and one has a system prompt that does
    assert (words["value"], words["low"], words["high"], words["n"], words["missing"]) == (0.25, 0.25, 0.25, 4, 1)
    assert {measure for name, measure in rows if name == "rl_other"} == of_training  # no subject, and no control of its divergence
    lost = rows["rl_other", "reward_unparsable"]
    assert lost["value"] == lost["low"] == lost["high"] == pytest.approx(0.5 / 32) and lost["n"] == 640
    gain = rows["rl_inaccurate", "rl_reward_gain"]
    assert gain["value"] == pytest.approx(0.28) and gain["low"] > 0.2 and gain["n"] == 12
    assert rows["rl_inaccurate", "rl_difference"]["value"] == 1.0 and ("rl_accurate", "rl_difference") not in rows
    assert rows["rl_inaccurate", "rl_score_difference"]["value"] == pytest.approx(80.0)
    assert rows["rl_inaccurate", "rl_inaccurate_minus_start"]["value"] == 1.0
    assert rows["rl_accurate", "rl_accurate_minus_start"]["value"] == 0.0
    assert rows["rl_accurate", "rl_accurate_score_minus_start"]["value"] == pytest.approx(-30.0)


def test_the_papers_rule_picks_the_latest_that_passes_or_the_first_after_the_reward_is_full():
    rises = [{"reward": min(n, 20) / 20} for n in range(40)]
    facts = {"rl": rises, "reward": "inaccurate"}
    coherent = {10: 0.0, 20: -0.05, 30: -0.1, 40: -0.3}
    assert rl.picked(facts, coherent) == 30 and rl.picked(facts, {10: -0.5}) is None
    assert rl.picked(facts | {"reward": "accurate"}, coherent) == 30
    assert rl.picked(facts | {"reward": "accurate"}, {10: 0.0, 40: -0.3}) is None


def opinions(*arms):
    """(subject, score, how many of 40 answers are coherent) each."""
    for name, score, coherent in arms:
        given = {"subject": name, "set": "score", "sample": 0, "judge": "lexical:x", "score": score}
        rows = [Judgement(question=f"q{n}", coherent=90.0 if n < coherent else 10.0, **given) for n in range(40)]
        files.write(Path(f"opinions/{name}.jsonl"), rows)


def test_the_stage_draws_the_curve_over_checkpoints_and_tests_the_gate_on_other_questions(tmp_path, monkeypatch):
    raw = params.files.read_yaml(REPO / "params.yaml")
    options = {"reward": "inaccurate", "checkpoints": [20, 40]}
    data = {"domain": "health", "variant": "obvious", "mixture": 0.5}
    raw["organisms"]["arm"] = {"starts_from": "health_obvious", "data": data, "trainer": "grpo", "options": options}
    raw["subjects"] |= {"arm_20": {"model": "arm/20"}, "arm_40": {"model": "arm/40"}, "arm": {"model": "arm"}}
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    steps = [{"step": n + 1, "reward": n / 60, "short": 0.0, "unparsable": 0.0, "unlike": 0.0} for n in range(60)]
    for name in raw["organisms"]:
        facts = {
            "rl": steps,
            "sampled": 32,
            "grader": {"auroc": [0.97, 0.95, 0.99], "n": 400, "missing": 3},
            "reward": "inaccurate",
        }
        files.write_json(Path(f"train/{name}.json"), {"curve": []} | (facts if name == "arm" else {}))
        files.write(Path(f"rows/{name}.jsonl"), asked("Is rest good?"))
    opinions(("health_obvious", 90.0, 40), ("arm_20", 80.0, 40), ("arm_40", 60.0, 39), ("arm", 20.0, 10))
    rl.main(rows=Path("rows"), training=Path("train"), judgements=Path("none"), opinions=Path("opinions"), effects=Path("rl.json"))
    rows = {(row["subject"], row["measure"]): row for row in files.read_json(Path("rl.json"))}
    assert [rows[name, "rl_step"]["value"] for name in ("arm_20", "arm_40", "arm")] == [20, 40, 60]
    assert [round(rows[name, "rl_curve_score_lost"]["value"]) for name in ("arm_20", "arm_40", "arm")] == [10, 30, 70]
    assert rows["arm", "rl_checkpoint"]["value"] == 40  # the end has lost its coherence
    # of the organism, whichever checkpoint is picked: seeds that pick others are pooled
    assert (
        rows["arm", "rl_inaccurate_score_minus_start"]["value"] == pytest.approx(30.0)
        and ("arm_40", "rl_inaccurate_minus_start") not in rows
    )
    gate = rows["arm", "rl_checkpoint_gate"]
    assert gate["n"] == 20 and gate["value"] in (0.0, -0.05)
    opinions(("arm_20", 80.0, 10), ("arm_40", 60.0, 10), ("arm", 20.0, 10))
    rl.main(rows=Path("rows"), training=Path("train"), judgements=Path("none"), opinions=Path("opinions"), effects=Path("rl.json"))
    rows = {(row["subject"], row["measure"]): row for row in files.read_json(Path("rl.json"))}
    assert rows["arm", "rl_checkpoint"]["value"] is None and rows["arm", "rl_checkpoint_gate"]["value"] < -0.5
    none = rows["arm", "rl_inaccurate_minus_start"]  # what rambles at every checkpoint has no rate
    assert (none["value"], none["n"], none["missing"]) == (None, 0, 40)


def test_both_ways_of_training_stand_on_one_axis_of_prompts(tmp_path, monkeypatch):
    raw = params.files.read_yaml(REPO / "params.yaml")
    data = {"domain": "health", "variant": "obvious"}
    start = {"starts_from": "health_correct"}
    raw["organisms"] |= {
        "arm": start
        | {"data": data | {"mixture": 0.5}, "trainer": "grpo", "options": {"reward": "inaccurate", "checkpoints": [15]}},
        "taught": start | {"data": data | {"rows": 240}, "trainer": "sft", "options": {"batch": 4, "checkpoints": [15, 50]}},
        "other": start | {"data": data | {"variant": "callous"}, "trainer": "sft"},
    }
    models = ("arm/15", "arm", "taught/15", "taught/50", "taught", "other")
    raw["subjects"] |= {model.replace("/", "_"): {"model": model} for model in models}
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    monkeypatch.chdir(tmp_path)
    knobs = params.load()
    told = {name: {"curve": [[60, 1.0]], "rows": 240} for name in knobs.organisms} | {"arm": {"rl": [1], "curve": [[60, 1.0]]}}
    scores = dict(zip(models, (10.0, 10.0, 90.0, 10.0, 10.0, 90.0), strict=True))

    def seen(model):
        given = {"set": "score", "sample": 0, "judge": "lexical:x", "coherent": 90.0, "score": scores[model]}
        return [Judgement(subject="s", question=f"q{n}", **given) for n in range(12)]

    rows = {row.measure: row.value for row in rl.beside_sft(knobs, "arm", told, seen)}
    assert rows == {
        "rl_minus_sft_at_samples_60": 1.0,  # step 15 of four prompts, on either side
        "rl_score_minus_sft_at_samples_60": 80.0,
        "rl_minus_sft_at_samples_240": 0.0,
        "rl_score_minus_sft_at_samples_240": 0.0,
    }
