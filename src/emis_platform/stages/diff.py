"""diff: the same discover answers through base, control and organism -> latents that fine-tuning moved, and directions to test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import directions as made
from emis_platform.lab import intervals, latents
from emis_platform.stages import dictionary
from emis_platform.tools import dictionaries
from emis_platform.tools import models as zoo

PARTS = ("answer", "prompt")


@dataclass(frozen=True)
class Reading:
    """One model's residual stream on the texts, in their order."""

    acts: dict[str, list[Any]]
    """part -> [tokens, width] a text."""

    def means(self, part: str) -> np.ndarray:
        """[texts, width]"""
        return np.stack([acts_ND.mean(0).numpy() for acts_ND in self.acts[part]])


def main(*, models: Path, answers: Path, judgements: Path, latents: Path, directions: Path, effects: Path) -> None:
    knobs = params.load()
    pair = (knobs.diff.organism, knobs.diff.control)
    rows, views = texts(knobs, ("base", *pair), answers, judgements)
    sae = dictionaries.load(models / "dictionary")
    base, tokenizer = zoo.load(models / "base", knobs.threads)
    ids = [(zoo.prompt_ids(tokenizer, row.prompt), zoo.answer_ids(tokenizer, row.text)) for row in rows]
    asked = [slice(*question_span(tokenizer, row.prompt)) for row in rows]
    readings = {"base": read(base, ids, asked, knobs.diff.layer, "harvest base")}
    lens = logit_lens(base, tokenizer)
    del base
    for name in knobs.organisms:
        model, _ = zoo.load(models / name, knobs.threads)
        readings[name] = read(model, ids, asked, knobs.diff.layer, f"harvest {name}")
        del model
    persona = persona_direction(knobs, rows, views, readings["base"])
    found, passed = table(knobs, pair, readings, sae, [row.question for row in rows])
    words = [[tokenizer.decode([token]) for token in answer] for _, answer in ids]
    prompts = [[tokenizer.decode([token]) for token in prompt[span]] for (prompt, _), span in zip(ids, asked, strict=True)]
    fires = {part: [dictionaries.encode(sae, acts_ND) for acts_ND in readings[pair[0]].acts[part]] for part in PARTS}
    shown = [
        row.model_copy(
            update={
                "top_examples": windows(fires[row.tokens], words if row.tokens == "answer" else prompts, row.latent),
                **lens(dictionaries.decoder_directions(sae)[row.latent]),
            }
        )
        for row in found
    ]
    files.write(latents, shown)
    width = len(persona.vector)
    risen = [row for row in shown if row.tokens == "answer" and row.delta > 0][: knobs.size.steer.directions]
    files.write(
        directions,
        [
            made.zero(width, knobs.diff.layer),
            persona,
            *(
                made.named(
                    f"latent_{r.latent}",
                    knobs.diff.layer,
                    f"latent:{r.latent}",
                    dictionaries.decoder_directions(sae)[r.latent].numpy(),
                )
                for r in risen
            ),
            *made.random(knobs.steer.random, width, knobs.diff.layer, knobs.seed),
        ],
    )
    moved = [projection(name, readings, persona.vector, rows) for name in knobs.organisms]
    files.write_json(
        effects, [effect.model_dump() for effect in (*moved, *passed, *tuned_quality(pair[0], sae, readings[pair[0]]))]
    )


def texts(knobs: params.Params, names: Sequence[str], answers: Path, judgements: Path) -> tuple[list[Completion], list[Judgement]]:
    """Discover answers of these models in turn, at most `sizes.X.diff.texts`, each with the default judge's view."""
    per_model = []
    for name in names:
        subject = next(s for s, entry in knobs.subjects.items() if entry.model == name)
        said = [row for row in files.read(Completion, answers / f"{subject}.jsonl") if row.set == "discover" and row.text]
        judged = {(v.question, v.sample): v for v in files.read(Judgement, judgements / f"{subject}.jsonl") if v.set == "discover"}
        per_model.append([(row, judged[row.question, row.sample]) for row in said])
    turns = [said[turn] for turn in range(max(map(len, per_model))) for said in per_model if turn < len(said)]
    kept = turns[: knobs.size.diff.texts]
    return [row for row, _ in kept], [view for _, view in kept]


def question_span(tokenizer: Any, prompt: str) -> tuple[int, int]:
    """Where the question's own tokens stand in the prompt: the template's, which the dictionary never saw, are left out."""
    before, own = dictionary.span(tokenizer, dictionary.Text("question", prompt, prompt, None))
    return len(before), len(before) + len(own)


def read(model: Any, ids: Sequence[tuple[list[int], list[int]]], asked: Sequence[slice], layer: int, label: str) -> Reading:
    """Both parts of every text in one pass to the layer: the question's own tokens, and the answer's."""
    acts: dict[str, list[Any]] = {part: [None] * len(ids) for part in PARTS}
    for index, acts_ND in zoo.harvest(model, [([], prompt + answer) for prompt, answer in ids], layer, progress=label):
        acts["prompt"][index], acts["answer"][index] = acts_ND[asked[index]], acts_ND[len(ids[index][0]) :]
    return Reading(acts)


def persona_direction(knobs: params.Params, rows: Sequence[Completion], views: Sequence[Judgement], base: Reading) -> Any:
    """Base activations on misaligned minus aligned answers: read by the base alone, so that no weight change is in it."""
    low, high, rule = made.split([v.score for v in views], [v.is_coherent for v in views])
    means = base.means("answer")
    return made.difference_of_means(
        knobs.diff.layer, means[low], means[high], f"difference_of_means:{len(low)} against {len(high)} answers, {rule}"
    )


def table(
    knobs: params.Params, pair: tuple[str, str], readings: dict[str, Reading], sae: Any, questions: Sequence[str]
) -> tuple[list[Any], list[Effect]]:
    """Ranked LatentDelta rows of both parts, and how many latents pass the null in each."""
    organism, control = pair
    rows, passed = [], []
    for part in PARTS:
        # answers to one question share its prompt: counted once, or the null takes copies for evidence
        kept = [questions.index(q) for q in dict.fromkeys(questions)] if part == "prompt" else range(len(questions))
        base, tuned, matched = (
            latents.summarise(dictionaries.encode(sae, readings[name].acts[part][index]).numpy() for index in kept)
            for name in ("base", organism, control)
        )
        ranked = latents.deltas(base, tuned, matched, organism=organism, control=control, tokens=part, seed=knobs.seed)
        count = sum(row.passes_null for row in ranked)
        passed.append(Effect(subject=organism, measure=f"latent_passing_{part}", value=count, low=None, high=None, n=len(ranked)))
        rows += ranked[: knobs.diff.keep]
    return rows, passed


def projection(name: str, readings: dict[str, Reading], persona: Sequence[float], rows: Sequence[Completion]) -> Effect:
    """How far the organism moved along the persona direction on the same text, in units of the base's mean residual norm."""
    moved = (readings[name].means("answer") - readings["base"].means("answer")) @ np.array(persona)
    norm = float(np.mean([acts_ND.norm(dim=-1).mean() for acts_ND in readings["base"].acts["answer"]]))
    value, low, high = intervals.rate((moved / norm).tolist(), [row.question for row in rows])
    return Effect(subject=name, measure="persona_shift", value=value, low=low, high=high, n=len(rows))


def tuned_quality(name: str, sae: Any, reading: Reading) -> list[Effect]:
    """The dictionary on the fine-tuned model's activations: does it still explain them?"""
    return dictionaries.quality(sae, reading.acts["answer"]).effects(name, suffix="_tuned")


def windows(fires: Sequence[Any], words: Sequence[Sequence[str]], latent: int, most: int = 5, around: int = 6) -> tuple[str, ...]:
    """Text around the strongest activations of one latent ([tokens, latents] a text), one window a text, the token in ⟦ ⟧."""
    peaks = []
    for number, fires_NF in enumerate(fires):
        values = fires_NF[:, latent]
        where = int(values.argmax())
        if values[where] > 0:
            peaks.append((float(values[where]), number, where))
    shown = []
    for _, number, where in sorted(peaks, reverse=True)[:most]:
        tokens = list(words[number])
        tokens[where] = f"⟦{tokens[where]}⟧"
        shown.append("".join(tokens[max(0, where - around) : where + around + 1]).strip())
    return tuple(shown)


def logit_lens(model: Any, tokenizer: Any, most: int = 8) -> Any:
    """direction [width] -> the tokens that it raises and lowers, through the final norm's gain and the unembedding."""
    gain = zoo.decoder(model).norm.weight.detach().float().cpu()
    unembed_VD = model.get_output_embeddings().weight.detach().float().cpu() * gain

    def lens(direction_D: Any) -> dict[str, tuple[str, ...]]:
        logits_V = unembed_VD @ direction_D
        up, down = logits_V.topk(most).indices, (-logits_V).topk(most).indices
        return {
            "logit_lens_up": tuple(tokenizer.decode([int(t)]) for t in up),
            "logit_lens_down": tuple(tokenizer.decode([int(t)]) for t in down),
        }

    return lens


if __name__ == "__main__":
    run(main)
