"""personas: a trait's opposed system prompts -> the base's answers under each -> a direction. Ships five for the default base.

Each answer is read twice, after a prompt that asks for the trait and after its opposite: the text is the same, so that the difference is the
persona that the model reads it with, and no topic or length. Reading what was said under either prompt without any prompt would keep the
words of the prompt out altogether; with the default base, which plays its parts badly, that is mostly noise (toxic, 48 answers a side:
directions of two halves of the questions agree at cosine 0.04, against 0.94). Several wordings a side average the words out; the card says
how far the directions of different wordings agree.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Direction, Question
from emis_platform.lab import directions as made
from emis_platform.lab import personas as lab
from emis_platform.lab.personas import Firmness, Spoken, Trait
from emis_platform.stages.dictionary import weights_sha256
from emis_platform.tools import models, replies

HOME = shelf.PACKAGE / "personas"
SHIPPED = HOME / "smollm2_135m_l15.jsonl"
WORK = Path("work/personas")
"""Directions that were made for another base or layer, named by their recipe. Ignored by git, and free to delete."""
SEED, TOKENS, TEMPERATURE, SLOTS = 0, 36, 0.8, 64
"""How the answers are sampled. Not the pipeline's seed: a trait's direction belongs to the base."""


def trait(word: str) -> Trait:
    """A built-in trait by name, or a trait file by path. Raises ValueError, one line, for none or a faulty one."""
    path = Path(word) if word.endswith((".yaml", ".yml")) else HOME / "traits" / f"{word}.yaml"
    if path.parent == HOME / "traits" and word not in shelf.traits():
        raise ValueError(f"no trait {word}; there is: {', '.join(shelf.traits())}, or the path of a .yaml file")
    content = files.read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a mapping with description, positive and negative is needed")
    try:
        found = Trait.model_validate({"name": path.stem} | content)
    except ValidationError as error:
        raise ValueError(f"{path}: {params.explain(error.errors()[0], Trait)}") from None
    if len(found.positive) != len(found.negative):
        raise ValueError(
            f"{path}: {len(found.positive)} positive prompts against {len(found.negative)} negative: as many are needed"
        )
    if len(found.questions) == 1:
        raise ValueError(f"{path}: questions: two or more are needed, or none for the neutral ones")
    return found.model_copy(update={"questions": found.questions or tuple(files.text(HOME / "questions.txt").split("\n")[:-1])})


def of(base: Path, layer: int, words: Sequence[str] = (), *, threads: int = 2) -> list[Direction]:
    """Persona directions of a base at a layer, one a trait (none named: all built-in ones), in that order.

    Those that ship are taken where base, layer and recipe fit; others come from `WORK`, or are made there (half a minute a trait).
    """
    weights, loaded, found = weights_sha256(base), None, []
    shipped = read_shipped()
    for one in map(trait, words or shelf.traits()):
        identity = recipe(weights, layer, one)
        path = WORK / f"{identity}.jsonl"
        if identity not in shipped and not path.exists():
            loaded = loaded or models.load(base, threads)
            files.write(path, [learn(*loaded, one, layer, identity)[0]])
        found.append(shipped[identity] if identity in shipped else files.read(Direction, path)[0])
    return found


def read_shipped() -> dict[str, Direction]:
    """recipe -> direction."""
    cards = files.read_json(SHIPPED.with_suffix(".card.json"))["traits"] if SHIPPED.exists() else {}
    return {cards[d.origin.partition(":")[2]]["recipe"]: d for d in files.read(Direction, SHIPPED)} if cards else {}


def make(words: Sequence[str], base: Path, layer: int, out: Path, *, threads: int = 2) -> Iterator[str]:
    """Make directions anew: `out` (JSON lines of Direction), and beside it .answers.jsonl and .card.json. Yields a line a trait."""
    if out.suffix != ".jsonl":
        raise ValueError(f"{out}: a path that ends in .jsonl is needed")
    traits = [trait(word) for word in words or shelf.traits()]
    weights = weights_sha256(base)
    model, tokenizer = models.load(base, threads)
    found = []
    for one in traits:
        found.append(learn(model, tokenizer, one, layer, recipe(weights, layer, one)))
        card = found[-1][1]
        yield (
            f"{one.name}: {card.answers} answers, length {card.norm:.2f} ({card.norm_share:.1%} of the residual norm); cosine of halves: "
            f"{card.questions_cosine:.2f} by question, {card.wordings_cosine:.2f} by wording"
        )
    files.write(out.with_suffix(".answers.jsonl"), [row for _, _, said in found for row in said])
    files.write_json(
        out.with_suffix(".card.json"),
        {
            "base": {"sha256": weights},
            "layer": layer,
            "sampled": {"seed": SEED, "max_new_tokens": TOKENS, "temperature": TEMPERATURE},
            "read": "mean over the answer's tokens: after the positive prompt minus after the negative one, of the same answers",
            "traits": {one.name: card.model_dump(mode="json") for one, (_, card, _) in zip(traits, found, strict=True)},
            "retrain": "emis personas make --base models/base --out FILE.jsonl",
        },
    )
    files.write(out, [direction for direction, _, _ in found])


def made_by_hand(words: Sequence[str], base: Path, layer: int | None, out: Path) -> Iterator[str]:
    """`make` with threads and, unless given, the layer of params.yaml."""
    knobs = params.load()
    return make(words, base, knobs.diff.layer if layer is None else layer, out, threads=knobs.threads)


def listing() -> list[tuple[str, ...]]:
    """Built-in traits with the card of the shipped directions, a row each after a row of headings."""
    cards = files.read_json(SHIPPED.with_suffix(".card.json"))["traits"] if SHIPPED.exists() else {}
    rows = [("trait", "answers", "length", "halves by question", "by wording", "description")]
    for name in shelf.traits():
        card = cards.get(name, {})
        numbers = (card.get(key, "") for key in ("answers", "norm", "questions_cosine", "wordings_cosine"))
        rows.append((name, *(f"{number:.4g}" if number != "" else "" for number in numbers), trait(name).description))
    return rows


def learn(model: Any, tokenizer: Any, one: Trait, layer: int, identity: str) -> tuple[Direction, Firmness, list[Spoken]]:
    """Ask, read, take the difference."""
    said = speak(model, tokenizer, one)
    kept = [row for row in said if row.text]
    shown = [row.side == "positive" for row in kept]
    positive, norm = read(model, tokenizer, kept, layer, [one.positive[row.wording] for row in kept])
    negative, _ = read(model, tokenizer, kept, layer, [one.negative[row.wording] for row in kept])
    bare, _ = read(model, tokenizer, kept, layer, [None] * len(kept))
    moved = positive - negative
    length = float(np.linalg.norm(moved.mean(0)))
    card = Firmness(
        recipe=identity,
        answers=len(kept),
        missing=len(said) - len(kept),
        norm=round(length, 4),
        norm_share=round(length / norm, 4),
        questions_cosine=round(lab.split_half(moved, [row.question for row in kept]), 4),
        wordings_cosine=round(lab.split_half(moved, [row.wording for row in kept]), 4),
        bare_cosine=round(lab.cosine(moved.mean(0), lab.difference(bare, shown)), 4),
    )
    return made.named(f"persona_{one.name}", layer, f"persona:{one.name}", moved.mean(0)), card, said


def speak(model: Any, tokenizer: Any, one: Trait) -> list[Spoken]:
    """Each question under each system prompt; the n-th prompts of both sides draw the same random numbers."""
    wanted = [
        (side, Question(id=question, set="personas", category=one.name, text=question, system=system), number, 0)
        for side, systems in (("positive", one.positive), ("negative", one.negative))
        for number, system in enumerate(systems)
        for question in one.questions
    ]
    said = replies.answers(
        model,
        tokenizer,
        wanted,
        seed=SEED,
        max_new_tokens=TOKENS,
        temperature=TEMPERATURE,
        slots=SLOTS,
        progress=f"answers, {one.name}",
    )
    return [
        Spoken(
            trait=one.name,
            side=row.subject,
            wording=row.sample,
            question=row.prompt,
            text=row.text,
            finish_reason=row.finish_reason,
        )
        for row in said
    ]


def read(model: Any, tokenizer: Any, said: Sequence[Spoken], layer: int, systems: Sequence[str | None]) -> tuple[np.ndarray, float]:
    """Mean activations over the answers' tokens after these system prompts [T, D], and their tokens' mean length."""
    ids = [
        (models.prompt_ids(tokenizer, row.question, system), models.answer_ids(tokenizer, row.text))
        for row, system in zip(said, systems, strict=True)
    ]
    by_index = dict(models.harvest(model, ids, layer, progress="read"))
    norms = [float(by_index[index].norm(dim=-1).mean()) for index in range(len(said))]
    return np.stack([by_index[index].mean(0).numpy() for index in range(len(said))]), float(np.mean(norms))


def recipe(weights: str, layer: int, one: Trait) -> str:
    """The identity of a trait's direction: 24 hex digits."""
    how = (weights, layer, one.name, one.positive, one.negative, one.questions, SEED, TOKENS, TEMPERATURE, SLOTS)
    return hashlib.sha256(repr(how).encode()).hexdigest()[:24]
