"""Harvest: the activations of answers at one layer, ours against transformers, SAELens and TransformerLens, same texts, in turn; prints a table.

python benchmarks/harvest.py [--n 256] [--threads 2] [--model models/base] [--rounds 2]

ours: `tools/models.harvest`, which stops at the layer and sorts by length.
transformers: `output_hidden_states=True`, a full pass, batches of --batch texts in the given order.
SAELens: `run_with_cache` of its wrapper of such a model, with `names_filter` and `stop_at_layer`, the same batches.
TransformerLens: `TransformerBridge.run_with_cache` in the same way; side_by_side.py says why not `HookedTransformer`.

The ratio is a way's seconds over ours. `apart`: the largest relative difference of a text's activations (norm over norm).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files, quiet
from emis_platform.core.records import GoldAnswer

quiet.apply()

APART = 1e-3
"""Relative difference at which two ways no longer count as the same."""

Texts = Sequence[tuple[list[int], list[int]]]


def answers(part: Texts, hidden: Any) -> list[Any]:
    """[rows, T, D] -> each row's [tokens of the answer, D]."""
    return [hidden[row, len(prompt) : len(prompt) + len(answer)].float() for row, (prompt, answer) in enumerate(part)]


def plain(model: Any, texts: Texts, layer: int, size: int) -> list[Any]:
    import torch
    from side_by_side import batches

    found = []
    with torch.inference_mode():
        for part, ids, mask in batches(texts, size):
            found += answers(part, model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[layer + 1])
    return found


def hooked(model: Any, name: str, texts: Texts, layer: int, size: int) -> list[Any]:
    """SAELens' and TransformerLens' way; padding stands right of all that is read, so that no mask is needed."""
    import torch
    from side_by_side import batches

    found = []
    with torch.inference_mode():
        for part, ids, _ in batches(texts, size):
            found += answers(part, model.run_with_cache(ids, names_filter=[name], stop_at_layer=layer + 1)[1][name])
    return found


def apart(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    return max(float((one - other).norm() / one.norm()) for one, other in zip(ours, theirs, strict=True))


def main(argv: Sequence[str] | None = None) -> None:
    from sae_lens.load_model import HookedProxyLM
    from side_by_side import bridge, compare

    from emis_platform.tools import models

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--answers", type=Path, default=Path("data/gold/answers.jsonl"))
    parser.add_argument("--n", type=int, default=256, help="texts; sorting has little to do with few")
    parser.add_argument("--batch", type=int, default=16, help="texts of a plain batch")
    parser.add_argument("--layer", type=int, help="default: the middle one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args(argv)
    model, tokenizer = models.load(given.model, given.threads, device="cpu")
    layers = models.decoder(model).layers
    layer = len(layers) // 2 if given.layer is None else given.layer
    if not 0 <= layer < len(layers) - 1:
        raise SystemExit(f"layer {layer}: 0 to {len(layers) - 2} can be compared; transformers gives the last one's output normed")
    rows = [row for row in files.read(GoldAnswer, given.answers) if row.text.strip()][: given.n]
    texts = [(models.prompt_ids(tokenizer, row.prompt), models.answer_ids(tokenizer, row.text)) for row in rows]
    name = next(name for name, module in model.named_modules() if module is layers[layer])
    saelens = HookedProxyLM(models.load(given.model, given.threads, device="cpu")[0], tokenizer, hook_names=[name])
    lens = bridge(given.model, given.threads)
    ways = {
        "ours": lambda: [acts for _, acts in sorted(models.harvest(model, texts, layer), key=lambda found: found[0])],
        "transformers": lambda: plain(model, texts, layer, given.batch),
        "SAELens": lambda: hooked(saelens, name, texts, layer, given.batch),
        "TransformerLens": lambda: hooked(lens, f"blocks.{layer}.hook_out", texts, layer, given.batch),
    }
    tokens = sum(len(prompt) + len(answer) for prompt, answer in texts)
    title = f"harvest: layer {layer} of {len(layers)}, {len(texts)} texts of {tokens} tokens, threads {given.threads}"
    print(compare(title, ways, apart, most=APART, rounds=given.rounds))


if __name__ == "__main__":
    main()
