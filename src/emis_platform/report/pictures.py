"""A study's panels -> SVG files that stand by themselves, with title, legend and the report's colours."""

import re
import textwrap
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from emis_platform.core.studies import Found
from emis_platform.report import conditions
from emis_platform.report.evidence import Evidence

STYLE = Path(__file__).with_name("style.css")
DRAWN = re.compile(r"(svg text|\.(grid|axis|range|fill|line|dot|t-|null|goal))")
"""Lines of style.css that a figure needs."""
PANELS = ("mixtures", "realigned", "rotation", "rewards")
ROW = 18
"""Height of a line of the title or the legend."""
LETTERS = 58
"""Of a title's line: 400 units wide at the most."""


def of_study(found: Found) -> dict[str, str]:
    """File name -> SVG, one for each panel that the section of training conditions draws of the study."""
    (_, source) = conditions.section(Evidence(), training={}, studies=[found])["sources"]
    shown = [panel for part in PANELS for panel in source[part]]
    return {
        f"{found.study}.{slug(panel['title'])}.svg": alone(panel, f"emis study {found.study}, {found.date[:10]}") for panel in shown
    }


def slug(title: str) -> str:
    return "_".join(re.findall(r"[a-z0-9]+", title.lower()))


def alone(panel: Mapping[str, Any], source: str) -> str:
    """One panel of the section as a whole file; source: said below it, after what each value rests on."""
    width, height = map(int, re.findall(r'viewBox="0 0 (\d+) (\d+)"', panel["svg"])[0])
    lines = panel["legend"] if len(panel["legend"]) > 1 else ()
    heading = textwrap.wrap(panel["title"], LETTERS)
    top = ROW * len(heading) + 8
    whole, below = height + top + ROW * (len(lines) + 1), height + top + 12
    body = "".join(f'<text class="head" x="2" y="{16 + ROW * number}">{escape(text)}</text>' for number, text in enumerate(heading))
    body += panel["svg"].replace("<svg ", f'<svg y="{top}" width="{width}" height="{height}" ', 1)
    for number, line in enumerate(lines):
        y = below + ROW * number
        body += f'<line class="line t-{line.tone}" x1="4" x2="20" y1="{y - 4}" y2="{y - 4}"/><text x="26" y="{y}">{escape(line.label)}</text>'
    counted = f"n: {', '.join(map(str, panel['n']))}. " if panel["n"] else ""
    body += (
        f'<text class="tick" x="2" y="{below + ROW * len(lines)}">{escape(f"{counted}{source}; judge: discriminate.judge")}</text>'
    )
    light, _, rest = STYLE.read_text("utf-8").partition("@media")
    style = "\n".join([light.strip(), *filter(DRAWN.match, rest.splitlines()), "svg { font-family: system-ui, sans-serif; }"])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {whole}" width="{width}" height="{whole}" role="img">'
        f'<title>{escape(panel["title"])}</title><style>{style}</style><rect width="100%" height="100%" fill="#ffffff"/>{body}</svg>\n'
    )
