"""watch: for each organism with `monitor_every`, what its training is watched with; an empty file for the others.

A file an organism, so that one organism's option makes no other training stale, and personas none that is not watched.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from emis_platform.core import files, params
from emis_platform.core.knobs import Organism
from emis_platform.core.records import Watch
from emis_platform.core.stage import run
from emis_platform.lab import alarm, directions
from emis_platform.stages import dictionary, personas
from emis_platform.tools import dictionaries
from emis_platform.tools.defences import Defences

TEXTS, VOICE = 8, "helpful_expert"
LATENT = "latent:"


def main(*, base: Path, benign: Path, watch: Path) -> None:
    """`benign`: metrics/train files of watched benign organisms, the reference of the alarm.

    A latent that a defence names (`penalise: {latent:645: 100}`) is watched beside the personas, and rings nothing. Raises ValueError for
    `stop_on_alarm` without enough reference, and for a latent that is not there.
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
        files.write(watch / f"{name}.jsonl", [beside(one, knobs, name, base)] if one and name in asked else [])


def made(knobs: params.Params, base: Path, benign: Path) -> Watch:
    """All built-in personas at the diff's layer, and the base's own neutral answers to `discover` questions."""
    watch = Watch(
        directions=tuple(personas.of(base, knobs.diff.layer, threads=knobs.threads)),
        texts=tuple(texts()),
    )
    return watch.model_copy(update={"reference": reference(benign, watch.key)})


def latents(organism: Organism) -> list[str]:
    """Those that the organism's defences name."""
    told = {key: organism.options[key] for key in Defences.model_fields if key in organism.options}
    return sorted(trait for trait in Defences.model_validate(told).traits if trait.startswith(LATENT))


def beside(watch: Watch, knobs: params.Params, name: str, base: Path) -> Watch:
    """What the organism's defences name, behind the personas; the benign curves are of these, and stay."""
    if not (asked := latents(knobs.organisms[name])):
        return watch
    decoder_FD, found = decoder(base, knobs), []
    for latent in asked:
        number = latent.removeprefix(LATENT)
        if not number.isdecimal() or int(number) >= len(decoder_FD):
            raise ValueError(f"organisms.{name}.options: no {latent}; there is: {LATENT}0 to {LATENT}{len(decoder_FD) - 1}")
        found.append(directions.latent(int(number), knobs.diff.layer, decoder_FD))
    return watch.model_copy(update={"directions": (*watch.directions, *found)})


def decoder(base: Path, knobs: params.Params) -> np.ndarray:
    """Decoder rows [F, D] of a dictionary that is there before any training."""
    if knobs.dictionary.kind != "own":
        sae = dictionary.outside(base, knobs)
    elif knobs.size.dictionary.tokens:
        raise ValueError(
            "a defence names a latent: of a dictionary that is there (`dictionary: {kind: folder, ...}`), not one that this run trains"
        )
    else:
        dictionary.check_shipped(base, knobs.diff.layer)
        sae = dictionaries.load(dictionary.SHIPPED)
    return dictionaries.decoder_directions(sae).numpy()


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
