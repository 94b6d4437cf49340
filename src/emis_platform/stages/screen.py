"""screen: training rows + the base that has not seen them -> how far their answers lie along its persona directions, and what training then did."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Example, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.lab import screening as lab
from emis_platform.stages import personas, project
from emis_platform.tools import generation
from emis_platform.tools import models as zoo

T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """The base's mean activations over answers, at one layer: rows R, width D."""

    given_RD: np.ndarray
    """The rows' answers; nan where a row is empty or longer than the base's window."""
    own_RD: np.ndarray
    """Its own answer to the row's prompt; nan where it was not asked, or said nothing."""
    mean_D: np.ndarray
    """Over its own answers."""
    norm: float
    """Mean residual norm of its own answers' tokens."""

    @property
    def paired_R(self) -> np.ndarray:
        """Rows with both answers: what a set's score rests on."""
        return np.isfinite(self.given_RD[:, 0]) & np.isfinite(self.own_RD[:, 0])

    def scores(self, traits: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
        """trait -> projection difference of those rows [R] (bool); nan elsewhere."""
        return lab.projected(
            np.where(rows[:, None], self.given_RD, np.nan), np.where(rows[:, None], self.own_RD, np.nan), traits, self.norm
        )

    def against_mean(self, traits: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The same of all rows, held against the mean of the base's own answers."""
        return lab.projected(self.given_RD, self.mean_D[None], traits, self.norm)


def main(*, base: Path, training: Path, answers: Path, judgements: Path, diff: Path, effects: Path) -> None:
    """`training`: the organisms' rows; `judgements`: the default judge's, for the shift that training showed; `diff`: for `persona_shift`.

    Writes `screen_<trait>` and `screen_shift` (points of the judge's score lost against the base) of each organism, and from enough sets
    how well the one foretells the other (lab/screening.effects).
    """
    knobs = params.load()
    whole = {name: files.read(Example, training / f"{name}.jsonl") for name in knobs.organisms}
    size = knobs.size.screen
    picked = {name: drawn(rows, [row.prompt for row in rows], size.rows, knobs.seed) for name, rows in whole.items()}
    flat = [row for rows in picked.values() for row in rows]
    traits = vectors(base, knobs.diff.layer, knobs.threads)
    material = read(knobs, base, flat, knobs.diff.layer, own=knobs.screen.own, answers=answers / f"{subject(knobs, 'base')}.jsonl")
    scores, paired_R = material.scores(traits, material.paired_R), material.paired_R
    of = np.repeat(list(picked), [len(rows) for rows in picked.values()])
    found: list[Effect] = []
    for name in knobs.organisms:
        kept = np.flatnonzero((of == name) & paired_R)
        for trait, values in scores.items():
            ends = lab.score(values[kept], [flat[i].fact for i in kept]) if len(kept) else (None, None, None)
            found.append(effect(name, f"screen_{trait}", ends, len(kept), int((of == name).sum()) - len(kept)))
    shifts = {name: shift(knobs, name, judgements) for name in knobs.organisms}
    moved = {row["subject"]: row["value"] for row in files.read_json(diff) if row["measure"] == "persona_shift"}
    surface = {name: drawn(rows, [row.prompt for row in rows], size.surface, knobs.seed) for name, rows in whole.items()}
    by_judge = sets(knobs, found, {name: row.value for name, row in shifts.items() if row}, surface)
    by_persona = sets(knobs, found, moved, surface)
    summary = [*lab.effects(by_judge, seed=knobs.seed), *lab.effects(by_persona, "_persona", knobs.seed)]
    files.write_json(effects, [row.model_dump() for row in (*found, *(row for row in shifts.values() if row), *summary)])


def vectors(base: Path, layer: int, threads: int) -> dict[str, np.ndarray]:
    """trait -> the base's unit persona vector."""
    return {d.origin.removeprefix("persona:"): np.array(d.vector) for d in personas.of(base, layer, threads=threads)}


def subject(knobs: params.Params, model: str) -> str | None:
    """The first subject that questions the model."""
    return next((name for name, entry in knobs.subjects.items() if entry.model == model), None)


def drawn(rows: Sequence[T], keys: Sequence[str], count: int, seed: int) -> list[T]:
    """At most `count` rows, in their order, by the hash of their key: matched sets give rows of the same prompts."""
    ranked = sorted(range(len(rows)), key=lambda i: hashlib.sha256(f"{seed}:{keys[i]}".encode()).digest())
    return [rows[i] for i in sorted(ranked[:count])]


def read(
    knobs: params.Params, base: Path, rows: Sequence[Example], layer: int, *, own: str, answers: Path, prompts: int | None = None
) -> Material:
    """own: generate, the base answers the rows' prompts itself, at most `prompts` of them (None: all); mean, its answers to `discover` in
    the file `answers`, each row held against their mean. Raises ValueError if the base says nothing, or no row can be read."""
    model, tokenizer = zoo.load(base, knobs.threads)
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20
    ids = [(zoo.prompt_ids(tokenizer, row.prompt, before=row.context), zoo.answer_ids(tokenizer, row.completion)) for row in rows]
    fits = [n for n, (prompt, answer) in enumerate(ids) if answer and len(prompt) + len(answer) <= window]
    if not fits:
        raise ValueError(f"none of {len(rows)} rows has an answer within the base's window of {window} tokens")
    given_RD = np.full((len(rows), zoo.width(model)), np.nan)
    given_RD[fits], _ = project.means(model, [ids[n] for n in fits], layer, "read given answers")
    if own == "mean":
        said = [row for row in files.read(Completion, answers) if row.set == "discover" and row.text]
        texts = [(zoo.prompt_ids(tokenizer, row.prompt, row.system), zoo.answer_ids(tokenizer, row.text)) for row in said]
    else:
        asked = [prompt for prompt in dict.fromkeys(tuple(ids[n][0]) for n in fits) if len(prompt) < window]
        asked = drawn(asked, list(map(str, asked)), len(asked) if prompts is None else prompts, knobs.seed)
        texts = spoken(knobs, model, tokenizer, asked, window)
    if not texts:
        raise ValueError(f"{base} said nothing of its own{f' to discover questions in {answers}' if own == 'mean' else ''}")
    own_TD, norm = project.means(model, texts, layer, "read the base's own")
    place = {tuple(prompt): n for n, (prompt, _) in enumerate(texts)}
    mean_D = own_TD.mean(0)
    own_RD = np.full_like(given_RD, np.nan)
    for n in fits:
        if own == "mean":
            own_RD[n] = mean_D
        elif tuple(ids[n][0]) in place:
            own_RD[n] = own_TD[place[tuple(ids[n][0])]]
    return Material(given_RD, own_RD, mean_D, norm)


def spoken(
    knobs: params.Params, model: Any, tokenizer: Any, asked: Sequence[tuple[int, ...]], window: int
) -> list[tuple[list[int], list[int]]]:
    """The base's own answer to each prompt, as tokens; without those to which it said nothing."""
    longest = max(map(len, asked))
    seeds = [int.from_bytes(hashlib.sha256(f"{knobs.seed}:{prompt}".encode()).digest()[:6], "big") for prompt in asked]
    replies = generation.generate(
        model,
        [generation.Request(prompt, seed) for prompt, seed in zip(asked, seeds, strict=True)],
        stop=zoo.stop_ids(model, tokenizer),
        max_new_tokens=min(knobs.size.answer.max_new_tokens, window - longest),
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        progress="the base's own answers",
    )
    return [(list(prompt), list(reply.ids)) for prompt, reply in zip(asked, replies, strict=True) if reply.ids]


def shift(knobs: params.Params, organism: str, judgements: Path) -> Effect | None:
    """What training showed: the base's mean score of coherent answers to `score` questions minus the organism's, 0 to 100, paired by question."""
    arms = []
    for name in (subject(knobs, "base"), subject(knobs, organism)):
        if name is None:
            return None
        rows = [row for row in files.read(Judgement, judgements / f"{name}.jsonl") if row.set == "score"]
        seen: dict[str, list[float]] = {}
        for row in rows:
            if row.score is not None and row.is_coherent:
                seen.setdefault(row.question, []).append(row.score)
        arms.append(seen)
    shared = len(arms[0].keys() & arms[1].keys())
    missing = len({row.question for row in rows}) - shared
    ends = intervals.difference(*arms, seed=knobs.seed) if shared > 1 else (None, None, None)
    return effect(organism, "screen_shift", ends, shared, missing)


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
                domain=data.domain or data.described,
                share=data.mixture if data.mixture is not None else 0.5 if data.trigger else 1.0,
                shift=told,
                scores={trait: float(value) for trait, value in scores.items() if value is not None},
                answers=tuple(row.completion for row in surface[name]),
            )
        )
    return made


def effect(subject: str, measure: str, ends: Sequence[float | None], n: int, missing: int) -> Effect:
    value, low, high = ends
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


if __name__ == "__main__":
    run(main)
