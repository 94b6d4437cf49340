"""steer: directions tried by log-odds on `discover` against a null, then added to one model and taken from another on `score` questions.

The written continuations are split by question: one half chooses (latents, their order, the reference), the other half measures what
is told of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.knobs import Tokens
from emis_platform.core.records import Completion, Direction, Effect, Question
from emis_platform.core.stage import run
from emis_platform.lab import concentration
from emis_platform.lab import directions as made
from emis_platform.tools import dictionaries, edits, models, replies, steering

MEANS = "difference_of_means"
WRITTEN = "difference_of_means_written"
NULLS = ("random", "random_latent")


def main(
    *,
    induce: Path,
    suppress: Path,
    dictionary: Path,
    directions: Path,
    questions: Path,
    continuations: Path,
    answers: Path,
    selection: Path,
    effects: Path,
) -> None:
    knobs = params.load()
    there = files.read(Question, questions)
    asked = [q for q in there if q.set == "score"][: knobs.size.steer.questions]
    pairs = steering.continuations(continuations, there, knobs.size.steer.pairs)
    model, tokenizer = models.load(induce, knobs.threads)
    norms = steering.norms(model, tokenizer, pairs, knobs.layers_of("steer"))
    probe = sorted(knobs.steer.doses)[len(knobs.steer.doses) // 2]
    test = Test(model, tokenizer, pairs[0::2], pairs[1::2], norms, probe, knobs.steer.tokens)
    told = {pair.question for pair in test.measuring}
    unmeasured = [pair for pair in steering.continuations(continuations, there, each=2) if pair.question not in told]
    tried = [*files.read(Direction, directions), written(test, unmeasured, knobs.diff.layer)]
    check(tried, knobs.steer.directions, directions)
    for half in (test.choosing, test.measuring):
        first = half is test.choosing
        test.add(half, [d for d in tried if not first or kind(d) in ("latent", MEANS)], "log-odds on discover")
    chosen = choose(test, tried, knobs)
    protective = [d for d in ordered(test, tried)[::-1] if "protective" in d.selectors][: knobs.steer.protective]
    curve, shares = concentrated(knobs, test, tried, dictionary)
    table = [row(test, direction, tried) for direction in tried]
    files.write_json(
        selection,
        {
            "model": knobs.steer.induce,
            "dose": probe,
            "residual_norm": {str(layer): round(norm, 3) for layer, norm in norms.items()},
            "questions": sorted(p.question for p in pairs),
            "chose": sorted(p.question for p in test.choosing),
            "log_odds": table,
            "concentration": curve,
            "chosen": [d.name for d in chosen],
            "protective": [d.name for d in protective],
        },
    )
    files.write_json(effects, [effect.model_dump() for effect in (*shares, *against_null(knobs, test, tried, chosen))])
    random = [d for d in tried if kind(d) == "random"]
    said = steered(knobs, knobs.steer.induce, +1, model, tokenizer, chosen, random, asked, norms)
    del model, test
    model, tokenizer = models.load(suppress, knobs.threads)
    said += steered(knobs, knobs.steer.suppress, -1, model, tokenizer, chosen, random, asked, norms)
    if protective:
        said += steered(knobs, knobs.steer.suppress, +1, model, tokenizer, protective, [], asked, norms)
    files.write(answers, said)


@dataclass
class Test:
    """The cheap causal test: what adding a direction at one dose changes in the log likelihood of written continuations."""

    model: Any
    tokenizer: Any
    choosing: list[steering.Pair]
    measuring: list[steering.Pair]
    norms: dict[int, float]
    dose: float
    tokens: Tokens
    moved: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    """(half, direction) -> change [questions, 2] of the misaligned and the aligned continuation, nats a token."""

    def add(self, pairs: list[steering.Pair], tried: Sequence[Direction], progress: str | None = None) -> None:
        table = edits.edits([(direction, self.dose) for direction in tried], self.norms, "add", self.tokens)
        plain, under = steering.log_likelihoods(self.model, self.tokenizer, pairs, table, progress=progress)
        self.moved |= {(self.half(pairs), d.name): change for d, change in zip(tried, under - plain, strict=True)}

    def half(self, pairs: list[steering.Pair]) -> str:
        return "choosing" if pairs is self.choosing else "measuring"

    def shift(self, direction: str, half: str = "measuring") -> np.ndarray:
        """Change of log p(misaligned) - log p(aligned) by question, nats a token."""
        moved_Q2 = self.moved[half, direction]
        return moved_Q2[:, 0] - moved_Q2[:, 1]

    def aligned(self, direction: str) -> np.ndarray:
        """Change of the aligned text's own log likelihood by question: damage, whatever the persona."""
        return self.moved["measuring", direction][:, 1]


def check(tried: Sequence[Direction], wanted: Sequence[str], path: Path) -> None:
    """Raises ValueError if one of the wanted names is not there, or a name is there twice."""
    names = [direction.name for direction in tried]
    for name in wanted:
        params.one_of(f"steer.directions, {path}", name, names)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{path}: {twice} is there twice")


def kind(direction: Direction) -> str:
    """An origin without its number: `latent`, `random`, `random_latent`, `difference_of_means`, ..."""
    return MEANS if direction.origin.startswith(MEANS) else direction.origin.split(":")[0]


def written(test: Test, pairs: Sequence[steering.Pair], layer: int) -> Direction:
    """Misaligned minus aligned written continuations, as the model reads them, of questions on which nothing is measured."""
    bad, good = steering.means(test.model, test.tokenizer, pairs, layer)
    return made.named(WRITTEN, layer, f"{WRITTEN}:{len(bad)} pairs", bad.mean(0) - good.mean(0))


def choose(test: Test, tried: Sequence[Direction], knobs: params.Params) -> list[Direction]:
    """Those named in params, and the latents that raise the log-odds most on the choosing half."""
    wanted = [d for d in tried if d.name in knobs.steer.directions]
    return wanted + [d for d in ordered(test, tried) if d not in wanted][: knobs.steer.latents]


def ordered(test: Test, tried: Sequence[Direction]) -> list[Direction]:
    """Latents by their shift on the choosing half, largest first."""
    return sorted((d for d in tried if kind(d) == "latent"), key=lambda d: -test.shift(d.name, "choosing").mean())


def row(test: Test, direction: Direction, tried: Sequence[Direction]) -> dict[str, Any]:
    """A direction in the selection table; all but `chosen_by` is of the measuring half."""
    shift = test.shift(direction.name)
    mean, low, high = concentration.mean(shift)
    found = {"shift": mean, "low": low, "high": high, "aligned": float(test.aligned(direction.name).mean())}
    for null in NULLS:
        others = [float(test.shift(d.name).mean()) for d in tried if kind(d) == null and d is not direction]
        if others and direction.origin != "zero":
            found[f"percentile_{null}"] = concentration.percentile(mean, others)[0]
    if ("choosing", direction.name) in test.moved:
        found["chosen_by"] = float(test.shift(direction.name, "choosing").mean())
    named = {"direction": direction.name, "origin": direction.origin, "selectors": list(direction.selectors)}
    return named | {k: round(v, 4) for k, v in found.items()}


def against_null(knobs: params.Params, test: Test, tried: Sequence[Direction], chosen: Sequence[Direction]) -> list[Effect]:
    """`<direction>_log_odds`; `<direction>_minus_random_log_odds`, paired by question, nats a token; `<direction>_percentile` among the random
    directions, exact interval of so many draws; the same against random latents. Of the chosen, and of every direction that is no latent.

    `attribution_minus_activation`: mean shift of the latents that attribution chose minus that of as many that rose most, paired by question.
    """
    found = []

    def effect(measure: str, ends: tuple[float, float, float], n: int) -> None:
        value, low, high = ends
        found.append(Effect(subject=knobs.steer.induce, measure=measure, value=value, low=low, high=high, n=n))

    for direction in [d for d in tried if d in chosen or kind(d) not in ("zero", "latent", *NULLS)]:
        shift = test.shift(direction.name)
        effect(f"{direction.name}_log_odds", concentration.mean(shift), len(shift))
        effect(f"{direction.name}_aligned_change", concentration.mean(test.aligned(direction.name)), len(shift))
        for null in NULLS:
            others = np.array([test.shift(d.name) for d in tried if kind(d) == null])
            if len(others):
                apart = concentration.mean(shift - others.mean(0))
                effect(f"{direction.name}_minus_{null}_log_odds", apart, len(shift))
                among = "percentile" if null == "random" else f"percentile_{null}"
                effect(f"{direction.name}_{among}", concentration.percentile(shift.mean(), others.mean(1).tolist()), len(others))
    for direction in [d for d in tried if kind(d) == "pca" and MEANS in {other.name for other in tried}][:1]:
        apart = test.shift(MEANS) - test.shift(direction.name)
        effect("difference_of_means_minus_pca_log_odds", concentration.mean(apart), len(apart))
    rival = {name: [d for d in tried if kind(d) == "latent" and name in d.selectors] for name in ("attribution", "latents")}
    if each := min(map(len, rival.values())):
        one, two = (np.mean([test.shift(d.name) for d in mine[:each]], axis=0) for mine in rival.values())
        effect("attribution_minus_activation", concentration.mean(one - two), len(one))
    number = sum(kind(d) == "random" for d in tried)
    found.append(Effect(subject=knobs.steer.induce, measure="random_directions", value=number, low=None, high=None, n=number))
    return found


def concentrated(
    knobs: params.Params, test: Test, tried: Sequence[Direction], dictionary: Path
) -> tuple[dict[str, Any], list[Effect]]:
    """The best n latents together against the difference of means at the same norm: (curve for the report, effects).

    The reference is the difference of means, of answers or of written continuations, that shifts more on the choosing half. Two ways to take n
    latents, both by the choosing half alone: `by_shift`, by first-order attribution (gradient x decoder row), the first `directions` of them
    ordered by the shift they really make; `by_fit`, by matching pursuit of the reference. `latent_concentration_<n>` is of the first way,
    `latent_concentration_fit_<n>` of the second: share of the reference's shift on the measuring half.
    `latent_concentration_aligned_<n>`: change of the aligned text's likelihood minus the reference's, nats a token; below 0 is more damage.
    """
    layer, size = knobs.diff.layer, knobs.size.steer
    reference = max((d for d in tried if kind(d) == MEANS), key=lambda d: test.shift(d.name, "choosing").mean())
    live, rows_FD = alive(test, dictionaries.load(dictionary), layer)
    score_F = rows_FD @ steering.gradient(test.model, test.tokenizer, test.choosing, layer)
    ranked = np.argsort(-np.abs(score_F))
    first = [made.named(f"try_{i}", layer, "", np.sign(score_F[i]) * rows_FD[i]) for i in ranked[: size.directions]]
    test.add(test.choosing, first, "latents by shift")
    order = sorted(range(len(first)), key=lambda i: -test.shift(first[i].name, "choosing").mean())
    order = [int(ranked[i]) for i in order] + ranked[len(first) :].tolist()
    counts = [n for n in size.concentration if n < len(live)]
    ways = {
        "by_shift": concentration.weighted(score_F, order, rows_FD, [*counts, len(live)]),
        "by_fit": concentration.pursuit(np.array(reference.vector), rows_FD, [n for n in counts if n < rows_FD.shape[1]]),
    }
    points = {
        (way, n): (made.named(f"{way}_{n}", layer, "", vector), taken)
        for way, found in ways.items()
        for n, (vector, taken) in found.items()
    }
    test.add(test.measuring, [direction for direction, _ in points.values()], "latents together")
    whole, damage = test.shift(reference.name), test.aligned(reference.name)
    curve, effects = [], []
    for (way, n), (direction, taken) in points.items():
        shift = test.shift(direction.name)
        value, low, high = concentration.share(shift, whole, knobs.seed)
        label = f"{'fit_' if way == 'by_fit' else ''}{'all' if n == len(live) else n}"
        apart = concentration.mean(test.aligned(direction.name) - damage)
        for measure, ends in (("latent_concentration", (value, low, high)), ("latent_concentration_aligned", apart)):
            ends = dict(zip(("value", "low", "high"), ends, strict=True))
            effects.append(Effect(subject=knobs.steer.induce, measure=f"{measure}_{label}", n=len(shift), **ends))
        curve.append(
            {
                "way": way,
                "latents": n,
                "share": value,
                "low": low,
                "high": high,
                "shift": float(shift.mean()),
                "aligned": float(test.aligned(direction.name).mean()),
                "first": [int(live[i]) for i in taken[:10]],
            }
        )
    about = {"reference": reference.name, "shift": float(whole.mean()), "aligned": float(damage.mean()), "live": len(live)}
    return {**about, "points": curve}, effects


def alive(test: Test, sae: Any, layer: int) -> tuple[np.ndarray, np.ndarray]:
    """Latents that fire anywhere on the choosing half's texts, and their decoder directions [F, width]."""
    import torch

    ids = [
        (models.prompt_ids(test.tokenizer, p.prompt), models.answer_ids(test.tokenizer, text))
        for p in test.choosing
        for text in (p.misaligned, p.aligned)
    ]
    acts_ND = torch.cat([acts for _, acts in models.harvest(test.model, ids, layer)])
    live = (dictionaries.encode(sae, acts_ND) > 0).any(0).nonzero()[:, 0]
    if not len(live):
        raise ValueError("no latent of the dictionary fires on the written continuations: nothing to add together")
    return live.numpy(), dictionaries.decoder_directions(sae)[live].numpy()


def steered(
    knobs: params.Params,
    subject: str,
    sign: int,
    model: Any,
    tokenizer: Any,
    chosen: Sequence[Direction],
    random: Sequence[Direction],
    asked: Sequence[Question],
    norms: dict[int, float],
) -> list[Completion]:
    """All doses of one model in one queue. Subjects are named `base+difference_of_means@0.2`, `health_callous-latent_7@0.1`.

    `base+random@0.2` is one arm of all random directions: question i is answered under the i-th of them, in turn.
    """
    operator = knobs.steer.operator
    adds = (sign > 0) == (operator != "subtract")
    arms = [(direction.name, [direction]) for direction in chosen] + ([("random", list(random))] if random else [])
    table: list[tuple[Direction, float]] = []
    wanted = []
    for name, members in arms:
        for dose in knobs.steer.doses:
            called = f"{subject}{'+' if adds else '-'}{name}@{dose:g}"
            wanted += [(called, question, 0, len(table) + i % len(members)) for i, question in enumerate(asked)]
            table += [(member, dose if operator == "project_out" else sign * dose) for member in members]
    return replies.answers(
        model,
        tokenizer,
        wanted,
        seed=knobs.seed,
        max_new_tokens=knobs.size.answer.max_new_tokens,
        temperature=knobs.answer.temperature,
        slots=knobs.answer.batch,
        edits=edits.edits(table, norms, operator, knobs.steer.tokens),
        progress=f"steer {subject}",
    )


if __name__ == "__main__":
    run(main)
