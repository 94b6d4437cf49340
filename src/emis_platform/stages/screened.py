"""screened: what screening said of each training set + what training then did -> how well the one foretells the other. No model runs."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Effect, Example
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.lab import screening as lab
from emis_platform.stages import screen
from emis_platform.tools import views


def main(*, scores: Path, training: Path, judgements: Path, opinions: Path, diff: Path, effects: Path) -> None:
    """`scores`: metrics/screen.json; `training`: rows, for the rival that reads their surface; `judgements`, `opinions`: for the shift by
    `discriminate.judge`, which reads nothing that the projections read; `diff`: for `persona_shift`.

    Writes `screen_shift` of each organism (points of the judge's score lost against the base), and from enough sets `screen_r` and its
    kin, also against the persona's own shift (`_persona`; lab/screening.effects).
    """
    knobs = params.load()
    told = files.read_list(Effect, scores)
    shifts = [one for name in knobs.organisms if (one := shift(knobs, name, judgements, opinions))]
    moved = {row["subject"]: row["value"] for row in files.read_json(diff) if row["measure"] == "persona_shift"}
    size = knobs.size.screen.surface
    surface = {name: files.read(Example, training / f"{name}.jsonl") for name in knobs.organisms}
    surface = {name: screen.drawn(rows, [row.prompt for row in rows], size, knobs.seed) for name, rows in surface.items()}
    by_judge = sets(knobs, told, {row.subject: row.value for row in shifts}, surface)
    by_persona = sets(knobs, told, moved, surface)
    summary = [*lab.effects(by_judge, seed=knobs.seed), *lab.effects(by_persona, "_persona", knobs.seed)]
    files.write_json(effects, [row.model_dump() for row in (*shifts, *summary)])


def shift(knobs: params.Params, organism: str, judgements: Path, opinions: Path) -> Effect | None:
    """What training showed: points of the score that the organism's coherent answers lost against the base's, paired by question."""
    seen = [views.outside(knobs, model, judgements, opinions) for model in (organism, "base")]
    if seen[0] is None or seen[1] is None:
        return None
    arms = [views.by_question(side, views.lost) for side in seen if side is not None]
    shared = len(arms[0].keys() & arms[1].keys())
    missing = len({view.question for view in seen[0]}) - shared
    ends = intervals.difference(*arms, seed=knobs.seed, scale=views.scale(views.lost)) if shared > 1 else (None, None, None)
    return screen.effect(organism, "screen_shift", ends, shared, missing)


def sets(
    knobs: params.Params, found: Sequence[Effect], shifts: dict[str, float | None], surface: dict[str, list[Example]]
) -> list[lab.Trained]:
    """Organisms that learned a set's answers from the base on and whose shift is known; a reward's arm learned its own answers."""
    made = []
    for name, organism in knobs.organisms.items():
        scores = {row.measure.removeprefix("screen_"): row.value for row in found if row.subject == name}
        told = shifts.get(name)
        if organism.starts_from != "base" or "reward" in organism.options or told is None or None in scores.values():
            continue
        data = organism.data
        made.append(
            lab.Trained(
                name=name,
                distinct=data.model_copy(update={"mixture": None}).described,
                domain=knobs.domain(data),
                share=data.mixture if data.mixture is not None else 0.5 if data.trigger else 1.0,
                shift=told,
                scores={trait: float(value) for trait, value in scores.items() if value is not None},
                answers=tuple(row.completion for row in surface[name]),
            )
        )
    return made


if __name__ == "__main__":
    run(main)
