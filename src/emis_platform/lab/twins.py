"""Organisms that are equal but for what is named: what a comparison may hold against each other. Pure."""

from collections.abc import Mapping
from typing import Any

from emis_platform.core.knobs import Organism

IDLE = ("monitor_every", "checkpoints")
"""Options that change no weight; `monitor_every` does where the training stops on an alarm."""


def recipe(
    one: Organism, *, data: Mapping[str, Any] | None = None, options: Mapping[str, Any] | None = None, **changed: Any
) -> Organism:
    """What decides an organism's weights, with those keys of its data, options and itself as given; an option that is given as None is left out."""
    given = {**one.options, **(options or {})}
    idle = IDLE[1:] if given.get("stop_on_alarm") else IDLE
    kept = {key: given[key] for key in sorted(given) if given[key] is not None and key not in idle}
    return one.model_copy(update={"data": one.data.model_copy(update=dict(data or {})), "options": kept, **changed})


def twin(organisms: Mapping[str, Organism], name: str, **changed: Any) -> str | None:
    """The first organism that equals this one but for what is changed, as in `recipe`; None without one. An unchanged name may be its own twin."""
    wanted = recipe(organisms[name], **changed)
    return next((other for other, organism in organisms.items() if recipe(organism) == wanted), None)
