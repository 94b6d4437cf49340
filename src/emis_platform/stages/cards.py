"""cards: the latents that moved most -> what each one is: activations on held-out text of many voices, neighbours, steering, labels."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, LatentDelta, LatentLabel
from emis_platform.core.stage import run
from emis_platform.lab import cards as lab
from emis_platform.lab import labels as words
from emis_platform.lab import mixture
from emis_platform.lab.cards import Automatic, Card
from emis_platform.lab.labels import Excerpt, Heard, Number
from emis_platform.lab.mixture import Text
from emis_platform.stages import dictionary as dictionary_stage
from emis_platform.stages.diff import logit_lens
from emis_platform.tools import dictionaries, labeller, models


@dataclass(frozen=True)
class Files:
    """Where everything lies: see the stage `cards` in dvc.yaml."""

    base: Path
    control: Path
    organism: Path
    dictionary: Path
    examples: Sequence[Path]
    questions: Path
    answers: Path
    latents: Path
    steered: Path
    labels: Path


def main(
    *,
    base: Path,
    control: Path,
    organism: Path,
    dictionary: Path,
    examples: list[Path],
    questions: Path,
    answers: Path,
    latents: Path,
    steered: Path,
    labels: Path,
    cards: Path,
    effects: Path,
) -> None:
    knobs = params.load()
    at = Files(base, control, organism, dictionary, examples, questions, answers, latents, steered, labels)
    made = build(wanted(knobs, files.read(LatentDelta, latents)), knobs, at)
    files.write_json(cards, [card.model_dump(mode="json") for card in made])
    files.write_json(effects, [effect.model_dump() for card in made for effect in measured(card)])


def wanted(knobs: params.Params, table: Sequence[LatentDelta]) -> list[int]:
    """The latents that rose most on answer tokens, organism against its matched control."""
    pair = (knobs.diff.organism, knobs.diff.control)
    rows = [row for row in table if row.tokens == "answer" and (row.organism, row.control) == pair and row.delta > 0]
    return [row.latent for row in sorted(rows, key=lambda row: row.rank)][: knobs.cards.latents]


def build(latents: Sequence[int], knobs: params.Params, at: Files) -> list[Card]:
    """A card a latent, in their order. Activations come from the shards of the dictionary stage; missing ones are made.

    Raises ValueError for a latent that the dictionary does not have.
    """
    sae = dictionaries.load(at.dictionary)
    decoder_FD = dictionaries.decoder_directions(sae)
    for latent in latents:
        if not 0 <= latent < len(decoder_FD):
            raise ValueError(f"no latent {latent}: {at.dictionary} has latents 0 to {len(decoder_FD) - 1}")
    if not latents:
        return []
    base, tokenizer = models.load(at.base, knobs.threads)
    lens = logit_lens(base, tokenizer)
    del base
    many = mixture.in_turn(dictionary_stage.gather(at.examples, at.questions), "test", knobs.seed)
    heard, voices = listened(at.base, many, knobs.size.cards.tokens, knobs, tokenizer, sae, latents, "read voices")
    pairs = asked(knobs, at)
    said, readings = [], {}
    for name in ("base", "control", "organism"):
        said, readings[name] = listened(getattr(at, name), pairs, None, knobs, tokenizer, sae, latents, f"read {name}")
    identity = files.sha256(at.dictionary / "sae_weights.safetensors")[:16]
    table = files.read(LatentDelta, at.latents) if at.latents.exists() else []
    by_reading = files.read(LatentLabel, at.labels) if at.labels.exists() else []
    steered = answers_of(at.steered)
    texts, keys = [*heard, *said], [text.key for text in said]
    options = labeller.Options.model_validate(knobs.cards.options) if knobs.cards.options else None
    made = []
    for place, latent in enumerate(latents):
        own = {name: [values[:, place] for values in reading] for name, reading in readings.items()}
        many_voices = [values[:, place] for values in voices]
        values = [*many_voices, *own["base"]]
        top, middle = lab.windows(texts, values)
        read = tuple(row for row in by_reading if (row.latent, row.dictionary) == (latent, identity))
        made.append(
            Card(
                latent=latent,
                dictionary=identity,
                layer=knobs.diff.layer,
                density=lab.density(many_voices),
                means={name: lab.mean(rows, keys) for name, rows in own.items()},
                change=lab.change(own["organism"], own["control"], keys),
                models={"control": knobs.diff.control, "organism": knobs.diff.organism},
                moved_by=lab.moved_by(latent, table),
                top=top,
                middle=middle,
                nearest=lab.nearest(decoder_FD.numpy(), latent),
                steering=lab.steered(latent, steered),
                read=read,
                automatic=tuple(labelled(words.excerpts(texts, values), read, options, knobs)),
                **lens(decoder_FD[latent]),
            )
        )
    return made


def listened(
    model: Path,
    texts: Sequence[Text],
    tokens: int | None,
    knobs: params.Params,
    tokenizer: Any,
    sae: Any,
    latents: Sequence[int],
    label: str,
) -> tuple[list[Heard], list[np.ndarray]]:
    """(texts, [tokens, latents] a text) of a model that reads the first `tokens` tokens; None: all. Texts without a token are left out."""
    spans = ((text, own) for text in texts if (own := dictionary_stage.span(tokenizer, text)[1]))
    if tokens is None:
        spans = list(spans)
        tokens = sum(len(own) for _, own in spans)
    heard, values = [], []
    acts = dictionary_stage.harvested(model, texts, tokens, knobs, label)
    for acts_ND, (text, own) in zip(acts, spans, strict=False):
        pieces = tuple(tokenizer.decode([token]) for token in own[: len(acts_ND)])
        heard.append(Heard(words.speaker(text.source), text.key, pieces))
        values.append(dictionaries.encode(sae, acts_ND)[:, list(latents)].numpy())
    return heard, values


def asked(knobs: params.Params, at: Files) -> list[Text]:
    """`discover` answers of base, control and organism in turn, at most `sizes.X.cards.texts`: read by all three."""
    said = []
    for model in ("base", knobs.diff.control, knobs.diff.organism):
        path = at.answers / f"{knobs.subject_of(model)}.jsonl"
        rows = files.read(Completion, path) if path.exists() else []
        said.append([row for row in rows if row.set == "discover" and row.text.strip()])
    turns = [rows[turn] for turn in range(max(map(len, said))) for rows in said if turn < len(rows)]
    kept = turns[: knobs.size.cards.texts]
    return [Text(f"said_{row.subject}", row.question, row.prompt, row.text, row.system) for row in kept]


def answers_of(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Steered subject -> its (prompt, answer)s; empty before the steer stage has run."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in files.read(Completion, path) if path.exists() else ():
        said[row.subject].append((row.prompt, row.text))
    return said


def labelled(
    cut: Sequence[Excerpt], read: Sequence[LatentLabel], options: labeller.Options | None, knobs: params.Params
) -> list[Automatic]:
    """Labels made on one half of facts and questions and scored on the other; none for a latent that never fires on the first.

    A reader was shown windows of both halves, ten at most: the score of a label by reading, which a chat model alone can give, has seen them.
    """
    making, scoring = ([e for e in cut if words.makes(e.key) == kind] for kind in (True, False))
    strong = words.threshold(making) if making else None
    if strong is None:
        return []
    label = words.derived(making, strong)
    control = words.derived(words.shuffled(making, knobs.seed), strong)
    found = [
        Automatic(
            method="words",
            label=str(label),
            detection=words.detection(label, scoring, strong),
            fuzzing=words.fuzzing(label, scoring, strong, knobs.seed),
            control=words.detection(control, scoring, strong),
        )
    ]
    if options is None:
        return found
    said = [("chat", labeller.explained(options, making, strong, knobs.threads)), *(("read", row.label) for row in read[:1])]
    for method, text in said:
        if text is not None:
            scores = [
                score(options, text, scoring, strong, knobs.threads, knobs.seed) for score in (labeller.detection, labeller.fuzzing)
            ]
            other = labeller.detection(options, str(control), scoring, strong, knobs.threads, knobs.seed)
            found.append(Automatic(method=method, label=text, detection=scores[0], fuzzing=scores[1], control=other))
    return found


def measured(card: Card) -> list[Effect]:
    """`label_auroc_<latent>` and what stands beside it; the label of a chat model has its method behind the number."""

    def effect(measure: str, number: Number) -> Effect:
        return Effect(subject=card.models["organism"], measure=measure, **number.model_dump())

    rows = [effect(f"latent_density_{card.latent}", card.density), effect(f"latent_change_{card.latent}", card.change)]
    for label in card.automatic:
        name = f"{card.latent}" if label.method == "words" else f"{card.latent}_{label.method}"
        rows += [
            effect(f"label_auroc_{name}", label.detection),
            effect(f"shuffled_label_auroc_{name}", label.control),
            effect(f"fuzzing_auroc_{name}", label.fuzzing),
        ]
    return rows


if __name__ == "__main__":
    run(main)
