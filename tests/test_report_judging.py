"""The judging section: planted rates, agreements and disagreements are shown as they are, and what is not there is said."""

import re
from html import unescape
from urllib.parse import parse_qs

import pytest

from emis_platform.core import files
from emis_platform.core.records import Completion, Effect, Judgement
from emis_platform.report import judging, page, plots
from emis_platform.report.claims import CLAIMS, judge
from emis_platform.report.evidence import Arm, Evidence, index
from emis_platform.report.measured import Measurement, as_effects
from emis_platform.stages import report

ARMS = {f"health_{v}": Arm("health", v, "base") for v in ("correct", "callous")}
ARMS["health_realigned"] = Arm("finance", "correct", "health_callous")
SUBJECTS = ("base", "health_correct", "health_callous", "health_realigned")
RATES = {"base": 0.0, "health_correct": 0.0, "health_callous": 0.5, "health_realigned": 0.25}
ATTACK = "</td><script>document.title='owned'</script>&\u2028 " + "x" * 400
STEERED = "base+latent_7@0.2"


def views(subject, share, judge="offline:abc", n=40, samples=2, **fields):
    """Of each question, one sample of two is misaligned in the first `share` of the questions."""
    return [
        Judgement(subject=subject, question=f"q{q}", set="score", sample=k, judge=judge, coherent=90.0,
                  score=5.0 if k == 0 and q < share * n else 90.0 - q / 10, **fields)
        for q in range(n) for k in range(samples)
    ]  # fmt: skip


def said(row, text="words"):
    place = {"subject": row.subject, "question": row.question, "set": row.set, "sample": row.sample}
    return Completion(**place, seed=0, prompt=f"What of {row.question}?", text=text, finish_reason="stop", tokens=3)


def effect(subject, measure, value, low=None, high=None, n=80, missing=0):
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


def world(second=lambda row: row.model_copy(update={"judge": "lexical:def"}), effects=()):
    first = [row for subject, share in {**RATES, STEERED: 0.2}.items() for row in views(subject, share)]
    rows = first + [second(row) for row in first]
    names = tuple(dict.fromkeys(row.judge.split(":")[0] for row in rows))
    return Evidence(effects=tuple(effects), judged=index(rows), judges=names, arms=ARMS), first


MEASURED = {
    "rows": [
        {
            "judge": judge, "data": data, "n": 297, "positives": 43, "auroc": [0.911, 0.875, 0.946], "auroc_probability": None,
            "auroc_coherent": [0.802, None, None], "ece": 0.0791, "brier": 0.1, "sensitivity": [0.625, 0.4, 0.8],
            "specificity": None, "forecast": forecast, "by_question": [],
            "missing": {"timeout": 3}, "abstained": 2, "out_of_calibration": 0.0125, "seconds_per_1000": 181.0,
            "reliability": [{"p": 0.05, "share": 0.1, "n": 30}, {"p": 0.8, "share": 0.6, "n": 30}],
        }
        for judge, data, forecast in (
            ("offline:abc", "subjects", "probability"), ("lexical:old", "subjects", "aligned"), ("offline:abc", "betley", "probability"),
        )
    ],
    "between": [], "outside": {"betley": {"n": 297, "left_out": 11}},
    "readers": [{"data": "subjects", "n": 80, "aligned": [0.777, 0.7, 0.8], "coherent": None, "misaligned": [0.66, 0.5, 0.8]}],
}  # fmt: skip


def shown(e, completions=(), measured=None):
    html = page.render(
        e, completions, [row for rows in e.judged.values() for row in rows], subjects=SUBJECTS, selection=[], training={},
        facts={"scale": "small", "seed": 0, "label_judge": "lexical", "layer": 15, "inputs": []}, measured=measured,
    )  # fmt: skip
    return html[html.index('id="judging"') : html.index('id="datasets"')]


def test_two_equal_judges_agree_fully_and_a_turned_one_is_found():
    same, _ = world()
    plain, steered = judging.between(same)
    assert (plain["group"], steered["group"]) == ("as they are", "steered")
    assert (plain["kappa"].value, plain["alpha"].value) == (1.0, 1.0)
    assert 0.8 < plain["kappa"].low < 1 and (plain["kappa"].n, plain["kappa"].missing) == (320, 0)

    def turned(row):
        gone = {"score": None, "coherent": None, "reason": "timeout"} if row.question == "q39" else {"score": 100 - row.score}
        return row.model_copy(update={"judge": "lexical:def", **gone})

    plain = judging.between(world(turned)[0])[0]
    assert plain["kappa"].value < 0 and plain["alpha"].value < 0
    assert (plain["kappa"].n, plain["kappa"].missing) == (312, 8)


def test_a_judge_without_scores_is_compared_by_its_verdicts():
    bare = {"judge": "rubric:r", "score": None, "coherent": None}
    e, _ = world(lambda row: row.model_copy(update={**bare, "verdict": bool(row.score < 30)}))
    assert judging.between(e)[0]["kappa"].value == 1.0
    incoherent = views("base", 0, n=1)[0].model_copy(update={"coherent": 0.0, "score": 5.0})
    assert (judging.verdict(incoherent), judging.ruled(incoherent), judging.mark(incoherent)) == (False, "incoherent", 5.0)
    assert judging.mark(incoherent.model_copy(update={**bare, "verdict": True})) == 0.0
    assert judging.mark(incoherent.model_copy(update={"score": None})) is None


def test_the_worst_of_two_samples_is_each_question_that_has_one():
    e, _ = world()
    rows = {row["subject"]: row["cells"] for row in judging.worst(e, SUBJECTS)["rows"]}
    assert [cell.value for cell in rows["health_callous"]] == [0.25, 0.5]
    assert rows["base"][1].high < 0.1
    once = Evidence(judged=index(views("base", 0.5, samples=1)), judges=("offline",))
    assert judging.worst(once, SUBJECTS) is None


def test_each_arm_stands_against_its_own_control_with_the_power_reached():
    e, _ = world()
    rows = {row["part"].label: row for row in judging.against_control(e, SUBJECTS)}
    assert list(rows) == ["health_correct − base", "health_callous − health_correct", "health_realigned − health_callous"]
    assert [row["part"].value for row in rows.values()] == [0.0, 0.25, -0.125]
    assert rows["health_correct − base"]["part"].verdict == "inconclusive"  # 40 questions without a difference may hide 9 points
    assert rows["health_callous − health_correct"]["part"].verdict == "contradicted"
    assert all(row["questions"] == 40 and 0.05 < row["detectable"] < 0.2 and 0 < row["power"] < 0.8 for row in rows.values())


def test_the_widest_disagreement_comes_first_and_links_to_its_answer():
    def harsher(row):
        odd = (row.subject, row.question, row.sample) == ("health_correct", "q7", 1)
        return row.model_copy(update={"judge": "lexical:def", "score": 1.0 if odd else row.score - row.sample})

    e, first = world(harsher)
    section = shown(e, [said(row, ATTACK if row.question == "q7" else "words") for row in first])
    table = section[section.index('id="apart"') :]
    links = [parse_qs(unescape(link)) for link in re.findall(r'href="#(.*?)"', table)]
    assert len(links) == judging.MOST and links[0] == {"q": ["score/q7"], "s": ["health_correct"]}
    assert STEERED not in table
    assert "&lt;script&gt;document.title=&#39;owned&#39;" in table and "<script" not in table and "x" * 300 not in table


def test_rates_stand_side_by_side_with_their_corrections():
    effects = [
        effect("base", "misaligned_offline_score", 0.031, 0.01, 0.07, 77, 3),
        effect("base", "misaligned_lexical_score", 0.052, 0.02, 0.09),
        effect("base", "misaligned_all", 0.0309, 0.01, 0.07),
        effect("base", "misaligned_all_ppi", 0.123, 0.06, 0.21),
        effect("base", "misaligned_all_rogan_gladen", None, n=0, missing=80),
        effect("base", "labels_read", 30.0),
        effect("health_callous", "misaligned_offline_score", 0.5, 0.4, 0.6),
    ]
    e, _ = world(effects=effects)
    found = judging.rates(e, SUBJECTS)
    assert len(found["columns"]) == 5 and [row["subject"] for row in found["rows"]] == ["base", "health_callous"]
    assert found["rows"][1]["cells"][1:] == [None] * 4 and found["rows"][0]["labels"] == 30.0
    section = shown(e)
    assert "<b>12.3 %</b><span>6.0 to 21.0 %</span>" in section and "n 77, missing 3" in section
    assert "no value, missing 80" in section


def test_a_profile_is_drawn_for_the_judge_that_gave_it_and_no_other():
    effects = [effect("base", f"profile_{judge}_malice", value, 1, 99) for judge, value in (("p", 40.0), ("p_two", 60.0))]
    e = Evidence(effects=tuple(effects), judges=("offline", "p", "p_two"))
    panels = plots.profiles(e, SUBJECTS)
    assert [panel["title"] for panel in panels] == ["base, by p", "base, by p_two"]
    assert ">malice<" in panels[0]["svg"] and ">40<" in panels[0]["svg"] and "two" not in panels[0]["svg"]


def test_thresholds_show_every_judge_that_scores():
    e, _ = world()
    panel = plots.thresholds(e, SUBJECTS, "lexical")
    callous = next(row for row in panel["rows"] if row["subject"] == "health_callous")
    assert [cell.value for cell in callous["cells"]] == [0.25] * 5 and callous["cells"][0].low < 0.25 < callous["cells"][0].high
    assert plots.thresholds(e, SUBJECTS, "rubric") is None


def test_the_measurement_is_shown_and_a_judge_of_another_hash_is_marked():
    section = shown(world()[0], measured=Measurement.model_validate(MEASURED))
    table = section[section.index('id="judges-table"') : section.index("</table>")]
    assert table.count("judged nothing on this page") == 1 and "0.911 <span" in table and "3 timeout" in table
    assert "outside labels, 11 rows without" in table and "0.777" in section
    assert [word in section for word in ("subjects: share misaligned", "subjects: mean reading", "betley: share misaligned")] == [
        True
    ] * 3
    assert "as it should be" in section and "random directions" not in section
    ticks = re.search(r'aria-label="subjects: mean reading.*?</svg>', section)[0]
    assert ">75<" in ticks and ">75 %<" not in ticks  # scores run to 100
    assert "metrics/judges.json" not in section


def test_an_empty_run_says_what_is_not_there():
    section = shown(Evidence())
    assert "there is no metrics/judges.json" in section and "Not run yet." in section


def test_the_default_judges_auroc_on_outside_labels_settles_its_claim():
    measured = Measurement.model_validate(MEASURED)
    found = as_effects(measured, {"offline:abc"})
    assert [(x.measure, x.value, x.n, x.missing) for x in found] == [
        ("judge_test_auroc_subjects", 0.911, 297, 3), ("judge_outside_auroc_betley", 0.911, 297, 3),
    ]  # fmt: skip
    claim = next(claim for claims in CLAIMS.values() for claim in claims if claim.number == "5")
    assert judge(claim, Evidence(effects=tuple(found))).verdict == "supported"
    assert as_effects(measured, {"offline:newer"}) == []


def test_another_file_than_the_measurement_is_refused_and_none_is_none(tmp_path):
    path = tmp_path / "judges.json"
    assert report.measurement(path) is None
    for wrong, where in (([], "the whole: "), (MEASURED | {"rows": [{"judge": "offline:abc"}]}, "rows.0.data: ")):
        files.write_json(path, wrong)
        with pytest.raises(ValueError, match=re.escape(f"{path}: {where}")):
            report.measurement(path)
