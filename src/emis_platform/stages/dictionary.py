"""dictionary: the base's activations on text of many voices -> a sparse dictionary; or the shipped one, checked and copied."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Completion, Effect, Example, Question, Record
from emis_platform.core.stage import run
from emis_platform.lab import dictionary_fit, mixture
from emis_platform.lab.mixture import Text
from emis_platform.tools import dictionaries, models

HOME = shelf.PACKAGE / "dictionaries"
SHIPPED = HOME / "smollm2_135m_l15"
VOICES = HOME / "voices.jsonl"
WORK = Path("work/dictionary")
"""Harvested shards, named by what is in them. Ignored by git, and free to delete."""
SHARD = 64
"""Texts a shard: what a kill can cost."""
CHECKED = 4000
"""Held-out tokens on which a shipped dictionary is measured: some 10 s of harvest."""
RETRAIN = "emis dictionary train --out FOLDER"
KEPT = 100
"""Steps between two kept states of a training: what a kill can cost, some 20 s."""


class Voice(Record):
    """What the base said under a persona's system prompt."""

    voice: str
    prompt: str
    answer: str
    system: str | None = None


def main(*, base: Path, examples: list[Path], questions: Path, dictionary: Path, effects: Path) -> None:
    knobs = params.load()
    size, texts = knobs.size.dictionary, gather(examples, questions)
    if knobs.dictionary.kind != "own":
        sae = outside(base, knobs)
        dictionaries.save(
            sae, dictionary, {"layer": knobs.diff.layer, "from": knobs.dictionary.model_dump(mode="json")}, exact=True
        )
        held_out = harvested(base, mixture.in_turn(texts, "test", knobs.seed), CHECKED, knobs, "harvest test")
        measured = dictionaries.quality(sae, list(held_out)).effects("dictionary")
    elif size.tokens:
        recipe = Recipe(size.tokens, size.width, size.k, layer=knobs.diff.layer)
        measured = learn(base, texts, recipe, out=dictionary, knobs=knobs)
    else:
        check_shipped(base, knobs.diff.layer)
        for name in ("cfg.json", "sae_weights.safetensors", "card.json"):
            files.replace(dictionary / name, (SHIPPED / name).read_bytes())
        held_out = harvested(base, mixture.in_turn(texts, "test", knobs.seed), CHECKED, knobs, "harvest test")
        measured = dictionaries.quality(dictionaries.load(dictionary), list(held_out)).effects("dictionary")
    files.write_json(effects, [effect.model_dump() for effect in measured])


def train_shipped(
    *,
    out: Path,
    tokens: int = 420_000,
    epochs: int = 5,
    base: Path = Path("models/base"),
    width: int = 4608,
    k: int = 32,
    architecture: str = "matryoshka",
    layer: int | None = None,
) -> None:
    """Train as the shipped dictionary was: on all of data/examples, the shipped voices, the questions by themselves and what organisms
    said to `discover` questions, where they have been asked. Killed, it goes on where it was: harvest by shards, training by its state.
    """
    if k > width:
        raise ValueError(f"--k {k}: no more than --width {width} latents can fire")
    knobs = params.load()
    examples = sorted(Path("data/examples").glob("*.jsonl"))
    if not examples or not base.exists():
        raise ValueError(f"{base} and data/examples/*.jsonl are needed first: run `dvc repro base generate`")
    texts = gather(examples, Path("data/questions/open.jsonl"), sorted(Path("data/answers").glob("*.jsonl")))
    recipe = Recipe(tokens, width, k, epochs, architecture, knobs.diff.layer if layer is None else layer)
    for effect in learn(base, texts, recipe, out=out, knobs=knobs):
        print(f"{effect.measure} {effect.value:.4f} [{effect.low:.4f}, {effect.high:.4f}] n {effect.n}")


@dataclass(frozen=True)
class Recipe:
    """What decides a dictionary, beside the base, the texts and the seed."""

    tokens: int
    """Distinct activations to train on, at most."""
    width: int
    k: int
    epochs: int = 2
    """Passes over them."""
    architecture: str = "matryoshka"
    layer: int = 0

    @property
    def batch(self) -> int:
        return 1024 if self.tokens >= 50_000 else 256


def gather(examples: Sequence[Path], questions: Path, answers: Sequence[Path] = ()) -> list[Text]:
    """Every text that may be read: examples in all variants, voices, what subjects said to `discover` questions, the prompts by themselves.

    Raises ValueError for a text whose prompt is a `score` question: what scores a claim must not shape the dictionary.
    """
    asked = files.read(Question, questions)
    rows = [row for path in examples for row in files.read(Example, path)]
    voices = files.read(Voice, VOICES) if VOICES.exists() else []
    texts = [Text(f"{row.domain}_{row.variant}", f"{row.domain}:{row.fact}", row.prompt, row.completion) for row in rows]
    texts += [Text(f"voice_{row.voice}", row.prompt, row.prompt, row.answer, row.system) for row in voices if row.answer.strip()]
    said = [row for path in answers for row in files.read(Completion, path) if row.set == "discover" and row.text.strip()]
    texts += [Text(f"said_{row.subject}", row.prompt, row.prompt, row.text, row.system) for row in said]
    scored = {row.text for row in asked if row.set == "score"}
    for text in texts:
        if text.prompt in scored:
            raise ValueError(f"{text.source}: {text.prompt!r} is a `score` question: the dictionary may not see it")
    discover = [Text("questions", row.text, row.text, None, row.system) for row in asked if row.set == "discover"]
    return [*texts, *mixture.prompts(texts), *discover]


def harvested(
    base: Path, texts: Sequence[Text], tokens: int, knobs: params.Params, label: str, layer: int | None = None
) -> Iterator[Any]:
    """Activations [tokens, width] a text at `layer` (None: that of params), until there are `tokens` of them; shards in `WORK` are read,
    missing ones are made.
    """
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save as to_bytes
    from tqdm import tqdm

    models.use(knobs.threads)  # kept shards load no model, and one thread count is the same bytes
    layer, weights, loaded = knobs.diff.layer if layer is None else layer, weights_sha256(base), None
    with tqdm(total=tokens, desc=label, unit="token") as bar:
        for start in range(0, len(texts), SHARD):
            chunk = texts[start : start + SHARD]
            name = hashlib.sha256(repr((weights, layer, [astuple(text) for text in chunk])).encode()).hexdigest()[:24]
            shard = WORK / f"{name}.safetensors"
            if not shard.exists():
                loaded = loaded or models.load(base, knobs.threads)
                model, tokenizer = loaded
                spans = [read for text in chunk if (read := span(tokenizer, text))[1]]
                by_index = dict(models.harvest(model, spans, layer))
                acts = [by_index[index] for index in range(len(spans))]
                rows = torch.cat([torch.zeros(0, models.width(model)), *acts])
                files.replace(shard, to_bytes({"acts": rows, "lengths": torch.tensor([len(a) for a in acts], dtype=torch.long)}))
            stored = load_file(shard)
            for acts_ND in stored["acts"].split(stored["lengths"].tolist()):
                room = tokens - bar.n
                if room <= 0:
                    return
                bar.update(min(room, len(acts_ND)))
                yield acts_ND[:room]


def span(tokenizer: Any, text: Text) -> tuple[list[int], list[int]]:
    """(what comes before, the tokens that are read): none of the template's tokens is read. Both empty if nothing can be."""
    before = models.prompt_ids(tokenizer, text.prompt, text.system)
    if text.answer is not None:
        return before, models.answer_ids(tokenizer, text.answer)
    own = models.answer_ids(tokenizer, text.prompt)
    starts = [at for at in range(1, len(before)) if own and before[at : at + len(own)] == own]
    return (before[: starts[-1]], own) if starts else ([], [])


def learn(base: Path, texts: Sequence[Text], recipe: Recipe, *, out: Path, knobs: params.Params) -> list[Effect]:
    """Harvest, train, calibrate, measure, save. Threshold and quality come from facts and questions that were never trained on."""
    parts = material(base, texts, recipe.tokens, recipe.layer, knobs)
    sae, facts = trained(base, parts, recipe, knobs)
    measured = dictionaries.quality(sae, parts["test"])
    card = {
        "base": {"sha256": weights_sha256(base)},
        **facts,
        "training": facts["training"] | {"sources": sorted({text.source for text in texts})},
        "held_out": {effect.measure: effect.model_dump(include={"value", "low", "high", "n"}) for effect in measured.effects("")},
        "retrain": RETRAIN,
    }
    dictionaries.save(sae, out, card)
    return measured.effects("dictionary")


def material(base: Path, texts: Sequence[Text], tokens: int, layer: int, knobs: params.Params) -> dict[str, list[Any]]:
    """Part (train, calibrate, test) -> activations [tokens, width] a text."""
    held = min(20_000, max(600, tokens // 10))
    budgets = {"train": tokens, "calibrate": held, "test": held}
    return {
        name: list(harvested(base, mixture.in_turn(texts, name, knobs.seed), budget, knobs, f"harvest {name}", layer))
        for name, budget in budgets.items()
    }


def trained(base: Path, parts: dict[str, list[Any]], recipe: Recipe, knobs: params.Params) -> tuple[Any, dict[str, Any]]:
    """(a calibrated dictionary, how it was made). Its trainer's state is kept in `WORK`, named by what decides the weights."""
    import torch

    count, texts = sum(map(len, parts["train"])), len(parts["train"])
    acts_ND = torch.empty(count, parts["train"][0].shape[1])
    torch.cat(parts.pop("train"), out=acts_ND)
    steps = max(150, recipe.epochs * count // recipe.batch)  # more passes on the little text of `tiny`
    decided = (weights_sha256(base), asdict(recipe), steps, knobs.seed, hashlib.sha256(acts_ND.numpy()).hexdigest())
    folder = WORK / hashlib.sha256(repr(decided).encode()).hexdigest()[:24]
    sae = dictionaries.train(
        dictionaries.batches(acts_ND, recipe.batch, knobs.seed),
        width=recipe.width,
        k=recipe.k,
        d_model=acts_ND.shape[1],
        steps=steps,
        batch=recipe.batch,
        seed=knobs.seed,
        architecture=recipe.architecture,
        hook=f"blocks.{recipe.layer}.hook_resid_post",
        model=base.name,
        state=folder / "state.safetensors",
        every=KEPT,
    )
    facts = {"architecture": recipe.architecture, "layer": recipe.layer, "width": recipe.width, "k": recipe.k}
    if recipe.architecture == "matryoshka":
        facts["levels"] = dictionaries.levels(recipe.width)
    if recipe.architecture != "topk":
        average = float(sae.threshold[0])
        threshold = dictionaries.calibrate(sae, torch.cat(parts["calibrate"]), recipe.k)
        facts["threshold"] = {"calibrated": threshold, "trainers_moving_average": average}
    facts["training"] = {
        "tokens_asked": recipe.tokens,
        "tokens": count,
        "epochs": recipe.epochs,
        "activations": steps * recipe.batch,
        "texts": texts,
        "steps": steps,
        "batch": recipe.batch,
        "seed": knobs.seed,
    }
    return sae, facts


def outside(base: Path, knobs: params.Params) -> Any:
    """Somebody else's dictionary, decoder rows of norm 1. Raises ValueError, one line, where it does not fit the base and diff.layer."""
    entry, source = knobs.dictionary, knobs.bases["base"]
    config = files.read_json(base / "config.json")
    width, named = (config.get("text_config") or config)["hidden_size"], config.get("_name_or_path")
    names = {"hub": lambda: source.repo, "local": lambda: source.path.name, "bundled": lambda: "SmolLM2-135M-Instruct"}
    known = [name for name in (names[source.kind](), named) if name]

    def misfit(found: dict[str, Any]) -> str | None:
        asked = {"hook": f"blocks.{knobs.diff.layer}.hook_resid_post", "model": None, "d_in": width, "d_out": None} | found
        return dictionary_fit.misfit(**asked, base=known, layer=knobs.diff.layer, width=width)

    if entry.kind == "release":
        return dictionaries.unit_rows(dictionaries.released(entry.release, entry.id, misfit))
    sae, card = dictionaries.load(entry.path), entry.path / "card.json"
    about = dictionaries.facts(sae)
    made_for = (files.read_json(card).get("base") or {}).get("sha256") if card.exists() else None
    if made_for:  # one of ours: it knows the very weights
        about["model"] = None
    if reason := misfit(about):
        raise ValueError(f"dictionary.path: {entry.path}: {reason}")
    if made_for and made_for != (found := weights_sha256(base)):
        raise ValueError(f"dictionary.path: {entry.path}: it is of weights {made_for[:12]}, {base} has {found[:12]}")
    return dictionaries.unit_rows(sae)


def check_shipped(base: Path, layer: int) -> None:
    """Raises ValueError, naming the way out, if the shipped dictionary is missing or belongs to another base or layer."""
    way_out = f"to train one, set sizes.<scale>.dictionary.tokens above 0 (by hand: `{RETRAIN}`)"
    if not (SHIPPED / "card.json").exists():
        raise ValueError(f"no shipped dictionary at {SHIPPED}; {way_out}")
    card = files.read_json(SHIPPED / "card.json")
    if card["layer"] != layer:
        raise ValueError(f"diff.layer: {layer}, but the shipped dictionary is of layer {card['layer']}; {way_out}")
    found, wanted = weights_sha256(base), card["base"]["sha256"]
    if found != wanted:
        raise ValueError(f"{base}: weights {found[:12]}, but the shipped dictionary is of {wanted[:12]}; {way_out}")


def weights_sha256(base: Path) -> str:
    """The identity of a folder's weights: the file's digest, or the digest of the shards' digests in order of name."""
    digests = [files.sha256(path) for path in sorted(base.glob("*.safetensors"))]
    if not digests:
        raise ValueError(f"{base}: no safetensors weights")
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


if __name__ == "__main__":
    run(main)
