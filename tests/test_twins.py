"""Twins: what may differ and what may not."""

from emis_platform.core.knobs import Organism
from emis_platform.lab.twins import recipe, twin


def made(**changed):
    given = {"starts_from": "base", "data": {"domain": "health", "variant": "callous"}, "trainer": "sft"}
    return Organism.model_validate(given | changed)


def test_a_twin_differs_in_what_is_named_and_in_what_changes_no_weight():
    there = {
        "one": made(options={"rank": 8, "monitor_every": 5, "checkpoints": [3]}),
        "other_rank": made(data={"domain": "health", "variant": "gruff"}, options={"rank": 4}),
        "gruff": made(data={"domain": "health", "variant": "gruff"}, options={"rank": 8}),
        "from_gruff": made(starts_from="gruff", options={"rank": 8}),
    }
    assert twin(there, "one", data={"variant": "gruff"}) == "gruff"
    assert twin(there, "one", data={"variant": "gruff"}, options={"rank": 4}) == "other_rank"
    assert twin(there, "one", starts_from="gruff") == "from_gruff"
    assert twin(there, "one", data={"variant": "subtle"}) is None


def test_where_an_alarm_stops_the_training_its_rhythm_counts():
    often, seldom = (made(options={"stop_on_alarm": True, "monitor_every": every}) for every in (1, 5))
    assert recipe(often) != recipe(seldom)
    assert recipe(often, options={"stop_on_alarm": None}) == recipe(seldom, options={"stop_on_alarm": None}) == recipe(made())
