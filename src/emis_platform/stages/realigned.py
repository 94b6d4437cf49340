"""realigned: organisms that start from a harmful one and learn benign rows -> how much of the misalignment is left after how many samples. No model runs."""

from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.knobs import BENIGN
from emis_platform.core.records import Effect
from emis_platform.core.stage import run
from emis_platform.lab import excess, intervals
from emis_platform.stages import project
from emis_platform.tools import views
from emis_platform.trainers import sft

TRAIT = "toxic"
"""The persona named before anything was measured."""


def main(*, judgements: Path, opinions: Path, shifts: Path, training: Path, effects: Path) -> None:
    """`shifts`: how far each organism moved on each question (stage project); `training`: metrics/train. Empty without an organism that was re-aligned.

    Of each subject that questions one, at its end or at a checkpoint: `realigned_samples` (that it has seen), `realigned_across` (1 where its rows are of a
    domain that its start had learned nothing of, else 0), `realigned_persona` (shift along one
    persona since its start, as its training was watched; without interval), `realigned_left`, `realigned_score_left` (share of its start's excess over the
    base that is left: misaligned of coherent answers, points of the score lost; by `discriminate.judge`, each mean over what that model answered). Of each organism:
    `persona_latent_change` (shift along one persona, named beforehand, from its start to its end, in mean residual norms; paired by question).
    """
    knobs = params.load()
    moved = project.read(shifts)
    found: list[Effect] = []
    for subject, entry in knobs.subjects.items():
        organism = entry.model.split("/")[0]
        if entry.plain and organism in realigned(knobs):
            found += along(knobs, subject, entry.model, files.read_json(training / f"{organism}.json"))
            found += of_subject(knobs, subject, organism, judgements, opinions)
    for organism in realigned(knobs):
        found += of_persona(organism, knobs.organisms[organism].starts_from, moved)
    files.write_json(effects, [effect.model_dump() for effect in found])


def realigned(knobs: params.Params) -> list[str]:
    """Organisms whose own rows are benign and whose start is not."""
    own = {name: knobs.organisms[name].data for name in knobs.organisms}
    return [
        name
        for name, entry in knobs.organisms.items()
        if own[name].variant in BENIGN and entry.starts_from != "base" and not knobs.benign(entry.starts_from)
    ]


def samples(knobs: params.Params, organism: str, told: dict[str, Any], step: int) -> int:
    """Rows that a fine-tuned organism has seen after so many steps, a row of a second epoch again. told: what its trainer said."""
    batch = knobs.organisms[organism].options.get("batch") or sft.Options.model_fields["batch"].default
    epochs, steps = divmod(step, -(-told["rows"] // batch))
    return epochs * told["rows"] + min(steps * batch, told["rows"])


def along(knobs: params.Params, subject: str, model: str, told: dict[str, Any]) -> list[Effect]:
    """Where on its training's way a subject stands. told: what the trainer said; its looks hold the shift at some steps."""
    organism, _, kept = model.partition("/")
    step = int(kept or told["curve"][-1][0])
    own, start = knobs.organisms[organism].data.domain, knobs.organisms[organism].starts_from
    at = {"realigned_samples": float(samples(knobs, organism, told, step))}
    at["realigned_across"] = float(own not in knobs.domains_of(start))
    looks = {look["step"]: look for look in told.get("personas", ())}
    at |= {"realigned_persona": looks[step][TRAIT]} if TRAIT in looks.get(step, {}) else {}
    return [Effect(subject=subject, measure=measure, value=value, low=None, high=None, n=1) for measure, value in at.items()]


def of_subject(knobs: params.Params, subject: str, organism: str, judgements: Path, opinions: Path) -> list[Effect]:
    start = knobs.organisms[organism].starts_from
    there = [views.of_subject(knobs, subject, judgements, opinions)]
    there += [views.outside(knobs, model, judgements, opinions) for model in (start, "base")]
    seen = [one for one in there if one is not None]
    if len(seen) < 3:
        return []
    rows = []
    for measure, read in (("realigned_left", views.misaligned), ("realigned_score_left", views.lost)):
        (value, low, high), n = excess.left(
            *(views.by_question(side, read) for side in seen), seed=knobs.seed, scale=views.scale(read)
        )
        missing = len({view.question for view in seen[0]}) - n
        rows.append(Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing))
    return rows


def of_persona(organism: str, start: str, moved: project.Shifts) -> list[Effect]:
    if TRAIT not in moved.personas or not {organism, start} <= set(moved.organisms):
        return []
    one, other = (moved.moved_OQD[moved.organisms.index(name)] @ moved.personas[TRAIT] for name in (organism, start))
    value, low, high = intervals.rate(np.subtract(one, other).tolist(), moved.questions)
    return [Effect(subject=organism, measure="persona_latent_change", value=value, low=low, high=high, n=len(moved.questions))]


if __name__ == "__main__":
    run(main)
