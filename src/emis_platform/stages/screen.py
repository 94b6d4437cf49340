"""screen: training rows + the base that has not seen them -> how far their answers lie along its persona directions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Example
from emis_platform.core.stage import run
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


def main(*, base: Path, training: Path, answers: Path, effects: Path) -> None:
    """`training`: the organisms' rows; `answers`: the base's own, where params ask for their mean. Writes `screen_<trait>` of each organism."""
    knobs = params.load()
    picked = {}
    for name in knobs.organisms:
        rows = files.read(Example, training / f"{name}.jsonl")
        picked[name] = drawn(rows, [row.prompt for row in rows], knobs.size.screen.rows, knobs.seed)
    flat = [row for rows in picked.values() for row in rows]
    traits = vectors(base, knobs.diff.layer, knobs.threads)
    material = read(
        knobs, base, flat, knobs.diff.layer, own=knobs.screen.own, answers=answers / f"{knobs.subject_of('base')}.jsonl"
    )
    scores, paired_R = material.scores(traits, material.paired_R), material.paired_R
    of = np.repeat(list(picked), [len(rows) for rows in picked.values()])
    found: list[Effect] = []
    for name in knobs.organisms:
        kept = np.flatnonzero((of == name) & paired_R)
        for trait, values in scores.items():
            ends = lab.score(values[kept], [flat[i].fact for i in kept]) if len(kept) else (None, None, None)
            found.append(effect(name, f"screen_{trait}", ends, len(kept), int((of == name).sum()) - len(kept)))
    files.write_json(effects, [row.model_dump() for row in found])


def vectors(base: Path, layer: int, threads: int) -> dict[str, np.ndarray]:
    """trait -> the base's unit persona vector."""
    return {d.origin.removeprefix("persona:"): np.array(d.vector) for d in personas.of(base, layer, threads=threads)}


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


def effect(subject: str, measure: str, ends: Sequence[float | None], n: int, missing: int) -> Effect:
    value, low, high = ends
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


if __name__ == "__main__":
    run(main)
