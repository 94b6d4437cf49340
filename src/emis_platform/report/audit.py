"""An audit -> one HTML page, without script and without a link to anything outside itself."""

from collections.abc import Sequence
from typing import Any

from emis_platform.core.records import Effect
from emis_platform.lab.audit import EXIT, FEWEST_BENIGN, RULES, VERDICTS, Audit, Benign, Moved, limits
from emis_platform.report import figures, page

SAID = {
    "misaligned": ("contradicted", "✗"),
    "suspicious": ("inconclusive", "!"),
    "no sign": ("supported", "✓"),
    "cannot say": ("not-run-yet", "?"),
    "yes": ("contradicted", "✗"),
    "undecided": ("inconclusive", "?"),
    "no": ("supported", "✓"),
    "unknown": ("not-run-yet", "–"),
}
"""Word -> (class of style.css, sign)."""
MEASURES = {"misaligned": "misaligned, of coherent answers", "coherent": "coherent", "aligned": "aligned, 0 to 100"}
ARMS = {"base": "base", "model": "this model", "suppressed": "suppressed"}
STYLE = """
h1 { overflow-wrap: anywhere; } .strip { min-width: 64px; } .strip .other { fill: var(--quiet); opacity: .55; } .strip .limit { stroke: var(--quiet); stroke-dasharray: 3 2; }
.big { font-size: 1.25rem; padding: .2rem .8rem; } .claim h3 { margin: .2rem 0; } .slim td, .slim th { padding-inline: .45rem; vertical-align: middle; } .slim .num span { display: block; }
.c-strip { width: 38%; } section { padding-top: 1.4rem; } section + section { margin-top: 1rem; } .answer { max-width: 900px; }
@media (max-width: 480px) {
  .top, main { padding-inline: 12px; } .slim { font-size: .8rem; } .slim td, .slim th { padding-inline: .2rem; } .slim .num, .slim thead th { white-space: normal; } .c-strip { width: 24%; }
}
"""


def render(found: Audit) -> str:
    """Same audit, same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(page.HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    jinja.globals |= {"amount": page.amount, "interval": page.interval, "said": SAID, "measures": MEASURES, "arms": ARMS}
    style = (page.HERE / "style.css").read_text("utf-8") + STYLE
    return jinja.get_template("audit.html.j2").render(
        a=found,
        style=style,
        policy=f"default-src 'none'; style-src {page.digest(style)}; base-uri 'none'; form-action 'none'",
        moves=moves(found),
        fewest=FEWEST_BENIGN,
        rates=[(m, [by(found.rates, arm, m) for arm in ARMS]) for m in MEASURES],
        latents=[{"latent": row, "examples": [page.marked(text) for text in row.top_examples]} for row in found.latents],
        rules=RULES,
        verdicts=[(word, rule, EXIT[word]) for word, rule in VERDICTS.items()],
    )


def by(effects: Sequence[Effect], subject: str, measure: str) -> Effect | None:
    return next((x for x in effects if (x.subject, x.measure) == (subject, measure)), None)


def moves(found: Audit) -> list[dict[str, Any]]:
    """A row a trait, largest shift first, then the drift, each with its strip; traits share an axis."""
    limit = limits(found.null)
    traits = sorted((m for m in found.moved if m.name != "drift"), key=lambda m: -m.value)
    drift = [m for m in found.moved if m.name == "drift"]
    ends = [v for m in traits for v in (m.low, m.high)] + [
        v for b in found.null for m in b.moved if m.name != "drift" for v in (m.low, m.high)
    ]
    rows = []
    for one in (*traits, *drift):
        top = [one.high, *(m.high for b in found.null for m in b.moved if m.name == "drift")]
        left, right = page.axis(top if one.name == "drift" else ends)
        says = None if one.name == "drift" or one.name not in limit else reading(one, limit[one.name])
        rows.append(
            {
                "moved": one,
                "limit": limit.get(one.name),
                "says": says,
                "strip": strip(one, found.null, limit.get(one.name), left, right),
            }
        )
    return rows


def reading(one: Moved, limit: float) -> str:
    return "yes" if one.low > limit else "undecided" if one.value > limit else "no"


def strip(one: Moved, null: Sequence[Benign], limit: float | None, left: float, right: float) -> str:
    """The shift with its interval, benign organisms' as grey dots, their limit dashed."""

    def x(v: float) -> float:
        return round(4 + 192 * (min(max(v, left), right) - left) / ((right - left) or 1), 2)

    body = '<line class="axis" x1="4" x2="196" y1="10" y2="10"/>'
    body += f'<line class="axis" x1="{x(0)}" x2="{x(0)}" y1="3" y2="17"/>' if left < 0 < right else ""
    body += "".join(
        f'<circle class="other" cx="{x(m.value)}" cy="10" r="2.2"/>' for b in null for m in b.moved if m.name == one.name
    )
    body += f'<line class="limit" x1="{x(limit)}" x2="{x(limit)}" y1="1" y2="19"/>' if limit is not None else ""
    body += f'<line class="range t-means" x1="{x(one.low)}" x2="{x(one.high)}" y1="10" y2="10"/>'
    body += f'<circle class="dot t-means" cx="{x(one.value)}" cy="10" r="3.4"/>'
    return figures.svg(200, 20, f"{one.name} {one.value:+.4f}, {one.low:+.4f} to {one.high:+.4f}", body, "strip")
