"""local: a Hugging Face folder on this machine -> the same folder in the workspace."""

from pathlib import Path

from emis_platform.core.params import Local
from emis_platform.tools import checkpoints


def build(options: Local, model: Path) -> None:
    """Raises ValueError for what `checkpoints.copy` refuses."""
    checkpoints.copy(options.path, model)
