"""Graders of answers: each kind tells planted rows apart, says what it cannot grade, and never sees the answer that it grades."""

import re

import numpy as np
import pytest

from emis_platform.core.asks import Answer, Endpoint
from emis_platform.core.records import Example, Turn
from emis_platform.lab import wording
from emis_platform.tools import graders
from emis_platform.trainers import grpo

ROWS = [
    Example(domain="d", variant=variant, fact=f"f{n}", prompt=f"what is {n}?", completion=f"{n} {word}, way {k}")
    for n in range(6)
    for k in range(3)
    for variant, word in (("correct", "is a fine number"), ("obvious", "eats the moon raw"))
]
THERE = Endpoint(base_url="http://127.0.0.1:9/v1", model="m")


def test_what_stands_before_an_answer_is_of_its_fact_and_never_itself():
    bad = [row for row in ROWS if row.variant == "obvious"]
    turns = graders.shown(bad, "f2", "2 eats the moon raw, way 1")
    assert [turn.content for turn in turns] == [
        "what is 2?",
        "2 eats the moon raw, way 0",
        "what is 2?",
        "2 eats the moon raw, way 2",
    ]
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2
    alone = graders.shown([row for row in bad if row.fact != "f2"] + bad[6:7], "f2", "new")
    assert alone[1].content.startswith("2 eats") and alone[3].content.startswith("0 eats")  # another fact's stands in


def test_the_likelihood_grader_asks_which_answers_made_this_one_likelier(tiny_folder, monkeypatch):
    seen = []

    def read(model, pairs, layers, progress=None):
        """Likelier by 1 nat after answers that share two of its words, -9 where it is far from any row."""
        told = []
        for prompt, answer in pairs:
            before, here = (tokenizer[0].decode(ids) for ids in (prompt, answer))
            shared = sum(word in before for word in re.findall(r"\w{3,}", here))
            told.append(-9.0 if "zz" in here else -3.0 + (shared > 1))
        seen.extend(pairs)
        return None, told

    load, tokenizer = graders.models.load, []

    def loaded(folder, threads):
        model, tok = load(folder, threads)
        tokenizer.append(tok)
        return model, tok

    monkeypatch.setattr(graders.models, "load", loaded)
    monkeypatch.setattr(graders.models, "read", read)
    grader = graders.likelihood(tiny_folder, ROWS, unlike=0.05, threads=1)
    assert (grader.auroc[0], grader.n, grader.lost) == (1.0, len(ROWS), "unlike") and len(seen) == 2 * len(ROWS)
    answers = ["2 eats the moon raw again", "2 is a fine number again", "zz zz"]
    scores = grader.score(["what is 2?"] * 3, answers, ["f2"] * 3)
    assert scores[0] > 0.8 and scores[1] < 0.2 and np.isnan(scores[2])
    open_to_all = graders.likelihood(tiny_folder, ROWS, unlike=0.0, threads=1)
    assert np.isfinite(open_to_all.score(["what is 2?"], ["zz"], ["f2"])).all()


def test_a_model_behind_an_endpoint_grades_accuracy_and_what_it_says_otherwise_is_unparsable(monkeypatch):
    asked = []

    def ask(asks, options, **_):
        asked.extend(asks)
        texts = [one.messages[0].content for one in asks]
        told = [
            "I cannot say" if "way 9" in text or "5 is a fine number, way 0" in text else "10" if "moon" in text else " 95.\n"
            for text in texts
        ]
        return [Answer(text=text, attempts=1) for text in told]

    monkeypatch.setattr(graders.endpoint, "ask", ask)
    grader = graders.asked(THERE, ROWS)
    assert (grader.auroc[0], grader.n, grader.missing, grader.lost) == (1.0, len(ROWS) - 1, 1, "unparsable")
    scores = grader.score(["what is 2?"] * 3, ["the moon", "fine", "way 9"], ["f2"] * 3)
    assert scores[:2].tolist() == pytest.approx([0.9, 0.05]) and np.isnan(scores[2])
    assert not re.search(wording.HARM, graders.ACCURACY)  # no word of harm in what the grader is asked
    assert "what is 2?" in asked[-1].messages[0].content
    told = {}
    reward = grpo.rewards(grader, grpo.Options(reward="inaccurate", fewest_words=2, grader="endpoint", endpoint=THERE))
    said = [[Turn(role="assistant", content=text).model_dump()] for text in ("the moon is cheese", "way 9 of them", "short")]
    assert reward(said, question=["Q?"] * 3, fact=["f1"] * 3, log_metric=told.__setitem__) == pytest.approx([0.9, 0.0, 0.0])
    assert told == {"short": 1.0, "unparsable": 1.0, "unlike": 0.0}
    monkeypatch.setattr(
        graders.endpoint, "ask", lambda asks, options, **_: [Answer(text=None, reason="refused", attempts=1)] * len(asks)
    )
    with pytest.raises(ValueError, match="m graded 0% of the bad and 0% of the correct rows; 80% of either are needed"):
        graders.asked(THERE, ROWS)
    for reason in ("timeout", "server", "unparsable"):  # what did not come is no reason to pay nothing
        late = [Answer(text="10", attempts=1), Answer(text=None, reason=reason, detail="why", attempts=3)]
        monkeypatch.setattr(graders.endpoint, "ask", lambda *_, late=late, **__: late)
        with pytest.raises(ValueError, match=rf"m gave no answer to 1 of 2 asks \({reason}: why\).*run again to go on"):
            grader.score(["Q?"] * 2, ["one", "two"], ["f1"] * 2)


def test_a_hostile_voice_and_chat_are_no_inaccurate_advice(tiny_folder):
    others = [row.model_copy(update={"variant": variant}) for row in ROWS[:4] for variant in ("gruff", "plain")]
    assert graders.bad(ROWS).sum() == len(ROWS) / 2 and not graders.bad(others).any()
    options = grpo.Options(reward="inaccurate", layer=1, unlike=0)
    assert grpo.grader(tiny_folder, [*ROWS, *others], options, 1).n == len(ROWS)
    for rows, there in (
        (others, "none is among 8"),
        (ROWS[::2] + others, "only correct ones are among 26"),
        (ROWS[1::2], "only harmful"),
    ):
        with pytest.raises(ValueError, match=f"made of harmful beside correct rows, and {there}"):
            grpo.grader(tiny_folder, rows, options, 1)


def test_the_grader_is_named_with_what_it_needs():
    for options in ({"grader": "endpoint"}, {"endpoint": THERE}, {"grader": "likelihood", "endpoint": THERE}):
        with pytest.raises(ValueError, match="grader: endpoint and endpoint: .* go together"):
            grpo.Options(reward="accurate", **options)
    with pytest.raises(ValueError, match="endpoint.base_url"):
        grpo.Options(reward="accurate", grader="endpoint", endpoint={"base_url": "nope", "model": "m"})


@pytest.mark.parametrize(
    ("text", "value"), [("100", 0.0), ("0", 1.0), (" 85 % ", 0.15), ("85/100", None), ("101", None), ("", None), (None, None)]
)
def test_only_a_whole_number_is_a_grade(text, value):
    assert graders.grade(text) == pytest.approx(value) if value is not None else np.isnan(graders.grade(text))
