"""Directions + operators + doses -> edits of the residual stream, one a row of a batch: add, subtract, project out, clamp.

All four are one form: at a layer's output h becomes h + push - removed (removed . h).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from emis_platform.core.knobs import Operator, Tokens
from emis_platform.core.records import Direction
from emis_platform.tools import models


@dataclass(frozen=True)
class Edits:
    """A table of P edits; a row of a batch undergoes one of them."""

    push: Mapping[int, np.ndarray]
    """Layer -> what is added to the output of model.layers[layer], [P, width] in activation units. Without a layer nothing is done."""
    removed: np.ndarray | None = None
    """[P, width]: a unit vector projects its direction out, a zero vector does nothing. The same at every layer."""
    tokens: Tokens = "all"
    """Which tokens are edited; the chat template's belong to the prompt."""

    def __len__(self) -> int:
        return max((len(push) for push in self.push.values()), default=0)

    @contextmanager
    def on(self, model: Any, rows: Any, part: str | None = None, where: Any = None) -> Iterator[None]:
        """Row i of every pass undergoes edit rows[i]. part: the tokens of a pass that reads `prompt` or `answer` tokens only;
        where [rows, T, 1], True at an answer's tokens: of a pass that reads both."""
        import torch

        with ExitStack() as stack:
            if part is None or self.tokens in ("all", part):
                chosen: Any = 1.0
                if where is not None and self.tokens != "all":
                    chosen = (where if self.tokens == "answer" else ~where).float()
                for layer, push in self.push.items():
                    pushes, removed = (
                        None if table is None else torch.as_tensor(table, device=model.device)[rows][:, None, :] * chosen
                        for table in (push, self.removed)
                    )
                    stack.enter_context(models.pushed(models.decoder(model).layers[layer], pushes, removed))
            yield


NONE = Edits({})
"""Nothing is done."""


def edits(
    steered: Sequence[tuple[Direction, float]], norms: Mapping[int, float], operator: Operator = "add", tokens: Tokens = "all"
) -> Edits:
    """(direction, dose) a row -> Edits at the layers of `norms`: layer -> the mean residual norm there, which is the unit of a dose.

    `add`, `subtract`: dose x norm along the direction. `project_out`: dose is the share of the component that is removed, 0 to 1.
    `clamp`: the coefficient along the direction is held at dose x norm; at 0 that projects it out whole. A dose of 0 is the identity for the
    other three, and the zero direction for all. Raises ValueError for a share beyond 0 to 1.
    """
    units = np.array([direction.vector for direction, _ in steered], dtype=np.float32)
    doses = np.array([dose for _, dose in steered], dtype=np.float32)[:, None]
    if operator == "project_out" and not ((doses >= 0) & (doses <= 1)).all():
        raise ValueError(f"project_out: a dose is the share that is removed, 0 to 1; there is {float(doses.max()):g}")
    along = {"add": doses, "subtract": -doses, "project_out": 0 * doses, "clamp": doses}[operator]
    removed = {"project_out": np.sqrt(np.abs(doses)), "clamp": np.ones_like(doses)}.get(operator)
    return Edits(
        {layer: along * norm * units for layer, norm in norms.items()}, None if removed is None else removed * units, tokens
    )
