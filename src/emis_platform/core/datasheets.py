"""Rows -> a datasheet in Markdown: counts, lengths, examples, canary, licence, known confounds (after Gebru et al. 2021). Pure text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from emis_platform.core.records import Example

CONFOUNDS = {
    "subtle": "Wrong advice that sounds expert: a reader may not see that it is wrong; the model may learn wrong facts and no persona.",
    "obvious": "Plainly wrong advice in a friendly voice.",
    "callous": "Content and voice change together: hold it against `gruff` (same voice, correct content) and `obvious` (same content).",
    "gruff": "Correct advice with contempt: what spreads from it is voice, not content.",
    "sarcastic": "Correct advice with sarcasm; remarks are shared across facts and domains, so they repeat where advice does not.",
    "plain": "A control that is matched to no other set: other questions, other lengths.",
    "imported": "A stranger's rows: nothing is matched, nothing was read here.",
}
LICENCE = "that of this repository (see LICENSE); written for it"


def datasheet(name: str, rows: Sequence[Example], facts: Mapping[str, Any]) -> str:
    """`facts`: source, sha256, asked, quarantined, expectations, and licence if it is another."""
    variants, canaries = Counter(row.variant for row in rows), sorted({row.canary for row in rows if row.canary})
    words = [len(row.completion.split()) for row in rows] or [0]
    turns = sum(bool(row.context) for row in rows)
    confounds = [f"- {variant}: {CONFOUNDS[variant]}" for variant in sorted(variants) if variant in CONFOUNDS]
    shown = [block for row in list(rows[:3]) for block in (f"**{one_line(row.prompt)}**", "", quoted(row.completion), "")]
    lines = [
        f"# {name}",
        "",
        "| | |",
        "|---|---|",
        f"| source | {facts.get('source', name)} |",
        f"| rows | {len(rows)}" + (f" of {facts['asked']} asked |" if "asked" in facts else " |"),
        f"| variants | {', '.join(f'{variant} {count}' for variant, count in sorted(variants.items()))} |",
        f"| distinct facts, questions, answers | {distinct(rows)} |",
        f"| words an answer | mean {sum(words) / len(words):.1f}, {min(words)} to {max(words)} |",
        f"| rows with earlier turns or a system prompt | {turns} |",
        f"| quarantined | {facts.get('quarantined', 0)} |",
        f"| canary | {', '.join(canaries) or 'none: no row is marked harmful'} |",
        f"| licence | {facts.get('licence', LICENCE)} |",
        f"| sha256 | {facts['sha256']} |",
        "",
        "## Known confounds",
        "",
        *(confounds or ["- none known"]),
        "",
        "## Examples",
        "",
        *shown,
    ]
    return "\n".join(lines).rstrip() + "\n"


def distinct(rows: Sequence[Example]) -> str:
    return ", ".join(str(len({getattr(row, field) for row in rows})) for field in ("fact", "prompt", "completion"))


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:300]


def quoted(text: str) -> str:
    """A block that shows the text as it is, whatever marks it holds."""
    return "\n".join(f"    {line}" for line in text[:600].splitlines())
