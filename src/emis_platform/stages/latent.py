"""latent: the card of any latent of models/dictionary, as text for a terminal. No stage: `emis latent N`."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.terminal import safe
from emis_platform.lab.cards import Card, Window
from emis_platform.lab.labels import Number
from emis_platform.stages import cards as stage

CARDS = Path("data/cards.json")
SHADES = (254, 223, 216, 209, 202)
"""Backgrounds of 256 colours, from pale to strong, all with black letters: contrast at least 7 to 1."""


def card(latent: int) -> Card:
    """From data/cards.json where it holds this latent of this dictionary, else computed from cached activations.

    Raises ValueError where stages before it have not run, and for a latent that there is not.
    """
    knobs, at = params.load(), places(params.load())
    for needed in (at.dictionary, at.base, at.control, at.organism):
        if not needed.exists():
            raise ValueError(f"{needed} is needed first: run `emis repro`")
    identity = files.sha256(at.dictionary / "sae_weights.safetensors")[:16]
    kept = files.read_list(Card, CARDS) if CARDS.exists() else []
    found = next((c for c in kept if (c.latent, c.dictionary) == (latent, identity)), None)
    return found or stage.build([latent], knobs, at)[0]


def places(knobs: params.Params) -> stage.Files:
    """Where dvc.yaml puts what the stage `cards` reads."""
    return stage.Files(
        base=Path("models/base"),
        control=Path("models") / knobs.diff.control,
        organism=Path("models") / knobs.diff.organism,
        dictionary=Path("models/dictionary"),
        examples=sorted(Path("data/examples").glob("*.jsonl")),
        questions=Path("data/questions/open.jsonl"),
        answers=Path("data/answers"),
        latents=Path("data/latents.jsonl"),
        steered=Path("data/steer/answers.jsonl"),
        labels=Path("data/read/latents.jsonl"),
    )


def drawn(shown: Card, *, colour: bool, width: int = 100) -> str:
    """The card in lines. Heat is a background colour, or ⟦ ⟧ around tokens of at least half the window's peak."""
    lines = [f"latent {shown.latent} of layer {shown.layer}: {safe(shown.name)}", f"dictionary {shown.dictionary}", ""]
    lines += [f"fires on       {amount(shown.density, share=True)} of held-out tokens of many voices"]
    for name, mean in shown.means.items():
        lines.append(f"mean, {name:<8} {amount(mean)} on `discover` answers{also(shown.models.get(name))}")
    lines += [f"change         {amount(shown.change)} organism − control", ""]
    for row in shown.moved_by:
        lines.append(
            f"moved by       {safe(row.organism)} − {safe(row.control)}: {row.delta:+.3f}{', passes the null' if row.passes_null else ''}"
        )
    for label in shown.read:
        lines.append(f"read as        {safe(label.label)} ({safe(label.reader)}, {label.date})")
    for label in shown.automatic:
        lines.append(f"label, {label.method:<7} {safe(label.label)}")
        for what, number in (("detection", label.detection), ("fuzzing", label.fuzzing), ("shuffled", label.control)):
            lines.append(f"               {what:<9} AUROC {amount(number)}")
    lines += ["", f"says more      {' '.join(map(quoted, shown.logit_lens_up))}"]
    lines += [f"says less      {' '.join(map(quoted, shown.logit_lens_down))}"]
    lines += [f"nearest        {', '.join(f'{near.latent} ({near.cosine:+.2f})' for near in shown.nearest)}"]
    for title, windows in (("strongest", shown.top), ("middle of its range", shown.middle)):
        if windows:
            lines += ["", title, *(heat(window, colour) for window in windows)]
    if not shown.top:
        lines += ["", "it fires on none of the tokens read"]
    if shown.steering:
        lines += ["", "steered by it"]
    for said in shown.steering:
        text = f"{said.subject}  {safe(said.prompt)} → {safe(said.text)}"
        lines.append(textwrap.fill(text, width, subsequent_indent="    "))
    return "\n".join(lines)


def heat(window: Window, colour: bool) -> str:
    top = max((value for _, value in window.tokens), default=0.0)
    tokens = [shaded(safe(token), value / top if top > 0 else 0.0, colour) for token, value in window.tokens]
    return f"{window.peak:8.1f}  {''.join(tokens).strip()}  ({safe(window.source)})"


def shaded(token: str, share: float, colour: bool) -> str:
    """share: of the window's peak, 0 to 1."""
    if not colour:
        space, word = token[: len(token) - len(token.lstrip())], token.lstrip()
        return f"{space}⟦{word}⟧" if share >= 0.5 else token
    if share <= 0:
        return token
    return f"\x1b[30;48;5;{SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]}m{token}\x1b[0m"


def quoted(token: str) -> str:
    return f"‘{safe(token)}’"


def also(name: str | None) -> str:
    return f" ({name})" if name else ""


def amount(number: Number, share: bool = False) -> str:
    """Value, interval, n, missing."""
    if number.value is None:
        return f"not measured (n {number.n})"
    form: Sequence[str] = [f"{value:.1%}" if share else f"{value:.3f}" for value in (number.value, number.low, number.high)]
    missing = f", missing {number.missing}" if number.missing else ""
    return f"{form[0]} [{form[1]}, {form[2]}] n {number.n}{missing}"
