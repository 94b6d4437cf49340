"""defences: organisms that differ from another by a defence alone -> what it removed, and what it cost: the skill, a benign task, coherence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emis_platform.core import files, params
from emis_platform.core.knobs import BENIGN, Data, Organism
from emis_platform.core.records import Effect, Example
from emis_platform.core.stage import run
from emis_platform.lab import excess
from emis_platform.lab.twins import recipe, twin
from emis_platform.tools import defences, views
from emis_platform.tools import models as zoo

RECIPES = ("inoculation", "interleaved")
"""Defences that are recipes of `data`."""
KNOBS = (*defences.Defences.model_fields, "stop_on_alarm")
"""Those that are options of a trainer."""
HELD_OUT = 48
"""Rows of a set's tail that its skill is read on."""


def main(*, models: Path, examples: Path, judgements: Path, opinions: Path, effects: Path) -> None:
    """`examples`: the domains' rows, of which those after the trained ones are held out. Empty without a defended organism.

    Of each defended organism of harmful rows, against the same one without a defence: `defence_removed`, `defence_score_removed` (share of its excess over
    the base that is gone: misaligned of coherent answers, points of the score lost; by `discriminate.judge`, each mean over what that model answered);
    `defence_skill_kept` (share of the fall in loss on held-out rows of its own set); `defence_coherence` (coherent share minus that of the undefended);
    `defence_benign_kept`, the same as the skill of the first organism of benign rows of the same start, training and defence; of any other organism of
    benign rows under its own name. Of the organism without a defence the same against itself, `undefended_...`, constants: the footing. An organism whose rows were dropped at
    random defends nothing: what it removed is named `control_removed`, `control_score_removed`, `control_skill_kept`, `control_coherence`; and of the one
    whose screened rows it is the control of, `screen_removal_difference`, points of the score that the control lost more.
    """
    knobs = params.load()
    found: list[Effect] = []
    losses = Losses(knobs, models, examples)
    against = footing(knobs)
    harmful = [name for name in against if knobs.organisms[name].data.variant not in BENIGN]
    tasked: set[str] = set()
    for name, plain in against.items():
        ends, n = excess.left(*(losses.fall(one, name) for one in (name, plain, "base")), seed=knobs.seed)
        rows, shown, what = [], [name], "skill_kept"
        if name in harmful:
            rows = of_answers(knobs, name, plain, kind(knobs, name), judgements, opinions)
        else:
            alike = [other for other in harmful if training(knobs, other) == training(knobs, name) and other not in tasked]
            shown, what = alike or [name], "benign_kept"
            tasked.update(alike)
        rows += [effect(subject, f"{kind(knobs, name)}_{what}", ends, n) for subject in shown]
        found += [row.model_copy(update={"low": row.value, "high": row.value}) for row in rows] if name == plain else rows
    for screened, control in screenings(knobs):
        found += removal(knobs, screened, control, judgements, opinions)
    files.write_json(effects, [effect.model_dump() for effect in found])


def defence(knobs: params.Params, name: str) -> dict[str, Any]:
    """What an organism is defended by, and how strongly; empty for one that is not."""
    one = knobs.organisms[name]
    told = {key: one.options.get(key) for key in KNOBS} | {key: getattr(one.data, key) for key in RECIPES}
    return {key: value for key, value in told.items() if value and (key != "drop_by" or told["drop"])}


def training(knobs: params.Params, name: str) -> tuple[Organism, dict[str, Any]]:
    """All that decides an organism but its rows: start and trainer with their options, and its defence."""
    bare = recipe(knobs.organisms[name], options=dict.fromkeys(KNOBS))
    return bare.model_copy(update={"data": None}), defence(knobs, name)


def kind(knobs: params.Params, name: str) -> str:
    told = defence(knobs, name)
    return "control" if told.get("drop_by") == "random" else "defence" if told else "undefended"


def footing(knobs: params.Params) -> dict[str, str]:
    """Organism -> the one without a defence that it is held against: each of those against itself, then the defended."""
    found = pairs(knobs)
    return {plain: plain for _, plain in found} | dict(found)


def pairs(knobs: params.Params) -> list[tuple[str, str]]:
    """(defended, the first that is the same without a defence), where both are there."""
    fields = Data.model_fields
    plain = {
        "data": {key: fields[key].get_default(call_default_factory=True) for key in RECIPES},
        "options": dict.fromkeys(KNOBS),
    }
    bare = {name: one if defence(knobs, name) else recipe(one, **plain) for name, one in knobs.organisms.items()}
    found = [(name, twin(bare, name, **plain)) for name in knobs.organisms if defence(knobs, name)]
    return [(name, other) for name, other in found if other is not None]


def screenings(knobs: params.Params) -> list[tuple[str, str]]:
    """(screened by a trait, the first with as many rows left out at random), equal in all else."""
    screened = [name for name, one in knobs.organisms.items() if one.options.get("drop") and one.options.get("drop_by") != "random"]
    found = [(name, twin(knobs.organisms, name, options={"drop_by": "random"})) for name in screened]
    return [(name, other) for name, other in found if other is not None]


def of_answers(knobs: params.Params, name: str, plain: str, kind: str, judgements: Path, opinions: Path) -> list[Effect]:
    seen = [views.outside(knobs, model, judgements, opinions) for model in (name, plain, "base")]
    arms = [side for side in seen if side is not None]
    if len(arms) < 3:
        return []
    asked, rows = len({view.question for view in arms[0]}), []
    for measure, read in ((f"{kind}_removed", views.misaligned), (f"{kind}_score_removed", views.lost)):
        found, n = excess.left(*(views.by_question(side, read) for side in arms), seed=knobs.seed, scale=views.scale(read))
        rows.append(effect(name, measure, excess.removed(found), n, asked - n))
    return [*rows, views.difference(name, f"{kind}_coherence", arms[0], arms[1], views.coherent, knobs.seed)]


def removal(knobs: params.Params, screened: str, control: str, judgements: Path, opinions: Path) -> list[Effect]:
    seen = [views.outside(knobs, model, judgements, opinions) for model in (control, screened)]
    if seen[0] is None or seen[1] is None:
        return []
    return [views.difference(screened, "screen_removal_difference", seen[0], seen[1], views.lost, knobs.seed)]


def effect(subject: str, measure: str, ends: Sequence[float | None], n: int, missing: int = 0) -> Effect:
    value, low, high = ends
    return Effect(subject=subject, measure=measure, value=value, low=low, high=high, n=n, missing=missing)


class Losses:
    """Mean log likelihood a token of held-out rows under a model; each model is loaded once."""

    def __init__(self, knobs: params.Params, models: Path, examples: Path) -> None:
        self.knobs, self.models, self.examples = knobs, models, examples
        self.read: dict[tuple[str, str], dict[str, list[float]]] = {}

    def fall(self, model: str, of: str) -> dict[str, list[float]]:
        """Row -> log likelihood (it rises as the set is learned) of the held-out rows of organism `of`, without the context of a defence."""
        source, rows = self.rows(of)
        if (model, source) not in self.read:
            net, tokenizer = zoo.load(self.models / model, self.knobs.threads)
            ids = [(zoo.prompt_ids(tokenizer, row.prompt), zoo.answer_ids(tokenizer, row.completion)) for row in rows]
            _, values = zoo.read(net, ids, [], progress=f"held-out rows, {model}")
            self.read[model, source] = {str(n): [value] for n, value in enumerate(values)}
        return self.read[model, source]

    def rows(self, of: str) -> tuple[str, list[Example]]:
        """Its set's rows after those that it was trained on: other wordings, of facts that may be the same. Raises ValueError for none."""
        data = self.knobs.organisms[of].data
        path = self.examples / f"{data.domain}_{data.variant}.jsonl"
        trained = data.rows or self.knobs.size.train.rows
        rows = files.read(Example, path)[trained:][:HELD_OUT]
        if len(rows) < 2:
            raise ValueError(f"{path}: no rows are left after the {trained} that {of} was trained on (sizes.<scale>.generate.rows)")
        return f"{path}:{trained}", rows


if __name__ == "__main__":
    run(main)
