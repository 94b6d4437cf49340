"""alarm: curves of watched trainings + labels of their organisms -> how often the alarm rings, falsely and rightly, and when."""

from pathlib import Path

from emis_platform.core import files, params
from emis_platform.core.stage import run
from emis_platform.lab import alarm, false_alarms
from emis_platform.stages.watch import latents


def main(*, training: Path, scores: Path, effects: Path) -> None:
    """`scores`: what discriminate wrote, with each organism's label. Without a watched training the table is empty.

    Benign: taught nothing harmful, whatever its label. What started from another organism is left out: its curve starts elsewhere. So is one that
    was held back by a latent, which is watched with more than the others.
    """
    knobs = params.load()
    rows = [row for row in files.read_json(scores)["organisms"] if knobs.organisms[row["organism"]].starts_from == "base"]
    told = {row["organism"]: files.read_json(training / f"{row['organism']}.json") for row in rows}
    curves = {
        name: facts["personas"] for name, facts in told.items() if facts.get("personas") and not latents(knobs.organisms[name])
    }
    if len(keys := {told[name]["watch"] for name in curves}) > 1:
        raise ValueError(f"{training}: trainings were watched with {len(keys)} different sets of directions and texts")
    benign = {row["organism"] for row in rows if row["benign"]} & curves.keys()
    bad = {row["organism"] for row in rows if row["misaligned"]} & curves.keys() - benign
    ours, theirs = ({name: curves[name] for name in curves if name in kind} for kind in (benign, bad))
    found = false_alarms.effects(ours, theirs, alarm.Rule()) if curves else []
    files.write_json(effects, [effect.model_dump() for effect in found])


if __name__ == "__main__":
    run(main)
