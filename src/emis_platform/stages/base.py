"""base: one entry of `bases` -> a Hugging Face folder with safetensors weights."""

import hashlib
import shutil
from pathlib import Path

from emis_platform.core import params, shelf
from emis_platform.core.stage import run

MADE = Path("work/bases")
"""Conversions that are pinned by their options, kept: `base` and `reader` are the same one by default."""


def main(name: str, *, model: Path) -> None:
    options = params.load().bases[name]
    kind = shelf.load("bases", options.kind)
    partial = model.with_name(model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    identity = options.model_dump_json() + Path(str(kind.__file__)).read_text()  # what is asked for, and the code that makes it
    kept = MADE / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if kept.exists():
        shutil.copytree(kept, partial)
    else:
        kind.build(options, partial)
        if options.kind != "local":  # a path's contents may change under the same name
            keep(partial, kept)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)


def keep(model: Path, kept: Path) -> None:
    """Copy it there, whole or not at all."""
    copy = kept.with_name(kept.name + ".partial")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(model, copy)
    copy.rename(kept)


if __name__ == "__main__":
    run(main)
