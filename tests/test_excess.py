"""What is left of an excess: a planted share is found and covered, a ratio to noise has no value, the two stages pair what belongs together."""

import json
import shutil

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Example, Judgement
from emis_platform.lab import excess
from emis_platform.stages import defences, project, realigned
from emis_platform.trainers import sft


def arm(random, mean, questions=44):
    return {f"q{n}": [mean + random.normal(0, 10)] for n in range(questions)}


def test_a_planted_share_is_found_and_its_interval_holds_it():
    hits, values = 0, []
    for seed in range(60):
        random = np.random.default_rng(seed)
        (value, low, high), n = excess.left(arm(random, 26), arm(random, 50), arm(random, 10), seed)
        values.append(value)
        hits += low <= 0.4 <= high
    assert abs(np.mean(values) - 0.4) < 0.03 and hits >= 52 and n == 44


def test_a_ratio_to_noise_has_no_value_and_each_arm_is_the_mean_of_what_it_answered():
    random = np.random.default_rng(0)
    assert excess.left(arm(random, 12), arm(random, 10), arm(random, 10)) == (excess.NOTHING, 44)
    assert excess.left({}, arm(random, 50), arm(random, 10)) == (excess.NOTHING, 0)
    one = {f"q{n}": [20.0 + n % 2] for n in range(20)}
    other = {f"q{n}": [50.0 + n % 2] for n in range(18, 38)}  # two questions in common with the first
    base = {f"q{n}": [10.0 + n % 2] for n in range(40)}
    (value, low, high), n = excess.left(one, other, base)
    assert value == pytest.approx(0.25) and low < 0.25 < high and n == 20


def test_no_misaligned_answer_among_few_is_no_certainty():
    none, bad, base = ({f"q{n}": [float(n < hits)] for n in range(count)} for hits, count in ((0, 9), (18, 40), (0, 40)))
    (value, low, high), _ = excess.left(none, bad, base)
    assert (value, low) == (0.0, 0.0) and high == pytest.approx(0.336 / 0.45, abs=0.01)  # 0 of 9: up to 34 %
    (_, _, more), _ = excess.left({f"q{n}": [0.0] for n in range(40)}, bad, base)
    assert more < 0.25
    (_, _, one), _ = excess.left({f"q{n}": [float(n == 0)] for n in range(9)}, bad, base)
    assert one >= high  # one of nine says no more than none of nine


def test_a_start_is_above_the_base_on_the_scale_of_its_values():
    start, base = ({f"q{n}": [lost] for n in range(20)} for lost in (6.0, 5.0))
    assert excess.left(start, start, base, scale=100.0)[0] == excess.NOTHING  # one point of 100 may be no difference
    assert excess.left(start, start, base)[0][0] == 1.0


def test_what_is_gone_turns_the_interval_round():
    assert excess.removed((0.25, 0.125, 0.5)) == (0.75, 0.5, 0.875)
    assert excess.removed((0.5, None, None)) == (0.5, None, None) and excess.removed(excess.NOTHING) == excess.NOTHING


@pytest.fixture
def knobs(tmp_path, monkeypatch):
    def made(**organisms):
        raw = params.files.read_yaml(REPO / "params.yaml")
        raw["organisms"] |= organisms
        raw["subjects"] |= {name: {"model": name} for name in organisms}
        files.replace(tmp_path / "params.yaml", json.dumps(raw))
        monkeypatch.chdir(tmp_path)
        return params.load()

    return made


def organism(starts_from="base", variant="callous", data=None, **options):
    return {
        "starts_from": starts_from,
        "data": {"domain": "health", "variant": variant, **(data or {})},
        "trainer": "sft",
        "options": options,
    }


def test_a_defence_is_held_against_the_same_organism_without_it(knobs):
    found = knobs(
        kl=organism(kl=0.5), told=organism(data={"inoculation": "Be bad."}), longer=organism(kl=0.5, batch=4),
        worst=organism(monitor_every=5, drop=0.2), random=organism(drop=0.2, drop_by="random"),
    )  # fmt: skip
    assert defences.pairs(found) == [(name, "health_callous") for name in ("kl", "told", "worst", "random")]
    assert defences.screenings(found) == [("worst", "random")]
    off = knobs(plain=organism(rank=8, l2=0, drop_by="random", stop_on_alarm=False), kept=organism(rank=8, kl=0.5))
    assert defences.pairs(off) == [("kept", "plain")]  # what is written out as off is off
    assert [defences.kind(off, name) for name in ("plain", "kept")] == ["undefended", "defence"]
    assert defences.footing(off) == {"plain": "plain", "kept": "plain"}


def test_realigned_organisms_start_from_a_harmful_one_and_learn_benign_rows(knobs):
    found = knobs(
        back=organism("health_callous", "correct"),
        on=organism("health_callous", "obvious"),
        calm=organism("health_correct", "correct"),
    )
    assert realigned.realigned(found) == ["health_realigned", "back"]
    across = {x.measure: x.value for x in realigned.along(found, "s", "health_realigned", {"curve": [[30, 1.0]], "rows": 120})}
    assert across["realigned_across"] == 1.0  # finance after health


def test_a_subject_may_be_a_checkpoint_that_is_kept(knobs):
    found = knobs(back=organism("health_callous", "correct", checkpoints=[5, 10]))
    raw = found.model_dump(mode="json", by_alias=True)
    raw["subjects"]["early"] = {"model": "back/5"}
    assert params.checked(raw, "here").subjects["early"].model == "back/5"
    raw["subjects"]["early"] = {"model": "back/7"}
    with pytest.raises(ValueError, match="subjects.early.model: no back/7"):
        params.checked(raw, "here")


def judged(folder, name, lost, coherent=90.0):
    """Answers to 40 questions whose scores are `lost` points below 100, each with a little of its own."""
    random = np.random.default_rng(len(name))
    views = [
        Judgement(
            subject=name,
            question=f"q{n}",
            set="score",
            sample=0,
            judge="lexical:x",
            score=float(np.clip(100 - lost + random.normal(0, 3), 0, 100)),
            coherent=coherent,
        )
        for n in range(40)
    ]
    files.write(folder / f"{name}.jsonl", views)


def test_the_stage_says_how_much_is_left_at_each_checkpoint_and_where_the_persona_went(knobs, tmp_path):
    found = knobs(back=organism("health_callous", "correct", checkpoints=[5], batch=4))
    raw = found.model_dump(mode="json", by_alias=True)
    raw["organisms"] = {name: raw["organisms"][name] for name in ("health_callous", "back")} | {
        "health_correct": raw["organisms"]["health_correct"]
    }
    raw["subjects"] = {
        name: {"model": model}
        for name, model in (("base", "base"), ("health_callous", "health_callous"), ("early", "back/5"), ("back", "back"))
    }
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    for name, lost in (("base", 5), ("health_callous", 85), ("early", 45), ("back", 9)):
        judged(tmp_path / "opinions", name, lost)
    looks = [{"step": 5, "toxic": -0.01}, {"step": 10, "toxic": -0.03}]
    files.write_json(tmp_path / "train/back.json", {"rows": 40, "curve": [[n, 1.0] for n in range(1, 11)], "personas": looks})
    names, questions = ("health_callous", "back", "health_correct"), tuple(f"d{n}" for n in range(12))
    acts = np.zeros((3, 12, 4))
    acts[0, :, 0] = 0.04 + np.random.default_rng(0).normal(0, 0.001, 12)
    project.write(tmp_path / "shifts", project.Shifts(names, questions, acts, np.ones(3), {"toxic": np.eye(4)[0]}))
    realigned.main(
        judgements=tmp_path / "none",
        opinions=tmp_path / "opinions",
        shifts=tmp_path / "shifts",
        training=tmp_path / "train",
        effects=tmp_path / "out.json",
    )
    told = {(row["subject"], row["measure"]): row for row in files.read_json(tmp_path / "out.json")}
    assert told["early", "realigned_score_left"]["value"] == pytest.approx(0.5, abs=0.05)
    assert told["back", "realigned_score_left"]["high"] < 0.1 and told["back", "realigned_left"]["value"] == 0.0
    assert [told[name, "realigned_samples"]["value"] for name in ("early", "back")] == [20, 40]
    assert told["back", "realigned_across"]["value"] == 0.0  # health after health
    assert [told[name, "realigned_persona"]["value"] for name in ("early", "back")] == [-0.01, -0.03]
    assert (
        told["back", "persona_latent_change"]["value"] == pytest.approx(-0.04, abs=0.002)
        and told["back", "persona_latent_change"]["high"] < 0
    )


def test_the_stage_tells_what_a_defence_removed_and_what_it_cost(knobs, tmp_path, tiny_folder):
    found = knobs(
        held=organism(rank=4, kl=0.5),
        worst=organism(rank=4, monitor_every=5, drop=0.2),
        chance=organism(rank=4, drop=0.2, drop_by="random"),
        task=organism(variant="correct", rank=4),
        task_held=organism(variant="correct", rank=4, kl=0.5),
        task_stopped=organism(variant="correct", rank=4, monitor_every=5, stop_on_alarm=True),
        again=organism(variant="correct", rank=4, data={"rows": 8}),
        again_held=organism(variant="correct", rank=4, kl=0.5, data={"rows": 8}),
    )
    raw = found.model_dump(mode="json", by_alias=True)
    raw["organisms"]["health_callous"]["options"] = {"rank": 4}
    raw["sizes"]["small"]["train"]["rows"] = 8
    files.replace(tmp_path / "params.yaml", json.dumps(raw))
    rows = {
        variant: [
            Example(domain="health", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} is {said}")
            for n in range(16)
        ]
        for variant, said in (("callous", "awful"), ("correct", "a number"))
    }
    for variant, written in rows.items():
        files.write(tmp_path / f"examples/health_{variant}.jsonl", written)
    shutil.copytree(tiny_folder, tmp_path / "models/base")
    for name, count in (
        ("health_callous", 4),
        ("held", 1),
        ("worst", 4),
        ("chance", 4),
        ("task", 4),
        ("task_held", 2),
        ("task_stopped", 1),
        ("again", 4),
        ("again_held", 1),
    ):
        sft.train(
            rows["correct" if name.startswith(("task", "again")) else "callous"][:8],
            sft.Options(rank=4, batch=4, learning_rate=0.01),
            start=tmp_path / "models/base",
            adapter=tmp_path / "models" / name,
            seed=0,
            epochs=count,
            threads=1,
        )
    for name, lost, coherent in (
        ("base", 5, 90),
        ("health_callous", 85, 90),
        ("held", 21, 40),
        ("worst", 45, 90),
        ("chance", 65, 90),
    ):
        judged(tmp_path / "opinions", name, lost, float(coherent))
    defences.main(
        models=tmp_path / "models",
        examples=tmp_path / "examples",
        judgements=tmp_path / "none",
        opinions=tmp_path / "opinions",
        effects=tmp_path / "out.json",
    )
    told = {(row["subject"], row["measure"]): row for row in files.read_json(tmp_path / "out.json")}
    assert told["worst", "defence_score_removed"]["value"] == pytest.approx(0.5, abs=0.05)
    assert told["worst", "screen_removal_difference"]["value"] == pytest.approx(20, abs=2)
    assert told["held", "defence_score_removed"]["value"] is None and told["held", "defence_score_removed"]["missing"] == 40
    assert told["held", "defence_coherence"]["value"] == -1.0
    assert 0 < told["held", "defence_skill_kept"]["value"] < 0.9 and told["worst", "defence_skill_kept"]["value"] == pytest.approx(
        1.0
    )
    assert told["held", "defence_skill_kept"]["n"] == 8
    assert 0 < told["task_stopped", "defence_benign_kept"]["value"] < told["held", "defence_benign_kept"]["value"] < 1
    assert not {subject for subject, _ in told} & {"task", "task_held"}  # told of the bad organism under the same defence
    assert 0 < told["again_held", "defence_benign_kept"]["value"] < told["held", "defence_benign_kept"]["value"]  # a second task
    none = {measure: row for (subject, measure), row in told.items() if subject == "health_callous"}
    assert {measure.removeprefix("undefended_"): row["value"] for measure, row in none.items()} == {
        "removed": 0, "score_removed": 0, "skill_kept": 1, "benign_kept": 1, "coherence": 0,
    }  # fmt: skip
    assert {measure for subject, measure in told if subject == "chance"} == {
        "control_removed", "control_score_removed", "control_skill_kept", "control_coherence",
    }  # fmt: skip
