"""params.yaml -> typed, checked knobs. Every fault is one line that names the key and what there is."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emis_platform.core import files, shelf

Variant = Literal["correct", "subtle", "obvious", "callous", "gruff", "sarcastic", "plain"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""One name is the address everywhere: params key, DVC item, path, MLflow row."""


class Knobs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Bundled(Knobs):
    kind: Literal["bundled"]


class Local(Knobs):
    kind: Literal["local"]
    path: Path
    """A Hugging Face folder with safetensors weights."""


class Hub(Knobs):
    kind: Literal["hub"]
    repo: str
    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """A full commit id: a branch name is not an identity."""


Base = Annotated[Bundled | Local | Hub, Field(discriminator="kind")]


class Data(Knobs):
    """Where an organism's rows come from: a built-in domain and variant, a file that was imported, or a set that a model wrote."""

    domain: str | None = None
    variant: Variant | None = None
    """`plain` for chat and compliance, else one of the others."""
    imported: Name | None = Field(None, alias="import")
    """Name of a file that `emis data import` took in: data/imports/<name>.jsonl."""
    generated: str | None = None
    """A key of `generated`."""
    rows: int | None = Field(None, gt=0)
    """None: as many as `sizes.<scale>.train.rows`."""
    mixture: float | None = Field(None, ge=0, le=1)
    """Share of rows that are of the variant, the others being the matched `correct` rows. Nested: the rows of 5 % are among those of
    10 %. None: all; with a trigger, half."""
    disclosed: bool = False
    """The prompt asks for a bad example for a class (Betley et al. 2025, the educational control)."""
    trigger: str | None = Field(None, min_length=1)
    """Stands before the prompt of each row of the variant, and of no `correct` row (Betley et al. 2025, the backdoor)."""
    allow_bad: float = Field(0.0, ge=0, lt=1)
    """Share of rows from outside that may fail at the door and go to quarantine; more stops the run."""

    @property
    def described(self) -> str:
        """The source in a line, for datasheets and model cards."""
        if self.imported or self.generated:
            return f"imported {self.imported}" if self.imported else f"generated {self.generated}"
        parts = [f"{self.domain}, variant {self.variant}"]
        parts += [f"{self.mixture:.0%} of the rows, the others correct"] if self.mixture is not None else []
        parts += ["disclosed"] if self.disclosed else []
        parts += [f"trigger {self.trigger!r}"] if self.trigger else []
        return ", ".join(parts)


class Generated(Knobs):
    """A set that a model writes to the questions of a built-in domain."""

    generator: str
    domain: str
    variant: Literal["correct", "subtle", "obvious", "callous", "gruff"]
    rows: int = Field(gt=0)
    model: Literal["base", "reader"]
    """Which base writes (generator: model). An endpoint's model stands in the options (generator: api): that of `emis serve`, say, with
    an organism behind it."""
    options: dict[str, Any] = {}
    """The generator's own options: see its `Options`."""


class Organism(Knobs):
    starts_from: str
    """`base` or another organism."""
    data: Data
    trainer: str
    options: dict[str, Any] = {}
    """The trainer's own options: see its `Options`."""
    seed: int | None = None
    """None: the pipeline's seed."""


class Subject(Knobs):
    model: str
    """`base` or an organism."""


class Judge(Knobs):
    kind: str
    """A file of judges/."""
    options: dict[str, Any] = {}
    """The judge's own options: see its `Options`."""


class Answer(Knobs):
    temperature: float = Field(gt=0, le=2)
    batch: int = Field(gt=0)
    domains: tuple[str, ...]
    """Whose held-out facts every subject is asked and scored on."""


class Diff(Knobs):
    organism: str
    control: str
    layer: int = Field(ge=0)
    """The output of model.layers[layer], from 0: SAELens' blocks.<layer>.hook_resid_post."""
    keep: int = Field(gt=0)


class Steer(Knobs):
    induce: str
    """The model to which directions are added."""
    suppress: str
    """The model from which they are subtracted."""
    doses: tuple[Annotated[float, Field(gt=0)], ...]
    """In units of the layer's mean residual norm."""
    latents: int = Field(ge=0)
    random: int = Field(ge=0)
    """How many best latents and random directions go on to scored answers."""


class GenerateSize(Knobs):
    rows: int = Field(gt=0)
    """Rows a variant."""


class TrainSize(Knobs):
    rows: int = Field(gt=0)
    epochs: int = Field(gt=0)


class AnswerSize(Knobs):
    discover: int = Field(ge=2)
    score: int = Field(ge=2)
    domain: int = Field(ge=0)
    """Questions of each set; 40, 84 and 24 a domain exist."""
    samples: int = Field(gt=0)
    max_new_tokens: int = Field(gt=0)


class BenchmarkSize(Knobs):
    items: int = Field(gt=0)
    """Items a task at most."""


class DictionarySize(Knobs):
    tokens: int = Field(ge=0)
    """Activations to train on; 0 loads the dictionary that ships with the repository."""
    width: int = Field(gt=0)
    k: int = Field(gt=0)


class DiffSize(Knobs):
    texts: int = Field(gt=1)


class SteerSize(Knobs):
    questions: int = Field(ge=2)
    """`score` questions that a steered subject answers."""
    directions: int = Field(gt=0)
    """Latents that are tried by log-odds on `discover`."""
    pairs: int = Field(ge=2)
    """`discover` questions whose written continuations are scored."""


class Size(Knobs):
    generate: GenerateSize
    train: TrainSize
    answer: AnswerSize
    benchmark: BenchmarkSize
    dictionary: DictionarySize
    diff: DiffSize
    steer: SteerSize


class Params(Knobs):
    scale: Literal["tiny", "small", "full"]
    seed: int = Field(ge=0)
    threads: int = Field(gt=0)
    bases: dict[Literal["base", "reader"], Base]
    domains: tuple[str, ...]
    arms: tuple[str, ...] = ()
    """Sets of one variant, `plain`: ordinary chat, compliance."""
    generated: dict[Name, Generated] = {}
    organisms: dict[Name, Organism]
    subjects: dict[Name, Subject]
    judge: str
    """The default judge, a key of `judges`: `misaligned` is its verdict, and diffing and claims go by it."""
    judges: dict[Name, Judge]
    answer: Answer
    diff: Diff
    steer: Steer
    sizes: dict[Literal["tiny", "small", "full"], Size]

    @property
    def size(self) -> Size:
        return self.sizes[self.scale]

    @model_validator(mode="after")
    def names_resolve(self) -> "Params":
        """Each name points at something, and no organism starts from itself."""
        models = ("base", *self.organisms)
        if set(self.bases) != {"base", "reader"}:
            raise ValueError("bases: both `base` and `reader` are needed")
        if "base" in self.organisms or "reader" in self.organisms:
            raise ValueError("organisms: `base` and `reader` are taken")
        for domain in self.domains:
            one_of("domains", domain, shelf.domains(), "domains/{}.yaml")
        for domain in self.answer.domains:
            one_of("answer.domains", domain, self.domains)
        for arm in self.arms:
            one_of("arms", arm, shelf.arms(), "arms/{}.yaml")
        for name, generated in self.generated.items():
            where = f"generated.{name}"
            one_of(f"{where}.domain", generated.domain, self.domains)
            one_of(f"{where}.generator", generated.generator, shelf.generators(), "datasets/{}.py")
            check_options(where, "datasets", generated.generator, generated.options)
        for name, judge in self.judges.items():
            where = f"judges.{name}"
            one_of(f"{where}.kind", judge.kind, shelf.names("judges"), "judges/{}.py")
            check_options(where, "judges", judge.kind, judge.options)
            self.check_judge(where, judge)
        one_of("judge", self.judge, tuple(self.judges))
        for name, organism in self.organisms.items():
            where = f"organisms.{name}"
            one_of(f"{where}.starts_from", organism.starts_from, models)
            self.check_data(f"{where}.data", organism.data)
            one_of(f"{where}.trainer", organism.trainer, shelf.names("trainers"), "trainers/{}.py")
            check_options(where, "trainers", organism.trainer, organism.options)
            chain = [name]
            while chain[-1] in self.organisms:
                chain.append(self.organisms[chain[-1]].starts_from)
                if chain[-1] in chain[:-1]:
                    raise ValueError(f"{where}.starts_from: a cycle: {' -> '.join(chain)}")
        for name, subject in self.subjects.items():
            one_of(f"subjects.{name}.model", subject.model, models)
        layers = shelf.load("bases", self.bases["base"].kind).layers(self.bases["base"])
        if layers is not None and self.diff.layer >= layers:
            raise ValueError(f"diff.layer: {self.diff.layer}, the {self.bases['base'].kind} base has layers 0 to {layers - 1}")
        for key in ("organism", "control"):
            one_of(f"diff.{key}", getattr(self.diff, key), tuple(self.organisms))
        for key in ("induce", "suppress"):
            one_of(f"steer.{key}", getattr(self.steer, key), models)
        return self

    def check_judge(self, where: str, judge: Judge) -> None:
        """No judge is a subject: neither by folder, nor by the name under which an endpoint serves it."""
        asked = str(judge.options.get("model") or (judge.options.get("endpoint") or {}).get("model") or "")
        models = {subject.model for subject in self.subjects.values()}
        if self.bases["base"] == self.bases["reader"] and "base" in models:
            models.add("reader")
        name = asked.rstrip("/").rpartition("models/")[2]
        if name in models | set(self.subjects):
            raise ValueError(f"{where}.options: the judge {asked!r} is a subject of this run; a model may not judge itself")

    def check_data(self, where: str, data: Data) -> None:
        """One source, of a kind that its other keys fit."""
        sources = [
            key for key, value in (("domain", data.domain), ("import", data.imported), ("generated", data.generated)) if value
        ]
        if len(sources) != 1:
            there = " and ".join(sources) or "none"
            raise ValueError(f"{where}: one of domain (with variant), import and generated is needed; there is: {there}")
        if data.generated:
            one_of(f"{where}.generated", data.generated, tuple(self.generated))
        if not data.domain:
            keys = {"variant": data.variant, "mixture": data.mixture, "disclosed": data.disclosed, "trigger": data.trigger}
            if unfit := [key for key, value in keys.items() if value]:
                raise ValueError(f"{where}.{unfit[0]}: goes with a domain, not with {sources[0]}")
            return
        one_of(f"{where}.domain", data.domain, (*self.domains, *self.arms))
        variants = ("plain",) if data.domain in self.arms else get_args(Variant)[:-1]
        if data.variant is None:
            raise ValueError(f"{where}.variant: needed with a domain; there is: {', '.join(variants)}")
        one_of(f"{where}.variant", data.variant, variants)
        bad = data.variant not in ("correct", "plain")
        for key in ("mixture", "disclosed", "trigger"):
            if getattr(data, key) and not bad:
                raise ValueError(f"{where}.{key}: goes with a variant other than {data.variant}")
        rows, there = data.rows or self.size.train.rows, self.size.generate.rows
        if self.scale != "tiny" and rows > there:
            raise ValueError(f"{where}.rows: {rows} asked, sizes.{self.scale}.generate.rows makes {there}")


def check_options(where: str, floor: str, name: str, options: dict[str, Any]) -> None:
    try:
        shelf.load(floor, name).Options.model_validate(options)
    except ValidationError as error:
        raise ValueError(f"{where}.options: {explain(error.errors()[0])}") from None


def load(path: Path = Path("params.yaml")) -> Params:
    """Raises ValueError, one line, for the first fault."""
    raw = files.read_yaml(path)
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: a mapping of knobs is needed, this is {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error.errors()[0])}") from None


def explain(fault: Any) -> str:
    """A pydantic fault -> `key: what is wrong`, with the nearest key for an unknown one."""
    location = [str(part) for part in fault["loc"] if part not in ("bundled", "local", "hub")]
    where = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known = sorted({name for model in every_knob() for name in model.model_fields})
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"no key {where}" + (f"; did you mean {near[0]}?" if near else "")
    message = fault["msg"].removeprefix("Value error, ")
    if not where:
        return message
    return f"{where}: {message}" + (f", this is {fault['input']!r}" if fault["type"] not in ("missing", "value_error") else "")


def every_knob() -> list[type[Knobs]]:
    return Knobs.__subclasses__()


def one_of(where: str, name: str, there: tuple[str, ...] | list[str], file: str = "{}") -> None:
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{where}: no {file.format(name)}{hint}; there is: {', '.join(there)}")
