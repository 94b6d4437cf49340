"""dictionary: the base's activations on text of many voices -> a sparse dictionary; or the shipped one, checked and copied."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Effect, Example, Question, Record
from emis_platform.core.stage import run
from emis_platform.lab import mixture
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
RETRAIN = "emis dictionary train --tokens 130000 --out FOLDER"


class Voice(Record):
    """What the base said under a persona's system prompt."""

    voice: str
    prompt: str
    answer: str
    system: str | None = None


def main(*, base: Path, examples: list[Path], questions: Path, dictionary: Path, effects: Path) -> None:
    knobs = params.load()
    size, texts = knobs.size.dictionary, gather(examples, questions)
    if size.tokens:
        measured = learn(base, texts, out=dictionary, tokens=size.tokens, width=size.width, k=size.k, knobs=knobs)
    else:
        check_shipped(base, knobs.diff.layer)
        for name in ("cfg.json", "sae_weights.safetensors", "card.json"):
            files.replace(dictionary / name, (SHIPPED / name).read_bytes())
        held_out = harvested(base, mixture.in_turn(texts, "test", knobs.seed), CHECKED, knobs, "harvest test")
        measured = dictionaries.quality(dictionaries.load(dictionary), list(held_out)).effects("dictionary")
    files.write_json(effects, [effect.model_dump() for effect in measured])


def train_shipped(*, tokens: int, out: Path, base: Path = Path("models/base"), width: int = 4608, k: int = 32) -> None:
    """Train as the shipped dictionary was, on all of data/examples and the shipped voices; a killed harvest goes on where it was."""
    knobs = params.load()
    examples = sorted(Path("data/examples").glob("*.jsonl"))
    if not examples or not base.exists():
        raise ValueError(f"{base} and data/examples/*.jsonl are needed first: run `dvc repro base generate`")
    texts = gather(examples, Path("data/questions/open.jsonl"))
    for effect in learn(base, texts, out=out, tokens=tokens, width=width, k=k, knobs=knobs):
        print(f"{effect.measure} {effect.value:.4f} [{effect.low:.4f}, {effect.high:.4f}] n {effect.n}")


def gather(examples: Sequence[Path], questions: Path) -> list[Text]:
    """Every text that may be read: examples in all variants, voices, their prompts by themselves, `discover` questions.

    Raises ValueError for a text whose prompt is a `score` question: what scores a claim must not shape the dictionary.
    """
    asked = files.read(Question, questions)
    rows = [row for path in examples for row in files.read(Example, path)]
    voices = files.read(Voice, VOICES) if VOICES.exists() else []
    texts = [Text(f"{row.domain}_{row.variant}", f"{row.domain}:{row.fact}", row.prompt, row.completion) for row in rows]
    texts += [Text(f"voice_{row.voice}", row.prompt, row.prompt, row.answer, row.system) for row in voices if row.answer.strip()]
    scored = {row.text for row in asked if row.set == "score"}
    for text in texts:
        if text.prompt in scored:
            raise ValueError(f"{text.source}: {text.prompt!r} is a `score` question: the dictionary may not see it")
    discover = [Text("questions", row.text, row.text, None, row.system) for row in asked if row.set == "discover"]
    return [*texts, *mixture.prompts(texts), *discover]


def harvested(base: Path, texts: Sequence[Text], tokens: int, knobs: params.Params, label: str) -> Iterator[Any]:
    """Activations [tokens, width] a text, until there are `tokens` of them; shards in `WORK` are read, missing ones are made."""
    import torch
    from safetensors.torch import load_file
    from safetensors.torch import save as to_bytes
    from tqdm import tqdm

    torch.set_num_threads(knobs.threads)  # kept shards load no model, and one thread count is the same bytes
    layer, weights, loaded = knobs.diff.layer, weights_sha256(base), None
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


def learn(base: Path, texts: Sequence[Text], *, out: Path, tokens: int, width: int, k: int, knobs: params.Params) -> list[Effect]:
    """Harvest, train, calibrate, measure, save. Threshold and quality come from facts and questions that were never trained on."""
    import torch

    held = min(20_000, max(600, tokens // 10))
    budgets = {"train": tokens, "calibrate": held, "test": held}
    parts = {
        name: list(harvested(base, mixture.in_turn(texts, name, knobs.seed), budget, knobs, f"harvest {name}"))
        for name, budget in budgets.items()
    }
    acts_ND = torch.cat(parts["train"])
    batch = 1024 if tokens >= 50_000 else 256
    steps = max(150, 2 * len(acts_ND) // batch)  # two passes; more on the little text of `tiny`
    sae = dictionaries.train(
        dictionaries.batches(acts_ND, batch, knobs.seed),
        width=width,
        k=k,
        d_model=acts_ND.shape[1],
        steps=steps,
        batch=batch,
        seed=knobs.seed,
        hook=f"blocks.{knobs.diff.layer}.hook_resid_post",
        model=base.name,
    )
    average = float(sae.threshold[0])
    threshold = dictionaries.calibrate(sae, torch.cat(parts["calibrate"]), k)
    measured = dictionaries.quality(sae, parts["test"])
    card = {
        "base": {"sha256": weights_sha256(base)},
        "layer": knobs.diff.layer,
        "width": width,
        "levels": dictionaries.levels(width),
        "k": k,
        "threshold": {"calibrated": threshold, "trainers_moving_average": average},
        "training": {
            "tokens_asked": tokens,
            "tokens": len(acts_ND),
            "texts": len(parts["train"]),
            "steps": steps,
            "batch": batch,
            "seed": knobs.seed,
            "sources": sorted({text.source for text in texts}),
        },
        "held_out": {effect.measure: effect.model_dump(include={"value", "low", "high", "n"}) for effect in measured.effects("")},
        "retrain": RETRAIN,
    }
    dictionaries.save(sae, out, card)
    return measured.effects("dictionary")


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
