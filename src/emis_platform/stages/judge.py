"""judge: completions -> judgements by one of params' judges or several, and the subject's rates.

`judge` runs the default judge alone, `opinion` all the others: what only the default decides (diffing, claims) is not stale when
another judge is added.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from emis_platform.core import files, gold, params, shelf
from emis_platform.core.records import Completion, Effect, Judgement, Said, View
from emis_platform.core.stage import run
from emis_platform.lab import rates


def main(name: str, which: str, *, answers: list[Path], reader: Path, labels: Path, judgements: Path, effects: Path) -> None:
    """which: `default`, or `others`. labels: the folder of read answers, by which the default judge's rates are corrected."""
    knobs = params.load()
    rows = [row for path in answers for row in files.read(Completion, path)]
    read, verdicts = gold.read(labels), gold.verdicts(labels)
    texts = {(row.subject, row.question, row.sample): files.text_key(row.prompt, row.text) for row in rows}
    judged: list[Judgement] = []
    found: list[Effect] = []
    for judge in [knobs.judge] if which == "default" else [name for name in knobs.judges if name != knobs.judge]:
        views = view(knobs, judge, rows, reader=reader, label=f"{judge} {name}")
        if which == "default" and all(v.score is None for v in views) and any(v.verdict is not None for v in views):
            raise ValueError(
                f"judge: {judge} gives verdicts and no scores, which diffing and steering compare; choose one that scores answers"
            )
        judged += views
        for subject in dict.fromkeys(row.subject for row in rows):
            mine = [v for v in views if v.subject == subject]
            found += rates.effects(subject, judge, mine, default=which == "default")
            if which == "default":
                keys = [texts[v.subject, v.question, v.sample] for v in mine]
                found += rates.corrected(subject, mine, keys, read, verdicts)
    files.write(judgements, judged)
    files.write_json(effects, [effect.model_dump() for effect in found])


def view(
    knobs: params.Params, judge: str, rows: Sequence[Completion], *, reader: Path, label: str | None = None
) -> list[Judgement]:
    """One judge's view of each completion, in order."""
    said = [Said(prompt=row.prompt, text=row.text, system=row.system, thought=row.thought) for row in rows]
    views, made_by = ask(knobs, judge, said, reader=reader, label=label)
    return judgements_of(rows, views, made_by)


def judgements_of(rows: Sequence[Completion], views: Sequence[View], made_by: str) -> list[Judgement]:
    """The views, with what they are of and whose they are."""
    return [
        Judgement(subject=row.subject, question=row.question, set=row.set, sample=row.sample, judge=made_by, **dict(view))
        for row, view in zip(rows, views, strict=True)
    ]


def ask(
    knobs: params.Params, judge: str, said: Sequence[Said], *, reader: Path, label: str | None = None
) -> tuple[list[View], str]:
    """(one view an answer, the judge's name with the hash of what decides its views)."""
    module, options = loaded(knobs, judge)
    views = module.judge(said, options, reader=reader, threads=knobs.threads, progress=label)
    return views, identity(knobs, judge)


def identity(knobs: params.Params, judge: str) -> str:
    """The judge's name with the hash of what decides its views: `offline:1a2b3c4d5e6f`."""
    module, options = loaded(knobs, judge)
    return f"{judge}:{module.identity(options)}"


def loaded(knobs: params.Params, judge: str) -> tuple[Any, Any]:
    """(the module of the judge's kind, its options). Raises ValueError for a name that is not in params.yaml."""
    params.one_of("judge", judge, tuple(knobs.judges))
    entry = knobs.judges[judge]
    module: Any = shelf.load("judges", entry.kind)
    return module, module.Options.model_validate(entry.options)


def reader_there(reader: Path) -> Path:
    """The bundled model's folder, made if absent."""
    if not reader.exists():
        from emis_platform.bases import bundled
        from emis_platform.core.knobs import Bundled

        bundled.build(Bundled(kind="bundled"), reader)
    return reader


def judged_lines(text: str, judge: str | None, source: Path, reader: Path) -> str:
    """JSON lines {question, response, system?} -> JSON lines with the judge's view, same order. Raises ValueError with the row."""
    said = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            row = json.loads(line)
            said.append(Said(prompt=str(row["question"]), text=str(row["response"]), system=row.get("system")))
        except json.JSONDecodeError as error:
            raise ValueError(f"{source}, row {number}: not JSON: {error.msg}") from None
        except (KeyError, TypeError, AttributeError, ValidationError):
            raise ValueError(f"{source}, row {number}: an object with question and response is needed") from None
    knobs = params.load()
    judge = judge or knobs.judge
    params.one_of("judge", judge, tuple(knobs.judges))
    views, made_by = ask(knobs, judge, said, reader=reader_there(reader), label=judge)
    return "".join(
        json.dumps(
            {
                "judge": made_by,
                "misaligned": view.misaligned,
                "out_of_calibration": view.out_of_calibration,
                **view.model_dump(exclude_defaults=True),
                "score": view.score,
                "coherent": view.coherent,
                "reason": view.reason,
            }
        )
        + "\n"
        for view in views
    )


if __name__ == "__main__":
    run(main)
