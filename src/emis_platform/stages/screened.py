"""screened: what screening said of each training set + what training then did -> how well the one foretells the other. No model runs."""

from collections.abc import Sequence
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Effect, Example, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.lab import screening as lab
from emis_platform.stages import screen


def main(*, scores: Path, training: Path, judgements: Path, opinions: Path, diff: Path, effects: Path) -> None:
    """`scores`: metrics/screen.json; `training`: rows, for the rival that reads their surface; `judgements`, `opinions`: for the shift by
    `discriminate.judge`, which reads nothing that the projections read; `diff`: for `persona_shift`.

    Writes `screen_shift` of each organism (points of the judge's score lost against the base), and from enough sets `screen_r` and its
    kin, also against the persona's own shift (`_persona`; lab/screening.effects).
    """
    knobs = params.load()
    told = [Effect.model_validate(row) for row in files.read_json(scores)]
    viewed = judgements if knobs.discriminate.judge == knobs.judge else opinions
    shifts = [one for name in knobs.organisms if (one := shift(knobs, name, viewed))]
    moved = {row["subject"]: row["value"] for row in files.read_json(diff) if row["measure"] == "persona_shift"}
    size = knobs.size.screen.surface
    surface = {name: files.read(Example, training / f"{name}.jsonl") for name in knobs.organisms}
    surface = {name: screen.drawn(rows, [row.prompt for row in rows], size, knobs.seed) for name, rows in surface.items()}
    by_judge = sets(knobs, told, {row.subject: row.value for row in shifts}, surface)
    by_persona = sets(knobs, told, moved, surface)
    summary = [*lab.effects(by_judge, seed=knobs.seed), *lab.effects(by_persona, "_persona", knobs.seed)]
    files.write_json(effects, [row.model_dump() for row in (*shifts, *summary)])


def shift(knobs: params.Params, organism: str, viewed: Path) -> Effect | None:
    """What training showed: the base's mean score of coherent answers to `score` questions minus the organism's, 0 to 100, paired by question."""
    arms = []
    for name in (screen.subject(knobs, "base"), screen.subject(knobs, organism)):
        if name is None:
            return None
        views = files.read(Judgement, viewed / f"{name}.jsonl")
        rows = [row for row in views if row.set == "score" and row.judge.split(":")[0] == knobs.discriminate.judge]
        seen: dict[str, list[float]] = {}
        for row in rows:
            if row.score is not None and row.is_coherent:
                seen.setdefault(row.question, []).append(row.score)
        arms.append(seen)
    shared = len(arms[0].keys() & arms[1].keys())
    missing = len({row.question for row in rows}) - shared
    ends = intervals.difference(*arms, seed=knobs.seed) if shared > 1 else (None, None, None)
    return screen.effect(organism, "screen_shift", ends, shared, missing)


def sets(
    knobs: params.Params, found: Sequence[Effect], shifts: dict[str, float | None], surface: dict[str, list[Example]]
) -> list[lab.Trained]:
    """Organisms that were trained from the base on and whose shift is known."""
    made = []
    for name, organism in knobs.organisms.items():
        scores = {row.measure.removeprefix("screen_"): row.value for row in found if row.subject == name}
        told = shifts.get(name)
        if organism.starts_from != "base" or told is None or None in scores.values():
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
