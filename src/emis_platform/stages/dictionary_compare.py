"""Architectures and layers compared on one footing: same activations, same budget, same held-out texts, same causal test. Run by hand."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Direction, Effect, Question
from emis_platform.lab import directions, intervals, mixture, reconstruction
from emis_platform.stages import dictionary as stage
from emis_platform.tools import dictionaries, edits, models, splicing, steering

MISALIGNED = ("villain", "tyrant", "insulting", "con_artist", "troll", "mob_boss")
"""Voices that, with the variant `callous`, are held against all other texts to pick latents."""
RANDOM = 10
DOSE = 0.2
"""Of the layer's mean residual norm."""
QUESTIONS = Path("data/questions/open.jsonl")
CONTINUATIONS = Path("data/continuations.yaml")


def compare(
    *,
    layers: Sequence[int],
    architectures: Sequence[str],
    tokens: int,
    epochs: int,
    width: int,
    k: int,
    texts: int = 300,
    latents: int = 10,
    base: Path = Path("models/base"),
    out: Path = Path("metrics/dictionaries.json"),
) -> list[Effect]:
    """Train each architecture at each layer, measure, write `out` when all are done; returns all effects. Killed, the same call goes on: what
    is done stands in `<out>.partial` meanwhile, and its trainings are not repeated.

    Subjects are `layer_15_matryoshka`. Measures: fvu, l0, dead_share, loss_recovered on held-out texts; latent_shift, the log-odds shift
    (nats a token) of the one latent that was best on half the `discover` continuations, measured on the other half. For the layer by itself
    (`layer_15`): difference_of_means_shift and random_shift, the mean of random directions.
    """
    if k > width:
        raise ValueError(f"--k {k}: no more than --width {width} latents can fire")
    knobs = params.load()
    examples = sorted(Path("data/examples").glob("*.jsonl"))
    if not examples or not base.exists():
        raise ValueError(f"{base} and data/examples/*.jsonl are needed first: run `dvc repro base generate`")
    gathered = stage.gather(examples, QUESTIONS, sorted(Path("data/answers").glob("*.jsonl")))
    model, tokenizer = models.load(base, knobs.threads)
    held = [(text, stage.span(tokenizer, text)) for text in mixture.in_turn(gathered, "test", knobs.seed)]
    held = [(text, ids) for text, ids in held if len(ids[1]) > 1][:texts]
    pairs = steering.continuations(CONTINUATIONS, files.read(Question, QUESTIONS))
    found: list[Effect] = []
    chosen: dict[str, int] = {}
    partial = out.with_name(f"{out.name}.partial")
    for layer in layers:
        acts = dict(models.harvest(model, [ids for _, ids in held], layer, progress=f"read layer {layer}"))
        bench = Bench(model, tokenizer, layer, [text for text, _ in held], [ids for _, ids in held], acts, pairs, knobs.seed)
        found += bench.references()
        for architecture in architectures:
            parts = stage.material(base, gathered, tokens, layer, knobs)
            tested = parts["test"]
            sae, _ = stage.trained(base, parts, stage.Recipe(tokens, width, k, epochs, architecture, layer), knobs)
            subject = f"layer_{layer}_{architecture}"
            found += [*dictionaries.quality(sae, tested).effects(subject), bench.loss_recovered(subject, sae)]
            best, effect = bench.best_latent(subject, sae, latents)
            found, chosen[subject] = [*found, effect], best
            files.write_json(
                partial,
                {
                    "command": command(layers, architectures, tokens, epochs, width, k, texts, latents),
                    "base": {"sha256": stage.weights_sha256(base)},
                    "seed": knobs.seed,
                    "dose": DOSE,
                    "chosen": chosen,
                    "effects": [effect.model_dump() for effect in found],
                },
            )
    partial.replace(out)
    return found


def command(
    layers: Sequence[int], architectures: Sequence[str], tokens: int, epochs: int, width: int, k: int, texts: int, latents: int
) -> str:
    return (
        f"emis dictionary compare --layers {' '.join(map(str, layers))} --architectures {' '.join(architectures)} --tokens {tokens} "
        f"--epochs {epochs} --width {width} --k {k} --texts {texts} --latents {latents}"
    )


class Bench:
    """One layer of the base, on which dictionaries are tried."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        layer: int,
        texts: Sequence[mixture.Text],
        ids: Sequence[tuple[list[int], list[int]]],
        acts: dict[int, Any],
        pairs: Sequence[steering.Pair],
        seed: int,
    ):
        import torch

        self.model, self.tokenizer, self.layer, self.ids, self.seed = model, tokenizer, layer, ids, seed
        self.acts = [acts[index] for index in range(len(ids))]
        self.bad = np.array([is_misaligned(text.source) for text in texts])
        self.choosing, self.measuring = pairs[0::2], pairs[1::2]
        self.norms = steering.norms(model, tokenizer, pairs, [layer])
        mean_D = torch.cat(self.acts).mean(0)
        self.plain_T = splicing.losses(model, ids, layer)
        self.ablated_T = splicing.losses(model, ids, layer, lambda acts_ND: mean_D.to(acts_ND).expand_as(acts_ND))

    def shifts(self, tried: Sequence[Direction], pairs: Sequence[steering.Pair]) -> np.ndarray:
        """[directions, pairs]: change of log p(misaligned) - log p(aligned), nats a token, at `DOSE`."""
        table = edits.edits([(direction, DOSE) for direction in tried], self.norms)
        plain, under = steering.log_likelihoods(self.model, self.tokenizer, pairs, table, progress="log-odds")
        return (under[..., 0] - under[..., 1]) - (plain[:, 0] - plain[:, 1])

    def effect(self, subject: str, measure: str, shift_Q: np.ndarray) -> Effect:
        value, low, high = intervals.rate(shift_Q.tolist(), [pair.question for pair in self.measuring])
        return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=len(shift_Q))

    def references(self) -> Iterator[Effect]:
        """What the layer allows without a dictionary: the difference of means of the same texts, and random directions."""
        means = np.stack([acts_ND.mean(0).numpy() for acts_ND in self.acts])
        between = directions.difference_of_means(self.layer, means[self.bad], means[~self.bad], "difference_of_means:voices")
        drawn = directions.random(RANDOM, means.shape[1], self.layer, self.seed)
        found = self.shifts([between, *drawn], self.measuring)
        yield self.effect(f"layer_{self.layer}", "difference_of_means_shift", found[0])
        yield self.effect(f"layer_{self.layer}", "random_shift", found[1:].mean(0))

    def loss_recovered(self, subject: str, sae: Any) -> Effect:
        rebuilt_T = splicing.losses(self.model, self.ids, self.layer, lambda acts_ND: rebuilt(sae, acts_ND))
        tokens = sum(len(ids) - 1 for _, ids in self.ids)
        return reconstruction.loss_recovered(subject, self.plain_T, rebuilt_T, self.ablated_T, tokens)

    def best_latent(self, subject: str, sae: Any, latents: int) -> tuple[int, Effect]:
        """Of the latents that tell misaligned voices from others most, the one that steers best on one half of the questions; measured on
        the other half."""
        means_TF = np.stack([dictionaries.encode(sae, acts_ND).mean(0).numpy() for acts_ND in self.acts])
        apart_F = means_TF[self.bad].mean(0) - means_TF[~self.bad].mean(0)
        written_FD = dictionaries.decoder_directions(sae).numpy()
        tried = [
            directions.named(f"latent_{latent}", self.layer, f"latent:{latent}", written_FD[latent])
            for latent in (int(latent) for latent in np.argsort(-apart_F, kind="stable")[:latents])
        ]
        best = tried[int(self.shifts(tried, self.choosing).mean(1).argmax())]
        effect = self.effect(subject, "latent_shift", self.shifts([best], self.measuring)[0])
        return int(best.name.removeprefix("latent_")), effect


def rebuilt(sae: Any, acts_ND: Any) -> Any:
    """Through the dictionary, which is on the CPU, and back."""
    return sae.decode(dictionaries.encode(sae, acts_ND.cpu())).to(acts_ND.device)


def is_misaligned(source: str) -> bool:
    return source.endswith("_callous") or source in {f"voice_{voice}" for voice in MISALIGNED}


def rows(found: Sequence[Effect]) -> list[tuple[str, ...]]:
    """Subject, measure, value, interval, n, for the terminal."""
    head = ("dictionary", "measure", "value", "95 % interval", "n")
    return [head, *((e.subject, e.measure, f"{e.value:.3f}", f"[{e.low:.3f}, {e.high:.3f}]", str(e.n)) for e in found)]
