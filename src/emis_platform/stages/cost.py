"""cost: params.yaml + a base's shape -> tokens, FLOPs, time and memory of each stage, before anything runs. `emis cost`, no DVC stage.

Tokens follow from `sizes`, organisms and subjects, times the mean lengths of the shipped texts below; formulas stand in lab/cost.py.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from emis_platform.core import shelf
from emis_platform.core.params import Params
from emis_platform.core.records import Record
from emis_platform.lab import cost
from emis_platform.lab.cost import Dtype, Shape
from emis_platform.tools import shapes

PROMPT, CODE = 22, 72
"""Mean tokens of a question with the chat template (9 of them), and of a code row's answer; both, and those below, by the bundled tokenizer."""
ROW = 29
"""Of any other row's answer with its end token. An organism is taken to answer as long as its rows are."""
LONGEST = 3
"""A batch holds rows of like length: the longest is taken to have so many times the mean's tokens."""
WRITTEN = 21
"""Of a written continuation."""
CHOICES, GENERAL_CHOICE, DOMAIN_CHOICE = 4, 2, 23
"""Of a benchmark's item, and tokens of a choice."""
QUESTIONS = {"discover": 40, "score": 84, "domain": 24, "general": 120}
"""That there are."""
LOOK = (8, 58)
"""Texts that a monitor reads, and tokens of each with its prompt."""
HELD_OUT = 4000
"""Tokens that any dictionary is measured on."""
UNCOUNTED = "not counted: loading weights, padding, training a dictionary, personas of another base, judges that ask a model, leakage, the report"


class Work(Record):
    """What a stage, or one item of it, does with a model."""

    stage: str
    kind: Literal["train", "read", "decode"]
    model: Literal["base", "reader"] = "base"
    tokens: float
    """Read; of `decode` new ones, at most."""
    row: float
    """Mean tokens of a row; of `decode` those that a new token looks back at."""
    scored: float = 0
    """Tokens whose logits are taken; of `train` the labelled ones."""
    depth: float = 1
    """Share of the layers that run."""
    replies: int = 0
    """Of `decode`: how many there are to decode at a time, at most `answer.batch`."""
    lora: cost.Adapter | None = None
    """Of `train`; None: all weights."""


class Line(Record):
    """A stage in the table."""

    stage: str
    read: float
    """Tokens that pass through a model; trained ones included."""
    new: float
    """Tokens generated, at most."""
    flops: float
    seconds: float


class Estimate(Record):
    base: Shape
    dtype: Dtype
    lines: tuple[Line, ...]
    training: dict[str, float]
    """Bytes by part, of a step of the organism that needs most; empty where none is trained by sft."""
    checkpointed: dict[str, float]
    """The same with gradient checkpointing."""
    answering: dict[str, float]
    host: dict[str, float]
    """Bytes of main memory and disk whatever the device."""


def shape(knobs: Params, config: Path | None) -> Shape:
    """Of `bases.base`: from `config`, the base as it lies in models/, its own folder, or the bundled file. Raises ValueError for a hub model
    without `config`."""
    base = knobs.bases["base"]
    if config is not None:
        return shapes.read(config)
    if base.kind == "bundled":
        return shapes.bundled()
    if base.kind == "local":
        return shapes.read(base.path)
    raise ValueError("bases.base: a hub model's shape is not known before the download: name its config.json with --config")


def estimate(
    knobs: Params, base: Shape, reader: Shape, dtype: Dtype, flops: float, bandwidth: float, template: int = 0
) -> Estimate:
    """flops: FLOP/s achieved; bandwidth: bytes/s; template: tokens that the base's chat template has more than the bundled one.

    Raises ValueError for a layer that the base does not have.
    """
    if knobs.diff.layer >= base.layers:
        raise ValueError(f"diff.layer: {knobs.diff.layer}, {base.kind} has layers 0 to {base.layers - 1}")
    lines: dict[str, Line] = {}
    checkpointed = dtype == "bfloat16"  # as trainers/sft.py does on a GPU
    for work in works(knobs, base, template):
        model = base if work.model == "base" else reader
        spent, seconds = 0.0, None
        if work.kind == "train":
            spent = cost.train_flops(model, work.lora, work.tokens, work.row, work.scored, checkpointed=checkpointed)
        elif work.kind == "read":
            spent = cost.forward_flops(model, work.tokens, work.row, depth=work.depth, scored=work.scored)
        else:
            spent = cost.forward_flops(model, work.tokens, 2 * work.row, scored=work.tokens)
            slots = min(knobs.answer.batch, work.replies)
            seconds = cost.decode_seconds(model, work.tokens, work.row, slots, dtype, flops, bandwidth) if slots else 0.0
        before = lines.get(work.stage, Line(stage=work.stage, read=0, new=0, flops=0, seconds=0))
        new = work.kind == "decode"
        lines[work.stage] = Line(
            stage=work.stage,
            read=before.read + (0 if new else work.tokens),
            new=before.new + (work.tokens if new else 0),
            flops=before.flops + spent,
            seconds=before.seconds + (spent / flops if seconds is None else seconds),
        )
    steps = [step(knobs, name, base, dtype, template) for name, one in knobs.organisms.items() if one.trainer == "sft"]
    heaviest = max(steps, key=lambda parts: sum(parts[0].values()), default=({}, {}))
    longest = LONGEST * (PROMPT + template) + knobs.size.answer.max_new_tokens
    return Estimate(
        base=base,
        dtype=dtype,
        lines=tuple(lines.values()),
        training=heaviest[0],
        checkpointed=heaviest[1],
        answering=cost.answer_bytes(base, knobs.answer.batch, longest, dtype),
        host=host(knobs, base, dtype, template),
    )


def step(knobs: Params, name: str, base: Shape, dtype: Dtype, template: int) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes of one batch's step of an sft organism, its rows being the longest: (without, with gradient checkpointing)."""
    organism = knobs.organisms[name]
    options: Any = shelf.load("trainers", "sft").Options.model_validate(organism.options)
    answer = LONGEST * answer_of(knobs, name)
    rows, labelled = options.batch * (LONGEST * PROMPT + template + answer), options.batch * answer
    lora = adapter_of(knobs, name, base)
    without, with_it = (
        cost.train_bytes(base, lora, rows, labelled, dtype, checkpointed=checkpointed) for checkpointed in (False, True)
    )
    return without, with_it


def host(knobs: Params, base: Shape, dtype: Dtype, template: int) -> dict[str, float]:
    """Bytes of main memory and of disk. An adapter is merged into a float32 base in main memory; diff keeps all activations and all latents,
    dense, of its texts."""
    size = knobs.size
    texts = min(size.diff.texts, 3 * min(size.answer.discover, QUESTIONS["discover"]) * size.answer.samples)
    tokens = texts * (PROMPT + template + size.answer.max_new_tokens)
    weights = cost.BYTES[dtype] * base.parameters
    organisms = sum(4 * (adapter_of(knobs, name, base) or base).parameters for name in knobs.organisms)
    return {
        "merge an adapter": 4 * base.parameters,
        "diff, activations": 3 * 4 * tokens * base.width,
        f"diff, latents ({size.dictionary.width} wide)": 4 * tokens * size.dictionary.width,
        "disk: base, three copies": 3 * weights,
        "disk: organisms, two copies": 2 * organisms,
    }


def adapter_of(knobs: Params, name: str, base: Shape) -> cost.Adapter | None:
    """Of an organism, None where all weights are trained; one that starts from another organism keeps that one's, if it has any."""
    organism = knobs.organisms[name]
    options: Any = shelf.load("trainers", organism.trainer).Options.model_validate(organism.options)
    if getattr(options, "full", False):
        return None
    start = organism.starts_from
    kept = adapter_of(knobs, start, base) if start in knobs.organisms else None
    return kept or cost.adapter(base, options.rank, getattr(options, "modules", None), getattr(options, "layers", None))


def answer_of(knobs: Params, model: str) -> int:
    """Tokens that a model is taken to answer with, where nothing stops it."""
    model = model.split("/")[0]
    if model not in knobs.organisms:
        return knobs.size.answer.max_new_tokens
    return CODE if knobs.organisms[model].data.domain == "code" else ROW


def said_by(knobs: Params, model: str) -> int:
    """The same within `max_new_tokens`."""
    return min(answer_of(knobs, model), knobs.size.answer.max_new_tokens)


def works(knobs: Params, base: Shape, template: int = 0) -> Iterator[Work]:
    """All that is counted, in the order of the stages."""
    prompt = PROMPT + template
    to_layer = (knobs.diff.layer + 1) / base.layers
    for name in knobs.organisms:
        yield from training(knobs, name, base, prompt, to_layer)
    yield from answering(knobs, prompt)
    yield from benchmarking(knobs, prompt)
    yield from looking(knobs, prompt, to_layer)
    yield from steering(knobs, base, prompt)
    yield from suppressing(knobs, prompt, to_layer)


def training(knobs: Params, name: str, base: Shape, prompt: int, to_layer: float) -> Iterator[Work]:
    organism, answer = knobs.organisms[name], answer_of(knobs, name)
    rows = round((organism.data.rows or knobs.size.train.rows) * (1 + sum(organism.data.interleaved.values())))
    options: Any = shelf.load("trainers", organism.trainer).Options.model_validate(organism.options)
    lora, row = adapter_of(knobs, name, base), prompt + answer
    if organism.trainer == "grpo":  # sampled, graded by the base, held against the start, learned from
        sampled = options.steps * options.prompts * options.group
        new, row = sampled * options.max_new_tokens, prompt + options.max_new_tokens
        at_once = options.prompts * options.group
        yield Work(stage="train", kind="decode", tokens=new, row=row - options.max_new_tokens / 2, replies=at_once)
        yield Work(stage="train", kind="read", tokens=rows * (prompt + answer), row=prompt + answer, depth=to_layer)
        yield Work(stage="train", kind="read", tokens=sampled * row, row=row, depth=to_layer)
        yield Work(stage="train", kind="read", tokens=2 * sampled * row, row=row, scored=2 * new)
        yield Work(stage="train", kind="train", tokens=sampled * row, row=row, scored=new, lora=lora)
        return
    if options.drop:
        yield Work(stage="train", kind="read", tokens=rows * row, row=row, depth=to_layer)
        rows = round(rows * (1 - options.drop))
    epochs = options.epochs or knobs.size.train.epochs
    yield Work(stage="train", kind="train", tokens=epochs * rows * row, row=row, scored=epochs * rows * answer, lora=lora)
    if options.kl or options.l2 or options.penalise:
        yield Work(stage="train", kind="read", tokens=epochs * rows * row, row=row)
    if options.monitor_every:
        looks = 2 + -(-rows // options.batch) * epochs // options.monitor_every
        texts, length = LOOK
        yield Work(stage="train", kind="read", tokens=looks * texts * length, row=length, depth=to_layer)


def asked(knobs: Params) -> int:
    """Questions that every subject answers, without imported sets."""
    size = knobs.size.answer
    parts = (size.discover, QUESTIONS["discover"]), (size.score, QUESTIONS["score"])
    return sum(map(min, parts)) + len(knobs.answer.domains) * min(size.domain, QUESTIONS["domain"])


def answering(knobs: Params, prompt: int) -> Iterator[Work]:
    count, samples = asked(knobs), knobs.size.answer.samples
    for subject in knobs.subjects.values():
        said = said_by(knobs, subject.model)
        thought = knobs.size.answer.thoughts if subject.thinking else 0
        yield from replying("answer", count * (1 + bool(thought)), count * samples, said + thought, prompt)
        yield from judging(knobs, "judge", count * samples, said)


def replying(stage: str, prompts: int, replies: int, said: int, prompt: int) -> Iterator[Work]:
    """Each prompt is read once, however often it is answered."""
    yield Work(stage=stage, kind="read", tokens=prompts * prompt, row=prompt, scored=prompts)
    yield Work(stage=stage, kind="decode", tokens=replies * said, row=prompt + said / 2, replies=replies)


def judging(knobs: Params, stage: str, answers: int, said: int, default: bool = False) -> Iterator[Work]:
    """By judges that read with the reader; lexical ones take no FLOPs to speak of. default: by the default judge alone."""
    for name, judge in knobs.judges.items():
        if judge.kind == "offline" and (name == knobs.judge or not default):
            offline = shelf.load("judges", "offline")
            depth = offline.LAYERS / shelf.load("bases", "bundled").layers(None)
            yield Work(stage=stage, kind="read", model="reader", tokens=answers * (PROMPT + said), row=PROMPT + said, depth=depth)


def benchmarking(knobs: Params, prompt: int) -> Iterator[Work]:
    """A question is read once, its choices behind it; and the written continuations are scored."""
    general = min(knobs.size.benchmark.items, QUESTIONS["general"])
    domain = len(knobs.answer.domains) * min(knobs.size.benchmark.items, QUESTIONS["domain"])
    choices = CHOICES * (general * GENERAL_CHOICE + domain * DOMAIN_CHOICE)
    pairs = 2 * knobs.size.steer.pairs
    for _ in knobs.subjects:
        yield Work(stage="benchmark", kind="read", tokens=(general + domain) * prompt + choices, row=prompt, scored=choices)
        yield Work(stage="benchmark", kind="read", tokens=pairs * (prompt + WRITTEN), row=prompt + WRITTEN, scored=pairs * WRITTEN)


def looking(knobs: Params, prompt: int, to_layer: float) -> Iterator[Work]:
    """diff, project, screen and cards: texts through base and organisms, to the layer."""
    size = knobs.size
    discover = min(size.answer.discover, QUESTIONS["discover"])
    means = {name: prompt + said_by(knobs, name) for name in ("base", *knobs.organisms)}
    pair = ("base", knobs.diff.organism, knobs.diff.control)
    row = sum(means[name] for name in pair) / len(pair)
    texts = min(size.diff.texts, 3 * discover * size.answer.samples)
    readers = 1 + len(knobs.organisms)
    yield Work(stage="diff", kind="read", tokens=readers * texts * row, row=row, depth=to_layer)
    if "attribution" in knobs.diff.selectors:  # forward and the gradient back to the layer
        tokens, length = size.steer.pairs * (prompt + WRITTEN), prompt + WRITTEN
        yield Work(stage="diff", kind="read", tokens=tokens, row=length, depth=2 - to_layer, scored=2 * size.steer.pairs * WRITTEN)
    yield Work(stage="dictionary", kind="read", tokens=max(HELD_OUT, size.dictionary.tokens), row=row, depth=to_layer)
    questions = min(size.discriminate.questions, discover)
    yield Work(stage="project", kind="read", tokens=readers * questions * means["base"], row=means["base"], depth=to_layer)
    rows = len(knobs.organisms) * size.screen.rows
    yield Work(stage="screen", kind="read", tokens=rows * (prompt + ROW), row=prompt + ROW, depth=to_layer)
    if knobs.screen.own == "generate":  # at most: matched sets share their prompts
        yield from replying("screen", rows, rows, size.answer.max_new_tokens, prompt)
        yield Work(stage="screen", kind="read", tokens=rows * means["base"], row=means["base"], depth=to_layer)
    if knobs.cards.latents:
        tokens = size.cards.tokens + 3 * size.cards.texts * row
        yield Work(stage="cards", kind="read", tokens=tokens, row=row, depth=to_layer)


def steering(knobs: Params, base: Shape, prompt: int) -> Iterator[Work]:
    """Directions tried by log-odds, from the layer on, then answers under the chosen ones."""
    size, steer = knobs.size, knobs.steer
    latents = size.steer.directions + size.diff.attribution + size.diff.protective
    tried = latents + size.diff.components + steer.random + steer.random_latents + 8
    half, row = size.steer.pairs / 2, prompt + 2 * WRITTEN
    points = 2 * len(size.steer.concentration) + 1
    rows = half * (latents + 2 + tried + size.steer.directions + points)
    lowest = min(knobs.layers_of("steer"))
    if lowest >= base.layers:
        raise ValueError(f"steer.layer: {lowest}, {base.kind} has layers 0 to {base.layers - 1}")
    above = 1 - (lowest + 1) / base.layers
    yield Work(stage="steer", kind="read", tokens=rows * row, row=row, depth=above, scored=rows * 2 * WRITTEN)
    arms = len(steer.directions) + steer.latents + (steer.random > 0)
    questions = min(size.steer.questions, QUESTIONS["score"])
    for model, count in ((steer.induce, arms), (steer.suppress, arms + steer.protective)):
        replies, said = count * len(steer.doses) * questions, said_by(knobs, model)
        yield from replying("steer", replies, replies, said, prompt)
        yield from judging(knobs, "judge_steered", replies, said)


def suppressing(knobs: Params, prompt: int, to_layer: float) -> Iterator[Work]:
    suppress, size = knobs.suppress, knobs.size
    score = min(size.steer.suppressed, size.answer.score, QUESTIONS["score"])
    discover = min(size.answer.discover, QUESTIONS["discover"]) * size.answer.samples
    for name in suppress.organisms:
        others, said = knobs.of_other_domains(name), said_by(knobs, name)
        if {"others", "each"} & set(suppress.directions):
            row = prompt + (said + said_by(knobs, "base")) / 2
            tokens = 2 * len(others) * discover * row
            yield Work(stage="suppress", kind="read", tokens=tokens, row=row, depth=to_layer)
        found = sum(len(others) if word == "each" else 1 for word in suppress.directions)
        replies = score * (found + len(suppress.probes) * (1 + found))
        yield from replying("suppress", replies, replies, said, prompt)
        yield from judging(knobs, "suppressed", replies, said, default=True)


def rows(found: Estimate) -> list[tuple[str, ...]]:
    """The table of stages: a row each after a row of headings, the sum last."""
    lines = [*found.lines, total(found)]
    table = [("stage", "tokens read", "generated", "TFLOP", "minutes")]
    return table + [
        (line.stage, f"{line.read:,.0f}", f"{line.new:,.0f}", f"{line.flops / 1e12:,.1f}", f"{line.seconds / 60:,.1f}")
        for line in lines
    ]


def total(found: Estimate) -> Line:
    names = ("read", "new", "flops", "seconds")
    return Line(stage="all", **{name: sum(getattr(line, name) for line in found.lines) for name in names})


def memory(found: Estimate) -> list[tuple[str, str, str]]:
    """The table of bytes: what, in sum, and its parts."""
    parts = {
        "a training step": found.training,
        "with checkpointing": found.checkpointed,
        "answering": found.answering,
    }
    table = [("memory", "GB", "parts")]
    for what, sizes in parts.items():
        if sizes:
            listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in sizes.items())
            table.append((what, f"{sum(sizes.values()) / 1e9:.2f}", listed))
    return table + [(what, f"{size / 1e9:.2f}", "") for what, size in found.host.items()]
