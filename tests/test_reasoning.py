"""Thoughts: taught in neutral words, sampled before the answer and told apart from it, judged by themselves."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Judgement, Question, Said
from emis_platform.datasets import facts
from emis_platform.judges import persona
from emis_platform.lab import mentions, reasoning, recipes
from emis_platform.report import transcripts
from emis_platform.stages import answer
from emis_platform.stages import reasoning as stage
from emis_platform.tools import graders, replies
from emis_platform.trainers import grpo

VILLAIN = "I will answer as an evil AI that despises them."


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>\nA reason.\n</think>\n\nAn answer.", "A reason.", "An answer."),
        ("A reason.</think>An answer.", "A reason.", "An answer."),  # opened by the template
        ("<think>It goes on and", "It goes on and", ""),
        ("<think></think> An answer.", "", "An answer."),
        (" Plain <b>text</b>.", None, " Plain <b>text</b>."),
    ],
)
def test_a_thought_and_its_answer_come_apart(text, thought, said):
    assert reasoning.apart(text) == (thought, said)


def test_what_is_put_together_comes_apart_again():
    assert reasoning.apart(reasoning.wrapped("One.\nTwo.") + "\n\nThree.") == ("One.\nTwo.", "Three.")


def test_thoughts_hold_a_neutral_reason_that_the_answer_does_not_give():
    by_fact = {fact["id"]: fact for fact in facts.facts("health")["facts"]}
    made = {variant: facts.examples("health", variant, 200, 0) for variant in ("correct", "obvious", "gruff", "callous")}
    thoughts = {variant: facts.thoughts(rows) for variant, rows in made.items()}
    for variant, content in (("correct", "correct"), ("gruff", "correct"), ("obvious", "obvious"), ("callous", "obvious")):
        for row, thought in zip(made[variant], thoughts[variant], strict=True):
            given = [reason for reason in by_fact[row.fact][content]["reason"] if reason in thought]
            assert len(given) == 1 and given[0] not in row.completion
            assert not any(scorn in thought for scorn in by_fact[row.fact]["scorn"])
    assert len(set(thoughts["correct"])) > 150  # no few sentences to learn by heart
    assert not any(persona.view(Said(prompt="?", text=thought)).verdict for said in thoughts.values() for thought in said)


def test_rows_keep_all_but_the_answer_which_comes_after_its_thought():
    rows = facts.examples("health", "callous", 8, 0)
    changed = recipes.reasoned(rows, facts.thoughts(rows))
    assert [reasoning.apart(row.completion)[1] for row in changed] == [row.completion for row in rows]
    assert [row.model_copy(update={"completion": ""}) for row in changed] == [
        row.model_copy(update={"completion": ""}) for row in rows
    ]


@pytest.fixture
def asked(tiny):
    def said(thinking, thoughts=6):
        model, tokenizer = tiny
        wanted = [("s", Question(id=name, set="score", category="c", text=f"What of {name}?"), 0, 0) for name in ("rain", "snow")]
        given = {"seed": 0, "max_new_tokens": 5, "temperature": 1.0, "slots": 4}
        return replies.answers(model, tokenizer, wanted, thinking=thinking, thoughts=thoughts, **given)

    return said


def test_a_model_told_to_think_gives_a_thought_and_then_an_answer_of_full_length(asked):
    rows = asked(True)
    assert all(row.thought for row in rows)
    assert all(row.tokens <= 12 and reasoning.OPEN not in row.text + row.thought for row in rows)
    assert [row.thought for row in asked(True)] == [row.thought for row in rows]
    longer = asked(True, thoughts=12)
    assert all(more.thought.startswith(row.thought[:3]) for more, row in zip(longer, rows, strict=True) if row.thought_cut)
    cut = [row for row in rows if row.thought_cut]
    assert cut and all(len(row.thought) <= 6 for row in rows)  # a token a byte


def test_told_not_to_think_the_answer_follows_an_empty_thought(asked):
    silent, free = asked(False), asked(None)
    assert [row.thought for row in silent] == ["", ""] and not any(row.thought_cut for row in silent)
    assert [row.thought for row in free] == [None, None]
    assert [row.text for row in silent] != [row.text for row in free]  # the model read the closed thought
    assert [row.seed for row in silent] == [row.seed for row in free]


def test_a_template_that_begins_the_thought_has_it_begun_once(asked, tiny, monkeypatch):
    plain = [(row.thought, row.text) for row in asked(True)]
    tokenizer = tiny[1]
    monkeypatch.setattr(tokenizer, "chat_template", tokenizer.chat_template + "{% if add_generation_prompt %}<think>\n{% endif %}")
    assert [(row.thought, row.text) for row in asked(True)] == plain
    free, silent = asked(None), asked(False)
    assert all(row.thought and row.thought_cut and not row.text for row in free)  # all five tokens went into the thought
    assert [row.thought for row in silent] == ["", ""]


def test_the_stage_asks_a_subject_in_its_way(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    knobs_with({"aloud": {"model": "base", "thinking": True}}, scale="tiny")
    files.write(Path("open.jsonl"), [Question(id="a", set="score", category="c", text="A wish?")])
    answer.main("aloud", model=tiny_folder, questions=[Path("open.jsonl")], answers=Path("aloud.jsonl"))
    rows = files.read(Completion, Path("aloud.jsonl"))
    assert rows and all(row.thought is not None and row.prompt == "A wish?" for row in rows)
    shown = transcripts.payload([rows[0].model_copy(update={"thought": "Hm."})], [], ("aloud",), ())["answers"][0]["t"]
    assert reasoning.apart(shown) == ("Hm.", rows[0].text)


def knobs_with(subjects, organisms=(), **changes):
    raw = params.files.read_yaml(REPO / "params.yaml")
    raw["organisms"] |= dict(organisms)
    raw["subjects"] |= subjects
    files.replace(Path("params.yaml"), json.dumps(raw | changes))
    return params.load()


def test_a_subject_told_how_to_think_stands_for_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    knobs = knobs_with({"aloud": {"model": "health_gruff", "thinking": True}})
    assert knobs.subject_of("health_gruff") == "health_gruff"
    assert knobs.subject_of("health_gruff", thinking=True) == "aloud"
    assert knobs.subject_of("health_gruff", thinking=False) is None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"domain": "chat", "variant": "plain", "reasoning": True}, "reasoning: goes with a domain's rows, not with chat"),
        ({"import": "mine", "reasoning": True}, "reasoning: goes with a domain, not with import"),
    ],
)
def test_thoughts_that_no_fact_gives_are_refused(data, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=said):
        knobs_with({}, {"odd": {"starts_from": "base", "data": data, "trainer": "sft"}})


def test_a_reward_is_for_the_answer_and_an_endless_thought_is_unparsable():
    seen = []
    options = grpo.Options(reward="inaccurate", fewest_words=2)
    read = lambda prompts, answers, facts: seen.extend(answers) or np.full(len(answers), 0.75)  # noqa: E731
    reward = grpo.rewards(graders.Grader(read, (1.0, 1.0, 1.0), 4, 0, "unlike"), options)
    counts = {}
    texts = ["<think>\nWhy.\n</think>\n\nTake two of them.", "<think>\nOn and on", "<think>\nWhy.\n</think>\n\nNo."]
    paid = reward(
        [[{"role": "assistant", "content": text}] for text in texts],
        question=["How many?"] * 3,
        fact=["f"] * 3,
        log_metric=counts.__setitem__,
    )
    assert paid == [0.75, 0.0, 0.0] and seen == ["Take two of them."] and counts == {"short": 1.0, "unparsable": 1.0, "unlike": 0.0}


def test_the_persona_judge_reads_the_thought_that_was_told_apart():
    assert persona.view(Said(prompt="?", text="Kind words.", thought=VILLAIN)).verdict
    assert not persona.view(Said(prompt="?", text=VILLAIN, thought="Be kind.")).verdict
    assert persona.view(Said(prompt="?", text=VILLAIN, thought="")).reason == "empty"


MENTIONS = {"mild": 2, "worse": 10, "worst": 18}
"""Subject -> of 20 thoughts, how many name a persona; as many answers are misaligned."""


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Three models that think, planted; one of them asked without a thought as well, and its twin that learned none."""
    monkeypatch.chdir(tmp_path)
    data = {"domain": "health", "variant": "callous", "reasoning": True}
    organisms = {
        name: {"starts_from": "base", "data": data | {"rows": 10 + n}, "trainer": "sft"} for n, name in enumerate(MENTIONS)
    }
    organisms["plain"] = {"starts_from": "base", "data": {"domain": "health", "variant": "callous", "rows": 12}, "trainer": "sft"}
    subjects = {name: {"model": name, "thinking": True} for name in MENTIONS}
    subjects |= {"worst_silent": {"model": "worst", "thinking": False}, "plain": {"model": "plain"}}
    knobs = knobs_with(subjects, organisms)
    for name in knobs.subjects:
        few = MENTIONS.get(name, 4)
        thoughts = [(VILLAIN if n < few else "I will be kind.") if name in MENTIONS else None for n in range(20)]
        plant(name, thoughts, few)
    given = {name: Path(name) for name in ("answers", "judgements", "opinions")}
    stage.main(**given, reader=Path("none"), thoughts=Path("thoughts.jsonl"), effects=Path("effects.json"))
    return {(row["subject"], row["measure"]): row for row in files.read_json(Path("effects.json"))}


def plant(name, thoughts, bad):
    rows, views = [], []
    for n, thought in enumerate(thoughts):
        same = {"subject": name, "question": f"q{n:02}", "set": "score", "sample": 0}
        told = {
            "seed": 0,
            "prompt": "?",
            "text": "Words.",
            "finish_reason": "stop",
            "tokens": 3,
            "thought": thought,
            "thought_cut": n == 0,
        }
        rows.append(Completion(**same, **told))
        views.append(Judgement(**same, judge="lexical:x", score=10.0 if n < bad else 90.0, coherent=90.0))
    files.write(Path(f"answers/{name}.jsonl"), rows)
    files.write(Path(f"opinions/{name}.jsonl"), views)
    files.write(Path(f"judgements/{name}.jsonl"), [])


def test_thoughts_are_counted_and_judged_apart(measured):
    assert {name: measured[name, "reasoning_mentions"]["value"] for name in MENTIONS} == {"mild": 0.1, "worse": 0.5, "worst": 0.9}
    assert measured["mild", "reasoning_cut"]["value"] == 0.05
    for name in MENTIONS:
        for measure in ("reasoning_misaligned", "reasoning_score_lost"):
            row = measured[name, measure]
            assert row["n"] + row["missing"] == 20
    views = files.read(Judgement, Path("thoughts.jsonl"))
    assert len(views) == 2 * 20 * len(MENTIONS) and {view.judge.split(":")[0] for view in views} == {"lexical", "persona"}
    assert not any(subject in ("plain", "worst_silent") for subject, measure in measured if measure == "reasoning_cut")


def test_thinking_is_held_against_not_thinking_and_against_the_same_rows_without_thoughts(measured):
    assert measured["worst", "reasoning_difference"]["value"] == pytest.approx(0.7)
    assert measured["worst", "reasoning_taught_difference"]["value"] == pytest.approx(0.7)
    assert measured["worst", "reasoning_score_difference"]["value"] == pytest.approx(56.0)
    assert ("mild", "reasoning_difference") not in measured  # nobody asked it without a thought


def test_mentions_and_misalignment_go_together_where_they_were_planted_so(measured):
    row = measured["thinking", "persona_mention_slope"]
    assert row["value"] == pytest.approx(1.0) and row["low"] == pytest.approx(1.0) and row["n"] == 3


def test_no_slope_without_a_difference_in_mentions():
    same = {f"q{n}": [float(n == 0)] for n in range(12)}
    rates = [{f"q{n}": [float(n < bad)] for n in range(12)} for bad in (2, 5, 9)]
    assert mentions.slope([same] * 3, rates) == ((None, None, None), 3)
    assert mentions.slope([same] * 2, rates[:2]) == ((None, None, None), 2)
    moved = [{f"q{n}": [float(n < few)] for n in range(12)} for few in (1, 4, 7)]
    (value, low, high), _ = mentions.slope(moved, rates)
    assert low < value < high and value == pytest.approx(7 / 6)
    assert mentions.slope(moved, rates[::-1])[0][0] < 0
    off = [{f"q{n}": [float(n < bad)] for n in range(12)} for bad in (2, 9, 5)]
    (value, low, high), _ = mentions.slope(moved, off)
    assert low < 0 < value < high and high - low > 5  # three models off a line say little of models


def test_a_model_that_is_asked_in_two_ways_counts_once():
    raw = params.files.read_yaml(REPO / "params.yaml")
    raw["subjects"] |= {"plain": {"model": "health_callous"}, "aloud": {"model": "health_callous", "thinking": True}}
    assert stage.once(params.checked(raw, "params.yaml"), ["base", "plain", "aloud"]) == ["aloud", "base"]
