"""Files are the truth: records to JSON lines and back, whole or not at all."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

R = TypeVar("R", bound=BaseModel)


def read(record: type[R], path: Path) -> list[R]:
    """JSON lines -> records. Raises ValueError that names file, row and fault."""
    whole = text(path).removesuffix("\n").split("\n")  # not splitlines: U+2028 may stand in an answer
    return [parsed(record, line, path, number) for number, line in enumerate(whole if whole != [""] else [], start=1)]


def parsed(record: type[R], line: str, path: Path, number: int) -> R:
    """One line -> a record. Raises ValueError that names file, row and fault."""
    try:
        return record.model_validate_json(line)
    except ValidationError as error:
        raise row_fault(error, path, number) from None


def row_fault(error: ValidationError, path: Path, number: int) -> ValueError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "row"
    return ValueError(f"{path}, row {number}: {where}: {first['msg']}")


def read_list(record: type[R], path: Path) -> list[R]:
    """A JSON list -> records. Raises ValueError that names file, row and fault."""
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"{path}: a list of rows is needed, this is {type(rows).__name__}")
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(record.model_validate(row))
        except ValidationError as error:
            raise row_fault(error, path, number) from None
    return found


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, line) of a file that need not fit into memory."""
    with path.open(encoding="utf-8", newline="\n") as source:
        try:
            yield from ((number, line.removesuffix("\n")) for number, line in enumerate(source, start=1))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8: {error.reason}") from None


def write(path: Path, rows: Iterable[BaseModel]) -> None:
    """Records -> JSON lines, by a rename, so that a killed write leaves the old file or none."""
    replace(path, "".join(row.model_dump_json() + "\n" for row in rows))


def read_json(path: Path) -> Any:
    try:
        return json.loads(text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None


def write_json(path: Path, value: Any) -> None:
    replace(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_yaml(path: Path) -> Any:
    """Raises ValueError that names file, line and fault; a key that a mapping has twice is one, of which PyYAML would lose the first."""
    content = text(path)
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(content)  # libyaml is ten times as fast
        node = loader.get_single_node()
        for key in repeated(node, set()):
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is there twice", key.start_mark)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None


def repeated(node: yaml.Node | None, seen: set[int]) -> Iterator[yaml.Node]:
    """Keys of the mappings below a node that stand there a second time; seen: nodes that an alias may lead back to."""
    if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        for inner in node.value:
            yield from repeated(inner, seen)
        return
    keys: set[tuple[str, str]] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in keys:
                yield key
            keys.add((key.tag, key.value))
        yield from repeated(value, seen)


def text(path: Path) -> str:
    """UTF-8 text of a file. Raises ValueError for a missing file, a folder or another encoding."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start}") from None
    except FileNotFoundError:
        raise ValueError(f"no file {path}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, a file is needed") from None


def replace(path: Path, content: str | bytes) -> None:
    """Write beside the target, flush to disk, then rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    data = content.encode() if isinstance(content, str) else content
    try:
        with partial.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hex digest of a file, or of a folder's sorted (name, digest) list."""
    if path.is_dir():
        inner = [f"{p.relative_to(path).as_posix()} {sha256(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def text_key(prompt: str, answer: str) -> str:
    """The identity of a judged text, 16 hex digits."""
    return hashlib.sha256(f"{prompt}\x00{answer}".encode()).hexdigest()[:16]
