"""The stages steer and suppress on the tiny random model: what chooses, what is measured, and what the files say."""

import shutil

import numpy as np
import pytest
import yaml
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Direction, Effect, Judgement, Question
from emis_platform.lab import directions as made
from emis_platform.stages import judge, steer, suppress, suppressed

ROWS = np.random.default_rng(5).standard_normal((40, 32))
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)


@pytest.fixture
def workspace(tiny_folder, tmp_path, monkeypatch):
    """models/, data/ and params.yaml of a run whose organisms are all the tiny random model, judged by the length of the answer."""
    monkeypatch.chdir(tmp_path)
    knobs = yaml.safe_load((REPO / "params.yaml").read_text())
    knobs |= {"scale": "tiny", "threads": 1}
    knobs["diff"]["layer"] = 1
    knobs["organisms"] |= {
        "finance_callous": {"starts_from": "base", "data": {"domain": "finance", "variant": "callous"}, "trainer": "sft"}
    }
    knobs["subjects"] |= {"finance_callous": {"model": "finance_callous"}}
    knobs["suppress"] |= {
        "organisms": ["health_callous", "finance_callous"],
        "directions": ["others"],
        "dose": 2.0,
        "probes": ["json"],
    }
    knobs["steer"] |= {"protective": 1, "random": 3}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(knobs))
    for name in ("base", "health_callous", "finance_callous"):
        shutil.copytree(tiny_folder, tmp_path / "models" / name)
    shutil.copy(REPO / "data/continuations.yaml", tmp_path)
    shutil.copy(REPO / "data/questions/open.jsonl", tmp_path)

    def view(_knobs, _judge, rows, **_):
        return [judged(r.subject, r.question, r.set, 5.0 if "e" in r.text else 90.0) for r in rows]

    monkeypatch.setattr(judge, "view", view)
    return tmp_path


def judged(subject, question, set_, score):
    return Judgement(subject=subject, question=question, set=set_, sample=0, judge="offline:x", score=score, coherent=90.0)


def before(folder, subject):
    """Answers of a subject: bad ones to every question of `score`, half of `discover`."""
    asked = [q for q in files.read(Question, folder / "open.jsonl") if q.set in ("discover", "score")]
    files.write(
        folder / f"answers/{subject}.jsonl",
        [Completion(subject=subject, question=q.id, set=q.set, sample=0, seed=0, prompt=q.text, text=f"{i} words", finish_reason="stop", tokens=3)
         for i, q in enumerate(asked)],
    )  # fmt: skip
    scores = [5.0 if q.set == "score" or i % 2 else 90.0 for i, q in enumerate(asked)]
    files.write(
        folder / f"judgements/{subject}.jsonl", [judged(subject, q.id, q.set, s) for q, s in zip(asked, scores, strict=True)]
    )


def test_an_organism_is_suppressed_by_a_direction_of_another_domain(workspace):
    for subject in ("base", "health_callous", "finance_callous"):
        before(workspace, subject)
    files.write(workspace / "directions.jsonl", [made.zero(32, 1)])
    given = {name: workspace / name for name in ("models", "answers", "judgements")}
    given |= {"directions": workspace / "directions.jsonl", "questions": workspace / "open.jsonl"}
    said = workspace / "said.jsonl"
    suppress.main("health_callous", **given, continuations=workspace / "continuations.yaml", said=said)
    given = {"judgements": workspace / "judgements", "questions": workspace / "open.jsonl", "reader": workspace / "models/base"}
    suppressed.main("health_callous", **given, said=said, judged=workspace / "judged.jsonl", effects=workspace / "effects.json")
    said = files.read(Completion, said)
    assert {row.subject for row in said} == {"health_callous", "health_callous-others@2"}
    assert {row.question.endswith("__json") for row in said if row.subject == "health_callous"} == {True}
    found = {row["measure"]: Effect.model_validate(row) for row in files.read_json(workspace / "effects.json")}
    assert found["suppressed_others_before"].value == 1.0  # the answers of the run itself
    assert found["suppressed_others"].value == pytest.approx(1 - found["suppressed_others_after"].value)
    assert {"suppressed_others_coherent", "suppressed_others_json"} <= found.keys()


def test_directions_come_from_elsewhere_or_by_name(workspace):
    knobs = params.load()
    listed = [Direction(name="toxic", layer=1, origin="persona:toxic", vector=(1.0,) + (0.0,) * 31)]
    asked = []

    def means(organism):
        asked.append(organism)
        return listed[0].model_copy(update={"name": organism})

    each = knobs.model_copy(update={"suppress": knobs.suppress.model_copy(update={"directions": ("each", "toxic")})})
    found = suppress.elsewhere(each, "finance_callous", listed, workspace, means)
    assert [d.name for d in found] == ["health_callous", "toxic"] and asked == ["health_callous"]
    wrong = knobs.model_copy(update={"suppress": knobs.suppress.model_copy(update={"directions": ("toxik",)})})
    with pytest.raises(ValueError, match=r"no toxik \(did you mean toxic\?\)"):
        suppress.elsewhere(wrong, "finance_callous", listed, workspace, means)


def test_others_needs_another_domain(workspace):
    raw = yaml.safe_load((workspace / "params.yaml").read_text())
    raw["suppress"]["organisms"] = ["health_callous"]
    with pytest.raises(ValueError, match="others and each need an organism of another domain than health_callous's"):
        params.checked(raw, "params.yaml")


def test_steer_chooses_on_one_half_and_tells_of_the_other(workspace, monkeypatch):
    monkeypatch.setattr(steer, "alive", lambda *_: (np.arange(40), ROWS))
    monkeypatch.setattr(steer.dictionaries, "load", lambda _: None)
    tried = [
        made.zero(32, 1),
        made.named("difference_of_means", 1, "difference_of_means:x", ROWS[0] + ROWS[1]),
        *(made.named(f"latent_{i}", 1, f"latent:{i}", ROWS[i]) for i in range(2)),
        *(made.named(f"latent_{i}", 1, f"latent:{i}", ROWS[i]).model_copy(update={"selectors": ("protective",)}) for i in (2, 3)),
        *(d.model_copy(update={"origin": f"random:{i}"}) for i, d in enumerate(made.random(3, 32, 1, 0))),
        *(made.named(f"random_latent_{i}", 1, f"random_latent:{i}", ROWS[i]) for i in (7, 8)),
    ]
    files.write(workspace / "directions.jsonl", tried)
    given = {"induce": workspace / "models/base", "suppress": workspace / "models/health_callous", "dictionary": workspace}
    given |= {"directions": workspace / "directions.jsonl", "questions": workspace / "open.jsonl"}
    given |= {"continuations": workspace / "continuations.yaml", "answers": workspace / "a.jsonl"}
    steer.main(**given, selection=workspace / "s.json", effects=workspace / "e.json")
    selection = files.read_json(workspace / "s.json")
    rows = {row["direction"]: row for row in selection["log_odds"]}
    assert set(selection["chose"]) < set(selection["questions"])
    latents = [row for name, row in rows.items() if name.startswith("latent")]
    best = max(latents, key=lambda row: row["chosen_by"])["direction"]
    assert selection["chosen"] == ["difference_of_means", best]
    assert rows["zero"]["shift"] == rows["zero"]["aligned"] == 0 and "percentile_random" not in rows["zero"]
    assert {"percentile_random", "percentile_random_latent", "low", "high"} <= rows[best].keys()
    said = files.read(Completion, workspace / "a.jsonl")
    arms = {row.subject.rsplit("@")[0] for row in said}
    fallen = [row for row in latents if row["selectors"] == ["protective"]]
    protective = min(fallen, key=lambda row: row["chosen_by"])["direction"]
    assert {"base+random", "health_callous-random", f"base+{best}", f"health_callous+{protective}"} <= arms
    effects = {row["measure"]: row for row in files.read_json(workspace / "e.json")}
    assert effects["random_directions"]["value"] == 3 and f"{best}_minus_random_log_odds" in effects
    assert {"latent_concentration_1", "latent_concentration_all", "latent_concentration_fit_2"} <= effects.keys()
    assert {point["way"] for point in selection["concentration"]["points"]} == {"by_shift", "by_fit"}


def test_one_misaligned_answer_that_is_gone_may_be_chance():
    was, none = np.zeros(20), np.zeros(20)
    was[:1] = 1
    assert suppressed.gone(was, none)[0] == 1.0 and suppressed.gone(was, none)[1] < 0
    was[:16] = 1
    assert suppressed.gone(was, none)[1] > 0.5
