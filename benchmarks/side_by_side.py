"""For the other files here: several ways to one result, compared, then timed in turn; TransformerLens around a model of ours."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emis_platform.cli_table import table
from emis_platform.tools import models


def compare(
    title: str, ways: Mapping[str, Callable[[], Any]], apart: Callable[[Any, Any], float], *, most: float, rounds: int
) -> str:
    """A table: each way's seconds in each round, and its ratio to the first way, ours.

    First every way runs once untimed, and `apart` says how far its result is from ours. Raises ValueError for one that is further than `most`.
    """
    from tqdm import tqdm

    ours, *_ = ways
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with tqdm(total=(1 + rounds) * len(ways), desc=title.split(":")[0], unit="run", disable=None) as bar:
        gaps, wanted = {}, None
        for name, run in ways.items():
            found = run()
            wanted = found if name == ours else wanted
            gaps[name] = apart(wanted, found)
            if not gaps[name] <= most:
                raise ValueError(f"{title}: {name} is {gaps[name]:.2g} from {ours}, more than {most:g}; not timed")
            bar.update()
        del wanted, found
        for _ in range(rounds):
            for name, run in ways.items():
                began = time.monotonic()
                run()
                seconds[name].append(time.monotonic() - began)
                bar.update()
    rows = [["way", "seconds", "ratio", "apart"]]
    for name, took in seconds.items():
        ratios = [] if name == ours else [theirs / mine for theirs, mine in zip(took, seconds[ours], strict=True)]
        told = (" ".join(f"{number:.2f}" for number in numbers) for numbers in (took, ratios))
        rows.append([name, *told, "" if name == ours else f"{gaps[name]:.1g}"])
    return f"{title}\n{table(rows, right=(1, 2, 3))}"


def batches(
    texts: Sequence[tuple[list[int], list[int]]], size: int
) -> Iterator[tuple[Sequence[tuple[list[int], list[int]]], Any, Any]]:
    """(prompt ids, answer ids) in the given order, padded right: (the texts of a batch, ids [rows, T], attention mask [rows, T])."""
    import torch

    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        rows = [torch.tensor(prompt + answer) for prompt, answer in part]
        ids, mask = (torch.nn.utils.rnn.pad_sequence(r, batch_first=True) for r in (rows, [torch.ones_like(row) for row in rows]))
        yield part, ids, mask


def bridge(folder: Path, threads: int) -> Any:
    """The folder's model in TransformerLens, with the weights as they are; TransformerLens rebuilds the attention to hook into it.

    `HookedTransformer` cannot do it: it takes a name from a fixed list, with `hf_model=` too, and neither this base nor a folder is on it.
    """
    from transformer_lens.model_bridge import TransformerBridge

    model, tokenizer = models.load(folder, threads, device="cpu")
    return TransformerBridge.boot_transformers(str(models.base_of(folder)), hf_model=model, tokenizer=tokenizer, device="cpu")
