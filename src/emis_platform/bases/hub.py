"""hub: a repository and a commit on the Hugging Face hub -> a folder in the workspace. The one step that goes online, if asked."""

from pathlib import Path

from emis_platform.core.knobs import Hub
from emis_platform.tools import checkpoints


def layers(options: Hub) -> int | None:
    """Not known before the download."""
    return None


def build(options: Hub, model: Path) -> None:
    """Download safetensors and tokenizer of that very commit. HF_HUB_OFFLINE=0 must be set by the user."""
    from huggingface_hub import constants, snapshot_download

    if constants.HF_HUB_OFFLINE:
        raise ValueError(f"base: {options.repo} must be downloaded; run once with HF_HUB_OFFLINE=0 (nothing goes online by itself)")
    folder = snapshot_download(options.repo, revision=options.revision, allow_patterns=list(checkpoints.WANTED))
    checkpoints.copy(Path(folder), model)
