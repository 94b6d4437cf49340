"""A model's shape and a number of tokens -> FLOPs, bytes and seconds, before anything runs. Counted, not fitted: no constant here was measured.

FLOPs a token (a multiply and an add are two; Kaplan et al. 2020, section 2.1 and table 1; B weights in matrices of the layers, L layers, row of
n tokens, q = heads * head_dim, V vocabulary, D width):

    forward        2 B + 2 L n q, and 2 V D where logits are taken      causal attention sees half of the row on average
    LoRA training  4 B + 6 L n q + 6 A, and 4 V D a labelled token      6 N would be full training; a frozen matrix has no gradient of its own:
                                                                        forward and the gradient that goes through; A adapter weights have all three
    all weights    6 B + 6 L n q, and 6 V D a labelled token
    checkpointed   one more forward through the layers: 2 B + 2 L n q + 2 A

Bytes (b of a number: 4 in float32, 2 in bfloat16):

    weights        b a parameter; where all are trained 4, and in bfloat16 2 more for the copy that is multiplied
    adapter        16 A: weight, gradient and both moments of Adam in float32, whatever the base is held in; 2 A more for its copy in bfloat16
    all weights    12 a parameter for the same three
    activations    what a layer keeps for its backward pass, counted tensor by tensor in the manner of Korthikanti et al. 2022, section 4, for a
                   gated MLP without dropout and attention that keeps no square: a token and layer
                       4 (2 D + heads + 2)       the stream before both norms in float32, the softmax' sums and the norms' scales
                       b (2 q + 2 k + 3 f)       queries, attention's output, keys and values (k wide), gate, its activation, up (f wide)
                       b (inputs + r modules)    what adapters read, in bfloat16 a copy each, in float32 one for all that read the same; where
                                                 all weights are trained r = 0, attention's output is there already, and norms keep 4 (2 D)
                   checkpointed (Chen et al. 2016): the layers' inputs, b L D a token, and one layer at a time
    gradients      of what one layer keeps, as much again as that
    logits         V (12 + b) a labelled token: as they come, in float32, their log softmax, its gradient (V 12 in float32)
    cache          2 L b k a token and slot
    sampling       V (20 + b) a slot: logits, in float32, divided, softmax, sums in float64

Seconds: FLOPs over what the machine achieves; a decoding step takes the longer of that and the bytes it reads (all weights, all of the cache that
holds something) over the memory's bandwidth (Pope et al. 2022). Starting a process, loading weights, launching kernels, padding: not in it.
"""

from collections.abc import Collection
from typing import Literal

from emis_platform.core.records import Record

BYTES = {"float32": 4, "bfloat16": 2}
Dtype = Literal["float32", "bfloat16"]


class Linear(Record):
    """A matrix of a layer."""

    layer: int
    name: str
    """Its last word: `down_proj`."""
    inputs: int
    outputs: int


class Shape(Record):
    """What of a model decides its cost."""

    kind: str
    """Its architecture."""
    parameters: int
    """All, a tied head once."""
    linear: tuple[Linear, ...]
    """All matrices but embedding and head."""
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    """Width of the MLP."""
    gated: bool
    vocabulary: int

    @property
    def body(self) -> int:
        return sum(one.inputs * one.outputs for one in self.linear)

    @property
    def queries(self) -> int:
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        return self.kv_heads * self.head_dim


class Adapter(Record):
    """LoRA on some of the matrices."""

    rank: int
    linear: tuple[Linear, ...]

    @property
    def parameters(self) -> int:
        return self.rank * sum(one.inputs + one.outputs for one in self.linear)


def adapter(shape: Shape, rank: int, modules: Collection[str] | None = None, layers: Collection[int] | None = None) -> Adapter:
    """modules, layers: as the trainer's options; None: all. Raises ValueError if nothing is left."""
    kept = tuple(
        one for one in shape.linear if (modules is None or one.name in modules) and (layers is None or one.layer in layers)
    )
    if not kept:
        there = ", ".join(dict.fromkeys(one.name for one in shape.linear))
        raise ValueError(f"modules: none of {', '.join(modules or ())} in {shape.layers} layers; there is: {there}")
    return Adapter(rank=rank, linear=kept)


def forward_flops(shape: Shape, tokens: float, row: float, *, depth: float = 1.0, scored: float = 0.0) -> float:
    """tokens: read, in rows of `row` tokens; depth: share of the layers that run; scored: tokens whose logits are taken."""
    return depth * tokens * (2 * shape.body + 2 * shape.layers * row * shape.queries) + 2 * shape.vocabulary * shape.width * scored


def train_flops(shape: Shape, lora: Adapter | None, tokens: float, row: float, labelled: float, *, checkpointed: bool) -> float:
    """Of a training of LoRA, or of all weights (None): forward, and backward to the lowest layer."""
    again = 1 if checkpointed else 0
    frozen, parameters = (4, lora.parameters) if lora else (6, 0)
    each = (frozen + 2 * again) * shape.body + (6 + 2 * again) * (shape.layers * row * shape.queries + parameters)
    return tokens * each + frozen * shape.vocabulary * shape.width * labelled


def decode_seconds(
    shape: Shape, new: float, row: float, slots: int, dtype: Dtype, flops: float, bandwidth: float, at_once: float | None = None
) -> float:
    """new: tokens, decoded `slots` at a time (at_once: replies that there are, where fewer); row: mean tokens that each looks back at.

    flops: FLOP/s that the machine achieves; bandwidth: bytes/s.
    """
    together = slots if at_once is None else max(1.0, min(slots, at_once))
    read = BYTES[dtype] * (shape.body + shape.vocabulary * shape.width) + together * row * cache_bytes(shape, dtype)
    work = forward_flops(shape, together, 2 * row, scored=together)  # a new token looks back at all of its row, not at half
    return new / together * max(read / bandwidth, work / flops)


def cache_bytes(shape: Shape, dtype: Dtype) -> int:
    """Of a token."""
    return 2 * shape.layers * shape.keys * BYTES[dtype]


def layer_bytes(shape: Shape, lora: Adapter | None, dtype: Dtype) -> float:
    """What a layer keeps of a token for its backward pass, on average over the layers. lora None: all weights are trained. An MLP without a
    gate keeps one f less and is counted less exactly, as are further norms (Gemma)."""
    b = BYTES[dtype]
    stream = 4 * ((2 if lora else 4) * shape.width + shape.heads + 2)
    linear, rank = (lora.linear, lora.rank) if lora else ([one for one in shape.linear if input_of(one)], 0)
    kept = b * (2 * shape.queries + 2 * shape.keys + (3 if shape.gated else 2) * shape.inner)
    if dtype == "bfloat16":
        inputs = sum(one.inputs for one in linear)
    else:  # what several adapters read is there once; attention's output is counted already
        places = {(one.layer, place) for one in linear if (place := input_of(one)) is not None}
        inputs = sum(shape.inner if place == "down" else shape.width for _, place in places)
    return stream + kept + b * (inputs + rank * len(linear)) / shape.layers


def input_of(one: Linear) -> str | None:
    """Which of a layer's tensors a matrix reads; None: attention's output."""
    if one.name in ("o_proj", "dense"):
        return None
    if one.name in ("down_proj", "dense_4h_to_h"):
        return "down"
    return "mlp" if one.name in ("gate_proj", "up_proj", "dense_h_to_4h") else "attention"


def train_bytes(
    shape: Shape, lora: Adapter | None, tokens: int, labelled: int, dtype: Dtype, *, checkpointed: bool
) -> dict[str, float]:
    """What a step needs, by part; tokens, labelled: of one batch, padding included. lora None: all weights are trained."""
    b, one = BYTES[dtype], tokens * layer_bytes(shape, lora, dtype)
    copy = b if b < 4 else 0
    if lora:
        trained = {"weights": b * shape.parameters, "adapter": (16 + copy) * lora.parameters}
    else:
        trained = {"weights": (4 + copy) * shape.parameters, "their gradients and Adam": 12 * shape.parameters}
    return trained | {
        "activations": tokens * b * shape.layers * shape.width + one if checkpointed else one * shape.layers,
        "gradients": one,
        "logits": labelled * shape.vocabulary * (12 + copy),
    }


def answer_bytes(shape: Shape, slots: int, row: int, dtype: Dtype) -> dict[str, float]:
    """What decoding needs, by part; row: prompt and answer at their longest."""
    b = BYTES[dtype]
    return {
        "weights": b * shape.parameters,
        "cache": slots * row * cache_bytes(shape, dtype),
        "sampling": slots * shape.vocabulary * (20 + (b if b < 4 else 0)),
    }
