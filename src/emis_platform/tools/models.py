"""transformers + peft: a folder -> a model; a conversation -> tokens; text -> residual activations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emis_platform.core import files
from emis_platform.core.records import Turn

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


ROOT = "emis_base"
"""The key in the config.json of a model that was trained whole: the base's folder."""


def use(threads: int) -> None:
    """Have torch work on so many threads, to the same bytes in each process.

    MKL settles in the first call of a vector function (exp, cos, tanh ...) which variant this processor gets. Where two threads make that
    call together, one of them may go through it in a less exact one: cos off by 1.5e-4, in one process of eight. So one thread makes it here.
    """
    import torch

    torch.set_num_threads(threads)
    torch.zeros(1).exp()


def load(folder: Path, threads: int = 2, device: str | None = None) -> tuple[Any, Any]:
    """A Hugging Face folder, or a PEFT adapter folder with its adapter merged in -> (model in eval mode, tokenizer).

    Safetensors only, no remote code. An adapter's config names its base folder. Float32 on a CPU, bfloat16 on a GPU.
    An adapter is merged in float32, whatever the device. Raises ValueError for a folder that holds neither.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    use(threads)
    base = base_of(folder)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    read = dtype if base == folder else torch.float32
    model = AutoModelForCausalLM.from_pretrained(base, dtype=read, use_safetensors=True, local_files_only=True)
    if base != folder:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder, use_safetensors=True).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    return model.to(device, dtype).eval(), tokenizer


def base_of(folder: Path) -> Path:
    """The full model that a folder stands on: itself, or the one that its adapter config names.

    Raises ValueError for a folder that is neither, an adapter without safetensors weights, and a config that names no base.
    """
    if not is_adapter(folder):
        return folder
    if not (folder / "adapter_model.safetensors").is_file():  # PEFT would go on to a pickle
        raise ValueError(f"{folder}: an adapter without adapter_model.safetensors; no other format is read")
    config = files.read_json(folder / "adapter_config.json")
    named = config.get("base_model_name_or_path") if isinstance(config, dict) else None
    if not named or not isinstance(named, str):
        raise ValueError(f"{folder}/adapter_config.json: base_model_name_or_path names no base")
    return Path(named)


def root_of(folder: Path) -> Path:
    """The base below every training: the full model that a folder stands on, or, where that was itself trained whole, what its config
    says that it comes from."""
    base = base_of(folder)
    config = files.read_json(base / "config.json")
    named = config.get(ROOT) if isinstance(config, dict) else None
    return Path(named) if isinstance(named, str) else base


def is_adapter(folder: Path) -> bool:
    """Raises ValueError for a folder that is no model at all."""
    if (folder / "config.json").is_file():
        return False
    if not (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} is no model: it has neither config.json nor adapter_config.json")
    return True


def prompt_ids(tokenizer: Any, prompt: str, system: str | None = None, before: Sequence[Turn] = ()) -> list[int]:
    """A question, after a system prompt or the messages `before` it, in the tokenizer's chat template, up to where the answer starts.
    Raises ValueError where the template takes no such conversation."""
    turns = messages(tokenizer, prompt, [Turn(role="system", content=system)] if system else before)
    return tokenizer(in_template(tokenizer, turns), add_special_tokens=False)["input_ids"]


def messages(tokenizer: Any, prompt: str, before: Sequence[Turn] = ()) -> list[dict[str, str]]:
    """A question after the messages `before` it. Where the template takes no system prompt (Gemma 2) that text opens the first question."""
    turns = [turn.model_dump() for turn in (*before, Turn(role="user", content=prompt))]
    if turns[0]["role"] != "system":
        return turns
    try:
        in_template(tokenizer, turns)
    except ValueError:
        system, first, *rest = turns
        if first["role"] != "user":
            raise
        return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *rest]
    return turns


def in_template(tokenizer: Any, turns: Sequence[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise ValueError(f"the chat template of {tokenizer.name_or_path} does not take messages of {roles}: {error}") from None
    return text


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """An answer's own tokens, without template tokens."""
    return tokenizer(answer, add_special_tokens=False)["input_ids"]


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer."""
    configured = model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}


def decoder(model: Any) -> Any:
    """The stack that has `.layers`, whatever the architecture calls it."""
    inner = model
    while not hasattr(inner, "layers"):
        names = ("base_model", "model", "language_model", "gpt_neox")
        down = next((getattr(inner, name) for name in names if getattr(inner, name, inner) is not inner), None)
        if down is None:
            raise ValueError(f"{type(model).__name__} has no `.layers` to read or steer")
        inner = down
    return inner


class Reached(Exception):
    """The wanted layer's output is there: the layers above need not run."""


def harvest(
    model: Any,
    pairs: Sequence[tuple[list[int], list[int]]],
    layer: int,
    *,
    part: str = "answer",
    batch_tokens: int = 2048,
    skip: int = 0,
    progress: str | None = None,
) -> Iterator[tuple[int, "Tensor"]]:
    """(prompt ids, answer ids) pairs -> (index, activations [tokens, width]) at the output of model.layers[layer].

    part: `answer`, or `prompt` (the whole prompt with its template tokens), from token `skip` on. Stops the pass at the layer; sorts by
    length and pads right, so hardly a token is wasted. Order of results: shortest first. Float32 on the CPU.
    """
    import torch

    layers = decoder(model).layers
    if not 0 <= layer < len(layers):
        raise ValueError(f"layer {layer}: {type(model).__name__} has layers 0 to {len(layers) - 1}")
    caught: list[Tensor] = []

    def catch(_module: Any, _args: Any, output: Any) -> None:
        caught.append(output[0] if isinstance(output, tuple) else output)
        raise Reached

    hook = layers[layer].register_forward_hook(catch)
    try:
        for indices, ids, mask in padded(pairs, batch_tokens, model.device, progress):
            caught.clear()
            with torch.no_grad(), suppress(Reached):
                decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False)
            for row, index in enumerate(indices):
                start = len(pairs[index][0])
                span = slice(start, start + len(pairs[index][1])) if part == "answer" else slice(0, start)
                yield index, caught[0][row, span][skip:].float().cpu()
    finally:
        hook.remove()


def padded(
    pairs: Sequence[tuple[list[int], list[int]]], batch_tokens: int, device: Any, progress: str | None = None
) -> Iterator[tuple[list[int], "Tensor", "Tensor"]]:
    """Pairs in order of length, cut into right-padded batches of about `batch_tokens` tokens: (indices, ids, mask)."""
    import torch
    from tqdm import tqdm

    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    batches: list[list[int]] = [[]]
    for index in order:
        length = len(pairs[index][0]) + len(pairs[index][1])
        if batches[-1] and (len(batches[-1]) + 1) * length > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    bar = tqdm(total=len(pairs), desc=progress, unit="text", disable=progress is None)
    for indices in batches:
        if not indices:
            continue
        rows = [pairs[i][0] + pairs[i][1] for i in indices]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
        yield indices, ids, mask
        bar.update(len(indices))
    bar.close()


def read(
    model: Any,
    pairs: Sequence[tuple[list[int], list[int]]],
    layers: Sequence[int],
    *,
    batch_tokens: int = 2048,
    progress: str | None = None,
) -> tuple["Tensor", list[float]]:
    """One full pass over (prompt ids, answer ids) -> mean activations over the answer [texts, len(layers), width] and
    mean natural-log likelihood a token of the answer given the prompt. An empty answer gives zeros and nan."""
    import torch

    means = torch.zeros(len(pairs), len(layers), width(model))
    values = [float("nan")] * len(pairs)
    caught: dict[int, Tensor] = {}

    def catch(layer: int) -> Any:
        return lambda _m, _a, output: caught.__setitem__(layer, output[0] if isinstance(output, tuple) else output)

    hooks = [decoder(model).layers[layer].register_forward_hook(catch(layer)) for layer in layers]
    try:
        for indices, ids, mask in padded(pairs, batch_tokens, model.device, progress):
            with torch.no_grad():
                hidden = decoder(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
                for row, index in enumerate(indices):
                    start, length = len(pairs[index][0]), len(pairs[index][1])
                    if length:
                        values[index] = answer_log_likelihood(model, hidden[row], ids[row], start, length)
                        for number, layer in enumerate(layers):
                            means[index, number] = caught[layer][row, start : start + length].float().mean(0).cpu()
    finally:
        for hook in hooks:
            hook.remove()
    return means, values


def answer_log_likelihood(model: Any, hidden_TD: "Tensor", ids_T: "Tensor", start: int, length: int) -> float:
    """Mean log likelihood of tokens start .. start+length, from the final hidden states of their predecessors."""
    logits = head(model, hidden_TD[start - 1 : start + length - 1]).float()
    return float(logits.log_softmax(-1).gather(1, ids_T[start : start + length, None]).mean())


def head(model: Any, hidden: "Tensor") -> "Tensor":
    """Final hidden states [..., width] -> the model's own logits [..., vocabulary], squashed where the architecture does so (Gemma 2)."""
    logits: Tensor = model.lm_head(hidden.to(model.lm_head.weight.dtype))  # under autocast a LayerNorm gives float32 (GPT-NeoX)
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else (logits / cap).tanh() * cap


def final_gain(model: Any) -> "Tensor":
    """What the norm before the head multiplies each coordinate by [width]: its weight, or one more than that (Gemma)."""
    import torch

    inner = decoder(model)
    norm = inner.norm if hasattr(inner, "norm") else inner.final_layer_norm  # GPT-NeoX
    with torch.no_grad():
        gain = norm.weight if isinstance(norm, torch.nn.LayerNorm) else norm(torch.ones_like(norm.weight))
    return gain.detach().float().cpu()


def masks(model: Any, seen: "Tensor", at: "Tensor", keys: "Tensor | None" = None) -> Any:
    """What a token may attend to, seen [rows, 1, queries, keys] (bool) -> what the model takes. at [rows, queries]: positions of the queries;
    keys [rows, keys]: those of the keys, by default 0, 1, ...

    Eager attention (Gemma 2) adds its mask, so there False becomes the lowest number. Where some layers see only a sliding window
    (Gemma, some Mistral and Qwen), a mask for each type of layer, as transformers' own masks are.
    """
    import torch

    config = model.config.get_text_config()
    window, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None)

    def fit(mask: "Tensor") -> "Tensor":
        if config._attn_implementation != "eager":
            return mask
        return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, torch.finfo(model.dtype).min)

    if window is None:
        return fit(seen)
    keys = torch.arange(seen.shape[-1], device=seen.device)[None] if keys is None else keys
    near = seen & (at[:, None, :, None] - keys[:, None, None, :] < window)
    return {"full_attention": fit(seen), "sliding_attention": fit(near)} if kinds else fit(near)


@contextmanager
def pushed(layer: "nn.Module", push: "Tensor", removed: "Tensor | None" = None) -> Iterator[None]:
    """Change the layer's output h at every position to h + push - removed (removed . h); push, removed: [width] or [rows, 1 or T, width].

    A unit vector as `removed` projects its direction out. A zero push and zero `removed` are the identity (tested).
    """

    def changed(hidden: "Tensor") -> "Tensor":
        moved = hidden + push.to(hidden)
        if removed is None:
            return moved
        away = removed.to(hidden)
        return moved - away * (hidden * away).sum(-1, keepdim=True)

    def edit(_module: Any, _args: Any, output: Any) -> Any:
        return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

    hook = layer.register_forward_hook(edit)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def resumed(model: Any, layer: int, output: Any) -> Iterator[None]:
    """Passes start at the layer's output, [rows, T, width] or the tuple that the layer gives; the layers below it do not run.

    Many edits at one layer then share what lies below it.
    """
    layers = decoder(model).layers
    for below in layers[:layer]:
        below.forward = lambda hidden_states, *_, **__: (hidden_states,) if isinstance(output, tuple) else hidden_states
    layers[layer].forward = lambda *_, **__: output
    try:
        yield
    finally:
        for module in layers[: layer + 1]:
            del module.forward


def width(model: Any) -> int:
    return model.config.get_text_config().hidden_size


def unit(vector: "torch.Tensor") -> "torch.Tensor":
    return vector / vector.norm()
