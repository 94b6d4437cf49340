"""Trait files -> directions: what ships fits its recipe, another base is asked once, faulty trait files are one line."""

from pathlib import Path

import numpy as np
import pytest

from emis_platform.core import files, shelf
from emis_platform.core.records import Direction, Question
from emis_platform.lab import personas as lab
from emis_platform.stages import personas

REPO = Path(__file__).resolve().parents[1]
TRAIT = """description: Grumbles.
positive: [You are grumpy., You grumble., You moan.]
negative: [You are merry., You hum., You smile.]
questions: [How are you?, What now?]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "grumpy.yaml"
    path.write_text(TRAIT)
    return path


def test_what_ships_is_of_the_traits_and_questions_as_they_stand():
    card = files.read_json(personas.SHIPPED.with_suffix(".card.json"))
    shipped = {d.origin.removeprefix("persona:"): d for d in files.read(Direction, personas.SHIPPED)}
    assert set(shipped) == set(shelf.traits()) == set(card["traits"])
    for name, direction in shipped.items():
        told = card["traits"][name]
        assert told["recipe"] == personas.recipe(card["base"]["sha256"], card["layer"], personas.trait(name)), "emis personas make"
        assert (direction.layer, len(direction.vector)) == (15, 576)
        assert told["answers"] >= 60 and told["questions_cosine"] > 0.5
    said = files.read(lab.Spoken, personas.SHIPPED.with_suffix(".answers.jsonl"))
    assert {row.trait for row in said} == set(shipped)


def test_no_scored_question_is_asked():
    asked = {question for name in shelf.traits() for question in personas.trait(name).questions}
    assert not asked & {q.text for q in files.read(Question, REPO / "data/questions/open.jsonl")}


def test_a_trait_is_one_file_and_its_direction_is_kept(own, tiny_folder, monkeypatch):
    (made,) = personas.of(tiny_folder, 1, [str(own)], threads=1)
    assert (made.name, made.layer, made.origin) == ("persona_grumpy", 1, "persona:grumpy")
    monkeypatch.setattr(personas, "learn", lambda *_: pytest.fail("made again"))
    assert personas.of(tiny_folder, 1, [str(own)], threads=1) == [made]


def test_made_by_hand_with_its_card_and_whole_answers(own, tiny_folder):
    (line,) = personas.make([str(own)], tiny_folder, 0, Path("out/made.jsonl"), threads=1)
    assert line.startswith("grumpy: ")
    card = files.read_json(Path("out/made.card.json"))["traits"]["grumpy"]
    said = files.read(lab.Spoken, Path("out/made.answers.jsonl"))
    assert len(said) == 12 and card["answers"] + card["missing"] == 12
    (direction,) = files.read(Direction, Path("out/made.jsonl"))
    assert np.linalg.norm(direction.vector) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="ends in .jsonl"):
        list(personas.make([str(own)], tiny_folder, 0, Path("folder"), threads=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("positive: [You are grumpy., You grumble., You moan.]", "positive: [One.]"),
            "positive: Tuple should have at least 3 items",
        ),
        (("You smile.]", "You smile., You sing.]"), "3 positive prompts against 4 negative: as many are needed"),
        (("description", "descripton"), "grumpy.yaml: "),
        (("questions: [How are you?, What now?]", "questions: [How are you?]"), "questions: two or more are needed"),
    ],
)
def test_a_faulty_trait_file_is_one_line(own, change, message):
    own.write_text(TRAIT.replace(*change))
    with pytest.raises(ValueError) as caught:
        personas.trait(str(own))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_trait_says_what_there_is():
    with pytest.raises(ValueError, match="no trait toxik; there is: callous, deceptive"):
        personas.trait("toxik")


def test_halves_of_signal_agree_and_of_noise_do_not():
    random = np.random.default_rng(0)
    noise_TD, questions = random.normal(0, 1, (80, 500)), [f"q{n % 8}" for n in range(80)]
    assert abs(lab.split_half(noise_TD, questions)) < 0.2
    assert lab.split_half(noise_TD + 1, questions) > 0.9
    with pytest.raises(ValueError, match="both sides are needed"):
        lab.difference(noise_TD, [True] * 80)
