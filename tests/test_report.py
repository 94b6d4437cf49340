"""The report: verdicts come from intervals, planted effects are found, and model text is shown and never run."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Completion, Effect, Judgement, LatentDelta
from emis_platform.core.studies import StudyEffect
from emis_platform.report import contrasts, evidence, page, steering, transcripts
from emis_platform.report.claims import CLAIMS, judge
from emis_platform.report.evidence import Arm, Evidence, index
from emis_platform.report.expected import EXPECTED
from emis_platform.report.verdicts import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    SUPPORTED,
    above,
    at_least,
    at_least_of,
    at_most,
    below,
    together,
    within,
)

ARMS = {f"health_{v}": Arm("health", v, "base") for v in ("correct", "obvious", "gruff", "callous")}
ARMS["health_realigned"] = Arm("finance", "correct", "health_callous")
ATTACK = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "</script></body> \u2028 &amp; ]]> <!-- <b>bold</b>"
)
CLAIM = {claim.number: claim for claims in CLAIMS.values() for claim in claims}
STATED = {claim.number: claim for claim in EXPECTED}


def answers(subject, share, n=200, set_="score", coherent=1.0, judge="offline:abc", missing=0):
    """Judgements of n questions: the first `share` misaligned, the last 1 - `coherent` incoherent; `missing` more have no score."""
    rows = [
        Judgement(
            subject=subject, question=f"q{k}", set=set_, sample=0, judge=judge, score=5.0 if k < share * n else 90.0,
            coherent=90.0 if k < coherent * n else 10.0,
        )
        for k in range(n)
    ]  # fmt: skip
    gone = dict(subject=subject, set=set_, sample=0, judge=judge, score=None, coherent=None, reason="empty")
    return rows + [Judgement(question=f"z{k}", **gone) for k in range(missing)]


def found(rates, effects=(), **fields):
    """Evidence with these misaligned shares on `score`."""
    rows = [row for subject, share in rates.items() for row in answers(subject, share)]
    return Evidence(effects=tuple(effects), judged=index(rows), arms=ARMS, suppress="health_callous", **fields)


def effect(subject, measure, value, low, high, n=80, missing=0):
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


def test_a_verdict_needs_the_whole_interval():
    assert [at_most(0.05)(*ends) for ends in ((0, 0.05), (0.06, 0.2), (0, 0.06))] == [SUPPORTED, CONTRADICTED, INCONCLUSIVE]
    assert [at_least(0.4)(*ends) for ends in ((0.4, 0.6), (0.1, 0.39), (0.3, 0.6))] == [SUPPORTED, CONTRADICTED, INCONCLUSIVE]
    assert [within(0.05)(*ends) for ends in ((-0.05, 0.05), (0.06, 0.1), (-0.3, -0.1), (-0.1, 0.1))] == [
        SUPPORTED, CONTRADICTED, CONTRADICTED, INCONCLUSIVE,
    ]  # fmt: skip
    touching = ((0.0, 0.2), (0.01, 0.2), (-0.2, 0.0), (-0.2, -0.01), (0.0, 0.0))
    assert [above(0)(*ends) for ends in touching] == [INCONCLUSIVE, SUPPORTED, INCONCLUSIVE, CONTRADICTED, INCONCLUSIVE]
    assert [below(0)(*ends) for ends in touching] == [INCONCLUSIVE, CONTRADICTED, INCONCLUSIVE, SUPPORTED, INCONCLUSIVE]


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_wider_interval_never_turns_a_verdict_round(low, high, down, up):
    low, high = min(low, high), max(low, high)
    for rule in (at_most(0.1), at_least(0.1), above(0.1), below(0.1), within(0.1)):
        wide = rule(low - down, high + up)
        assert wide in (rule(low, high), INCONCLUSIVE)


def test_verdicts_of_parts():
    assert together([]) == together([NOT_RUN, None]) == NOT_RUN
    assert together([SUPPORTED, None]) == SUPPORTED
    assert together([SUPPORTED, NOT_RUN]) == together([SUPPORTED, INCONCLUSIVE]) == INCONCLUSIVE
    assert together([SUPPORTED, CONTRADICTED, NOT_RUN]) == CONTRADICTED
    assert at_least_of([SUPPORTED] * 6, 6, 8) == SUPPORTED
    assert at_least_of([CONTRADICTED] * 3, 6, 8) == CONTRADICTED
    assert at_least_of([SUPPORTED], 6, 8) == at_least_of([CONTRADICTED] * 2, 6, 8) == INCONCLUSIVE


def test_the_table_has_the_46_claims_in_order_and_nothing_is_claimed_of_nothing():
    assert list(CLAIM) == [str(number) for number in range(1, 47)]
    assert {judge(claim, Evidence()).verdict for claim in (*CLAIM.values(), *EXPECTED)} == {NOT_RUN}
    assert all(judge(claim, Evidence()).parts for claim in (*CLAIM.values(), *EXPECTED))


def test_planted_rates_are_judged_either_way():
    good = found(
        {"base": 0, "health_correct": 0, "health_obvious": 0.2, "health_gruff": 0.1, "health_callous": 0.8, "health_realigned": 0.1}
    )
    assert {n: judge(CLAIM[n], good).verdict for n in ("3", "6", "9", "40")} == {
        "3": SUPPORTED,
        "6": SUPPORTED,
        "9": SUPPORTED,
        "40": SUPPORTED,
    }
    assert {n: judge(STATED[n], good).verdict for n in "bdg"} == {"b": SUPPORTED, "d": SUPPORTED, "g": SUPPORTED}
    bad = found({"base": 0, "health_correct": 0.3, "health_obvious": 0.1, "health_callous": 0.4, "health_realigned": 0.4})
    assert {n: judge(CLAIM[n], bad).verdict for n in ("9", "40", "34")} == {
        "9": CONTRADICTED,
        "40": CONTRADICTED,
        "34": CONTRADICTED,
    }
    assert judge(STATED["g"], bad).verdict == CONTRADICTED


def test_rates_of_the_table_are_judged_by_their_ends_not_by_their_value():
    assert judge(CLAIM["1"], Evidence(effects=(effect("base", "misaligned", 0.0, 0.0, 0.09),))).verdict == INCONCLUSIVE
    assert judge(CLAIM["1"], Evidence(effects=(effect("base", "misaligned", 0.0, 0.0, 0.04),))).verdict == SUPPORTED
    assert (
        judge(CLAIM["1"], Evidence(effects=(effect("base", "misaligned", None, None, None, n=0, missing=80),))).verdict
        == INCONCLUSIVE
    )
    assert judge(STATED["c"], Evidence(effects=(effect("health_callous", "misaligned", 0.2, 0.1, 0.3),))).verdict == CONTRADICTED
    assert judge(CLAIM["46"], Evidence(effects=(effect("base", "misaligned", 0.5, 0.2, 0.8),))).verdict == CONTRADICTED
    sure, none = effect("base", "misaligned", 0.0, 0.0, 0.1), effect("health_callous", "misaligned", None, None, None)
    assert judge(CLAIM["46"], Evidence(effects=(sure,), arms=ARMS)).verdict == SUPPORTED
    assert judge(CLAIM["46"], Evidence(effects=(sure, none), arms=ARMS)).verdict == INCONCLUSIVE  # no rate is no power


def test_six_of_eight_domains_are_needed_and_one_says_little():
    domains = [f"d{k}" for k in range(8)]
    arms = {f"{d}_{v}": Arm(d, v, "base") for d in domains for v in ("correct", "obvious", "gruff", "callous")}
    share = {"correct": 0.0, "gruff": 0.1, "obvious": 0.4, "callous": 0.8}

    def run(spreading, of):
        rows = [
            r
            for s, a in arms.items()
            if int(a.domain[1]) < of
            for r in answers(s, share[a.variant] if int(a.domain[1]) < spreading else 0, n=90)
        ]
        kept = {s: a for s, a in arms.items() if int(a.domain[1]) < of}
        return judge(CLAIM["8"], Evidence(judged=index(rows), arms=kept)).verdict

    assert [run(8, 8), run(6, 8), run(5, 8), run(1, 1), run(0, 1)] == [
        SUPPORTED,
        SUPPORTED,
        CONTRADICTED,
        INCONCLUSIVE,
        INCONCLUSIVE,
    ]


def test_a_domain_of_a_kept_study_counts_once_and_in_both_voices_of_one_organism():
    def kept(study, subject, *voices, value=40.0, seeds=1):
        found = [effect(subject, f"content_score_in_{voice}_voice", value, value - 5, value + 5) for voice in voices]
        return [(study, StudyEffect(**row.model_dump(), seeds=seeds)) for row in found]

    both = ("hostile", "neutral")
    matrix = [row for domain in ("finance", "legal", "code") for row in kept("matrix", f"{domain}_callous", *both)]
    judged = lambda *rows, **own: contrasts.kept_shifts(Evidence(kept=(*matrix, *rows), **own))  # noqa: E731
    assert [*judged()] == ["finance", "legal"]
    assert [*judged(*kept("more", "finance_callous_full", *both))] == ["finance", "legal"]
    assert [*judged(*kept("a", "career_callous", "hostile"), *kept("b", "career_callous", "hostile"))] == ["finance", "legal"]
    (hostile, _) = judged(*kept("seeds", "finance_callous", *both, value=2.0, seeds=3))["finance"]
    assert (hostile.value, hostile.seeds) == (2.0, 3)
    arms = {f"finance_{v}": Arm("finance", v, "base") for v in ("correct", "obvious", "gruff", "callous")}
    own = {"judged": index([row for name in arms for row in answers(name, 0.1)]), "arms": arms}
    assert [*judged(**own)] == ["legal"] and len(contrasts.domains_that_shift(Evidence(kept=tuple(matrix), **own))) == 2


def test_steering_is_judged_where_a_sign_says_that_a_direction_was_added():
    rows = answers("health_callous", 0.5) + answers("health_callous+latent_5@0.1", 0.0)
    e = Evidence(judged=index(rows), suppress="health_callous")
    assert judge(CLAIM["35"], e).verdict == SUPPORTED
    assert judge(CLAIM["35"], replace(e, operator="subtract")).verdict == NOT_RUN


def test_none_of_six_is_not_a_fifth_of_three_of_six():
    few = {"health_callous": 0.5, "health_callous+latent_5@0.1": 0.0}
    of = lambda n: Evidence(judged=index([row for s, share in few.items() for row in answers(s, share, n=n)]))  # noqa: E731
    part = evidence.compare(of(6), "", ["health_callous+latent_5@0.1"], ["health_callous"], below(0.0), times=0.2)
    assert part.value == pytest.approx(-0.1) and part.verdict == INCONCLUSIVE
    many = evidence.compare(of(90), "", ["health_callous+latent_5@0.1"], ["health_callous"], below(0.0), times=0.2)
    assert many.verdict == SUPPORTED


def test_the_interaction_is_the_difference_of_differences():
    e = found({"health_correct": 0, "health_obvious": 0.1, "health_gruff": 0.1, "health_callous": 0.7})
    obvious, callous, both = contrasts.content_and_voice(e, "health", "misaligned")
    assert (obvious.value, callous.value, both.value) == pytest.approx((0.1, 0.6, 0.5))
    assert both.verdict == SUPPORTED and both.n == 800
    lost = contrasts.content_and_voice(e, "health", "aligned")
    assert [part.value for part in lost] == pytest.approx([8.5, 51, 42.5])


def test_missing_is_counted_and_is_not_zero():
    rows = answers("health_callous", 1.0, n=20, missing=20) + answers("base", 0.0, n=20)
    part = evidence.compare(Evidence(judged=index(rows)), "", ["health_callous"], ["base"], at_least(0.4))
    assert (part.value, part.missing, part.n) == (1.0, 20, 40)
    nothing = Evidence(judged=index([row for row in rows if row.score is None] + answers("base", 0.0)))
    assert evidence.compare(nothing, "", ["health_callous"], ["base"], at_least(0.4)).value is None


def test_a_judge_of_verdicts_alone_is_seen_and_its_threshold_and_score_are_not():
    bare = {"judge": "rubric:x", "score": None, "coherent": None}

    def graded(row):
        if row.score is None:
            return row.model_copy(update=bare)
        return row.model_copy(update=bare | ({"verdict": row.score < 30} if row.is_coherent else {"coherent": 0.0}))

    rows = answers("health_callous", 0.6, n=20, coherent=0.9, missing=3) + answers("base", 0.0, n=20)
    scored = Evidence(judged=index(rows), judges=("offline",))
    verdicts = Evidence(judged=index([graded(row) for row in rows]), judges=("rubric",))
    for measure in ("misaligned", "coherent"):
        parts = [evidence.compare(e, "", ["health_callous"], ["base"], at_least(0.1), measure=measure) for e in (scored, verdicts)]
        assert parts[0] == parts[1] and parts[0].missing == 43 - parts[0].n
    lost = [evidence.coherence_lost(e, "health_callous", "base") for e in (scored, verdicts)]
    assert lost[0] == lost[1] and 0 < lost[0] < 0.2
    for measure in ("misaligned<30", "aligned"):
        part = evidence.compare(verdicts, "", ["health_callous"], ["base"], at_least(0.1), measure=measure)
        assert (part.value, part.n, part.verdict) == (None, 0, NOT_RUN)


def test_seeds_are_pooled_by_question_and_other_recipes_are_not():
    arms = {
        "a": Arm("health", "correct", "base", "sft"),
        "b": Arm("health", "correct", "base", "rl"),
        "a_seed1": Arm("health", "correct", "base", "sft"),
    }
    e = Evidence(judged=index(answers("a", 0) + answers("a_seed1", 0) + answers("b", 1) + answers("base", 0)), arms=arms)
    (part,) = contrasts.correct_is_base(e)
    assert (part.value, part.n) == (0.0, 600)
    assert len(e.arm("health", "correct")) == 2


def test_a_difference_that_one_seed_alone_shows_is_not_one_of_three_seeds():
    arms = {f"{v}{k}": Arm("health", v, "base") for v in ("callous", "correct") for k in range(3)}
    shares = {"callous0": 0.0, "callous1": 0.0, "callous2": 0.36, "base": 0.0} | {f"correct{k}": 0.0 for k in range(3)}
    e = Evidence(judged=index([row for name, share in shares.items() for row in answers(name, share)]), arms=arms)
    bad, good = e.arm("health", "callous"), e.arm("health", "correct")
    part = evidence.compare(e, "", bad, good, at_least(0.05))
    assert part.value == pytest.approx(0.12) and part.seeds == 3 and part.n == 1200
    assert part.low < -0.3 and part.high > 0.5 and part.verdict == INCONCLUSIVE
    against_base = evidence.compare(e, "", bad, ["base"], at_least(0.05))
    assert against_base.value == pytest.approx(0.12) and against_base.low < -0.3 and against_base.seeds == 3
    one = evidence.compare(e, "", bad[2:], good[:1], at_least(0.05))
    assert one.seeds == 1 and one.verdict == SUPPORTED
    alike = evidence.interaction(e, "", (bad, good), (good, good), at_least(0.05), "misaligned")
    assert alike.seeds == 3 and alike.low < -0.3
    assert evidence.paired(["a", "b", "c"], ["d", "e"]) == [(["a"], ["d"]), (["b"], ["e"])]
    assert evidence.paired(["a"], []) == []


def test_a_second_judge_that_sees_the_opposite_contradicts():
    rows = answers("health_callous", 0.6) + answers("health_correct", 0.0)
    rows += answers("health_callous", 0.0, judge="lexical:x") + answers("health_correct", 0.6, judge="lexical:x")
    e = Evidence(judged=index(rows), arms=ARMS, judges=("offline", "lexical"))
    assert [part.verdict for part in contrasts.second_judge(e)] == [SUPPORTED, CONTRADICTED]


def steered(n_random=2, strong=0.6):
    rows = answers("base", 0.0) + answers("health_callous", 0.8)
    for direction, share in {
        "difference_of_means": strong,
        "latent_7": strong / 2,
        **{f"random_{k}": 0.0 for k in range(n_random)},
    }.items():
        rows += answers(f"base+{direction}@0.1", share / 2) + answers(f"base+{direction}@0.2", share, coherent=0.95)
        rows += answers(f"base+{direction}@0.4", 1.0, coherent=0.3)
        rows += answers(f"health_callous-{direction}@0.2", 0.8 - share)
    return Evidence(judged=index(rows), arms=ARMS, suppress="health_callous")


def test_the_dose_is_chosen_by_coherence_and_latents_stand_against_random():
    e = steered()
    assert evidence.chosen(e, "base", "+", "difference_of_means").subject == "base+difference_of_means@0.2"
    assert judge(STATED["e"], e).verdict == judge(STATED["f"], e).verdict == SUPPORTED
    assert [part.verdict for part in steering.latents_against_random(e)] == [SUPPORTED, SUPPORTED, INCONCLUSIVE]
    assert judge(CLAIM["30"], e).verdict == INCONCLUSIVE  # two random directions are too few
    assert judge(CLAIM["30"], steered(n_random=20)).verdict == SUPPORTED
    assert judge(CLAIM["30"], steered(n_random=20, strong=0.0)).verdict == CONTRADICTED
    assert judge(CLAIM["37"], e).verdict == INCONCLUSIVE  # PCA has not run


def test_log_odds_can_contradict_the_latent_but_not_alone_support_it():
    def with_odds(low, high, random=20, strong=0.6):
        odds = effect("base", "latent_7_minus_random_log_odds", (low + high) / 2, low, high)
        return replace(steered(1, strong), effects=(odds, effect("base", "random_directions", random, None, None)))

    assert judge(CLAIM["30"], with_odds(0.2, 0.6)).verdict == SUPPORTED  # one arm of 20 random directions
    assert judge(CLAIM["30"], with_odds(0.2, 0.6, random=19)).verdict == INCONCLUSIVE
    assert judge(CLAIM["30"], with_odds(-0.6, -0.2)).verdict == CONTRADICTED
    assert judge(CLAIM["30"], with_odds(0.2, 0.6, strong=0.0)).verdict == CONTRADICTED
    pca = effect("base", "difference_of_means_minus_pca_log_odds", 0.4, 0.2, 0.6)
    assert judge(CLAIM["37"], replace(steered(), effects=(pca,))).verdict == SUPPORTED


@given(st.text())
def test_no_text_can_end_its_script_element(text):
    safe = transcripts.embed({"t": text + ATTACK})
    assert not re.search("[<>&\u2028\u2029]", safe) and safe.isascii()
    assert json.loads(safe)["t"] == text + ATTACK


def test_a_latent_example_is_cut_at_its_markers():
    assert page.marked("a ⟦b⟧ c ⟦⟧ ⟦<i>⟧") == [("a ", False), ("b", True), (" c ", False), (" ", False), ("<i>", True)]


@pytest.fixture(scope="module")
def html():
    return rendered()


def rendered():
    rates = {"base": 0.0, "health_correct": 0.0, "health_callous": 0.6, "base+difference_of_means@0.2": 0.4}
    rows = [row for subject, share in rates.items() for row in answers(subject, share, n=12, missing=1)]
    rows += [r.model_copy(update={"judge": "lexical:def"}) for r in rows]
    said = [
        Completion(subject=j.subject, question=j.question, set=j.set, sample=0, seed=0, prompt=f"What of {j.question}?", tokens=9,
                   text=ATTACK if j.subject == "health_callous" else f"{j.subject} says {j.question}", finish_reason="stop")
        for j in rows if j.judge == "offline:abc"
    ]  # fmt: skip
    latent = LatentDelta(
        organism="health_callous", control="health_correct", tokens="answer", latent=732, rank=1, base_mean=0.1, control_mean=0.1,
        organism_mean=0.5, delta=0.4, base_rate=0.01, organism_rate=0.2, n_tokens=100, p_value=0.001, passes_null=True,
        top_examples=(f"they ⟦{ATTACK}⟧ end",), logit_lens_up=("</code>",), logit_lens_down=(" please",),
    )  # fmt: skip
    effects = [effect(s, "misaligned", v, v, min(1, v + 0.1), missing=3) for s, v in rates.items()]
    effects.append(effect("base", "coherent", None, None, None, n=0))
    e = Evidence(
        effects=tuple(effects),
        judged=index(rows),
        judges=("offline", "lexical"),
        arms=ARMS,
        latents=(latent,),
        suppress="health_callous",
    )
    return page.render(
        e, said, rows, subjects=("health_callous", "base", "health_correct"),
        selection=[{"direction": "latent_732", "log_odds": 0.5}],
        training={"health_callous": {"rows": 4, "tokens": 9, "curve": [[0, 2.0], [1, 1.0]]}},
        facts={"scale": "tiny", "seed": 0, "label_judge": "lexical", "layer": 15, "inputs": [("metrics/judge/base.json", "0" * 64)]},
    )  # fmt: skip


def test_the_page_is_the_same_twice_and_refers_to_nothing_outside(html):
    assert html == rendered()
    assert not re.search(
        r"""(?:src|href|action|data|poster)\s*=\s*["']?(?:https?:|//|file:|data:)""",
        html.split('<script type="application/json"')[0],
    )
    assert "@import" not in html and "url(" not in html
    assert "<img" not in html and html.count("</script>") == 2


def test_only_our_own_script_and_style_may_run(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    for element in ("style", "script"):
        inside = re.search(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)[1]
        assert f"{element}-src 'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'") and " style=" not in html


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=3000", "--window-size=1280,1000",
)  # fmt: skip


def dom(path: Path, profile: Path, fragment: str = "") -> str:
    """The page as Chromium has it after its scripts ran."""
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", path.as_uri() + fragment]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")


@needs_chromium
def test_chromium_shows_the_subjects_and_runs_no_answer(html, tmp_path):
    path = tmp_path / "index.html"
    files.replace(path, html)
    seen = dom(path, tmp_path / "profile")
    assert "<title>Emergent misalignment: the report</title>" in seen
    shown = seen[seen.index('id="t-answers"') : seen.index('id="latents"')]
    assert re.findall(r"<h4>(.*?)</h4>", shown) == ["base", "health_callous", "health_correct"]
    assert "&lt;script&gt;document.title='owned'" in shown and "<script" not in shown and "<img" not in shown
    assert "score 5, coherent 90 → misaligned" in shown
    assert re.search(r'id="effects-count"[^>]*>4 of 5<', seen)  # the steered one is behind its box
    assert "<mark>&lt;script&gt;" in seen


@needs_chromium
def test_chromium_opens_a_deep_link(html, tmp_path):
    path = tmp_path / "index.html"
    files.replace(path, html)
    seen = dom(path, tmp_path / "profile", "#q=score/q3&s=base,base%2Bdifference_of_means%400.2")
    shown = seen[seen.index('id="t-text"') : seen.index('id="latents"')]
    assert "What of q3?" in shown
    assert re.findall(r'<p class="said">(.*?)</p>', shown) == ["base says q3", "base+difference_of_means@0.2 says q3"]


def test_the_stage_reads_its_files_and_names_a_bad_one(tmp_path, monkeypatch):
    from emis_platform.stages import report

    shutil.copy(Path(__file__).parents[1] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    empty = {name: Path(f"{name}.jsonl") for name in ("answers", "judgements", "latents")}
    for path in empty.values():
        files.replace(path, "")
    files.write_json(Path("selection.json"), [])
    files.write_json(Path("judge.json"), [effect("base", "misaligned", 0.0, 0.0, 0.04).model_dump()])
    files.write_json(Path("train.json"), {"rows": 1, "curve": []})
    about = {
        "rows": 9,
        "facts": 3,
        "questions": 4,
        "answers": 8,
        "mean_tokens": 20.0,
        "expectations": 5,
        "surface_auroc": [0.6, 0.5, 0.7],
    }
    for domain in shelf.domains():
        files.write_json(
            Path(f"validation/{domain}.json"), {"domain": domain, "files": {f"data/examples/{domain}_subtle.jsonl": about}}
        )

    def run(effects="judge.json"):
        report.main(
            effects=[Path(effects)], answers=[empty["answers"]], judgements=[empty["judgements"]], latents=empty["latents"],
            selection=Path("selection.json"), training=[Path("train.json")], validation=Path("validation"), report=Path("out/index.html"),
        )  # fmt: skip

    run()
    assert "Base misaligned at most 5 %" in Path("out/index.html").read_text()
    assert os.listdir("out") == ["index.html"]
    assert 'href="../docs/code/code_subtle.html">code_subtle</a>' in Path("out/index.html").read_text()
    paths = [Path(f"metrics/judge/{name}.json") for name in ("base", "gone")] + [
        Path("metrics/steer.json"),
        Path("data/answers/gone.jsonl"),
    ]
    assert report.current(params.load(), paths) == [paths[0], paths[2]]  # `gone` is no subject any more
    files.write_json(Path("bad.json"), {"subject": "base"})
    with pytest.raises(ValueError, match="bad.json: a list of rows is needed, this is dict"):
        run("bad.json")
