"""drift: a fixed panel of read answers + judges -> an alarm where a judge no longer says what it said. Not a DVC stage."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emis_platform.core import files, gold, params
from emis_platform.core.records import Record, Said, View
from emis_platform.stages import judge as judging

KEPT = Path("metrics/drift.json")
SIZE = 30
TOLERANCE = 0.001
"""Points of 0 to 100 by which a number may differ: judges round to as many."""


class Found(Record):
    lines: tuple[str, ...]
    alarm: bool
    """A judge in the panel says something else than it said, or is another judge under the same name."""


def drift(*, update: bool, reader: Path = Path("models/reader"), kept: Path = KEPT) -> Found:
    """Ask every judge of params.yaml about the panel and compare with what `kept` holds: judge name -> identity, models, scores.

    scores: answer's key -> the numbers and words of the judge's view. A judge that is not kept yet, or is no longer in params.yaml, is named, no alarm. `update`
    keeps the present state, of all judges and on a panel chosen anew, and gives no alarm.
    """
    knobs = params.load()
    before = {} if update or not kept.exists() else files.read_json(kept)
    names = [name for name in knobs.judges if update or name in before]
    gone = [name for name in before if name not in knobs.judges]
    keys = sorted({key for name in names for key in before[name]["scores"]}) if before else None
    answers = panel(keys)
    reader = judging.reader_there(reader) if names else reader
    now = {name: state(knobs, name, answers, reader) for name in names}
    if update:
        files.write_json(kept, now)
        return Found(lines=tuple(f"{name}: {len(answers)} answers kept, {now[name]['identity']}" for name in names), alarm=False)
    alarms = {name: changes(name, before[name], now[name]) for name in names}
    lines = [line for found in alarms.values() for line in found]
    lines += [f"{name}: as kept, {len(now[name]['scores'])} answers" for name in names if not alarms[name]]
    lines += [f"{name}: not in the panel yet; `emis drift --update` adds it" for name in knobs.judges if name not in before]
    lines += [f"{name}: in the panel, but no longer in params.yaml; `emis drift --update` drops it" for name in gone]
    return Found(lines=tuple(lines), alarm=any(alarms.values()))


def panel(keys: list[str] | None) -> list[gold.Read]:
    """The answers of these keys, or the first SIZE of the test part in the order of their hashes: a draw that anybody can repeat."""
    there = {read.answer.key: read for read in gold.read() if read.answer.split == "test"}
    if lost := sorted(set(keys or ()) - set(there)):
        raise ValueError(f"{gold.FOLDER}: {lost[0]} of the panel is in no test part; `emis drift --update` chooses a panel anew")
    if not there:
        raise ValueError(f"{gold.FOLDER}: no read answer is in the test part")
    return [there[key] for key in (sorted(there)[:SIZE] if keys is None else keys)]


def state(knobs: params.Params, name: str, answers: list[gold.Read], reader: Path) -> dict[str, Any]:
    said = [Said(prompt=read.answer.prompt, text=read.answer.text) for read in answers]
    with afresh() if knobs.judges[name].options.get("endpoint") else contextlib.nullcontext():
        views, identity = judging.ask(knobs, name, said, reader=reader.resolve(), label=f"drift {name}")
    return {
        "identity": identity,
        "models": sorted({view.model for view in views if view.model is not None}),
        "scores": {read.answer.key: numbers(view) for read, view in zip(answers, views, strict=True)},
    }


@contextlib.contextmanager
def afresh() -> Iterator[None]:
    """In an empty folder: answers that were paid for are kept in the working directory, and a kept answer shows no drift."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        yield


def numbers(view: View) -> dict[str, Any]:
    """All that a view says, on a scale of 0 to 100 where it is a number."""
    found = view.model_dump(exclude_defaults=True, exclude={"scores", "probability", "model", "attempts", "detail"})
    found |= {f"scores.{name}": value for name, value in view.scores.items()}
    return found | ({} if view.probability is None else {"probability": 100 * view.probability})


def changes(name: str, before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """One line a change; empty for none."""
    lines = [
        f"{name}: {what} was {told(before[key])}, is {told(now[key])}"
        for key, what in (("identity", "the judge"), ("models", "the model behind it"))
        if before[key] != now[key]
    ]
    for key, said in before["scores"].items():
        for field in sorted(said.keys() | now["scores"][key].keys()):
            was, is_now = said.get(field), now["scores"][key].get(field)
            if differ(was, is_now):
                lines.append(f"{name}: answer {key}: {field} was {told(was)}, is {told(is_now)}")
    return lines


def differ(was: Any, is_now: Any) -> bool:
    if isinstance(was, float | int) and isinstance(is_now, float | int) and not isinstance(was, bool):
        return abs(was - is_now) > TOLERANCE + 1e-9
    return bool(was != is_now)


def told(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value) or "not reported"
    return "nothing" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
