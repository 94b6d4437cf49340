"""dvc.lock + dvc.yaml -> plain dicts: which stage wrote which file from what, and the hash that names it. No DVC is imported."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from emis_platform.core import files

Entry = dict[str, Any]
"""{"cmd": str, "deps": {path: md5}, "params": {dotted key: value}, "outs": {path: md5}}; a folder's md5 ends in `.dir`."""


def read(workspace: Path) -> dict[str, Entry]:
    """{stage: entry} of the stages that dvc.yaml still has (DVC keeps removed ones). Raises ValueError without a dvc.lock."""
    path = workspace / "dvc.lock"
    if not path.exists():
        raise ValueError(f"no {path}: nothing has run here yet; `make repro` or `dvc repro` writes it")
    stages = (files.read_yaml(path) or {}).get("stages") or {}
    there = declared(workspace)
    return {
        name: entry(raw) for name, raw in stages.items() if there is None or name in there or f"{name.split('@')[0]}@*" in there
    }


def entry(raw: dict[str, Any]) -> Entry:
    return {
        "cmd": raw.get("cmd"),
        "deps": {item["path"]: item.get("md5") for item in raw.get("deps") or []},
        "params": {key: value for found in (raw.get("params") or {}).values() for key, value in found.items()},
        "outs": {item["path"]: item.get("md5") for item in raw.get("outs") or []},
    }


def declared(workspace: Path) -> set[str] | None:
    """Stage names of dvc.yaml, `foreach` spread over params.yaml; `name@*` where that cannot be told, None without a dvc.yaml."""
    if not (workspace / "dvc.yaml").exists():
        return None
    knobs = files.read_yaml(workspace / "params.yaml") if (workspace / "params.yaml").exists() else {}
    names = set()
    for name, stage in (files.read_yaml(workspace / "dvc.yaml").get("stages") or {}).items():
        items: Any = [None] if not {"foreach", "matrix"} & set(stage) else stage.get("foreach", "*")
        if isinstance(items, str):
            found: Any = knobs
            for key in items.removeprefix("${").removesuffix("}").split("."):
                found = found.get(key, "*") if isinstance(found, dict) else "*"
            items = found
        names |= {name if item is None else f"{name}@{'*' if isinstance(item, dict) else item}" for item in items}
    return names


def identity(value: Any) -> str:
    """sha256 of the canonical JSON (sorted keys, no spaces): of one entry, or of {stage: entry}."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def producer(stages: dict[str, Entry], path: str) -> str | None:
    """The stage whose output is this path or a folder around it."""
    for name, found in stages.items():
        if any(path == out or path.startswith(out.rstrip("/") + "/") for out in found["outs"]):
            return name
    return None


def md5(stages: dict[str, Entry], path: str) -> str | None:
    """What dvc.lock says of a path, as an output or else as a dependency."""
    for side in ("outs", "deps"):
        for found in stages.values():
            if path in found[side]:
                return found[side][path]
    return None


def rehash(path: Path) -> str | None:
    """A file's or folder's md5 as DVC 3 writes it into dvc.lock; None if there is nothing at the path.

    A folder's is the md5 of the JSON list of {"md5", "relpath"}, sorted by relpath, plus `.dir` (dvc_data.hashfile.tree.Tree).
    """
    if path.is_dir():
        inner = [Path(folder, name) for folder, _, names in os.walk(path, followlinks=True) for name in names]
        inner = [file for file in inner if "__pycache__" not in file.parts]
        rows = [{"md5": rehash(file), "relpath": file.relative_to(path).as_posix()} for file in inner]
        text = json.dumps(sorted(rows, key=lambda row: str(row["relpath"])), sort_keys=True)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"
    if not path.exists():
        return None
    with path.open("rb") as data:
        return hashlib.file_digest(data, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
