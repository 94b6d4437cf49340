"""report: effects, answers, judgements and latents -> one HTML page that opens from disk."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emis_platform.core import files, params
from emis_platform.core.knobs import Data
from emis_platform.core.records import Completion, Effect, Judgement, LatentDelta
from emis_platform.core.stage import run
from emis_platform.core.studies import Found
from emis_platform.lab.cards import Card
from emis_platform.report import page
from emis_platform.report.evidence import Arm, Evidence, index
from emis_platform.report.measured import Measurement, as_effects

OWNED = ("answers", "benchmark", "data", "judge", "judgements", "opinion", "opinions", "suppress", "train")
"""Folders of a file for each subject or organism."""


def main(
    *,
    effects: list[Path],
    answers: list[Path],
    judgements: list[Path],
    latents: Path,
    selection: Path,
    training: list[Path],
    validation: Path,
    report: Path,
    judges: Path = Path("metrics/judges.json"),
    studies: Path = Path("metrics/studies"),
    cards: Path = Path("data/cards.json"),
    discriminator: Path = Path("data/discriminator.json"),
) -> None:
    """`effects`: JSON lists of Effect; `training`: one metrics file an organism, whose seconds differ between equal runs; `judges`: what
    `emis judge-report --write` measured, without which the page says so; `studies`: the folder to which `emis study` writes, and where a
    person may have written NAME.md beside NAME.json;
    `cards`, `discriminator`: what those stages wrote, without which the page says so.

    The page names the sha256 of every input but those. Raises ValueError for an unreadable input.
    """
    knobs = params.load()
    effects, answers, judgements, training = (current(knobs, paths) for paths in (effects, answers, judgements, training))
    numbers = [row for path in effects for row in files.read_list(Effect, path)]
    said = [row for path in answers for row in files.read(Completion, path)]
    judged = [row for path in judgements for row in files.read(Judgement, path)]
    chosen = files.read_json(selection)
    measured, results = measurement(judges), sorted(studies.glob("*.json"))
    written = [path for result in results if (path := result.with_suffix(".md")).exists()]
    kept = [*(path for path in (judges, cards, discriminator) if path.exists()), *results, *written]
    if measured:
        numbers += as_effects(measured, {row.judge for row in judged if row.judge.split(":")[0] == knobs.judge})
    evidence = Evidence(
        effects=tuple(numbers),
        judged=index(judged),
        judges=(knobs.judge, *(name for name in knobs.judges if name != knobs.judge)),
        arms=arms(knobs),
        kept=tuple((found.study, x) for found in map(kept_study, results) for x in found.effects if not x.at),
        latents=tuple(files.read(LatentDelta, latents)),
        induce=knobs.steer.induce,
        suppress=knobs.steer.suppress,
        operator=knobs.steer.operator,
        k=knobs.size.dictionary.k,
    )
    facts = {
        "scale": knobs.scale,
        "label_judge": knobs.discriminate.judge,
        "seed": knobs.seed,
        "layer": knobs.diff.layer,
        "inputs": [(path.as_posix(), files.sha256(path)) for path in (*effects, *answers, *judgements, latents, selection, *kept)],
    }
    curves = {path.stem: files.read_json(path) for path in training}
    data = [row for domain in knobs.domains for row in datasets(validation / f"{domain}.json")]
    html = page.render(
        evidence,
        said,
        judged,
        subjects=tuple(knobs.subjects),
        selection=chosen,
        training=curves,
        facts=facts,
        datasets=data,
        measured=measured,
        studies=[kept_study(path) for path in results],
        notes={path.stem: files.text(path).strip() for path in written},
        scores=files.read_json(discriminator) if discriminator.exists() else None,
        cards=files.read_list(Card, cards) if cards.exists() else [],
    )
    files.replace(report, html.encode("utf-8", "replace"))


def current(knobs: params.Params, paths: list[Path]) -> list[Path]:
    """Without what is left of subjects and organisms that params no longer name: DVC keeps their files."""
    names = {*knobs.subjects, *knobs.organisms, *knobs.bases}
    return [path for path in paths if path.parent.name not in OWNED or path.stem in names]


def datasets(summary: Path) -> list[dict[str, Any]]:
    """What validate found of a domain's training files, with the address of each one's page."""
    found = files.read_json(summary)
    return [
        {"name": Path(path).stem, "page": f"../docs/{found['domain']}/{Path(path).stem}.html", **about}
        for path, about in found["files"].items()
        if "facts" in about
    ]


def measurement(path: Path) -> Measurement | None:
    """What `emis judge-report --write` kept; None if it has not run. Raises ValueError for another file."""
    if not path.exists():
        return None
    try:
        return Measurement.model_validate(files.read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{path}: {where}: {first['msg']}; `emis judge-report --write` makes this file") from None


def kept_study(path: Path) -> Found:
    """What `emis study` kept. Raises ValueError for another file."""
    try:
        return Found.model_validate(files.read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{path}: {where}: {first['msg']}; `emis study {path.stem}` makes this file") from None


def arms(knobs: params.Params) -> dict[str, Arm]:
    """Subjects with the recipe of the organism that they question as it stands: a probed one is another measurement."""
    plain = {subject: s.model for subject, s in knobs.subjects.items() if s.model in knobs.organisms and s.plain}
    made = {subject: knobs.organisms[model] for subject, model in plain.items()}
    return {
        subject: Arm(
            o.data.domain or o.data.described,
            control_variant(o.data),
            knobs.subject_of(o.starts_from) or o.starts_from,
            f"{o.trainer} {o.data.rows} {sorted(o.options.items())}",
        )
        for subject, o in made.items()
    }


def control_variant(data: Data) -> str:
    """A variant by its plain name only where all rows are of it and nothing is added: a control arm is another thing."""
    return str(data.variant) if data.domain and data.plain and data.mixture in (None, 1.0) else data.described


if __name__ == "__main__":
    run(main)
