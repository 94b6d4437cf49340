"""rl: what reinforcement learning logged + the judged answers of its organisms -> was the grader sound, what was learned, does it spread. No model runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.records import Effect, Judgement
from emis_platform.core.stage import run
from emis_platform.lab import concentration, intervals, rates

ENDS = 10
"""Steps at either end of a training that a gain is the difference of; a third of a short one."""


def main(*, training: Path, judgements: Path, effects: Path) -> None:
    """`training`: metrics/train; `judgements`: the default judge's. The table is empty where no organism was trained by a reward.

    Of each such organism `grader_auroc` (answers left out of the grader, bootstrap over facts), `reward_unparsable` (share of the sampled answers,
    exact interval), `rl_reward_gain` (last minus first steps, Student's t over steps) and `rl_kl` (of the last steps). Of each that was paid for
    inaccurate answers, against its control that was paid for accurate ones, same start, data and options: `rl_difference` (misaligned, of
    coherent answers) and `rl_score_difference` (points of the score lost), paired by question.
    """
    knobs = params.load()
    told = {name: files.read_json(training / f"{name}.json") for name in knobs.organisms}
    trained = {name: facts for name, facts in told.items() if facts.get("rl")}
    found = [effect for name, facts in trained.items() for effect in of_training(knobs, name, facts)]
    for bad, good in controls(knobs, list(trained)):
        found += differences(knobs, bad, good, judgements)
    files.write_json(effects, [effect.model_dump() for effect in found])


def of_training(knobs: params.Params, name: str, facts: dict[str, Any]) -> list[Effect]:
    steps, options = facts["rl"], knobs.organisms[name].options
    value, low, high = facts["grader"]["auroc"]
    sampled = len(steps) * facts["sampled"]
    lost = round(sum(step["unparsable"] for step in steps))
    few = min(ENDS, max(1, len(steps) // 3))
    rewards = np.array([step["reward"] for step in steps])
    gain = rewards[-few:].mean() - rewards[:few].mean()
    half = apart(rewards[:few], rewards[-few:])
    rows = [
        Effect(subject=name, measure="grader_auroc", value=value, low=low, high=high, n=facts["grader"]["n"]),
        share(name, "reward_unparsable", lost, sampled),
        share(name, "reward_short", round(sum(step["short"] for step in steps)), sampled),
        Effect(
            subject=name,
            measure="rl_reward_gain",
            value=float(gain),
            low=None if half is None else float(gain - half),
            high=None if half is None else float(gain + half),
            n=2 * few,
        ),
    ]
    if options.get("kl", 1):
        ends = np.array([step["kl"] for step in steps[-few:]])
        value, low, high = concentration.mean(ends) if few > 1 else (float(ends[0]), None, None)
        rows.append(Effect(subject=name, measure="rl_kl", value=value, low=low, high=high, n=few))
    return rows


def apart(one: np.ndarray, other: np.ndarray) -> float | None:
    """Half of the 95 % interval of a difference of means (Welch); None below two steps a side."""
    from scipy import stats

    if len(one) < 2:
        return None
    a, b = one.var(ddof=1) / len(one), other.var(ddof=1) / len(other)
    if a + b == 0:
        return 0.0
    freedom = (a + b) ** 2 / (a**2 / (len(one) - 1) + b**2 / (len(other) - 1))
    return float(stats.t.ppf(0.975, freedom) * (a + b) ** 0.5)


def share(subject: str, measure: str, hits: int, n: int) -> Effect:
    low, high = intervals.exact(hits, n)
    return Effect(subject=subject, measure=measure, value=hits / n, low=low, high=high, n=n)


def controls(knobs: params.Params, names: Sequence[str]) -> list[tuple[str, str]]:
    """(paid for inaccurate answers, paid for accurate ones): equal in everything else."""

    def recipe(name: str) -> tuple[Any, ...]:
        one = knobs.organisms[name]
        rest = sorted((key, repr(value)) for key, value in one.options.items() if key != "reward")
        return one.starts_from, one.data, one.trainer, one.seed, tuple(rest)

    paid = {name: knobs.organisms[name].options["reward"] for name in names}
    return [
        (bad, good)
        for bad in names
        for good in names
        if (paid[bad], paid[good]) == ("inaccurate", "accurate") and recipe(bad) == recipe(good)
    ]


def differences(knobs: params.Params, bad: str, good: str, judgements: Path) -> list[Effect]:
    """None where either is no subject."""
    asked = [next((s for s, entry in knobs.subjects.items() if entry.model == name), None) for name in (bad, good)]
    if None in asked:
        return []
    views = [[v for v in files.read(Judgement, judgements / f"{name}.jsonl") if v.set == "score"] for name in asked]
    rows = []
    for measure, sign, read in (
        ("rl_difference", 1, lambda v: None if v.misaligned is None else float(v.misaligned)),
        ("rl_score_difference", -1, lambda v: v.score if rates.coherent(v) else None),
    ):
        arms: list[dict[str, list[float]]] = [{}, {}]
        for arm, side in zip(arms, views, strict=True):
            for view in side:
                if (value := read(view)) is not None:
                    arm.setdefault(view.question, []).append(sign * value)
        shared = len(arms[0].keys() & arms[1].keys())
        ends = intervals.difference(*arms, seed=knobs.seed) if shared > 1 else (None, None, None)
        n, missing = shared, len({view.question for side in views for view in side}) - shared
        rows.append(Effect(subject=bad, measure=measure, value=ends[0], low=ends[1], high=ends[2], n=n, missing=missing))
    return rows


if __name__ == "__main__":
    run(main)
