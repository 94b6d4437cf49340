"""dictionary_fit: does somebody else's dictionary belong to this base and layer? Pure."""

import re
from collections.abc import Sequence

HOOK = re.compile(r"blocks\.(\d+)\.hook_resid_(post|pre)|(?:model\.|gpt_neox\.)?layers\.(\d+)")
"""TransformerLens' names of the residual stream, and the module's own. What stands before block N leaves layer N - 1."""


def layer_of(hook: str) -> int | None:
    """The layer whose output the hook reads; None for a hook elsewhere (attention, MLP, the embedding)."""
    found = HOOK.fullmatch(hook)
    if not found:
        return None
    number = int(found[1] or found[3])
    number -= found[2] == "pre"
    return number if number >= 0 else None


def misfit(
    *, hook: str | None, model: str | None, d_in: int, d_out: int | None, base: Sequence[str], layer: int, width: int
) -> str | None:
    """Why a dictionary of these facts does not fit a base that goes by the names `base`, read at `layer`; None if it fits.

    Names are compared without owner, case and punctuation: `google/gemma-2-2b` is `gemma-2-2b`. What is not said is not held against it,
    but for the hook: without it the layer is a guess.
    """
    if d_in != width:
        return f"it takes activations of width {d_in}, the base's are {width} wide"
    if d_out not in (None, d_in):
        return f"it writes {d_out} dimensions for {d_in}: a transcoder is no dictionary"
    if not hook:
        return "it does not say which hook it reads (metadata.hook_name of its cfg.json)"
    found = layer_of(hook)
    if found is None:
        return f"it reads {hook}; a residual stream is needed, blocks.{layer}.hook_resid_post"
    if found != layer:
        return f"it reads layer {found} ({hook}), diff.layer is {layer}"
    if model and base and plain(model) not in {plain(name) for name in base}:
        return f"it is of {model}, the base is {' alias '.join(dict.fromkeys(base))}"
    return None


def plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rstrip("/").rpartition("/")[2].lower())
