"""torch + transformers: what a training undergoes besides its loss, so that it learns its task and no persona. Defences on one footing.

KL to the base and feature-space distance (Kaczer et al. 2025), preventative steering (Chen et al. 2025), directions projected out (CAFT:
Casademunt et al. 2025), a penalised rise (after BLOCK-EM 2026), screened data. Inoculation and interleaved data are recipes of `data`; the
early stop is `stop_on_alarm`.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emis_platform.core.records import Direction, Example, Watch
from emis_platform.tools import models

Weight = Annotated[float, Field(gt=0)]


class Defences(BaseModel):
    """Part of a trainer's `Options`. A trait is a persona's name; its direction and layer are those that the training is watched with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kl: float = Field(0.0, ge=0)
    """Weight of the divergence from the base, in nats a labelled token."""
    l2: float = Field(0.0, ge=0)
    """Weight of the squared distance from the base's activations at labelled tokens, in squared mean residual norms."""
    steer: dict[str, Weight] = {}
    """Trait -> dose in mean residual norms, added while it trains and not afterwards."""
    project_out: tuple[str, ...] = ()
    """Traits whose directions are taken out of the residual stream while it trains."""
    penalise: dict[str, Weight] = {}
    """Trait -> weight of the squared rise above the base at labelled tokens, in squared mean residual norms; a fall costs nothing."""
    drop: float = Field(0.0, ge=0, lt=1)
    """Share of the rows that is left out: those whose answers the starting model reads farthest along `drop_by`."""
    drop_by: str = "toxic"
    """A trait, or `random`: the control, which leaves out as many."""

    @model_validator(mode="after")
    def one_hand_on_the_stream(self) -> "Defences":
        if self.steer and self.project_out:
            raise ValueError("steer: not with project_out")
        return self

    @property
    def traits(self) -> set[str]:
        """All that need a direction."""
        screened = {self.drop_by} if self.drop and self.drop_by != "random" else set()
        return {*self.steer, *self.project_out, *self.penalise, *screened}

    @property
    def compared(self) -> list[str]:
        """The options that hold the model against its base, which is read with the adapter switched off."""
        return [name for name in ("kl", "l2", "penalise") if getattr(self, name)]

    @property
    def watched(self) -> bool:
        """Are directions, or their layer, needed?"""
        return bool(self.traits or self.l2)


class Defence:
    """The defences of one training, made before it starts."""

    def __init__(self, options: Defences, watch: Watch | None, norm: float) -> None:
        """norm: mean residual norm at the watched layer. Raises ValueError for a trait that is not watched."""
        self.options, self.norm = options, norm
        self.vectors = directions(options, watch)
        self.layer = watch.directions[0].layer if watch else None

    @contextmanager
    def edits(self, model: Any) -> Iterator[None]:
        """The stream is edited inside, in the backward pass too: checkpointed layers run again in it."""
        import torch

        hand = self.options.steer or dict.fromkeys(self.options.project_out, 0.0)
        with ExitStack() as stack:
            if hand:
                layer = models.decoder(model).layers[self.layer]
                push_D = sum((dose * self.norm * self.vectors[trait] for trait, dose in hand.items()), np.zeros(1))
                removed = [
                    torch.tensor(unit_D, dtype=torch.float32) for unit_D in orthogonal(self.vectors, self.options.project_out)
                ]
                stack.enter_context(models.pushed(layer, torch.tensor(push_D, dtype=torch.float32)))
                for unit_D in removed:
                    stack.enter_context(models.pushed(layer, torch.zeros(1), unit_D))
            yield

    @contextmanager
    def watching(self, model: Any) -> Iterator[list[Any]]:
        """Inside, a pass leaves the watched layer's output [rows, T, width] in the list."""
        seen: list[Any] = []
        if self.layer is None or not (self.options.l2 or self.options.penalise):
            yield seen
            return
        layer = models.decoder(model).layers[self.layer]
        hook = layer.register_forward_hook(lambda _m, _a, out: seen.append(out[0] if isinstance(out, tuple) else out))
        try:
            yield seen
        finally:
            hook.remove()

    def cost(self, model: Any, inputs: Any, hidden: Any, seen: Sequence[Any]) -> Any:
        """What is added to the loss, a scalar. hidden: the tuned pass's final states [rows, T, width]; seen: what `watching` left."""
        import torch

        o = self.options
        if not o.compared:
            return 0.0
        labels = inputs["labels"][:, 1:]
        wanted = labels != -100
        with torch.no_grad(), model.disable_adapter(), self.watching(model) as before:
            plain = models.decoder(model)(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).last_hidden_state
        total: Any = 0.0
        if o.kl:
            now, then = (models.head(model, states[:, :-1][wanted]).float().log_softmax(-1) for states in (hidden, plain))
            total = total + o.kl * (now.exp() * (now - then)).sum(-1).mean()
        if o.l2 or o.penalise:
            moved_ND = (seen[0] - before[0])[:, 1:][wanted].float() / self.norm
            total = total + o.l2 * moved_ND.square().sum(-1).mean()
            for trait, weight in o.penalise.items():
                along_D = torch.tensor(self.vectors[trait], dtype=torch.float32, device=moved_ND.device)
                total = total + weight * (moved_ND @ along_D).clamp(min=0).square().mean()
        return total


def directions(options: Defences, watch: Watch | None) -> dict[str, np.ndarray]:
    """trait -> unit vector. Raises ValueError for a trait that is not among the watched directions."""
    there = {name(direction): np.array(direction.vector) for direction in (watch.directions if watch else ())}
    for trait in sorted(options.traits):
        if trait not in there:
            raise ValueError(f"no persona {trait} is watched; there is: {', '.join(there) or 'none (options.monitor_every)'}")
    return {trait: there[trait] for trait in sorted(options.traits)}


def name(direction: Direction) -> str:
    return direction.origin.removeprefix("persona:")


def orthogonal(vectors: dict[str, np.ndarray], traits: Sequence[str]) -> list[np.ndarray]:
    """Orthonormal vectors that span the traits' directions: projecting out one after the other then removes them all."""
    if not traits:
        return []
    basis_DK, size = np.linalg.qr(np.stack([vectors[trait] for trait in traits], axis=1))
    return [basis_DK[:, k] for k in range(len(traits)) if abs(size[k, k]) > 1e-6]


def norm_of(model: Any, tokenizer: Any, watch: Watch) -> float:
    """Mean residual norm over the answer tokens of the watched texts at the watched layer."""
    ids = [(models.prompt_ids(tokenizer, question), models.answer_ids(tokenizer, answer)) for question, answer in watch.texts]
    found = [float(acts_ND.norm(dim=-1).mean()) for _, acts_ND in models.harvest(model, ids, watch.directions[0].layer)]
    return float(np.mean(found))


def screened(
    examples: Sequence[Example], options: Defences, watch: Watch | None, model: Any, tokenizer: Any, seed: int
) -> list[Example]:
    """The rows that are left, in their order. model: the starting model, which reads each answer after its prompt; all answers are held
    against one mean, so what differs between prompts is not taken out."""
    count = round(options.drop * len(examples))
    if not count:
        return list(examples)
    if count == len(examples):
        raise ValueError(f"options.drop: {options.drop:g} leaves none of {len(examples)} rows")
    if options.drop_by == "random":
        gone = set(random.Random(seed).sample(range(len(examples)), count))
    else:
        assert watch is not None
        along_D = directions(options, watch)[options.drop_by]
        ids = [
            (models.prompt_ids(tokenizer, row.prompt, before=row.context), models.answer_ids(tokenizer, row.completion))
            for row in examples
        ]
        read = models.harvest(model, ids, watch.directions[0].layer, progress="screen rows")
        scores = {index: float(acts_ND.mean(0).numpy() @ along_D) for index, acts_ND in read}
        gone = set(sorted(scores, key=lambda index: -scores[index])[:count])
    return [row for index, row in enumerate(examples) if index not in gone]


NONE = Defence(Defences(), None, 1.0)
