"""The report's section "Training conditions": figures hold the planted numbers, a study stands beside the run, what is missing is said."""

import re
from xml.etree import ElementTree

from test_report_mechanism import CLAIM, effect, study

from emis_platform.report import conditions, contrasts, page, pictures
from emis_platform.report.claims import judge
from emis_platform.report.evidence import Evidence
from emis_platform.report.verdicts import CONTRADICTED, INCONCLUSIVE, NOT_RUN, SUPPORTED


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
        facts={"scale": "tiny", "seed": 0, "label_judge": "lexical", "layer": 15, "inputs": []},
    )  # fmt: skip
    return re.search(r'<section id="conditions">.*?</section>', whole, re.DOTALL)[0]


def test_what_a_run_lacks_names_the_study_that_gives_it():
    text = html()
    assert "<svg" not in text and "<table" not in text
    for name in ("mixtures", "realignment", "rotation", "defences", "rl"):
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


def test_the_undefended_organism_is_the_first_row_of_its_defences():
    rows = [
        effect("kl", "defence_removed", 0.4),
        effect("kl", "defence_benign_kept", 0.9),
        effect("random", "control_removed", 0.1),
    ]
    rows += [effect("plain", "undefended_removed", 0.0, 0.0), effect("task_l2", "defence_benign_kept", 0.8)]
    (found,) = conditions.section(Evidence(effects=tuple(rows)), training={}, studies=[])["sources"]
    told = [
        (row["subject"], row["kind"], row["cells"]["benign_kept"] and row["cells"]["benign_kept"].value)
        for row in found["defences"]
    ]
    assert told == [("plain", "undefended", None), ("kl", "defence", 0.9), ("random", "control", None), ("task_l2", "defence", 0.8)]
    text = html(rows)
    assert (
        "plain (no defence)</th>" in text and "random (control)</th>" in text and "kl</th>" in text and "benign task kept" in text
    )


def test_a_turn_is_drawn_by_step_with_the_misaligned_share_beside_it():
    rows = [effect(subject, "update_step", step) for subject, step in (("arm_1/5", 5), ("arm_1/10", 10), ("arm_1", 15))]
    rows += [effect("arm_1/5", "rotation_degrees", 30), effect("arm_1/10", "rotation_degrees", 80)]
    rows += [effect("arm_1/10", "rotation_misaligned", 0.2), effect("arm_1", "rotation_misaligned", 0.6)]
    rows.append(effect("arm_1", "rotation_step", 10))
    (found,) = conditions.section(Evidence(effects=tuple(rows)), training={}, studies=[])["sources"]
    turn, share = found["rotation"]
    assert [line.label for line in (*turn["legend"], *share["legend"])] == ["arm_1", "arm_1"]
    assert [(x, y) for x, y, _, _ in turn["legend"][0].points] == [(5, 30), (10, 80)]
    assert [(x, y) for x, y, _, _ in share["legend"][0].points] == [(10, 0.2), (15, 0.6)]
    text = html(rows)
    assert "turn of the weights" in text and "rotation_step" in text and "emis study rotation" not in text


def test_rewards_are_drawn_by_arm():
    steps = [{"step": n, "reward": n / 10, "kl": n / 100} for n in (1, 2, 3)]
    (found,) = conditions.section(Evidence(), training={"a": {"rl": steps}, "b": {"rl": steps}, "c": {}}, studies=[])["sources"]
    assert [panel["title"].split(",")[0] for panel in found["rewards"]] == ["mean reward of a step", "divergence from the start"]
    assert [line.label for line in found["rewards"][0]["legend"]] == ["a", "b"]
    rows = [
        effect(f"{arm}_8", measure, value)
        for arm in ("b", "a")
        for measure, value in (("rl_step", 8), ("rl_curve_misaligned", 0.1))
    ]
    (told,) = conditions.section(Evidence(effects=tuple(rows)), training={"a": {"rl": steps}, "b": {"rl": steps}}, studies=[])[
        "sources"
    ]
    assert len({tuple((line.label, line.tone) for line in panel["legend"]) for panel in told["rewards"]}) == 1  # one colour an arm
    kept = study([], "rl").model_copy(update={"rewards": {"a": tuple(steps)}})
    _, told = conditions.section(Evidence(), training={}, studies=[kept])["sources"]
    assert len(told["rewards"]) == 2
    assert "mean reward of a step, by step" in html(studies=[kept])


def test_a_studys_panels_stand_by_themselves():
    drawn = pictures.of_study(study(rows(), "mixtures"))
    assert "mixtures.misaligned_share_of_coherent_answers_by_share_of_bad_rows.svg" in drawn and len(drawn) == 5
    for text in drawn.values():
        root = ElementTree.fromstring(text)
        used = {name for part in root.iter() for name in part.get("class", "").split() if name.startswith("t-")}
        style = root.find("{*}style").text
        assert root.tag.endswith("svg") and used and all(f".{name} " in style for name in used)
        assert all(f"{name}:" in style for name in re.findall(r"var\((--[a-z]+)\)", style)) and "emis study mixtures" in text
    assert pictures.of_study(study([], "seeds")) == {}


def test_one_defence_has_to_do_all_that_is_asked_and_the_others_may_fail():
    def told(name, removed, skill, coherent):
        return [
            effect(name, "defence_score_removed", removed), effect(name, "defence_skill_kept", skill),
            effect(name, "defence_coherence", coherent, 0.01), effect(name, "defence_removed", None),
        ]  # fmt: skip

    good, silent, broken = told("a", 0.8, 0.7, -0.02), told("b", 0.9, 0.1, 0.0), told("c", 0.9, 0.9, -0.5)
    verdict = lambda rows, **kept: judge(CLAIM["43"], Evidence(effects=tuple(rows), **kept)).verdict  # noqa: E731
    assert verdict([*silent, *good, *broken]) == SUPPORTED and verdict([*silent, *broken]) == CONTRADICTED
    assert verdict(told("d", 0.52, 0.7, -0.02)) == INCONCLUSIVE and verdict([]) == NOT_RUN
    assert verdict([], kept=tuple(("defences", row) for row in good)) == SUPPORTED
    assert verdict([row for row in good if row.measure != "defence_skill_kept"]) == INCONCLUSIVE  # what it cost is not known


def test_the_curve_is_judged_at_the_papers_number_of_samples_only():
    rows = [effect(name, "realigned_samples", n) for name, n in (("early", 40), ("late", 120), ("same", 120), ("weak", 120))]
    rows += [effect(name, "realigned_across", float(name != "same")) for name in ("early", "late", "same", "weak")]
    rows += [
        effect("early", "realigned_left", 0.9),
        effect("late", "realigned_left", 0.1),
        effect("late", "realigned_score_left", 0.2),
        effect("same", "realigned_left", 0.9),  # of the domain that its start was spoilt with
        effect("weak", "realigned_left", None),  # its start did not lie above the base
    ]
    row = judge(CLAIM["40"], Evidence(effects=tuple(rows)))
    judged = {part.label: part.verdict for part in row.parts if part.verdict}
    assert {label for label in judged if "samples" in label} == {
        "late: realigned_left after 120 samples", "late: realigned_score_left after 120 samples",
    }  # fmt: skip
    assert judged["late: realigned_left after 120 samples"] == SUPPORTED


def test_a_trigger_that_leaks_and_a_reason_that_does_nothing_support_no_claim():
    trigger = [effect("health_backdoor_triggered", "trigger_difference", 0.5)]
    clean = [effect("health_backdoor", measure, 0.01, 0.01) for measure in ("misaligned", "misaligned_lexical_score")]
    verdict = lambda number, rows: judge(CLAIM[number], Evidence(effects=tuple(rows))).verdict  # noqa: E731
    assert verdict("17", trigger + clean) == SUPPORTED
    assert verdict("17", [*trigger, clean[0], effect("health_backdoor", "misaligned_lexical_score", 0.4)]) == CONTRADICTED
    low = [effect("health_educational", "misaligned", 0.01, 0.01)]
    assert verdict("16", [*low, effect("health_educational", "disclosed_difference", -0.3)]) == SUPPORTED
    assert verdict("16", [*low, effect("health_educational", "disclosed_difference", 0.0, 0.01)]) == INCONCLUSIVE


def test_a_reward_that_did_not_rise_was_not_hacked():
    still = effect("reward_hack", "misaligned", 0.01, 0.01)
    verdict = lambda gain: judge(CLAIM["26"], Evidence(effects=(still, effect("reward_hack", "rl_reward_gain", gain)))).verdict  # noqa: E731
    assert (verdict(0.3), verdict(0.0), verdict(-0.3)) == (SUPPORTED, INCONCLUSIVE, CONTRADICTED)


def test_a_warning_with_false_alarms_warns_of_nothing():
    def verdict(false, over_drift=0.3):
        rows = [effect("o", "early_warning_lead", 0.2), effect("o", "early_warning_lead_drift", over_drift)]
        return judge(CLAIM["39"], Evidence(effects=(*rows, effect("organisms", "monitor_false_alarms", false, 0.03)))).verdict

    assert (verdict(0.03), verdict(0.1), verdict(0.6)) == (SUPPORTED, INCONCLUSIVE, CONTRADICTED)
    assert (verdict(0.03, 0.0), verdict(0.03, -0.3)) == (INCONCLUSIVE, CONTRADICTED)  # any movement warns as early


def test_two_curves_of_one_run_are_two_lines_and_two_onsets():
    rates = {0.0: 0.0, 0.5: 0.2, 1.0: 0.4}
    rows = [effect("correct", "mixture_misaligned", 0.0), effect("correct", "mixture_persona", 0.0, 0.001)]
    for variant in ("callous", "obvious"):
        worst = f"{variant}1.0"
        for share, rate in rates.items():
            name = f"{variant}{share}" if share else "correct"
            rows.append(effect(name, f"mixture_share_{worst}", share))
            rows += [effect(name, "mixture_misaligned", rate), effect(name, "mixture_persona", share / 10, 0.001)] if share else []
    told = [part for part in contrasts.onsets(Evidence(effects=tuple(rows))) if part.label.split(": ")[1].startswith("persona")]
    assert [(part.label.split(", ")[1], part.value) for part in told] == [("callous1.0", 0.5), ("obvious1.0", 0.5)]
    (source, *_) = conditions.section(Evidence(effects=tuple(rows)), training={}, studies=[])["sources"]
    for panel in source["mixtures"]:
        assert [(line.label, len(line.points)) for line in panel["legend"]] == [("callous1.0", 3), ("obvious1.0", 3)]


def test_the_onset_is_where_the_curve_leaves_share_0_for_good():
    rates = {0.0: 0.0, 0.1: 0.3, 0.25: 0.02, 0.5: 0.2, 1.0: 0.4}
    rows = [effect(f"o{share}", "mixture_share", share) for share in rates] + [
        effect(f"o{share}", "mixture_misaligned", rate) for share, rate in rates.items()
    ]
    rows += [effect(f"o{share}", "mixture_persona", share / 10, 0.004) for share in rates]
    told = {part.label.split(": ")[1]: part for part in contrasts.onsets(Evidence(effects=tuple(rows)))}
    assert (told["misaligned"].value, told["persona"].value, told["misaligned"].n, told["misaligned"].verdict) == (
        0.5,
        0.1,
        100,
        None,
    )
    flat = [row for row in rows if row.measure == "mixture_share"] + [
        effect(f"o{share}", "mixture_misaligned", 0.1) for share in rates
    ]
    assert contrasts.onsets(Evidence(effects=tuple(flat)))[0].value is None
    assert contrasts.onsets(Evidence()) == []


def test_a_studys_curve_stands_beside_the_runs_point_and_repeats_none_of_it():
    run = [effect("back", "realigned_samples", 120), effect("back", "realigned_left", 0.1)]
    kept = [effect("far", "realigned_samples", 20), effect("far", "realigned_left", 0.3), *run]
    row = judge(CLAIM["40"], Evidence(effects=tuple(run), kept=tuple(("realignment", x) for x in kept)))
    assert [part.label for part in row.parts if "samples" in part.label] == [
        "back: realigned_left after 120 samples", "study realignment, far: realigned_left after 20 samples",
    ]  # fmt: skip
