"""Cards of latents -> the section that shows them: markup without script or inline style, all text escaped."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.lab.cards import Card, Window

SHADES = 5
"""Classes shade-1 to shade-5 of style.css."""


def section(cards: Sequence[Card]) -> str:
    """The section `latent-cards`, to be put into the page as it is. Same cards, same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals |= {"amount": amount, "heat": heat}
    rows = [{**dict(card), "name": card.name, "models": {"base": "base", **card.models}} for card in cards]
    return jinja.get_template("cards.html.j2").render(cards=rows)


def heat(window: Window) -> list[tuple[str, float, int, bool]]:
    """(token, activation, shade from 0 to `SHADES`, whether it is the window's peak)."""
    values = [value for _, value in window.tokens]
    top = max(values, default=0.0)
    peak = values.index(top) if top > 0 else -1
    shades = [-int(-SHADES * value // top) if value > 0 else 0 for value in values]
    return [(token, value, shades[place], place == peak) for place, (token, value) in enumerate(window.tokens)]


def amount(value: float, share: bool = False) -> str:
    """Three significant digits, or a percentage; minus signs as minus signs."""
    return (f"{value:.1%}".replace("%", " %") if share else f"{value:.3g}").replace("-", "−")
