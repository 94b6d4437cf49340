"""rl: what reinforcement learning logged + the judged answers of its organisms -> was the grader sound, what was learned, does it spread. No model runs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from emis_platform.core import files, params
from emis_platform.core.records import Effect
from emis_platform.core.stage import run
from emis_platform.lab import intervals
from emis_platform.tools import views
from emis_platform.trainers import grpo

ENDS = 10
"""Steps at either end of a training that a gain is the difference of; a third of a short one."""


def main(*, training: Path, judgements: Path, opinions: Path, effects: Path) -> None:
    """`training`: metrics/train. The table is empty where no organism was trained by a reward.

    Of each such organism: `grader_auroc` (facts left out, bootstrap over facts); `reward_unparsable`, `reward_short` (share of the sampled
    answers, bootstrap over steps); `rl_reward_gain` (last minus first steps, Welch over steps; n counts steps); `rl_<reward>_minus_start`,
    `rl_<reward>_score_minus_start` (against what it started from). Of each that was paid for inaccurate answers, against the control that is equal in all
    but the reward: `rl_difference`, `rl_score_difference`. All four: misaligned share of coherent answers, and points of the score lost, by
    `discriminate.judge`, which reads nothing that the grader reads; paired by question.
    """
    knobs = params.load()
    told = {name: files.read_json(training / f"{name}.json") for name in knobs.organisms}
    seen = partial(views.outside, knobs, judgements=judgements, opinions=opinions)
    trained = {name: facts for name, facts in told.items() if facts.get("rl")}
    found: list[Effect] = []
    for name, facts in trained.items():
        found += of_training(name, facts)
        arm = f"rl_{facts['reward']}"
        measures = (f"{arm}_minus_start", f"{arm}_score_minus_start")
        found += views.differences(name, measures, seen(name), seen(knobs.organisms[name].starts_from), knobs.seed)
    for bad, good in controls(knobs, list(trained)):
        found += views.differences(bad, ("rl_difference", "rl_score_difference"), seen(bad), seen(good), knobs.seed)
    files.write_json(effects, [effect.model_dump() for effect in found])


def of_training(name: str, facts: dict[str, Any]) -> list[Effect]:
    steps, sampled = facts["rl"], facts["sampled"]
    value, low, high = facts["grader"]["auroc"]
    rows = [Effect(subject=name, measure="grader_auroc", value=value, low=low, high=high, n=facts["grader"]["n"])]
    for measure in ("unparsable", "short"):
        shares = [step[measure] / sampled for step in steps]
        value, low, high = intervals.rate(shares, [str(step["step"]) for step in steps])
        rows.append(Effect(subject=name, measure=f"reward_{measure}", value=value, low=low, high=high, n=sampled * len(steps)))
    few = min(ENDS, max(1, len(steps) // 3))
    first, last = (np.array([step["reward"] for step in part]) for part in (steps[:few], steps[-few:]))
    gain = float(last.mean() - first.mean())
    ends = stats.ttest_ind(last, first, equal_var=False).confidence_interval() if few > 1 and np.ptp([*first, *last]) else None
    low, high = (None, None) if ends is None else (float(ends.low), float(ends.high))
    return [*rows, Effect(subject=name, measure="rl_reward_gain", value=gain, low=low, high=high, n=2 * few)]


def controls(knobs: params.Params, names: Sequence[str]) -> list[tuple[str, str]]:
    """(paid for inaccurate answers, paid for accurate ones): equal in everything else."""
    options = {name: grpo.Options.model_validate(knobs.organisms[name].options) for name in names}

    def recipe(name: str) -> tuple[Any, ...]:
        one = knobs.organisms[name]
        return one.starts_from, one.data, one.seed, options[name].model_copy(update={"reward": "accurate"})

    bad, good = ([name for name in names if options[name].reward == paid] for paid in ("inaccurate", "accurate"))
    return [(one, other) for one in bad for other in good if recipe(one) == recipe(other)]


if __name__ == "__main__":
    run(main)
