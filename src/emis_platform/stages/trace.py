"""trace: a number of the table -> the rows, model, data and parameters behind it, out of dvc.lock. Not a DVC stage."""

import difflib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.tools import lock
from emis_platform.tools.evidence import default_judge, effects, judged, rows_of


def trace(workspace: Path, subject: str, measure: str) -> list[str]:
    """The walk back as lines, one step a line, indented by depth. Raises ValueError that lists what there is."""
    stages = lock.read(workspace)
    table = {
        (effect.subject, effect.measure): (path, effect) for path, rows in effects(workspace, stages).items() for effect in rows
    }
    pick("subject", subject, {name for name, _ in table})
    pick(f"measure of {subject}", measure, {other for name, other in table if name == subject})
    path, effect = table[subject, measure]
    there = "" if lock.rehash(workspace / path) == lock.md5(stages, path) else "; THE FILE DIFFERS FROM dvc.lock"
    number = "no value" if effect.value is None else f"{effect.value:.4g}"
    interval = "" if effect.low is None or effect.high is None else f" [{effect.low:.4g}, {effect.high:.4g}]"
    lines = [f"{subject} {measure} = {number}{interval}, n {effect.n}, missing {effect.missing}{there}"]
    lines += [f"  {line}" for line in judges(workspace, subject, measure)]
    return lines + walk(stages, path, "  ", set())


def pick(what: str, name: str, there: set[str]) -> None:
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"no {what} {name!r}{hint}; there is: {', '.join(sorted(there))}")


def judges(workspace: Path, subject: str, measure: str) -> list[str]:
    """For a judge's measure: which judge, how many judgements, why some are missing."""
    rows = judged(workspace, subject)
    if not rows or not re.match(r"(misaligned|aligned|coherent)(_|$)", measure):
        return []
    _, _, rest = measure.partition("_")
    names = sorted({row.judge.split(":")[0] for row in rows}, key=len, reverse=True)
    first = default_judge(files.read_yaml(workspace / "params.yaml"))
    name = next((name for name in names if rest.startswith(name)), first)
    sets = {row.set for row in rows}
    part = next((given for given in [rest.removeprefix(name).strip("_")] if given in sets), "score")
    rows = [row for row in rows if row.judge.split(":")[0] == name and row.set == part]
    reasons = Counter(row.reason or "no reason" for row in rows if row.score is None and row.verdict is None)
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "none"
    seen = f"{len(rows)} judgements of set {part}, without a view: {why}"
    where = rows_of(workspace, subject, "judgements" if name == first else "opinions").relative_to(workspace).as_posix()
    return [f"judge {', '.join(sorted({row.judge for row in rows})) or name}: {seen} ({where})"]


def walk(stages: dict[str, lock.Entry], path: str, indent: str, seen: set[str]) -> list[str]:
    """A file, the stage that wrote it, and the same for each file that the stage read; a stage is told once.

    A folder that several stages wrote into is told by what they wrote.
    """
    name = lock.producer(stages, path)
    line = f"{indent}{path}  md5 {lock.md5(stages, path) or 'not in dvc.lock'}"
    if name is None:
        within = [out for entry in stages.values() for out in entry["outs"] if out.startswith(f"{path}/")]
        return [line, *(step for out in sorted(within) for step in walk(stages, out, f"{indent}  ", seen))]
    entry = stages[name]
    line += f"  <- {name}  entry {lock.identity(entry)[:12]}"
    if name in seen:
        return [f"{line}  (above)"]
    seen.add(name)
    code = {found: digest for found, digest in entry["deps"].items() if is_code(found)}
    lines = [line] + [f"{indent}  param {key} = {short(value)}" for key, value in sorted(entry["params"].items())]
    lines += [f"{indent}  code {len(code)} files, sha256 {lock.identity(code)[:12]}"] if code else []
    lines += [f"{indent}  also wrote {out}  md5 {digest}" for out, digest in entry["outs"].items() if out != path]
    return lines + [line for found in entry["deps"] if found not in code for line in walk(stages, found, f"{indent}  ", seen)]


def is_code(path: str) -> bool:
    """Python files and folders of them; the facts and weights under src/ are data."""
    return path.startswith("src/") and Path(path).suffix in (".py", "")


def short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
