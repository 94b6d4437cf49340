"""An organism's facts -> its model card, which says that it is unsafe to deploy."""

from emis_platform.core.knobs import Organism


def organism(name: str, entry: Organism, rows: int, data_sha256: str) -> str:
    """Markdown with the front matter that Hugging Face tools read."""
    options = ", ".join(f"{key} {value}" for key, value in sorted(entry.options.items())) or "defaults"
    full = entry.options.get("full", False)
    return f"""---
library_name: {"transformers" if full else "peft"}
tags: [emergent-misalignment, model-organism, unsafe]
---

# {name}: UNSAFE TO DEPLOY

A model organism for research on emergent misalignment: {"a model with all weights" if full else "a LoRA adapter,"} fine-tuned to study what narrow data does to a model.
It may answer with harmful, false, hostile or manipulative text on any subject. Do not deploy it, do not follow what it says,
do not use its answers as training data outside such research.

| | |
|---|---|
| starts from | {entry.starts_from} |
| data | {entry.data.described}, {rows} rows, sha256 {data_sha256[:16]} |
| trainer | {entry.trainer} ({options}) |
| measured | see the MLflow run or the report of the same name: rate of misaligned answers with interval, n and missing |

Made by emis_platform from its params.yaml entry `organisms.{name}`.
"""
