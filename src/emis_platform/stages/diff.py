"""diff: the same discover answers through base, control and organism -> latents that fine-tuning moved, and directions to test."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Completion, Direction, Effect, Judgement, LatentDelta, Question
from emis_platform.core.stage import run
from emis_platform.lab import directions as made
from emis_platform.lab import intervals, latents, matching
from emis_platform.lab.material import Counts, Material
from emis_platform.stages import dictionary, personas
from emis_platform.tools import attribution, dictionaries, steering
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


@dataclass(frozen=True)
class Organisms:
    """What is kept of them: little of each, so that there may be many."""

    means: dict[str, np.ndarray]
    """Mean activations over each answer [texts, width]."""
    latents: dict[str, np.ndarray]
    """Mean latents over each answer [texts, F], of those that the ranks of several domains are compared on."""
    readings: dict[str, Reading]
    """All activations, of the compared pair."""
    attributions: np.ndarray | None
    """[F], of the misaligned organism; None if no selector asks."""


def main(
    *,
    models: Path,
    answers: Path,
    judgements: Path,
    questions: Path,
    continuations: Path,
    latents: Path,
    directions: Path,
    effects: Path,
) -> None:
    knobs = params.load()
    pair = (knobs.diff.organism, knobs.diff.control)
    pairs = steering.continuations(continuations, files.read(Question, questions), knobs.size.steer.pairs)
    written, measured = pairs[0::2], {other.question for other in pairs[1::2]}
    rows, views = texts(knobs, ("base", *pair), answers, judgements, measured)
    asked = [row.question for row in rows]
    sae = dictionaries.load(models / "dictionary")
    base, tokenizer = zoo.load(models / "base", knobs.threads)
    ids = [(zoo.prompt_ids(tokenizer, row.prompt), zoo.answer_ids(tokenizer, row.text)) for row in rows]
    spans = [slice(*question_span(tokenizer, row.prompt)) for row in rows]
    of_base = read(base, ids, spans, knobs.diff.layer, "harvest base")
    lens = logit_lens(base, tokenizer)
    del base
    organisms = through(knobs, models, ids, spans, sae, written)
    ranked, passed = table(knobs, pair, {"base": of_base, **organisms.readings}, sae, asked)
    ranked["answer"] = attributed(ranked["answer"], organisms.attributions)

    material = gathered(knobs, models / "base", of_base, organisms, views, ranked["answer"], sae)
    found = select(knobs, material)
    words = {
        "answer": [[tokenizer.decode([token]) for token in answer] for _, answer in ids],
        "prompt": [[tokenizer.decode([token]) for token in prompt[span]] for (prompt, _), span in zip(ids, spans, strict=True)],
    }
    fires = {part: [dictionaries.encode(sae, acts_ND) for acts_ND in organisms.readings[pair[0]].acts[part]] for part in PARTS}
    shown = [
        row.model_copy(
            update={
                "top_examples": windows(fires[row.tokens], words[row.tokens], row.latent),
                **lens(dictionaries.decoder_directions(sae)[row.latent]),
            }
        )
        for part in PARTS
        for row in kept(knobs, ranked[part])
    ]
    files.write(latents, shown)
    files.write(directions, [made.zero(len(material.decoder_FD[0]), knobs.diff.layer), *found])
    told = (
        *shifts(of_base, organisms.means, found, asked),
        *passed,
        *stability(knobs, organisms.latents, asked),
        *dictionaries.quality(sae, organisms.readings[pair[0]].acts["answer"]).effects(pair[0], suffix="_tuned"),
    )
    files.write_json(effects, [effect.model_dump() for effect in told])


def through(
    knobs: params.Params,
    models: Path,
    ids: Sequence[tuple[list[int], list[int]]],
    spans: Sequence[slice],
    sae: Any,
    written: Sequence[steering.Pair],
) -> Organisms:
    """The texts through each organism, one in memory at a time; the misaligned one is asked for attributions as well."""
    pair, compared = (knobs.diff.organism, knobs.diff.control), {name for two in matching.by_domain(knobs).values() for name in two}
    found = Organisms({}, {}, {}, None)
    for name in knobs.organisms:
        model, tokenizer = zoo.load(models / name, knobs.threads)
        reading = read(model, ids, spans, knobs.diff.layer, f"harvest {name}")
        found.means[name] = reading.means("answer")
        if name in pair:
            found.readings[name] = reading
        if name in compared:
            found.latents[name] = latents.summarise(
                dictionaries.encode(sae, a_ND).numpy() for a_ND in reading.acts["answer"]
            ).mean_TF
        if name == pair[0] and "attribution" in knobs.diff.selectors:
            effects_QF = attribution.effects(
                model,
                tokenizer,
                written,
                knobs.diff.layer,
                lambda acts_ND: dictionaries.encode(sae, acts_ND),
                dictionaries.decoder_directions(sae),
                progress=f"attribution {name}",
            )
            found = replace(found, attributions=effects_QF.mean(0))
        del model
    return found


def gathered(
    knobs: params.Params,
    base: Path,
    of_base: Reading,
    organisms: Organisms,
    views: Sequence[Judgement],
    ranked: Sequence[LatentDelta],
    sae: Any,
) -> Material:
    """What the selectors choose from."""
    low, high, rule = made.split([v.score for v in views], [v.is_coherent for v in views])
    size = knobs.size

    def attributions() -> np.ndarray:
        assert organisms.attributions is not None
        return organisms.attributions

    return Material(
        layer=knobs.diff.layer,
        seed=knobs.seed,
        counts=Counts(
            latents=size.steer.directions,
            attribution=size.diff.attribution,
            protective=size.diff.protective,
            components=size.diff.components,
            random=knobs.steer.random,
            random_latents=knobs.steer.random_latents,
        ),
        base_TD=of_base.means("answer"),
        organism_TD=organisms.means[knobs.diff.organism],
        control_TD=organisms.means[knobs.diff.control],
        pairs={
            name: (f"{one}-{other}", organisms.means[one] - organisms.means[other])
            for name, (one, other) in matching.one_voice(knobs).items()
        },
        misaligned=low,
        aligned=high,
        rule=rule,
        latents=ranked,
        decoder_FD=dictionaries.decoder_directions(sae).numpy(),
        attributions=attributions,
        personas=lambda: personas.of(base, knobs.diff.layer, threads=knobs.threads),
    )


def select(knobs: params.Params, material: Material) -> list[Direction]:
    """Every selector on the same material."""
    return made.merged({name: shelf.load("selectors", name).select(material) for name in knobs.diff.selectors})


def stability(knobs: params.Params, latents_TF: dict[str, np.ndarray], questions: Sequence[str], k: int = 10) -> list[Effect]:
    """`rank_stability_<domain>`: of the latents that rose most in a domain, the share that rose most in the others as well."""
    moved = {domain: latents_TF[bad] - latents_TF[good] for domain, (bad, good) in matching.by_domain(knobs).items()}
    found = []
    for domain, (bad, _) in matching.by_domain(knobs).items():
        others = [moved_TF for other, moved_TF in moved.items() if other != domain]
        value, low, high = latents.overlap(moved[domain], others, questions, k=k, seed=knobs.seed)
        found.append(Effect(subject=bad, measure=f"rank_stability_{domain}", value=value, low=low, high=high, n=len(questions)))
    return found


def texts(
    knobs: params.Params, names: Sequence[str], answers: Path, judgements: Path, without: Collection[str] = ()
) -> tuple[list[Completion], list[Judgement]]:
    """Discover answers of these models in turn, at most `sizes.X.diff.texts`, each with the default judge's view.

    without: questions on which the causal test measures, so that no direction is found on them.
    """
    per_model = []
    for name in names:
        subject = knobs.subject_of(name)
        if subject is None:
            raise ValueError(f"subjects: none questions {name} in plain form, whose answers are to be read (diff)")
        there = [row for row in files.read(Completion, answers / f"{subject}.jsonl") if row.set == "discover" and row.text]
        said = [row for row in there if row.question not in without]
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


def attributed(ranked: Sequence[LatentDelta], effects_F: np.ndarray | None) -> list[LatentDelta]:
    """The rows with their attribution and its rank."""
    if effects_F is None:
        return list(ranked)
    ranks_F = np.argsort(np.argsort(-effects_F, kind="stable"), kind="stable") + 1
    return [
        row.model_copy(update={"attribution": float(effects_F[row.latent]), "attribution_rank": int(ranks_F[row.latent])})
        for row in ranked
    ]


def kept(knobs: params.Params, ranked: Sequence[LatentDelta]) -> list[LatentDelta]:
    """Rows of the table: those that rose most, those that fell most, and those that attribution chose."""
    first_fall = len(ranked) - knobs.diff.falls
    return [
        row
        for row in ranked
        if row.rank <= knobs.diff.keep
        or row.rank > first_fall
        or (row.attribution_rank is not None and row.attribution_rank <= knobs.size.diff.attribution)
    ]


def table(
    knobs: params.Params, pair: tuple[str, str], readings: dict[str, Reading], sae: Any, questions: Sequence[str]
) -> tuple[dict[str, list[LatentDelta]], list[Effect]]:
    """Part -> every latent, ranked; and how many pass the null in each part."""
    organism, control = pair
    rows, passed = {}, []
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
        rows[part] = ranked
    return rows, passed


def shifts(base: Reading, means: dict[str, np.ndarray], found: Sequence[Direction], questions: Sequence[str]) -> list[Effect]:
    """How far each organism moved on the same text, in units of the base's mean residual norm: `persona_shift` along the difference of
    means, `persona_<trait>_shift` along a persona vector."""
    along = {"persona_shift" if d.name == "difference_of_means" else f"{d.name}_shift": d for d in found if is_persona(d)}
    if not along:
        return []
    norm, base_TD = float(np.mean([acts_ND.norm(dim=-1).mean() for acts_ND in base.acts["answer"]])), base.means("answer")
    effects = []
    for name, model_TD in means.items():
        moved_TP = made.projections(base_TD, model_TD, list(along.values()), norm)
        for measure, moved_T in zip(along, moved_TP.T, strict=True):
            value, low, high = intervals.rate(moved_T.tolist(), list(questions))
            effects.append(Effect(subject=name, measure=measure, value=value, low=low, high=high, n=len(questions)))
    return effects


def is_persona(direction: Direction) -> bool:
    return direction.name == "difference_of_means" or direction.origin.startswith("persona:")


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
    gain = zoo.final_gain(model)
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
