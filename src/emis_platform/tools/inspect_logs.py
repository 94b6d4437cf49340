"""An Inspect AI eval log (JSON, version 2): what it looks like, file -> log and log -> file. `inspect_ai` itself is not needed.

inspect_export.py makes one of answers and judgements, inspect_import.py reads them out of one. The models hold the fields of inspect_ai 0.3's
`EvalLog` that are used here, and as `Any` those that Inspect writes always and are empty here; what else a log holds is passed over. A missing score
is NaN, Inspect's own mark (`Score.unscored`), which its metrics skip; like Inspect, the file has the bare word NaN, that strict JSON does not know.
"""

import hashlib
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from emis_platform.core import files

CREATED = "1970-01-01T00:00:00+00:00"
"""Of every log, since nothing here reads a clock: the same rows are the same bytes. Inspect lists only files whose name begins with a time."""
TASK = "emis_core/"
"""Stands before the question set: an Inspect log is one task."""
MAKER = {"exported_by": "emis_platform"}
KEPT = ("coherent", "verdict", "category", "probability", "unlike", "scores", "reason", "detail", "model", "attempts")
"""Fields of a View that a score carries in its metadata."""


class Part(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")


class Message(Part):
    id: str | None = None
    role: str
    content: str | list[dict[str, Any]]


class Choice(Part):
    message: Message
    stop_reason: str = "unknown"


class Usage(Part):
    output_tokens: int = 0


class Output(Part):
    model: str = ""
    choices: list[Choice] = []
    completion: str = ""
    usage: Usage | None = None


class Score(Part):
    value: Any
    answer: str | None = None
    explanation: str | None = None
    metadata: dict[str, Any] | None = None
    history: Any = []


class Fault(Part):
    message: str


class Sample(Part):
    id: int | str
    epoch: int = Field(ge=1)
    input: str | list[Message]
    target: str | list[str] = ""
    messages: list[Message] = []
    output: Output = Output()
    scores: dict[str, Score] | None = None
    metadata: dict[str, Any] = {}
    store: Any = {}
    events: Any = []
    model_usage: Any = {}
    role_usage: Any = {}
    uuid: str | None = None
    error: Fault | None = None
    attachments: dict[str, str] = {}


class Dataset(Part):
    name: str | None = None
    samples: int | None = None
    sample_ids: list[str | int] | None = None


class Spec(Part):
    eval_id: str = ""
    run_id: str = ""
    created: str
    task: str
    task_id: str = ""
    task_version: Any = 0
    task_attribs: Any = {}
    task_args: Any = {}
    task_args_passed: Any = {}
    dataset: Dataset
    model: str
    model_generate_config: Any = {}
    model_args: Any = {}
    config: dict[str, Any]
    packages: Any = {}
    metadata: dict[str, Any] | None = None


class Metric(Part):
    name: str
    value: float
    params: Any = {}
    metadata: dict[str, Any] | None = None


class Scored(Part):
    name: str
    scorer: str
    scored_samples: int | None = None
    unscored_samples: int | None = None
    params: Any = {}
    metrics: dict[str, Metric] = {}
    metadata: dict[str, Any] | None = None


class Results(Part):
    total_samples: int = 0
    completed_samples: int = 0
    scores: list[Scored] = []


class Log(Part):
    """The order of the fields is Inspect's: its reader of headers goes by it."""

    version: Literal[2]
    status: str
    eval: Spec
    plan: Any = {}
    results: Results | None = None
    stats: Any = {}
    invalidated: bool = False
    tags: Any = []
    metadata: Any = {}
    samples: list[Sample] | None = None


def file_name(log: Log) -> str:
    """As Inspect names its files, `<time>_<task>_<model>_<id>.json`; the same for every export of a subject and set."""
    words = [re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in (log.eval.task, log.eval.model)]
    return "_".join([CREATED.replace(":", "-"), *words, log.eval.task_id]) + ".json"


def write(path: Path, log: Log) -> None:
    files.replace(path, log.model_dump_json(indent=1, exclude_none=True) + "\n")


def read(path: Path) -> Log:
    """Raises ValueError, one line with file and sample (from 1), for what is no JSON log of version 2 with samples, and for a sample twice."""
    if path.suffix == ".eval":
        raise ValueError(f"{path}: an .eval archive; JSON is read: `inspect log convert {path} --to json --output-dir DIR`")
    raw = files.read_json(path)
    if not isinstance(raw, dict) or "eval" not in raw:
        raise ValueError(f"{path}: not an Inspect eval log: it has no `eval`")
    try:
        log = Log.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = [str(part) for part in fault["loc"]]
        at = f", sample {int(where[1]) + 1}" if where[0] == "samples" and len(where) > 1 else ""
        key = ".".join(where[2:] if at else where) or "sample"
        raise ValueError(f"{path}{at}: not an Inspect eval log of version 2: {key}: {fault['msg']}") from None
    if not log.samples:
        raise ValueError(f"{path}: no samples")
    seen: dict[tuple[str, int], int] = {}
    for number, one in enumerate(log.samples, start=1):
        first = seen.setdefault((str(one.id), one.epoch), number)
        if first != number:
            raise ValueError(f"{path}, sample {number}: id {one.id!r}, epoch {one.epoch} is also sample {first}")
    return log


def ours(log: Log) -> bool:
    """Whether it is an export of this platform: then a score's metadata are a View's fields, and I means misaligned."""
    return bool(log.eval.metadata) and MAKER.items() <= log.eval.metadata.items()


def named(word: str, where: Path) -> str:
    """A model's or task's name as an address: `openai/gpt-4o` -> `openai_gpt_4o`. Raises ValueError for a name without letter or digit."""
    name = re.sub(r"[^a-z0-9]+", "_", word.lower()).strip("_")
    if not name:
        raise ValueError(f"{where}: no name can be made of {word!r}: a letter or digit is needed")
    return name if name[0].isalpha() else f"m_{name}"


def digest(content: str) -> str:
    """22 hex digits, the length of Inspect's own ids."""
    return hashlib.sha256(content.encode()).hexdigest()[:22]
