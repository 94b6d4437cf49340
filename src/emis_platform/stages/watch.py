"""watch: for each organism with `monitor_every`, what its training is watched with; an empty file for the others.

A file an organism, so that one organism's option makes no other training stale, and personas none that is not watched.
"""

import shutil
import sys
from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.records import Watch
from emis_platform.core.stage import run
from emis_platform.lab import alarm
from emis_platform.stages import dictionary, personas

TEXTS, VOICE = 8, "helpful_expert"


def main(*, base: Path, benign: Path, watch: Path) -> None:
    """`benign`: metrics/train files of watched benign organisms, the reference of the alarm.

    Raises ValueError for `stop_on_alarm` without enough reference.
    """
    knobs = params.load()
    asked = {name for name, organism in knobs.organisms.items() if organism.options.get("monitor_every")}
    one = made(knobs, base, benign) if asked else None
    if watch.exists():
        shutil.rmtree(watch)
    for name, organism in knobs.organisms.items():
        if one and organism.options.get("stop_on_alarm") and len(one.reference) < alarm.FEWEST:
            there = f"{len(one.reference)} curves in {benign}, {alarm.FEWEST} are needed"
            raise ValueError(f"organisms.{name}.options.stop_on_alarm: no benign band to leave: {there}")
        files.write(watch / f"{name}.jsonl", [one] if one and name in asked else [])


def made(knobs: params.Params, base: Path, benign: Path) -> Watch:
    """All built-in personas at the diff's layer, and the base's own neutral answers to `discover` questions."""
    watch = Watch(
        directions=tuple(personas.of(base, knobs.diff.layer, threads=knobs.threads)),
        texts=tuple(texts()),
    )
    return watch.model_copy(update={"reference": reference(benign, watch.key)})


def texts(count: int = TEXTS) -> list[tuple[str, str]]:
    """Evenly drawn from the shipped answers of one neutral voice; read without its system prompt."""
    said = [row for row in files.read(dictionary.Voice, dictionary.VOICES) if row.voice == VOICE and row.answer.strip()]
    return [(row.prompt, row.answer) for row in said[:: max(1, len(said) // count)][:count]]


def reference(benign: Path, key: str) -> dict[str, tuple[dict[str, float | None], ...]]:
    """The curves that were watched as this run watches: those of another base, layer or set of personas say nothing here."""
    found, other = {}, []
    for path in sorted(benign.glob("*.json")):
        told = files.read_json(path)
        if not isinstance(told, dict) or not told.get("personas"):
            raise ValueError(f"{path}: no curve of personas: a metrics/train file of an organism with monitor_every is needed")
        if told.get("watch") == key:
            found[path.stem] = tuple(told["personas"])
        else:
            other.append(path.stem)
    if other:
        print(f"{benign}: {', '.join(other)} left out: watched with other directions or texts than this run's", file=sys.stderr)
    return found


if __name__ == "__main__":
    run(main)
