"""A folder of weights -> a checked copy: known architecture, safetensors only, no remote code."""

import json
import shutil
from pathlib import Path

ARCHITECTURES = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "GPTNeoXForCausalLM",
    "OlmoForCausalLM",
    "Olmo2ForCausalLM",
}
"""Decoder-only models whose layers are steered and read in the same place."""

WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")


def copy(source: Path, model: Path) -> None:
    """Copy what is needed. Raises ValueError for another architecture, remote code or weights that are not safetensors."""
    if not (source / "config.json").is_file():
        raise ValueError(f"base: {source} has no config.json: a Hugging Face model folder is needed")
    config = json.loads((source / "config.json").read_text())
    named = config.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise ValueError(f"base: architecture {named[0]} in {source}; there is: {', '.join(sorted(ARCHITECTURES))}")
    if "auto_map" in config:
        raise ValueError(f"base: {source} asks for remote code (auto_map), which is never run")
    if not list(source.glob("*.safetensors")):
        there = ", ".join(sorted(p.name for p in source.iterdir())) or "nothing"
        raise ValueError(f"base: no *.safetensors in {source} (pickled weights are refused); there is: {there}")
    model.mkdir(parents=True, exist_ok=True)
    for pattern in WANTED:
        for path in sorted(source.glob(pattern)):
            shutil.copyfile(path, model / path.name)
