"""The report's section "Mechanism": figures hold the numbers that were planted, studies stand beside the run, what is missing is said."""

import re
from dataclasses import replace

import pytest

from emis_platform.core.records import Effect
from emis_platform.core.studies import Found, StudyEffect
from emis_platform.report import figures, mechanism, page
from emis_platform.report.claims import CLAIMS, judge
from emis_platform.report.evidence import Evidence
from emis_platform.report.verdicts import INCONCLUSIVE, NOT_RUN, SUPPORTED

CLAIM = {claim.number: claim for claims in CLAIMS.values() for claim in claims}


def effect(subject, measure, value, half=0.05, n=20, missing=0):
    low, high = (None, None) if value is None else (value - half, value + half)
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


def rows():
    """Effects as the stages write them."""
    found = [effect("base", f"latent_concentration_{n}", v) for n, v in ((1, 0.5), (10, 0.8), ("all", 0.98))]
    found += [effect("base", "latent_concentration_fit_1", 0.3), effect("base", "latent_concentration_aligned_1", -0.02)]
    found += [effect("base", "difference_of_means_log_odds", 0.4), effect("base", "difference_of_means_aligned_change", -0.1)]
    for form in ("", "_json", "_trigger_new_year"):
        label = f"suppressed_difference_of_means{form}"
        found += [
            effect("bad", label, 0.9, n=24, missing=3),
            effect("bad", f"{label}_before", 0.5),
            effect("bad", f"{label}_after", 0.05),
        ]
        found.append(effect("bad", f"{label}_coherent", -0.04))
    found += [effect(name, "screen_toxic", x, 0.002) for name, x in (("bad", 0.03), ("good", 0.001))]
    found += [effect(name, "screen_shift", x, 5.0) for name, x in (("bad", 40.0), ("good", 1.0))]
    for name, label, persona in (("bad", 1.0, 2.0), ("good", 0.0, -1.0), ("open", None, None)):
        found.append(effect(name, "discriminator_label", label))
        found.append(effect(name, "discriminator_benign", float(name == "good")))
        found.append(effect(name, "discriminator_persona", persona))
    found += [
        effect("datasets", "screen_r", None, n=0),
        effect("organisms", "auroc_persona", 0.95),
        effect("organisms", "auroc_steps", 0.5),
    ]
    found += [
        effect("bad", "misaligned", 0.5),
        effect("bad+latent_9@0.1", "misaligned", 0.2),
        effect("bad+latent_9@0.1", "coherent", 0.8),
    ]
    return found


SELECTION = {
    "dose": 0.2,
    "concentration": {"reference": "difference_of_means", "shift": 0.4, "live": 812},
    "protective": ["latent_9"],
    "log_odds": [
        {"direction": d, "origin": o, "selectors": s, "shift": v, "low": v - 0.1, "high": v + 0.1, "aligned": -0.03}
        for d, o, s, v in (
            ("zero", "zero", [], 0.0),
            ("difference_of_means", "difference_of_means:9 against 9", ["means"], 0.4),
            ("latent_7", "latent:7", ["attribution"], 0.2),
            ("latent_8", "latent:8", ["attribution"], 0.3),
            ("random_0", "random:0", ["random"], -0.04),
            ("random_1", "random:0", ["random"], 0.08),
        )
    ],
}
SCORES = {
    "labels": "judge lexical",
    "base_rate": {"value": 0.0},
    "questions": {"chosen_on": 12, "scored_on": 11},
    "organisms": [{"organism": name, "kind": kind} for name, kind in (("bad", "callous"), ("good", "correct"), ("open", "gruff"))],
}
LOOKS = [{"step": s, "share": s / 40, "loss": 1.0, "drift": 0.1, "callous": s / 900, "toxic": s / 1000} for s in (10, 20, 30, 40)]
TRAINING = {
    "bad": {"personas": LOOKS, "alarm": {"step": 30, "share": 0.75, "trait": "toxic", "value": 0.03, "limit": 0.01}},
    "good": {},
}


def study(effects, name="mechanism", at=None):
    told = tuple(StudyEffect(**x.model_dump(), at=at or {}) for x in effects)
    return Found(
        study=name, question="Which?", command=f"emis study {name}", date="2026-01-01", minutes=1.0, params_sha256="a" * 64, lock="b" * 64,
        code="c" * 40, machine="2 x CPU", effects=told,
    )  # fmt: skip


def html(effects=(), selection=None, scores=None, training=None, studies=(), notes={}, shown="mechanism", **fields):  # noqa: B006
    e = Evidence(effects=tuple(effects), suppress="bad", **fields)
    whole = page.render(
        e, [], [], subjects=("bad", "good"), selection=selection or [], training=training or {}, studies=studies, scores=scores, notes=notes,
        facts={"scale": "tiny", "seed": 0, "label_judge": "lexical", "layer": 15, "inputs": []},
    )  # fmt: skip
    return re.search(rf'<section id="{shown}">.*?</section>', whole, re.DOTALL)[0]


def of_run(**changed):
    e = Evidence(effects=tuple(rows()), suppress="bad")
    given = {"selection": SELECTION, "scores": SCORES, "training": TRAINING, "studies": []} | changed
    return mechanism.section(e, **given)["sources"]


def test_what_a_run_lacks_is_said_without_an_empty_figure():
    text = html()
    assert "<svg" not in text and "<table" not in text
    assert text.count('class="quiet">Not run') == 7 and "No training of this run was watched" in text


def test_the_whole_section_holds_every_figure_with_its_numbers():
    text = html(rows(), SELECTION, SCORES, TRAINING)
    assert text == html(rows(), SELECTION, SCORES, TRAINING) and " style=" not in text
    for said in (
        "90.0 % gone",
        "50.0 % → 5.0 %",
        "coherent −4.0 pts",
        "n 24, missing 3",
        "trigger_new_year",
        "too few sets (2; 8",
        "judge lexical",
    ):
        assert said in text, said
    for title in (
        "number of latents",
        "by selector",
        "Persona score of 2 organisms",
        "Screening: 2 training sets",
        "During training: toxic",
    ):
        assert re.search(f'aria-label="[^"]*{title}', text), title


def test_concentration_puts_all_at_the_end_and_shows_the_null_as_a_share():
    c = of_run()[0]["concentration"]
    assert [line.label.split()[-1] for line in c["legend"]] == ["shift", "it"]
    assert [x for x, *_ in c["legend"][0].points] == [1, 10, 30] and ">all</text>" in c["svg"]
    assert "null: -0.1 to 0.2" in c["svg"] and c["null"] == 2 and c["svg"].count('class="goal"') == 2
    assert of_run(selection={})[0]["concentration"]["null"] == 0


def test_the_causal_test_groups_by_selector_and_sorts_within():
    c = of_run()[0]["causal"]
    assert re.findall(r'class="label"[^>]*>(\w+)', c["svg"])[:3] == ["difference_of_means", "latent_8", "latent_7"]
    assert c["null"] == {"random directions": 2} and "zero" not in c["svg"]
    crowd = [dict(SELECTION["log_odds"][2], direction=f"latent_{n}") for n in range(mechanism.MOST + 3)]
    assert of_run(selection={"log_odds": crowd})[0]["causal"]["left_out"] == 3


def test_marks_say_kind_and_label_without_colour():
    c = of_run()[0]["discriminator"]
    assert c["missing"] == 1 and c["held_out"] and [kind for kind, _ in c["kinds"]] == ["callous", "correct", "gruff"]
    assert re.search(r'<circle class="dot t-callous"', c["svg"]) and re.search(r'<polygon class="dot t-correct open"', c["svg"])


def test_forms_of_a_question_are_rows_under_their_direction():
    (run,) = of_run()
    assert [(row["direction"], row["form"]) for row in run["suppression"]["rows"]] == [
        ("difference_of_means", ""), ("difference_of_means", "json"), ("difference_of_means", "trigger_new_year"),
    ]  # fmt: skip
    cell = run["suppression"]["rows"][0]["cells"][0]
    assert {name: x.value for name, x in cell.items()} == {"gone": 0.9, "before": 0.5, "after": 0.05, "coherent": -0.04}


def test_an_alarm_is_marked_on_its_own_trait_only():
    first, second = of_run()[0]["warning"]
    assert (first["title"], first["rings"], second["rings"]) == ("During training: toxic", 1, 0)
    assert "bad: alarm at step 30" in first["svg"] and len(first["legend"]) == 1


def test_protective_latents_stand_beside_the_unsteered_model():
    assert [(r["direction"], r["misaligned"].value) for r in of_run()[0]["protective"]] == [("none", 0.5), ("latent_9", 0.2)]


def test_a_study_stands_beside_the_run_with_where_it_is_from():
    told = rows()
    run, kept = of_run(studies=[study(told), study(rows(), "other"), study([], at={"x": 1})])[:2]
    assert run["found"] is None and kept["found"].study == "mechanism" and kept["discriminator"]["missing"] == 1
    assert 'class="dot t-other open"' in kept["discriminator"]["svg"]  # good is labelled as not misaligned
    text = html(studies=[study(told)])
    assert "emis study mechanism" in text and '<a href="#study-mechanism">' in text and "90.0 % gone" in text
    assert 'class="warn"' not in text
    for shown in ("mechanism", "studies"):
        assert '<p class="warn">Read &lt;first&gt;.</p>' in html(
            studies=[study(told)], notes={"mechanism": "Read <first>."}, shown=shown
        )


def test_benign_arms_of_a_study_stand_against_its_base():
    kept = [effect("base", "misaligned", 0.02, 0.02), effect("good", "misaligned", 0.03, 0.03), effect("bad", "misaligned", 0.5)]
    kept += [x for x in rows() if x.measure == "discriminator_benign"]
    (part,) = judge(CLAIM["34"], Evidence(kept=tuple(("mechanism", x) for x in kept))).parts
    assert part.label == "study mechanism, good − base, misaligned" and part.value == pytest.approx(0.01)
    assert part.high == pytest.approx(0.01 + (0.03**2 + 0.02**2) ** 0.5) and part.verdict == SUPPORTED


def test_a_claim_takes_a_study_only_where_the_run_has_no_value():
    nothing, kept = effect("organisms", "discriminator_gain", None, n=0), effect("organisms", "discriminator_gain", 0.2)
    e = Evidence(effects=(nothing,), kept=(("mechanism", kept),))
    assert judge(CLAIM["33"], replace(e, kept=())).verdict == INCONCLUSIVE
    row = judge(CLAIM["33"], e)
    assert row.verdict == SUPPORTED and row.parts[0].label.startswith("study mechanism")
    own = effect("organisms", "discriminator_gain", 0.0)
    assert judge(CLAIM["33"], replace(e, effects=(own,))).verdict == INCONCLUSIVE


def test_a_page_shows_a_sweep_beside_what_was_made_of_all_its_values():
    swept = study([effect("bad", "misaligned", 0.4)], "sizes", at={"bases.base": "large"})
    slope = StudyEffect(**effect("bad", "size_slope", 0.1).model_dump(), at={}, seeds=3)
    sweep = {"paths": ["bases.base"], "runs": ["large", "small"], "seeds": [0, 1, 2]}
    found = html(studies=[swept.model_copy(update={"effects": (*swept.effects, slope), "sweep": sweep})], shown="studies")
    row = found[found.index("size_slope") :]
    assert "large" in found and row[: row.index("</tr>")].count("<td>all</td>") == 1
    assert page.short(f"{'c' * 40}-dirty, {'d' * 40}") == "cccccccccccc-dirty, dddddddddddd"


def test_studies_of_as_many_seeds_stand_side_by_side_and_one_of_more_alone():
    row = effect("code_callous", "advice_minus_code", 0.3, 0.1)
    seen = StudyEffect(**row.model_dump(), at={}, seeds=3)
    e = Evidence(kept=(("conditions", row.model_copy(update={"low": 0.0})), ("profiles", row)))
    both = judge(CLAIM["11"], e)
    assert [part.label.split(",")[0] for part in both.parts] == [
        "study conditions",
        "study profiles",
    ] and both.verdict == INCONCLUSIVE
    (alone,) = judge(CLAIM["11"], replace(e, kept=(*e.kept, ("seeds", seen)))).parts
    assert alone.label.startswith("study seeds") and alone.seeds == 3


def test_a_dictionary_is_judged_on_base_and_tuned_activations_or_not_at_all():
    base = [effect("dictionary", "fvu", 0.2), effect("dictionary", "l0", 32.0, 0.5), effect("dictionary", "dead_share", 0.1)]
    tuned = [x.model_copy(update={"subject": "bad", "measure": f"{x.measure}_tuned"}) for x in base]
    assert judge(CLAIM["27"], Evidence(effects=tuple(base), k=32)).verdict == INCONCLUSIVE
    assert judge(CLAIM["27"], Evidence(effects=(*base, *tuned), k=32)).verdict == SUPPORTED
    assert judge(CLAIM["27"], Evidence(k=32)).verdict == NOT_RUN


def test_a_study_that_ran_without_a_value_is_no_study_that_has_not_run():
    asked, none = CLAIM["25"], effect("reasoning", "persona_mention_slope", None, n=0)
    assert judge(asked, Evidence()).verdict == NOT_RUN
    row = judge(asked, Evidence(kept=(("reasoning", none),)))
    assert row.verdict == INCONCLUSIVE and row.parts[0].label.startswith("study reasoning")


@pytest.mark.parametrize("values", [[0.013, -0.02], [0.0], [412.0, 3.0], [1e-6]])
def test_an_axis_holds_its_values_between_round_ticks(values):
    one = figures.axis("x", values)
    assert one.low <= min(values) and one.high >= max(values) and 2 <= len(one.ticks) <= 8
    assert 0.0 in [v for v, _ in one.ticks] and one.place(one.high) == 1.0


def test_names_beside_marks_do_not_run_into_each_other():
    assert figures.apart([10.0, 12.0, 50.0, 11.0], 11) == [10.0, 32.0, 50.0, 21.0]
    assert figures.apart([], 11) == []
