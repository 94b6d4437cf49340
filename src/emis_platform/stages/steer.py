"""steer: directions, chosen on `discover` by log-odds, then added to one model and taken from another on `score` questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Direction, Question
from emis_platform.core.stage import run
from emis_platform.tools import models, replies, steering


def main(
    *, induce: Path, suppress: Path, directions: Path, questions: Path, continuations: Path, answers: Path, selection: Path
) -> None:
    knobs = params.load()
    tried = files.read(Direction, directions)
    asked = [q for q in files.read(Question, questions) if q.set == "score"][: knobs.size.steer.questions]
    pairs = steering.continuations(continuations, files.read(Question, questions), knobs.size.steer.pairs)

    model, tokenizer = models.load(induce, knobs.threads)
    scale = steering.residual_norm(model, tokenizer, [p.prompt for p in pairs], knobs.diff.layer)
    probe = sorted(knobs.steer.doses)[len(knobs.steer.doses) // 2]
    odds = steering.log_odds(model, tokenizer, pairs, tried, dose=probe * scale, progress="log-odds on discover")
    chosen = choose(tried, odds, knobs.steer.latents, knobs.steer.random)
    files.write_json(
        selection,
        {
            "model": knobs.steer.induce,
            "dose": probe,
            "residual_norm": round(scale, 3),
            "questions": sorted({p.question for p in pairs}),
            "log_odds": [{"direction": d.name, "origin": d.origin, **odds[d.name]} for d in tried],
            "chosen": [d.name for d in chosen],
        },
    )
    said = steered(knobs, knobs.steer.induce, +1.0, model, tokenizer, chosen, asked, scale)
    del model
    model, tokenizer = models.load(suppress, knobs.threads)
    said += steered(knobs, knobs.steer.suppress, -1.0, model, tokenizer, chosen, asked, scale)
    files.write(answers, said)


def choose(tried: Sequence[Direction], odds: dict[str, dict[str, float]], latents: int, random: int) -> list[Direction]:
    """The difference of means, the latents that raise the log-odds most, and the first random directions."""
    of = {kind: [d for d in tried if d.origin.startswith(kind)] for kind in ("difference_of_means", "latent", "random")}
    best = sorted(of["latent"], key=lambda d: -odds[d.name]["shift"])[:latents]
    return [*of["difference_of_means"], *best, *of["random"][:random]]


def steered(
    knobs: params.Params,
    subject: str,
    sign: float,
    model: Any,
    tokenizer: Any,
    chosen: Sequence[Direction],
    asked: Sequence[Question],
    scale: float,
) -> list[Completion]:
    """All doses of one model in one queue. Subjects are named `base+difference_of_means@0.2`, `health_callous-latent_7@0.1`."""
    doses = [(d, dose) for d in chosen for dose in knobs.steer.doses]
    pushes = np.array([[sign * dose * scale * v for v in d.vector] for d, dose in doses], dtype=np.float32)
    names = [f"{subject}{'+' if sign > 0 else '-'}{d.name}@{dose:g}" for d, dose in doses]
    return replies.answers(
        model,
        tokenizer,
        [(name, question, 0, number) for number, name in enumerate(names) for question in asked],
        seed=knobs.seed,
        max_new_tokens=knobs.size.answer.max_new_tokens,
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        layer=knobs.diff.layer,
        pushes=pushes,
        progress=f"steer {subject}",
    )


if __name__ == "__main__":
    run(main)
