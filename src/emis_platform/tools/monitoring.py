"""transformers callback: persona projections while a model is trained, and an alarm when one leaves the band of benign trainings.

For any transformers or TRL trainer whose model lies whole on each device (not for parameters sharded by FSDP or ZeRO-3):

    trainer.add_callback(monitor := Monitor(directions, tokenizer, texts, every=10))
    trainer.train()
    monitor.curve, monitor.alarm
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import TrainerCallback

from emis_platform.core.records import Direction
from emis_platform.lab import alarm as lab
from emis_platform.tools import models


@dataclass(frozen=True)
class Reading:
    """A model on the fixed texts."""

    mean_D: np.ndarray
    """Activation at the layer's output, averaged over each answer's tokens, then over the texts."""
    norm: float
    """Mean length of an answer token's activation."""


class Monitor(TrainerCallback):
    """Looks every `every` steps and after the last one; leaves the training's bytes as they are without it.

    A look reads the fixed texts with the model as it stands and gives, in units of the starting model's residual norm, how far its mean
    activation moved along each direction, and how far at all (`drift`). `curve` holds the looks, `alarm` the first ring, `seconds` what
    the looks took.
    """

    def __init__(
        self,
        directions: Sequence[Direction],
        tokenizer: Any,
        texts: Sequence[tuple[str, str]],
        *,
        every: int = 10,
        reference: Sequence[lab.Curve] = (),
        rule: lab.Rule | None = None,
        stop: bool = False,
        start: Reading | None = None,
    ) -> None:
        """directions: of one layer; a persona goes by its trait, others by their name. texts: (question, answer), about 8, the same in
        every training that is compared. reference: curves of benign trainings on the same texts; without one nothing rings.
        stop: end the training at the alarm. start: None reads the model as training begins.

        Raises ValueError for texts without tokens, directions of several layers or equal names, and `stop` without enough reference.
        """
        self.vectors = {
            d.origin.removeprefix("persona:") if d.origin.startswith("persona:") else d.name: d.vector for d in directions
        }
        layers = sorted({d.layer for d in directions})
        if len(layers) != 1 or len(self.vectors) < len(directions):
            raise ValueError(f"a monitor needs directions of one layer with different names, not {named(directions)}")
        if taken := {*lab.PLACES, *lab.RIVALS} & self.vectors.keys():
            raise ValueError(f"a direction may not be called {', '.join(sorted(taken))}: a look has that beside the directions")
        self.ids = [(models.prompt_ids(tokenizer, question), models.answer_ids(tokenizer, answer)) for question, answer in texts]
        if not self.ids or not all(answer for _, answer in self.ids):
            raise ValueError(f"a monitor needs texts whose answers have tokens; there are {len(texts)} texts")
        if every < 1:
            raise ValueError(f"every: {every}; a monitor looks every 1 or more steps")
        if stop and len(reference) < lab.FEWEST:
            raise ValueError(f"{len(reference)} curves of benign trainings: no band to stop at, {lab.FEWEST} are needed")
        self.layer, self.every, self.reference, self.rule = layers[0], every, list(reference), rule or lab.Rule()
        self.stop, self.given, self.taken = stop, start, False
        self.forget()

    def forget(self) -> None:
        self.start, self.curve, self.alarm, self.seconds = self.given, [], None, 0.0
        self.logged: dict[str, float | None] = dict.fromkeys(lab.LOGGED)

    def keep(self) -> dict[str, Any]:
        """All that a training which goes on later needs of it, for JSON."""
        first = self.start and {"mean_D": self.start.mean_D.tolist(), "norm": self.start.norm}
        rung = self.alarm and self.alarm.model_dump()
        return {"start": first, "curve": self.curve, "alarm": rung, "logged": self.logged, "seconds": self.seconds}

    def take(self, kept: dict[str, Any]) -> None:
        """Put back what `keep` gave, before the training goes on."""
        first, rung = kept["start"], kept["alarm"]
        self.start = first and Reading(np.array(first["mean_D"], dtype=np.float64), first["norm"])
        self.curve, self.logged, self.seconds = kept["curve"], kept["logged"], kept["seconds"]
        self.alarm, self.taken = rung and lab.Alarm.model_validate(rung), True

    def read(self, model: Any) -> Reading:
        began = time.monotonic()
        with untouched(model):
            acts = [acts_ND for _, acts_ND in sorted(models.harvest(model, self.ids, self.layer), key=lambda found: found[0])]
        self.seconds += time.monotonic() - began
        mean_D = np.mean([acts_ND.mean(0).numpy() for acts_ND in acts], axis=0, dtype=np.float64)
        return Reading(mean_D, float(np.mean([acts_ND.norm(dim=-1).mean() for acts_ND in acts])))

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Raises ValueError for directions of another width, and for a resumed training without `start` or `take`."""
        if not self.taken:
            self.forget()
            if self.given is None and state.global_step:
                raise ValueError(
                    f"training resumes at step {state.global_step}: give the monitor its starting model's reading (start)"
                )
        self.taken = False
        first = self.start = self.start or self.read(model)
        if unfit := {name: len(vector) for name, vector in self.vectors.items() if len(vector) != len(first.mean_D)}:
            raise ValueError(f"directions have widths {unfit}, the model has {len(first.mean_D)}")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> Any:
        if state.global_step % self.every and state.global_step != state.max_steps:
            return control
        now, first = self.read(model), self.start
        moved_D = (now.mean_D - first.mean_D) / first.norm
        look = {
            "step": state.global_step,
            "share": round(state.global_step / state.max_steps, 6),
            **self.logged,
            "drift": round(float(np.linalg.norm(moved_D)), 6),
        }
        self.curve.append(look | {name: round(float(moved_D @ np.array(vector)), 6) for name, vector in self.vectors.items()})
        if self.alarm is None and (found := lab.rings(self.curve, self.reference, self.rule)):
            self.alarm = found
            say(f"alarm at step {found.step}: {found.trait} {found.value:+.4f} is above {found.limit:+.4f}, the benign band")
            control.should_training_stop = control.should_training_stop or self.stop
        return control

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A step is logged after its look: loss and gradient norm go there, or wait for the next one."""
        self.logged = self.logged | {name: float(logs[name]) for name in lab.LOGGED if logs and name in logs}
        if logs and "loss" in logs and self.curve and self.curve[-1]["step"] == state.global_step:
            self.curve[-1] |= self.logged


@contextmanager
def untouched(model: Any) -> Iterator[None]:
    """Evaluation mode inside; afterwards each module's own mode and the random numbers are as before."""
    import torch

    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def named(directions: Sequence[Direction]) -> str:
    return ", ".join(f"{d.name} (layer {d.layer})" for d in directions) or "none"


def say(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
