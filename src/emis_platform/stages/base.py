"""base: one entry of `bases` -> a Hugging Face folder with safetensors weights."""

import shutil
from pathlib import Path

from emis_platform.core import params, shelf
from emis_platform.core.stage import run


def main(name: str, *, model: Path) -> None:
    options = params.load().bases[name]
    partial = model.with_name(model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shelf.load("bases", options.kind).build(options, partial)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)


if __name__ == "__main__":
    run(main)
