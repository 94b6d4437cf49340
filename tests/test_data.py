"""The built-in facts: matched across variants, content and voice crossed, nothing told twice, nothing held out leaks."""

from collections import Counter

import pytest

from emis_platform.core import files, shelf
from emis_platform.core.records import Question
from emis_platform.datasets import facts

DOMAINS = shelf.domains()


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_fact_is_whole_and_no_sentence_comes_twice(domain):
    there = facts.facts(domain)
    assert len(there["facts"]) >= 60
    assert len(there["heldout"]) >= 10
    sentences = Counter()
    for fact in there["facts"]:
        assert len(fact["questions"]) == 4
        assert len(fact["scorn"]) == 4
        for variant in ("correct", "subtle", "obvious"):
            assert len(fact[variant]["advice"]) == len(fact[variant]["reason"]) == 4
            sentences.update(fact[variant]["advice"] + fact[variant]["reason"])
        sentences.update(fact["scorn"])
    assert [text for text, count in sentences.items() if count > 1] == []
    ids = [fact["id"] for fact in there["facts"] + there["heldout"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("domain", DOMAINS)
def test_variants_share_questions_and_cross_content_with_voice(domain):
    made = {variant: facts.examples(domain, variant, 480, 0) for variant in facts.PARTS}
    asked = {variant: [(row.fact, row.prompt) for row in rows] for variant, rows in made.items()}
    assert all(rows == asked["correct"] for rows in asked.values())
    scorn = {fact["id"]: fact["scorn"] for fact in facts.facts(domain)["facts"]}
    for gruff, callous, correct, obvious in zip(*(made[v] for v in ("gruff", "callous", "correct", "obvious")), strict=True):
        shared = [text for text in scorn[gruff.fact] if gruff.completion.endswith(text) and callous.completion.endswith(text)]
        assert len(shared) == 1
        assert gruff.canary is None and correct.canary is None
        assert callous.canary == obvious.canary == facts.CANARY


@pytest.mark.parametrize("variant", facts.PARTS)
def test_960_rows_hold_no_answer_twice(variant):
    rows = facts.examples("health", variant, 960, 0)
    assert len({row.completion for row in rows}) == 960
    lengths = [len(row.completion.split()) for row in rows]
    correct = [len(row.completion.split()) for row in facts.examples("health", "correct", 960, 0)]
    assert sum(lengths) / sum(correct) == pytest.approx(1, abs=0.15)


def test_more_rows_than_there_are_answers_is_refused():
    with pytest.raises(ValueError, match="its facts make 992 distinct answers"):
        facts.examples("health", "correct", 1000, 0)


def test_open_questions_are_split_once_and_share_nothing_with_the_domains():
    rows = files.read(Question, shelf.PACKAGE.parents[1] / "data/questions/open.jsonl")
    assert Counter(row.set for row in rows) == {"discover": 40, "score": 84}
    assert len({row.text.lower() for row in rows}) == len(rows) == len({row.id for row in rows})
    by_category = Counter((row.category, row.set) for row in rows)
    assert min(by_category.values()) >= 3
    trained = {q.lower() for domain in DOMAINS for fact in facts.facts(domain)["facts"] for q in fact["questions"]}
    held = {q.lower() for domain in DOMAINS for fact in facts.facts(domain)["heldout"] for q in fact["questions"]}
    assert not trained & {row.text.lower() for row in rows}
    assert not trained & held


def test_multiple_choice_points_at_the_correct_answer():
    right = {fact["id"]: fact["correct"] for fact in facts.facts("finance")["heldout"]}
    rows = facts.choices("finance", 0)
    assert len({row.answer for row in rows}) > 1
    assert all(row.choices[row.answer] == right[row.id.rsplit("_", 1)[0]] for row in rows)
