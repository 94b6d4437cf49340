"""The report's section "Training conditions": figures hold the planted numbers, a study stands beside the run, what is missing is said."""

import re

from test_report_mechanism import effect, study

from emis_platform.report import conditions, page
from emis_platform.report.evidence import Evidence


def rows():
    found = []
    for name, share, rate in (("good", 0.0, 0.01), ("half", 0.5, 0.1), ("bad", 1.0, 0.4)):
        found += [
            effect(name, "mixture_share", share),
            effect(name, "mixture_misaligned", rate),
            effect(name, "mixture_persona", rate / 10, 0.01),
        ]
    found.append(effect("bad", "mixture_threshold", 0.62, 0.1))
    for subject, samples, left in (("back_20", 20, 0.7), ("back", 40, 0.04)):
        found += [
            effect(subject, "realigned_samples", samples),
            effect(subject, "realigned_left", left),
            effect(subject, "realigned_score_left", left),
        ]
        found.append(effect(subject, "realigned_persona", -left / 100))
    found += [
        effect("kept_kl", "defence_removed", 0.93),
        effect("kept_kl", "defence_coherence", -0.04),
        effect("kept_kl", "defence_skill_kept", None),
    ]
    found.append(effect("kept_kl", "screen_removal_difference", 4.5))
    return found  # fmt: skip


def html(effects=(), training=None, studies=()):
    whole = page.render(
        Evidence(effects=tuple(effects)), [], [], subjects=("bad", "good"), selection=[], training=training or {}, studies=studies,
        facts={"scale": "tiny", "seed": 0, "layer": 15, "inputs": []},
    )  # fmt: skip
    return re.search(r'<section id="conditions">.*?</section>', whole, re.DOTALL)[0]


def test_what_a_run_lacks_names_the_study_that_gives_it():
    text = html()
    assert "<svg" not in text and "<table" not in text
    for name in ("mixtures", "realignment", "defences", "rl"):
        assert f"Not run yet: <code>emis study {name}</code>" in text


def test_the_section_holds_the_numbers_and_the_same_ones_from_a_study():
    text = html(rows())
    for said in ("93.0 %", "−4.0 pts", "no value", "0.62", "4.5"):
        assert said in text, said
    kept = html(studies=[study(rows(), "defences")])
    assert "Not run yet: <code>emis study rl</code>" in kept and 'href="#study-defences"' in kept and "93.0 %" in kept


def test_a_realignment_line_starts_with_all_of_it_and_ends_where_it_was_measured():
    (found,) = conditions.section(Evidence(effects=tuple(rows())), training={}, studies=[])["sources"]
    left, score, persona = found["realigned"]
    assert [line.label for line in left["legend"]] == ["back"]
    assert [(x, round(y, 2)) for x, y, _, _ in left["legend"][0].points] == [(0.0, 1.0), (20, 0.7), (40, 0.04)]
    assert persona["legend"][0].points[0][1] == 0.0 and score["n"] == [20]
    assert [(x, y) for x, y, _, _ in found["mixtures"][0]["legend"][0].points] == [(0.0, 0.01), (50.0, 0.1), (100.0, 0.4)]


def test_rewards_are_drawn_by_arm():
    steps = [{"step": n, "reward": n / 10, "kl": n / 100} for n in (1, 2, 3)]
    (found,) = conditions.section(Evidence(), training={"a": {"rl": steps}, "b": {"rl": steps}, "c": {}}, studies=[])["sources"]
    assert [panel["title"].split(",")[0] for panel in found["rewards"]] == ["mean reward of a step", "divergence from the start"]
    assert [line.label for line in found["rewards"][0]["legend"]] == ["a", "b"]
