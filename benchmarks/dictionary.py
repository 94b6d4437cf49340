"""A dictionary's training step: ours against SAELens' own trainer, same sizes, same activations, in turn; prints activations/s and the ratio.

python benchmarks/dictionary.py [--architecture matryoshka] [--steps 12] [--rounds 2] [--threads 2]
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from typing import Any

from emis_platform.core import quiet

quiet.apply()


def activations(d_model: int, batch: int, seed: int) -> Iterator[Any]:
    """Endless batches of sparse sums of 4 times as many directions as dimensions, far from the origin."""
    import torch

    random = torch.Generator().manual_seed(seed)
    directions_FD = torch.nn.functional.normalize(torch.randn(4 * d_model, d_model, generator=random), dim=-1)
    stored_NF = torch.rand(8 * batch, 4 * d_model, generator=random) < 0.02
    stored_ND = stored_NF.float() @ directions_FD * 20 + 5
    while True:
        yield from stored_ND.split(batch)


def speed(architecture: str, *, plain: bool, width: int, k: int, d_model: int, batch: int, steps: int) -> float:
    """Activations/s of SAELens' trainer with this step, the first two steps left out."""
    from emis_platform.tools import dictionaries

    trainer = dictionaries.prepared(
        activations(d_model, batch, 0),
        architecture=architecture,
        plain=plain,
        width=width,
        k=k,
        d_model=d_model,
        steps=max(100, steps + 2),
        batch=batch,
        seed=0,
    )
    for number in range(steps + 2):
        if number == 2:
            began = time.monotonic()
        trainer.step(next(trainer.data_provider))
        trainer.n_training_steps += 1
    return steps * batch / (time.monotonic() - began)


def main(argv: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architecture", nargs="+", default=["matryoshka", "batchtopk", "topk"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=4608)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--d-model", type=int, default=576)
    parser.add_argument("--batch", type=int, default=1024)
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    sizes = {"width": given.width, "k": given.k, "d_model": given.d_model, "batch": given.batch, "steps": given.steps}
    for number in range(given.rounds):
        for architecture in given.architecture:
            plain, ours = (speed(architecture, plain=plain, **sizes) for plain in (True, False))
            print(
                f"round {number}, {architecture}: SAELens {plain:.0f}, ours {ours:.0f} activations/s, ratio {ours / plain:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
