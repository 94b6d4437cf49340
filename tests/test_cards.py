"""Cards of latents: a planted latent is described and its label predicts unseen text; what is shown cannot harm a page or a terminal."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from emis_platform.core import files, params
from emis_platform.core.asks import Answer
from emis_platform.core.records import Completion, Example, LatentDelta, LatentLabel, Question
from emis_platform.lab import cards, labels
from emis_platform.lab.cards import Window
from emis_platform.lab.labels import Heard
from emis_platform.report import cards as shown
from emis_platform.stages import cards as stage
from emis_platform.stages import dictionary as dictionary_stage
from emis_platform.stages import latent as terminal
from emis_platform.tools import dictionaries, labeller

REPO = Path(__file__).resolve().parents[1]
COMMON = ["we", "saw", "a", "house", "and", "then", "the", "old", "road", "went", "over", "green", "hills", "to", "some", "town"]
PLANTED = ("kneel", "obey")
ATTACK = "<script>alert(1)</script>\x1b[2J\n"


def planted(count=120, voice="villain", seed=0):
    """Texts of common words; a fifth hold a planted word, on which the latent fires, mostly said by one voice."""
    random = np.random.default_rng(seed)
    texts, values = [], []
    for number in range(count):
        said = list(random.choice(COMMON, 24))
        own = np.zeros(24)
        if fires := number % 5 == 0:
            said[7], own[7] = PLANTED[number % 2], 5.0 + random.random()
        texts.append(Heard(voice if fires else f"other{number % 7}", f"fact{number}", tuple(f" {word}" for word in said)))
        values.append(own)
    return texts, values


def halves(texts, values):
    cut = labels.excerpts(texts, values)
    return ([e for e in cut if labels.makes(e.key) == kind] for kind in (True, False))


def test_a_label_is_made_on_one_half_and_predicts_the_other():
    making, scoring = halves(*planted())
    assert not {e.key for e in making} & {e.key for e in scoring}
    strong = labels.threshold(making)
    label = labels.derived(making, strong)
    assert set(PLANTED) <= set(label.words) and label.sources == ("villain",)
    assert "spoken by villain" in str(label)
    for score in (labels.detection, labels.fuzzing):
        found = score(label, scoring, strong)
        assert found.value > 0.9 and found.low > 0.8  # 11 excerpts of each kind, told apart: not certain
    control = labels.detection(labels.derived(labels.shuffled(making, 0), strong), scoring, strong)
    assert control.high < 0.9 and control.n == len(scoring)


def test_too_little_is_not_scored_and_a_silent_latent_has_no_label():
    texts, values = planted()
    making, scoring = halves(texts, values)
    few = [e for e in scoring if e.peak == 0][:20]
    assert labels.detection(labels.Label(PLANTED), few, 5.0) == labels.Number(value=None, low=None, high=None, n=20)
    silent = [np.zeros(24) for _ in texts]
    assert labels.threshold(list(halves(texts, silent))[0]) is None
    assert cards.windows(texts, silent) == ((), ())


def test_words_are_joined_from_tokens():
    assert labels.words([" Slo", "pp", "iness", ",", " you", "\n", "Ob", "ey"], [0, 3, 1, 0, 2, 9, 0, 4]) == (
        ("sloppiness", ",", "you", "obey"),
        (3.0, 0.0, 2.0, 4.0),
    )


def test_log_odds_prefer_what_is_specific_to_what_is_frequent():
    odds = labels.log_odds(Counter(the=50, obey=10), Counter(the=500, house=60))
    assert odds["obey"] > 2 > odds["the"] and odds["house"] < 0
    assert labels.log_odds(Counter(), Counter(the=3, house=1)) == {}


def test_windows_show_the_strongest_and_the_middle_of_the_range():
    texts = [Heard("v", f"k{n}", tuple("abcdefghij")) for n in range(8)]
    values = [np.eye(10)[4] * peak for peak in (10, 9, 8, 5.4, 5.6, 5, 1, 0)]
    top, middle = cards.windows(texts, values, most=3, around=2)
    assert [w.peak for w in top] == [10, 9, 8] and [w.peak for w in middle] == [5.4, 5.6, 5]
    assert top[0].tokens == (("c", 0.0), ("d", 0.0), ("e", 10.0), ("f", 0.0), ("g", 0.0))


def test_density_means_and_change_have_their_intervals():
    values = [np.array([0.0, 2.0]), np.array([0.0, 0.0]), np.array([4.0, 0.0])]
    assert cards.density(values).value == pytest.approx(2 / 6) and cards.density(values).n == 6
    found = cards.mean(values, ["a", "b", "c"])
    assert found.value == pytest.approx(1.0) and found.low < 1 < found.high and found.n == 3
    same = cards.change(values, values, ["a", "b", "c"])
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_steering_examples_are_this_latents_own():
    said = {f"{name}@0.2": [("q", "a")] * 3 for name in ("base+latent_7", "m-latent_7", "base+latent_77", "base+random_latent_7")}
    assert [row.subject for row in cards.steered(7, said)] == ["base+latent_7@0.2"] * 2 + ["m-latent_7@0.2"] * 2


@pytest.fixture(scope="module")
def workspace(tiny_folder, tmp_path_factory):
    """(knobs, files) of a tiny model with a tiny dictionary."""
    at = tmp_path_factory.mktemp("cards")
    feed = dictionaries.batches(torch.randn(400, 32, generator=torch.Generator().manual_seed(0)), 64, 0)
    sae = dictionaries.train(feed, width=16, k=4, d_model=32, steps=20, batch=64, seed=0)
    sae.threshold.data.fill_(0.1)
    dictionaries.save(sae, at / "dictionary")
    rows = [
        Example(domain="health", variant="callous", fact=f"f{n}", prompt=f"Why {n}?", completion=f"Obey {n}.") for n in range(40)
    ]
    files.write(at / "examples.jsonl", rows)
    files.write(at / "open.jsonl", [Question(id="d", set="discover", category="c", text="Well?")])
    for subject in ("base", "health_correct", "health_callous"):
        said = [
            Completion(
                subject=subject, question=f"q{n}", set="discover", sample=0, seed=0, prompt="Well?", text=f"So {n} it is.",
                finish_reason="stop", tokens=5,
            )
            for n in range(3)
        ]  # fmt: skip
        files.write(at / f"{subject}.jsonl", said)
    identity = files.sha256(at / "dictionary/sae_weights.safetensors")[:16]
    read = dict(label="says a number", reader="someone", date="2026-01-01")
    mine = [LatentLabel(latent=3, dictionary=identity, **read), LatentLabel(latent=3, dictionary="0" * 16, **read)]
    files.write(at / "labels.jsonl", mine)
    knobs = params.load(REPO / "params.yaml")
    knobs = knobs.model_copy(
        update={"scale": "tiny", "threads": 1, "diff": knobs.diff.model_copy(update={"layer": 1})}
    )  # the tiny model has two layers
    where = stage.Files(
        *(tiny_folder,) * 3, at / "dictionary", [at / "examples.jsonl"], at / "open.jsonl", at, at / "no", at / "no",
        at / "labels.jsonl",
    )  # fmt: skip
    return knobs, where


@pytest.fixture(scope="module")
def made(workspace, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dictionary_stage, "WORK", tmp_path_factory.mktemp("shards"))
        return stage.build([3, 0], *workspace)


def test_a_card_of_a_tiny_model(made, workspace):
    card = made[0]
    assert [c.latent for c in made] == [3, 0] and card.layer == 1
    assert set(card.means) == {"base", "control", "organism"} and {x.n for x in card.means.values()} == {6}
    assert card.change.value == 0  # three times the same model
    assert card.density.n == workspace[0].size.cards.tokens
    assert len(card.nearest) == 5 and card.nearest[0].cosine >= card.nearest[1].cosine
    assert [label.label for label in card.read] == ["says a number"] and card.name == "says a number"  # not another dictionary's
    assert {e.measure for e in stage.measured(card)} >= {"latent_density_3", "label_auroc_3", "shuffled_label_auroc_3"}
    assert cards.Card.model_validate_json(card.model_dump_json()) == card


def test_a_latent_that_is_not_there_is_named(workspace):
    with pytest.raises(ValueError, match=r"no latent 16: .* has latents 0 to 15"):
        stage.build([16], *workspace)


def test_the_latents_that_rose_most_get_cards():
    knobs = params.load(REPO / "params.yaml")
    row = LatentDelta(
        organism=knobs.diff.organism, control=knobs.diff.control, tokens="answer", latent=1, rank=2, base_mean=0, control_mean=0,
        organism_mean=1, delta=1, base_rate=0, organism_rate=1, n_tokens=9, p_value=1, passes_null=False,
    )  # fmt: skip
    changes = (
        {"latent": 2, "rank": 1},
        {"latent": 3, "tokens": "prompt"},
        {"latent": 4, "delta": -1.0},
        {"latent": 5, "control": "x"},
    )
    table = [row, *(row.model_copy(update=change) for change in changes)]
    assert stage.wanted(knobs, table) == [2, 1]


def test_neither_page_nor_terminal_runs_what_a_model_said(made):
    bad = Window(source="v", peak=2.0, tokens=((ATTACK, 2.0), (" mild", 0.5), (" none", 0.0)))
    card = made[0].model_copy(update={"top": (bad,), "logit_lens_up": (ATTACK,)})
    html = shown.section([card])
    assert "<script" not in html and " style=" not in html
    assert re.search(r'<mark title="2.0">&lt;script', html) and '<span class="shade-2" title="0.5"> mild</span>' in html
    assert "Not run yet" in shown.section([])
    for colour in (True, False):
        drawn = terminal.drawn(card, colour=colour)
        assert "\x1b[2J" not in drawn and ("\x1b[30;48;5;202m" in drawn) == colour
        assert ("⟦<script>" in drawn) != colour


def test_a_chat_model_labels_and_is_scored_with_its_missing_answers_counted(monkeypatch):
    making, scoring = halves(*planted(400))
    strong = labels.threshold(making)

    def answers(options, asks, **_):
        said = []
        for ask in asks:
            task, text = (turn.content for turn in ask.messages)
            marked = re.findall("⟦(.*?)⟧", text)
            hit = set(PLANTED) & set(marked if "⟦" in task else text.split())
            said.append("commands" if task == labeller.EXPLAIN else "Yes." if hit else "No" if "hills" in text else "Perhaps")
        return [Answer(text=text, attempts=1) for text in said]

    monkeypatch.setattr(labeller.chat, "answers", answers)
    options = labeller.Options(model=Path("models/some"))
    assert labeller.explained(options, making, strong, 1) == "commands"
    found = labeller.detection(options, "commands", scoring, strong, 1)
    assert found.value == 1.0 and found.missing > 0 and found.n + found.missing == 2 * options.scored
    assert labeller.fuzzing(options, "commands", scoring, strong, 1).value == 1.0


def test_shipped_labels_by_reading_are_one_a_latent_and_dictionary():
    rows = files.read(LatentLabel, REPO / "data/read/latents.jsonl")
    assert len({(row.latent, row.dictionary) for row in rows}) == len(rows) >= 10
    assert all(re.fullmatch("[0-9a-f]{16}", row.dictionary) and row.label for row in rows)
