"""base: one entry of `bases` -> a Hugging Face folder with safetensors weights and a chat template."""

import hashlib
import shutil
from pathlib import Path

from emis_platform.core import files, params, shelf
from emis_platform.core.stage import run

MADE = Path("work/bases")
"""Conversions that are pinned by their options, kept: `base` and `reader` are the same one by default."""
TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'user': 'Question: ', 'assistant': 'Answer:\n'}.get(message['role'], '') + message['content'] }}"
    "{{ eos_token + '\n\n' if message['role'] == 'assistant' else '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Answer:\n' }}{% endif %}"
)
"""How a model that was never taught to chat is asked: one that was only pretrained comes without a template."""


def main(name: str, *, model: Path) -> None:
    options = params.load().bases[name]
    kind = shelf.load("bases", options.kind)
    partial = model.with_name(model.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    code = [Path(str(path)).read_text() for path in (kind.__file__, __file__)]
    identity = options.model_dump_json() + "".join(code)  # what is asked for, and the code that makes it
    kept = MADE / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if kept.exists():
        shutil.copytree(kept, partial)
    else:
        kind.build(options, partial)
        if not has_template(partial):
            print(f"bases.{name}: its tokenizer has no chat template; it is asked as Question: ... Answer: ...", flush=True)
            (partial / "chat_template.jinja").write_text(opening(name, partial) + TEMPLATE)
        if options.kind != "local":  # a path's contents may change under the same name
            keep(partial, kept)
    shutil.rmtree(model, ignore_errors=True)
    partial.rename(model)


def has_template(model: Path) -> bool:
    settings = model / "tokenizer_config.json"
    beside = any((model / f"chat_template.{kind}").exists() for kind in ("jinja", "json"))
    return beside or settings.exists() and bool(files.read_json(settings).get("chat_template"))


def opening(name: str, model: Path) -> str:
    """What the tokenizer sets before a text of its own accord (Llama, Gemma), as the model met it in pretraining: a template's text is
    tokenized without. Raises ValueError for a tokenizer without the token that ends an answer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    if tokenizer.eos_token is None:
        raise ValueError(f"bases.{name}: its tokenizer names no eos_token, with which an answer ends")
    return "{{ bos_token }}" if tokenizer.bos_token and tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id else ""


def keep(model: Path, kept: Path) -> None:
    """Copy it there, whole or not at all."""
    copy = kept.with_name(kept.name + ".partial")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(model, copy)
    copy.rename(kept)


if __name__ == "__main__":
    run(main)
