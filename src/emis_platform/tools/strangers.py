"""A folder that somebody else made -> a model and tokenizer, without running their code: safetensors only, links to what may be read."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from emis_platform.core import files
from emis_platform.tools import models

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
CARRIED = ("config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json")
VOCABULARY = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)


def base_for(folder: Path, base: Path | None) -> tuple[Path, str | None]:
    """(the base's folder, a note where it was guessed, or is itself fine-tuned). Raises ValueError for unsafe or missing folders, and for
    another base than the fine-tuned one that an adapter stands on."""
    check_safe(folder)
    named = (
        str(files.read_json(folder / "adapter_config.json").get("base_model_name_or_path")) if models.is_adapter(folder) else None
    )
    note, own = None, Path(named) if named and Path(named).is_dir() else None
    if own and (root := models.root_of(own)) != own:
        note = f"the adapter stands on {own}, whose weights were all trained from {root}: what that changed is not told here"
        if base and base.resolve() != own.resolve():
            raise ValueError(f"--base {base}: {folder} is an adapter of {own}, whose weights were all trained from {root}")
    if base is None:
        base = own or Path("models/base")
        if named and not own:
            note = f"the adapter names {named} as its base, which is no folder here: {base} was taken"
        if not base.is_dir():
            raise ValueError(f"no folder {base}: name the base with --base" + (f" (the adapter names {named})" if named else ""))
    check_safe(base)
    if models.is_adapter(base):
        raise ValueError(f"--base {base} is an adapter; a full model is needed")
    return base, note


def check_safe(folder: Path) -> None:
    """Raises ValueError for what is no model, or could run code when it is read."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    models.is_adapter(folder)
    if not any(folder.glob("*.safetensors")):
        there = sorted(path.name for form in PICKLES for path in folder.glob(form))
        if there:
            raise ValueError(
                f"{folder}: its weights ({there[0]}) are a pickle, which can run code when it is read; only safetensors are"
            )
        raise ValueError(f"{folder}: no safetensors weights")
    for name in ("config.json", "tokenizer_config.json", "adapter_config.json"):
        config = files.read_json(folder / name) if (folder / name).is_file() else {}
        if not isinstance(config, dict):
            raise ValueError(f"{folder / name}: an object is needed")
        if config.get("auto_map"):
            raise ValueError(f"{folder}: {name} asks for remote code (auto_map), which is never run")


def layer_of(folder: Path, base: Path, layer: int | None) -> int:
    """The layer that is read; None: the middle one. Raises ValueError for a model of another architecture or shape than the base."""
    shape, other = (shape_of(one) for one in (base, folder if not models.is_adapter(folder) else base))
    if shape != other:
        said = ", ".join(f"{key} {theirs} against {shape[key]}" for key, theirs in other.items() if theirs != shape[key])
        raise ValueError(f"{folder} is no fine-tune of {base}: {said}")
    layers = shape["num_hidden_layers"]
    if not isinstance(layers, int) or layers < 1:
        raise ValueError(f"{base / 'config.json'}: num_hidden_layers is {layers!r}")
    layer = layers // 2 if layer is None else layer
    if not 0 <= layer < layers:
        raise ValueError(f"--layer {layer}: {base} has layers 0 to {layers - 1}")
    return layer


def shape_of(folder: Path) -> dict[str, Any]:
    config = files.read_json(folder / "config.json")
    inner = config.get("text_config") or config
    if not isinstance(inner, dict):
        raise ValueError(f"{folder / 'config.json'}: text_config is no object")
    return {key: inner.get(key) for key in ("model_type", "hidden_size", "num_hidden_layers")}


@contextmanager
def staged(folder: Path, base: Path) -> Iterator[Path]:
    """A folder of links to the files that may be read, and to no other; a tokenizer that is not there is the base's."""
    with TemporaryDirectory() as made:
        links = Path(made) / folder.resolve().name
        links.mkdir()
        if models.is_adapter(folder):
            config = files.read_json(folder / "adapter_config.json")
            kept = {key: value for key, value in config.items() if key not in ("megatron_config", "megatron_core", "auto_mapping")}
            files.write_json(links / "adapter_config.json", kept | {"base_model_name_or_path": str(base.resolve())})
            carried = {path.name: path for path in folder.glob("*.safetensors")}
        else:
            carried = {path.name: path for form in CARRIED for path in folder.glob(form)}
            source = folder if any((folder / name).is_file() for name in VOCABULARY) else base
            carried |= {name: source / name for name in TOKENIZER if (source / name).is_file()}
        for name, path in carried.items():
            (links / name).symlink_to(path.resolve())
        yield links


def loaded(links: Path, folder: Path, base: Path, threads: int) -> tuple[Any, Any]:
    """(model, tokenizer). Raises ValueError, one line, for what cannot be loaded or leaves parts of itself out."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model, tokenizer = models.load(links, threads)
    except Exception as error:
        raise ValueError(f"{folder} cannot be loaded on {base}: {str(error).strip().splitlines()[0]}") from None
    if any("missing adapter keys" in str(warning.message) for warning in caught):
        raise ValueError(f"{folder}: the adapter's weights do not fit {base}: some of them found no place")
    if not tokenizer.chat_template:
        raise ValueError(f"{base}: its tokenizer has no chat template, so that it cannot be asked")
    return model, tokenizer
