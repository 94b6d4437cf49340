"""Everything the report shows -> one HTML string without a link to anything outside itself."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emis_platform.core.records import Completion, Effect, Judgement, LatentDelta
from emis_platform.core.studies import Found
from emis_platform.lab.cards import Card
from emis_platform.report import cards as latent_cards
from emis_platform.report import conditions, expected, figures, judging, mechanism, plots, transcripts
from emis_platform.report.claims import CLAIMS, judge
from emis_platform.report.evidence import STEERED, Evidence
from emis_platform.report.measured import Measurement
from emis_platform.report.verdicts import VERDICTS, Part

HERE = Path(__file__).parent
SHARES = (
    "misaligned",
    "coherent",
    "benchmark",
    "category",
    "dead",
    "data_quarantined",
    "benign_false",
    "discriminator_rate",
    "monitor_",
    "latent_density",
    "mixture_misaligned",
    "mixture_share",
    "defence_",
    "undefended_",
    "control_",
    "realigned_left",
    "realigned_score_left",
)
SIGNS = {"supported": "✓", "contradicted": "✗", "inconclusive": "?", "not run yet": "–"}


def render(
    e: Evidence,
    completions: Sequence[Completion],
    judgements: Sequence[Judgement],
    *,
    subjects: Sequence[str],
    selection: Any,
    training: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Any],
    datasets: Sequence[Mapping[str, Any]] = (),
    measured: Measurement | None = None,
    studies: Sequence[Found] = (),
    notes: Mapping[str, str] = {},
    cards: Sequence[Card] = (),
    scores: Mapping[str, Any] | None = None,
) -> str:
    """`facts`: scale, seed and the identity of the data; `measured`: what metrics/judges.json holds, None if there is none; `studies`:
    what metrics/studies holds; `notes`: study -> what a reader has to know before its numbers; `cards`: of data/cards.json; `scores`: data/discriminator.json.

    Same input, same bytes: no clock, no random order.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.globals |= {"amount": amount, "signs": SIGNS, "slug": slug, "short": short, "interval": interval, "tint": plots.shade}
    jinja.globals["notes"] = notes
    style, script = (HERE / "style.css").read_text("utf-8"), (HERE / "app.js").read_text("utf-8")
    named = transcripts.order({x.subject for x in e.effects}, subjects)
    unsteered = [name for name in named if not STEERED.match(name)]
    groups = {group: [judge(claim, e) for claim in rows] for group, rows in CLAIMS.items()}
    every = [row for rows in groups.values() for row in rows]
    data = transcripts.payload(completions, judgements, subjects, e.judges)
    return jinja.get_template("index.html.j2").render(
        facts=facts,
        datasets=datasets,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {digest(style)}; script-src {digest(script)}; base-uri 'none'; form-action 'none'",
        data=transcripts.embed(data),
        counts={"subjects": len(data["subjects"]), "questions": len(data["questions"]), "answers": len(data["answers"])},
        judges=sorted({j.judge for j in judgements}),
        effects=table(e.effects, named),
        measures=sorted({x.measure for x in e.effects}),
        groups=groups,
        tally={verdict: sum(row.verdict == verdict for row in every) for verdict in VERDICTS},
        expectations=[judge(claim, e) for claim in expected.EXPECTED],
        misaligned=plots.by_subject(e, unsteered, "misaligned", "Misaligned share of coherent answers, by subject"),
        coherent=plots.by_subject(e, unsteered, "coherent", "Coherent share of answers, by subject"),
        judging=judging.section(e, completions, measured, unsteered),
        studies=[study(found) for found in studies],
        cards=latent_cards.section(cards),
        mechanism=mechanism.section(e, selection=selection, scores=scores, training=training, studies=studies),
        conditions=conditions.section(e, training=training, studies=studies),
        squares=plots.two_by_two(e),
        doses=plots.dose_panels(e),
        losses=plots.loss_panels(training),
        training=sorted(training.items()),
        latents=[card(latent, selection) for latent in sorted(e.latents, key=lambda x: (x.organism, x.tokens != "answer", x.rank))],
    )


def digest(text: str) -> str:
    """A content-security-policy source: only this very text may run, or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def short(code: str) -> str:
    """Commits, each cut to 12 digits; that one had changes beside it stays."""
    return ", ".join(commit[:12] + "-dirty" * commit.endswith("-dirty") for commit in code.split(", "))


def slug(verdict: str | None) -> str:
    return (verdict or "shown").replace(" ", "-")


def amount(value: float | None, unit: str = "share") -> str:
    """A number with its unit (see Part.unit), minus signs as minus signs."""
    if value is None:
        return "–"
    if unit == "number":
        text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    else:
        form = {"share": ".1f", "points": "+.1f", "score": ".1f", "change": "+.1f"}[unit]
        text = format(100 * value if unit in ("share", "points") else value, form) + {"share": " %", "points": " pts"}.get(unit, "")
    return text.replace("-", "−") if unit != "number" or "e" not in text else text


def interval(x: Part | Effect, unit: str) -> str:
    return (
        "–"
        if x.low is None or x.high is None
        else f"{amount(x.low, unit).removesuffix(' pts').removesuffix(' %')} to {amount(x.high, unit)}"
    )


def unit_of(measure: str) -> str:
    if measure.startswith("suppressed"):
        return "number" if measure.endswith("_aligned") else "share"
    return (
        "share"
        if measure.startswith(SHARES) or measure.endswith(("_share", "_rate"))
        else "score"
        if measure == "aligned"
        else "number"
    )


def table(effects: Sequence[Effect], named: Sequence[str]) -> list[dict[str, Any]]:
    """Effects in the order of their subjects, with a bar on an axis that all rows of a measure share."""
    place = {name: number for number, name in enumerate(named)}
    rows = []
    for x in sorted(effects, key=lambda x: (bool(STEERED.match(x.subject)), place[x.subject], x.measure)):
        unit = unit_of(x.measure)
        same = [v for y in effects if y.measure == x.measure for v in (y.value, y.low, y.high) if v is not None]
        left, right = (
            (0.0, 1.0) if unit == "share" and min(same, default=0) >= 0 else (0.0, 100.0) if unit == "score" else axis(same)
        )
        rows.append(
            {
                "effect": x,
                "unit": unit,
                "steered": bool(STEERED.match(x.subject)),
                "bar": figures.bar(x.value, x.low, x.high, left, right),
            }
        )
    return rows


def study(found: Found) -> dict[str, Any]:
    """A study's effects with their units, and which columns its table has."""
    return {
        "found": found,
        "workspaces": len(found.sweep["runs"]) if found.sweep else 1,
        "paths": found.sweep["paths"] if found.sweep else [],
        "seeded": bool(found.sweep and found.sweep["seeds"]),
        "rows": [{"effect": effect, "unit": unit_of(effect.measure)} for effect in found.effects],
    }


def axis(values: Sequence[float]) -> tuple[float, float]:
    return min([0.0, *values]), max([0.0, *values])


def card(latent: LatentDelta, selection: Any) -> dict[str, Any]:
    """A latent with its examples cut at the markers, and the rows of the selection table that name it."""
    names = {f"latent:{latent.latent}", f"latent_{latent.latent}"}
    rows = [row for row in selection_rows(selection) if any(isinstance(v, str) and v in names for v in row.values())]
    return {"latent": latent, "examples": [marked(text) for text in latent.top_examples], "steering": scalars(rows)}


def marked(text: str) -> list[tuple[str, bool]]:
    """`a ⟦b⟧ c` -> [("a ", False), ("b", True), (" c", False)]."""
    pieces = re.split(r"⟦(.*?)⟧", text, flags=re.DOTALL)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece]


def selection_rows(selection: Any) -> list[dict[str, Any]]:
    """Rows of data/steer/selection.json, wherever lists of objects lie in it."""
    if isinstance(selection, list):
        return [row for row in selection if isinstance(row, dict)]
    if isinstance(selection, dict):
        return [row for value in selection.values() for row in selection_rows(value)]
    return []


def scalars(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Rows -> a table of the columns that hold plain values."""
    columns = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if all(not isinstance(r.get(key), list | dict) for r in rows)
    ]
    if not columns:
        return None
    cell = lambda v: "–" if v is None else f"{v:.3g}" if isinstance(v, float) else str(v)  # noqa: E731
    return {"columns": columns, "rows": [[cell(row.get(column)) for column in columns] for row in rows]}
