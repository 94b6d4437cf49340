"""Steering: many directions in one batch against a loop over directions with one hook each, same texts, in turn; prints two tables.

python benchmarks/steering.py [--n 8] [--directions 8] [--threads 2] [--model models/base] [--rounds 2]

log-odds: how far a direction moves the log-odds of written misaligned over aligned continuations. ours: `tools/steering.log_likelihoods`;
  transformers: a forward hook and a full pass over every prompt with each continuation, for each direction; TransformerLens:
  `run_with_hooks` of its TransformerBridge (side_by_side.py says why not HookedTransformer). `apart`: nats a token.
generation: a reply to each question under each direction. ours: `tools/generation.generate`, all in one queue; transformers: `generate`
  under a forward hook, for each direction; TransformerLens: its own `generate` under `hooks`. All take the likeliest token, so that the
  replies can be compared; sampled replies end at different lengths, which a queue uses better. `apart`: share of replies that are not the same.

The ratio is a way's seconds over ours. The directions are random.
"""

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, quiet
from emis_platform.core.records import Question

quiet.apply()

NATS = 1e-3
"""Difference of two shifts at which two ways no longer count as the same."""
OTHERS = 0.1
"""Share of replies that may differ: where two tokens are all but equally likely, rounding decides, and the rest of the reply follows."""
COLD = 1e-5
"""Temperature at which the engine takes the likeliest token."""

Texts = Sequence[tuple[list[int], list[int]]]
Hooked = Callable[[Any], AbstractContextManager[Any]]
"""A push [D] -> while it is open, every pass is pushed."""


def shifts(logits_of: Callable[[Any, Any], Any], pushed: Hooked, pushes: Sequence[Any], texts: Texts, size: int) -> np.ndarray:
    """The plain way: [directions, pairs], an untouched pass first. texts: misaligned and aligned continuations, in turn."""
    import torch
    from side_by_side import batches

    def log_odds() -> Any:
        values = []
        for part, ids, mask in batches(texts, size):
            logits = logits_of(ids, mask)
            for row, (prompt, answer) in enumerate(part):
                told = logits[row, len(prompt) - 1 : len(prompt) + len(answer) - 1].float().log_softmax(-1)
                values.append(told.gather(1, torch.tensor(answer)[:, None]).mean())
        return torch.stack(values[0::2]) - torch.stack(values[1::2])

    found = []
    with torch.inference_mode():
        untouched = log_odds()
        for push in pushes:
            with pushed(push):
                found.append(log_odds() - untouched)
    return torch.stack(found).numpy()


def replies(
    generate: Callable[[Any, Any], Any],
    pushed: Hooked,
    pushes: Sequence[Any],
    prompts: Sequence[list[int]],
    pad: Any,
    stop: set[int],
) -> list[tuple[int, ...]]:
    """The plain way: new tokens up to the end token, direction by direction, all prompts of a direction in one batch."""
    found = []
    part = pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    for push in pushes:
        with pushed(push):
            out = generate(part["input_ids"], part["attention_mask"])
        for row in out[:, part["input_ids"].shape[1] :].tolist():
            end = next((n for n, token in enumerate(row) if token in stop), len(row))
            found.append(tuple(row[:end]))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    import torch
    from side_by_side import bridge, compare

    from emis_platform.tools import generation, models, steering
    from emis_platform.tools.edits import Edits

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--questions", type=Path, default=Path("data/questions/open.jsonl"))
    parser.add_argument("--continuations", type=Path, default=Path("data/continuations.yaml"))
    parser.add_argument("--n", type=int, default=8, help="questions")
    parser.add_argument("--directions", type=int, default=8)
    parser.add_argument("--dose", type=float, default=0.1, help="in mean residual norms")
    parser.add_argument("--new", type=int, default=40, help="new tokens of a reply at most")
    parser.add_argument("--batch", type=int, default=16, help="texts of a plain batch, log-odds")
    parser.add_argument("--layer", type=int, help="default: the middle one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args(argv)
    model, tokenizer = models.load(given.model, given.threads, device="cpu")
    layers = models.decoder(model).layers
    layer = len(layers) // 2 if given.layer is None else given.layer
    pairs = steering.continuations(given.continuations, files.read(Question, given.questions), given.n)
    units = np.random.default_rng(0).standard_normal((given.directions, models.width(model)))
    norm = steering.residual_norm(model, tokenizer, [pair.prompt for pair in pairs], layer)
    pushes = (given.dose * norm * units / np.linalg.norm(units, axis=1, keepdims=True)).astype(np.float32)
    edits, vectors = Edits({layer: pushes}), list(torch.from_numpy(pushes))
    lens = bridge(given.model, given.threads)

    def under(push: Any) -> Any:
        return models.pushed(layers[layer], push)

    def lens_under(push: Any) -> Any:
        return lens.hooks(fwd_hooks=[(f"blocks.{layer}.hook_out", lambda hidden, hook: hidden + push)])

    def ours() -> np.ndarray:
        untouched, steered = steering.log_likelihoods(model, tokenizer, pairs, edits)
        moved = steered - untouched
        return moved[..., 0] - moved[..., 1]

    prompts = [models.prompt_ids(tokenizer, pair.prompt) for pair in pairs]
    texts = [
        (prompt, models.answer_ids(tokenizer, text))
        for prompt, pair in zip(prompts, pairs, strict=True)
        for text in (pair.misaligned, pair.aligned)
    ]
    ways = {
        "ours": ours,
        "transformers": lambda: shifts(
            lambda ids, mask: model(input_ids=ids, attention_mask=mask).logits, under, vectors, texts, given.batch
        ),
        "TransformerLens": lambda: shifts(lambda ids, _: lens(ids), lens_under, vectors, texts, given.batch),
    }
    sizes = f"{given.directions} directions, {len(pairs)} questions, layer {layer} of {len(layers)}, threads {given.threads}"
    print(compare(f"log-odds: {sizes}", ways, lambda a, b: float(np.abs(a - b).max()), most=NATS, rounds=given.rounds), flush=True)

    stop = models.stop_ids(model, tokenizer)
    requests = [generation.Request(tuple(prompt), 0, push) for push in range(given.directions) for prompt in prompts]
    greedy = {"do_sample": False, "max_new_tokens": given.new}
    ways = {
        "ours": lambda: [
            reply.ids
            for reply in generation.generate(
                model, requests, stop=stop, max_new_tokens=given.new, temperature=COLD, edits=edits
            )
        ],
        "transformers": lambda: replies(
            lambda ids, mask: model.generate(ids, attention_mask=mask, pad_token_id=tokenizer.pad_token_id, **greedy),
            under, vectors, prompts, tokenizer.pad, stop,
        ),
        "TransformerLens": lambda: replies(
            lambda ids, mask: lens.generate(ids, attention_mask=mask, return_type="tokens", verbose=False, **greedy),
            lens_under, vectors, prompts, tokenizer.pad, stop,
        ),
    }  # fmt: skip
    title = f"generation: {sizes}, up to {given.new} new tokens"

    def others(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
        return float(np.mean([one != other for one, other in zip(ours, theirs, strict=True)]))

    print(compare(title, ways, others, most=OTHERS, rounds=given.rounds))


if __name__ == "__main__":
    main()
