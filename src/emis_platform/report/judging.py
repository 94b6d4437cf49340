"""Evidence + what `emis judge-report` measured -> the judging section: how far the rates on the page hang on the judge."""

from collections.abc import Sequence
from itertools import combinations
from math import isnan, nan
from typing import Any
from urllib.parse import urlencode

from emis_platform.core.records import Completion, Judgement
from emis_platform.lab import agreement, contrast, spread
from emis_platform.lab.agreement import mark
from emis_platform.lab.rates import misaligned_of_all as verdict
from emis_platform.report import evidence as ev
from emis_platform.report import plots
from emis_platform.report.contrasts import MARGIN
from emis_platform.report.evidence import STEERED, Evidence, from_effect
from emis_platform.report.measured import Measurement
from emis_platform.report.verdicts import Part, within

MOST = 20
"""Answers in the list of disagreements."""
EXCERPT = 240
"""Characters of an answer in that list; the transcript has all of it."""
DEPTHS = (1, 2, 4, 8, 16)
"""Samples of which the worst counts."""
CORRECTED = {
    "misaligned_all": "of all answers",
    "misaligned_all_ppi": "corrected, prediction-powered",
    "misaligned_all_rogan_gladen": "corrected, Rogan-Gladen",
}
"""Measures of the default judge (lab/rates.py) and their headings."""


def section(
    e: Evidence, completions: Sequence[Completion], measured: Measurement | None, subjects: Sequence[str]
) -> dict[str, Any]:
    """All that the section shows. measured: None if there is none; subjects: unsteered, in the page's order."""
    return {
        "measured": measured,
        "here": {row.judge for rows in e.judged.values() for row in rows},
        "reliability": plots.reliability(measured.rows if measured else []),
        "rates": rates(e, subjects),
        "curves": [p for judge in e.judges if (p := plots.thresholds(e, subjects, judge))],
        "worst": worst(e, subjects),
        "profiles": plots.profiles(e, subjects),
        "contrasts": against_control(e, subjects),
        "agreement": between(e),
        "apart": apart(e, completions),
    }


def ruled(row: Judgement) -> str:
    """The verdict in a word."""
    bad = verdict(row)
    return "no verdict" if bad is None else "misaligned" if bad else "incoherent" if row.misaligned is None else "not misaligned"


def rates(e: Evidence, subjects: Sequence[str]) -> dict[str, Any] | None:
    """Subjects down; across, every judge's rate of coherent answers, then the default's of all answers, as it is and corrected."""
    named = {f"misaligned_{judge}_score": f"{judge}, of coherent" for judge in e.judges} | {
        measure: f"{e.judges[0]}, {heading}" for measure, heading in CORRECTED.items()
    }
    kept = {measure: heading for measure, heading in named.items() if any(e.effect(s, measure) for s in subjects)}
    if not kept:
        return None
    rows = []
    for subject in subjects:
        effects = [e.effect(subject, measure) for measure in kept]
        if any(effects):
            read = e.effect(subject, "labels_read")
            cells = [effect and from_effect(effect, None) for effect in effects]
            rows.append({"subject": subject, "cells": cells, "labels": read and read.value})
    return {"columns": list(kept.values()), "rows": rows}


def worst(e: Evidence, subjects: Sequence[str]) -> dict[str, Any] | None:
    """Share of `score` questions with a misaligned answer among k samples, default judge; None if no question has two."""
    rows = []
    for subject in subjects:
        values: dict[str, list[float]] = {}
        for row in e.judged.get((e.judges[0], subject, "score"), ()):
            values.setdefault(row.question, []).extend([] if verdict(row) is None else [float(bool(verdict(row)))])
        most = max(map(len, values.values()), default=0)
        cells = []
        for k in DEPTHS:
            found = spread.worst_of(values, k) if k <= most else None
            cells.append(found and Part(f"worst of {k}", *found, len(values) - found[3], verdict=None))
        if most:
            rows.append({"subject": subject, "cells": cells})
    depth = max((sum(cell is not None for cell in row["cells"]) for row in rows), default=0)
    if depth < 2:
        return None
    return {"columns": DEPTHS[:depth], "rows": [{**row, "cells": row["cells"][:depth]} for row in rows]}


def control_of(e: Evidence, subject: str) -> str:
    """What an arm is held against: where it started if that is another organism, else the matched correct arm, else the base."""
    arm = e.arms[subject]
    if arm.starts_from != "base":
        return arm.starts_from
    matched = e.arm(arm.domain, "correct")[:1]
    return "base" if arm.variant == "correct" or not matched else matched[0]


def against_control(e: Evidence, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Each arm minus its control, with what could have been seen and whether the two are alike within the margin."""
    rows = []
    for subject in (s for s in subjects if s in e.arms):
        control = control_of(e, subject)
        part = ev.compare(e, f"{subject} − {control}", [subject], [control], within(MARGIN))
        if part.value is not None:
            a, b = ev.cells(e, [subject], "misaligned"), ev.cells(e, [control], "misaligned")
            found = contrast.paired(a, b)
            rows.append(
                {"part": part, "questions": found.questions, "detectable": found.detectable, "power": contrast.power(a, b, MARGIN)}
            )
    return rows


def answers(e: Evidence) -> dict[tuple[str, str, str, int], dict[str, Judgement]]:
    """(subject, set, question, sample) -> the judges' views of that answer, by judge."""
    found: dict[tuple[str, str, str, int], dict[str, Judgement]] = {}
    for (judge, subject, set_), rows in e.judged.items():
        for row in rows:
            found.setdefault((subject, set_, row.question, row.sample), {})[judge] = row
    return found


def between(e: Evidence) -> list[dict[str, Any]]:
    """Kappa of the verdicts and alpha of the scores of each two judges, and alpha of them all where there are more."""
    rows = []
    every = answers(e)
    pairs: list[tuple[str, ...]] = list(combinations(e.judges, 2))
    for group, steered in (("as they are", False), ("steered", True)):
        some = {key: views for key, views in sorted(every.items()) if bool(STEERED.match(key[0])) == steered}
        for judges in pairs + ([e.judges] if len(e.judges) > 2 else []):
            seen = [(key[2], [views[judge] for judge in judges]) for key, views in some.items() if set(judges) <= set(views)]
            if seen:
                kappa = kappa_part(seen) if len(judges) == 2 else None
                rows.append({"judges": " and ".join(judges), "group": group, "kappa": kappa, "alpha": alpha_part(seen)})
    return rows


Seen = Sequence[tuple[str, Sequence[Judgement]]]
"""(question, each judge's view) of each answer."""


def kappa_part(seen: Seen) -> Part:
    read = [(question, *two) for question, views in seen if None not in (two := [verdict(row) for row in views])]
    questions, a, b = zip(*read, strict=True) if read else ((), (), ())
    return part("kappa", agreement.kappa(a, b, questions) if read else (), len(read), len(seen))


def alpha_part(seen: Seen) -> Part:
    read = [(question, marks) for question, views in seen if None not in (marks := [mark(row) for row in views])]
    ratings = [[marks[k] for _, marks in read] for k in range(len(seen[0][1]))]
    return part("alpha", agreement.alpha_interval(ratings, [q for q, _ in read]) if read else (), len(read), len(seen))


def part(label: str, ends: Sequence[float], n: int, asked: int) -> Part:
    """nan, the value of agreement that cannot be told from chance, is no value."""
    value, low, high = (None if isnan(end) else end for end in ends or (nan,) * 3)
    return Part(label, value, low, high, n, asked - n, verdict=None, unit="number")


def apart(e: Evidence, completions: Sequence[Completion]) -> dict[str, Any] | None:
    """The unsteered answers on which the default and the second judge differ most, each with its address in the transcripts."""
    if len(e.judges) < 2:
        return None
    first, second = e.judges[:2]
    said = {(c.subject, c.set, c.question, c.sample): c for c in completions if not STEERED.match(c.subject)}
    views = answers(e)
    both = {str(k): key for k, key in enumerate(sorted(said)) if {first, second} <= set(views.get(key, ()))}
    pairs = [(views[key][first], views[key][second]) for key in both.values()]
    found = agreement.disagreements(list(both), [mark(a) for a, _ in pairs], [mark(b) for _, b in pairs], MOST)
    rows = []
    for place, *marks in found:
        c, view = said[both[place]], views[both[place]]
        link = "#" + urlencode({"q": f"{c.set}/{c.question}", "s": c.subject})
        rows.append(
            {"said": c, "text": excerpt(c.text), "link": link, "marks": marks, "ruled": [ruled(view[j]) for j in (first, second)]}
        )
    return {"judges": (first, second), "rows": rows}


def excerpt(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= EXCERPT else plain[: EXCERPT - 1] + "…"
