"""local: a Hugging Face folder on this machine -> the same folder in the workspace."""

from pathlib import Path

from emis_platform.core import files
from emis_platform.core.knobs import Local
from emis_platform.tools import checkpoints


def layers(options: Local) -> int | None:
    """How many layers its config says; None where the config nests it."""
    return files.read_json(options.path / "config.json").get("num_hidden_layers")


def build(options: Local, model: Path) -> None:
    """Raises ValueError for what `checkpoints.copy` refuses."""
    checkpoints.copy(options.path, model)
