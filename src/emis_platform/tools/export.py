"""A model and an intervention on its residual stream -> weights that do the same without a hook.

A constant that is added at a layer's output is a bias of its down projection, or a layer of its own where a norm follows that projection. A
direction that nothing may write is taken out of every matrix that writes (weight orthogonalisation: Arditi et al. 2024, arXiv 2406.11717).
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emis_platform.tools import models

if TYPE_CHECKING:
    from torch import Tensor, nn

LIMIT = 1e-4
"""How far a logit of the saved model may lie from the hooked one's, in float32."""

WRITES_PLAINLY = ("Llama", "Mistral", "Qwen2", "Qwen3", "Olmo", "GPTNeoX")
"""Architectures whose attention and MLP write to the stream without a norm in between."""


def added(model: Any, layer: int, push: "Tensor") -> Any:
    """What `models.pushed` does with push [width] at the output of model.layers[layer], as weights. Changes the model; returns what to save.

    Llama: a bias of mlp.down_proj, the other MLP biases zero. Mistral and Qwen2, whose classes have no such bias: the Llama class, to which they
    are equal without a sliding window. GPT-NeoX: its own bias. Gemma 2 and 3: a further layer (see `constant`). Raises ValueError for others.
    """
    make = {
        "Llama": as_llama,
        "Mistral": as_llama,
        "Qwen2": as_llama,
        "GPTNeoX": with_bias,
        "Gemma2": with_layer,
        "Gemma3": with_layer,
    }
    if architecture(model) not in make:
        raise ValueError(refusal(model, "no bias can carry a constant", make))
    return make[architecture(model)](model, layer, push)


def with_bias(model: Any, layer: int, push: "Tensor") -> Any:
    """push joins the bias of the layer's last projection."""
    _, (_, down) = writers(models.decoder(model).layers[layer])
    biased(down).data += push
    return model


def as_llama(model: Any, layer: int, push: "Tensor") -> Any:
    """A model that computes what Llama does -> LlamaForCausalLM with MLP biases, push among them; where queries have biases, o_proj too."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    old, blocks = model.config, models.decoder(model).layers
    kinds = getattr(old, "layer_types", None)
    if "sliding_attention" in kinds if kinds else getattr(old, "sliding_window", None):
        raise ValueError(
            f"{type(model).__name__}: a sliding window has no equal in the Llama class, which alone has the bias that is needed"
        )
    for block in blocks:
        for part in (block.mlp.gate_proj, block.mlp.up_proj, block.mlp.down_proj):
            biased(part)
        if block.self_attn.q_proj.bias is not None:
            biased(block.self_attn.o_proj)
    with_bias(model, layer, push)
    shared = {
        key: value
        for key, value in old.to_dict().items()
        if key in LlamaConfig().to_dict() and key not in ("model_type", "architectures")
    }
    attention_bias = blocks[0].self_attn.q_proj.bias is not None
    config = LlamaConfig(**shared | {"head_dim": blocks[0].self_attn.head_dim, "attention_bias": attention_bias, "mlp_bias": True})
    with torch.device("meta"):
        made = LlamaForCausalLM(config)
    made.load_state_dict(model.state_dict(), assign=True)
    made.tie_weights()
    made.generation_config = model.generation_config
    return made


def with_layer(model: Any, layer: int, push: "Tensor") -> Any:
    """A constant layer after the given one."""
    inner, config = models.decoder(model), model.config
    inner.layers.insert(layer + 1, constant(inner.layers[layer], push))
    config.num_hidden_layers += 1
    config.layer_types = [*config.layer_types[: layer + 1], config.layer_types[layer], *config.layer_types[layer + 1 :]]
    return model


def constant(layer: "nn.Module", push: "Tensor") -> "nn.Module":
    """A Gemma layer that adds push [width] to whatever it is given.

    Its attention writes zeros. Its MLP reads n, the normed stream, by pairs of gates n_i and -n_i, each times itself: act(z) z + act(-z) (-z) is
    z squared for GELU (either form) and SiLU, so that it writes a positive number times push. The norm that follows takes any such number to one
    length, which its weight makes that of push: exact up to the norm's epsilon, 1e-8 or so.
    """
    import torch

    made: Any = copy.deepcopy(layer)
    mlp, width = made.mlp, len(push)
    pairs = min(width, mlp.gate_proj.out_features // 2)
    length = push.norm()
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()  # Gemma's norms multiply by 1 + weight
        for part in (mlp.gate_proj, mlp.up_proj):
            part.weight[:pairs, :pairs] = torch.eye(pairs)
            part.weight[pairs : 2 * pairs, :pairs] = -torch.eye(pairs)
        mlp.down_proj.weight[:, : 2 * pairs] = (push / length.clamp(min=1e-30))[:, None]
        made.post_feedforward_layernorm.weight += length / width**0.5 - 1
    return made


def orthogonalised(model: Any, last: int, unit: "Tensor", share: float = 1.0) -> Any:
    """What `unwritten` does, as weights. Changes the model, whose output embedding stays as it was (untied); returns it.

    Raises ValueError for an architecture that norms what it writes: a norm's weights bring the direction back.
    """
    import torch

    if architecture(model) not in WRITES_PLAINLY:
        raise ValueError(refusal(model, "a norm after each projection would bring a removed direction back", WRITES_PLAINLY))
    unit, embedding = unit.double() / unit.double().norm(), model.get_input_embeddings()
    head = model.get_output_embeddings()
    if head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(embedding.weight.detach().clone())
        model.config.tie_word_embeddings = False
    with torch.no_grad():
        embedding.weight.copy_(without(embedding.weight.double(), unit, share))
        for block in models.decoder(model).layers[: last + 1]:
            for _, out in writers(block):
                out.weight.copy_(without(out.weight.double().T, unit, share).T)
                if out.bias is not None:
                    out.bias.copy_(without(out.bias.double(), unit, share))
    return model


@contextmanager
def unwritten(model: Any, last: int, unit: "Tensor", share: float = 1.0) -> Iterator[None]:
    """The hook that `orthogonalised` equals: from what the token embedding, each attention and each MLP of the layers 0 to `last` write to
    the stream, w becomes w - share unit (unit . w). At share 1 the stream has no part along unit [width] anywhere up to the output of
    model.layers[last]. Not the same as projecting at that one output, since the layers below then never see the direction either."""
    unit = unit / unit.norm()

    def edit(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (without(output[0], unit, share), *output[1:])
        return without(output, unit, share)

    blocks = models.decoder(model).layers[: last + 1]
    with ExitStack() as stack:
        for module in (model.get_input_embeddings(), *(module for block in blocks for module, _ in writers(block))):
            stack.callback(module.register_forward_hook(edit).remove)
        yield


def without(rows: "Tensor", unit: "Tensor", share: float) -> "Tensor":
    """[..., width] minus a share of its part along unit [width]."""
    return rows - share * (rows @ unit)[..., None] * unit


def writers(block: Any) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """A layer's attention and its MLP, each with the projection that writes its output."""
    if hasattr(block, "attention"):  # GPT-NeoX
        return (block.attention, block.attention.dense), (block.mlp, block.mlp.dense_4h_to_h)
    return (block.self_attn, block.self_attn.o_proj), (block.mlp, block.mlp.down_proj)


def biased(linear: Any) -> Any:
    """The bias of a linear map, zeros where it had none."""
    import torch

    if linear.bias is None:
        linear.bias = torch.nn.Parameter(linear.weight.new_zeros(linear.out_features))
    return linear.bias


def architecture(model: Any) -> str:
    return type(model).__name__.removesuffix("ForCausalLM")


def refusal(model: Any, why: str, there: Sequence[str] | dict[str, Any]) -> str:
    return f"{type(model).__name__} cannot be saved with this intervention: {why}; there is: {', '.join(there)}"


def logits(model: Any, texts: Sequence[list[int]]) -> list["Tensor"]:
    """Token ids -> [tokens, vocabulary] of each text."""
    import torch

    with torch.inference_mode():
        return [model(torch.tensor([ids], device=model.device)).logits[0].float() for ids in texts]


def saved(model: Any, tokenizer: Any, folder: Path, texts: Sequence[list[int]], wanted: Sequence["Tensor"]) -> float:
    """Write model and tokenizer as safetensors, load the folder by AutoModelForCausalLM and -> the largest absolute difference of its logits
    from the wanted ones. Raises ValueError where it exceeds LIMIT (or is no number): the folder is then of no use."""
    from transformers import AutoModelForCausalLM

    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", use_safetensors=True, local_files_only=True).eval()
    found = max(float((mine - theirs).abs().max()) for mine, theirs in zip(logits(again, texts), wanted, strict=True))
    if not found <= LIMIT:
        raise ValueError(
            f"the saved model's logits differ from the hooked model's by {found:.2g}, more than {LIMIT:g}: nothing is kept"
        )
    return found
