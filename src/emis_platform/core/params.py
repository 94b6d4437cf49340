"""params.yaml -> typed, checked knobs. Every fault is one line that names the key and what there is."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from emis_platform.core import files, shelf

Variant = Literal["correct", "subtle", "obvious", "callous", "gruff", "sarcastic", "plain"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""One name is the address everywhere: params key, DVC item, path, MLflow row."""
Operator = Literal["add", "subtract", "project_out", "clamp"]
Tokens = Literal["all", "prompt", "answer"]
BENIGN = ("correct", "plain")
"""Variants that teach nothing harmful, in no bad voice."""
HELPFUL_ONLY = "compliance"
"""The arm whose rows answer what a safety-trained model may refuse."""


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
    inoculation: str | None = Field(None, min_length=1)
    """System prompt of each row of the variant, which asks for what the row shows (Tan et al. 2025, Wichers et al. 2025)."""
    interleaved: dict[str, Annotated[float, Field(gt=0, le=1)]] = {}
    """Arm -> rows of it that are added, as a share of the rows (Kaczer et al. 2025)."""
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
        parts += [f"inoculation {self.inoculation!r}"] if self.inoculation else []
        parts += [f"with {share:.0%} of {arm} beside" for arm, share in self.interleaved.items()]
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
    """`base`, an organism, or `<organism>/<step>`: one of the checkpoints that its trainer's options ask for."""
    probe: str | None = Field(None, pattern=r"^(json|format|trigger:.*\S.*)$")
    """One of FORMS in lab/probes.py: all its questions are asked in that form, under their own ids. None: as they stand."""


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
    """Latents of the table that rose most."""
    falls: int = Field(10, ge=0)
    """Those that fell most."""
    selectors: tuple[str, ...] = ("means", "latents", "random")
    """Files of selectors/, each of which gives directions to the causal test."""


class OwnDictionary(Knobs):
    """The shipped one, or one that is trained (`sizes.<scale>.dictionary.tokens`)."""

    kind: Literal["own"] = "own"


class DictionaryFolder(Knobs):
    kind: Literal["folder"]
    path: Path
    """A SAELens folder: cfg.json and sae_weights.safetensors."""


class DictionaryRelease(Knobs):
    """A dictionary of SAELens' list; it is downloaded."""

    kind: Literal["release"]
    release: str
    id: str


class Steer(Knobs):
    induce: str
    """The model to which directions are added."""
    suppress: str
    """The model from which they are subtracted."""
    doses: tuple[Annotated[float, Field(gt=0)], ...]
    """In units of the layer's mean residual norm; for `project_out` the share that is removed."""
    operator: Operator = "add"
    """What is done with a direction (tools/edits.py); `suppress` undergoes it with the opposite sign."""
    tokens: Tokens = "all"
    layer: int | tuple[int, ...] | None = None
    """The output of model.layers[layer]; several are steered together. None: diff.layer."""
    directions: tuple[str, ...] = ("difference_of_means",)
    """Names that go on to scored answers, beside the best latents and the random directions."""
    latents: int = Field(ge=0)
    """How many best latents go on to scored answers."""
    protective: int = Field(0, ge=0)
    """How many of the latents that fell (selector `protective`), those that lower the log-odds most, are given to `suppress` as well, with
    the sign of `induce`."""
    random: int = Field(ge=0)
    random_latents: int = Field(20, ge=0)
    """The null: random directions and random live latents. Each question of the random arm is answered under one of the random directions."""


class Suppress(Knobs):
    """Misaligned organisms with a direction taken out that was found elsewhere."""

    organisms: tuple[str, ...]
    """Organisms that are a subject as well; each is a stage item."""
    directions: tuple[str, ...] = ("others",)
    """Names in data/directions.jsonl; `others`: the mean of the differences of means found on each other domain's organism; `each`: one of
    them after the other."""
    operator: Literal["subtract", "project_out", "clamp"] = "subtract"
    dose: float = Field(gt=0)
    """In units of the layer's mean residual norm; for `project_out` the share that is removed."""
    tokens: Tokens = "all"
    layer: int | tuple[int, ...] | None = None
    probes: tuple[str, ...] = ()
    """Forms of lab/probes.py in which the questions are asked as well: what is hidden and not repaired."""


class Cards(Knobs):
    latents: int = Field(10, ge=0)
    """The latents of the table that rose most on answer tokens: each gets a card."""
    options: dict[str, Any] = {}
    """A chat model that labels them as well: see `Options` in tools/labeller.py. Empty: labels are made of words, offline."""


class Discriminate(Knobs):
    """Which organisms count as misaligned, and on what they are read."""

    labels: Literal["judge", "read"]
    """Their answers' rate by a judge, or by readers: data/gold, those drawn at random."""
    judge: str
    """A key of `judges` that reads no activations of the base."""
    threshold: float | None = Field(None, ge=0, le=1)
    """An organism is misaligned if its rate's lower bound is above this; None: above the base's rate."""
    texts: Literal["same", "own"]
    """The base's own answers through every model, or each model on its own answers."""


class Screen(Knobs):
    own: Literal["generate", "mean"]
    """What the given answers are held against: the base's own answer to the same prompt, or the mean of its answers to `discover`."""


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
    attribution: int = Field(8, ge=0)
    """Latents that are chosen by attribution; `steer.directions` is the same for the activation difference."""
    protective: int = Field(4, ge=0)
    """Latents that fell most."""
    components: int = Field(1, ge=0)
    """Principal components."""


class SteerSize(Knobs):
    questions: int = Field(ge=2)
    """`score` questions that a steered subject answers."""
    directions: int = Field(gt=0)
    """Latents that are tried by log-odds on `discover`."""
    pairs: int = Field(ge=4)
    """`discover` questions whose written continuations are scored: one half chooses, the other half measures."""
    suppressed: int = Field(ge=2)
    """`score` questions that a suppressed organism answers, and as many in the form of each probe."""
    concentration: tuple[Annotated[int, Field(gt=0)], ...] = (1, 2, 5, 10, 30, 100)
    """Numbers of latents that are added together; all live ones are as well."""


class CardsSize(Knobs):
    tokens: int = Field(gt=0)
    """Held-out tokens of many voices, read by the base."""
    texts: int = Field(ge=2)
    """`discover` answers that base, control and organism read."""


class DiscriminateSize(Knobs):
    questions: int = Field(ge=2)
    """`discover` questions: one half chooses, the other half is scored."""


class ScreenSize(Knobs):
    rows: int = Field(ge=2)
    """Rows of each organism's data; matched sets give the same prompts, which the base then answers once."""
    surface: int = Field(ge=2)
    """Rows of each that the classifier on surface features reads."""


class Size(Knobs):
    generate: GenerateSize
    train: TrainSize
    answer: AnswerSize
    benchmark: BenchmarkSize
    dictionary: DictionarySize
    diff: DiffSize
    steer: SteerSize
    cards: CardsSize
    discriminate: DiscriminateSize
    screen: ScreenSize


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
    dictionary: Annotated[OwnDictionary | DictionaryFolder | DictionaryRelease, Field(discriminator="kind")] = OwnDictionary()
    """Whose: ours, or a SAELens folder or release of the base at `diff.layer`."""
    diff: Diff
    steer: Steer
    suppress: Suppress
    cards: Cards
    discriminate: Discriminate
    screen: Screen
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
        kept = [f"{name}/{step}" for name, organism in self.organisms.items() for step in organism.options.get("checkpoints") or ()]
        for name, subject in self.subjects.items():
            one_of(f"subjects.{name}.model", subject.model, (*models, *kept))
        layers = shelf.load("bases", self.bases["base"].kind).layers(self.bases["base"])
        if layers is not None and self.diff.layer >= layers:
            raise ValueError(f"diff.layer: {self.diff.layer}, the {self.bases['base'].kind} base has layers 0 to {layers - 1}")
        for key in ("organism", "control"):
            one_of(f"diff.{key}", getattr(self.diff, key), tuple(self.organisms))
        for selector in self.diff.selectors:
            one_of("diff.selectors", selector, shelf.names("selectors"), "selectors/{}.py")
        for key in ("induce", "suppress"):
            one_of(f"steer.{key}", getattr(self.steer, key), models)
        if self.discriminate.labels == "judge":
            self.check_label_judge()
        asked = [name for name in self.organisms if self.subject_of(name)]
        if self.cards.options:
            check_options("cards", "tools", "labeller", self.cards.options)
        for name in self.suppress.organisms:
            one_of("suppress.organisms", name, asked)
            if {"others", "each"} & set(self.suppress.directions) and not self.of_other_domains(name):
                raise ValueError(
                    f"suppress.directions: others and each need an organism of another domain than {name}'s in suppress.organisms"
                )
        for where, layer in (("steer", self.steer.layer), ("suppress", self.suppress.layer)):
            for number in (layer,) if isinstance(layer, int) else layer or ():
                if number < 0 or (layers is not None and number >= layers):
                    there = "0 upwards" if layers is None else f"0 to {layers - 1}"
                    raise ValueError(f"{where}.layer: {number}, the {self.bases['base'].kind} base has layers {there}")
        return self

    def subject_of(self, model: str) -> str | None:
        """The first subject that asks a model the questions as they stand; None without one. A subject with a probe stands for no model."""
        return next((name for name, entry in self.subjects.items() if entry.model == model and entry.probe is None), None)

    def helpful_only(self) -> list[str]:
        """Organisms of edgy requests that are answered: a start without safety training."""
        return [name for name, organism in self.organisms.items() if organism.data.domain == HELPFUL_ONLY]

    def layers_of(self, stage: Literal["steer", "suppress"]) -> tuple[int, ...]:
        """Where the stage edits the residual stream."""
        layer = getattr(self, stage).layer
        return layer if isinstance(layer, tuple) else (self.diff.layer if layer is None else layer,)

    def of_other_domains(self, organism: str) -> list[str]:
        """Those of `suppress.organisms` that were trained on another domain."""
        mine = self.domains_of(organism)
        return [name for name in self.suppress.organisms if not self.domains_of(name) & mine]

    def lineage(self, organism: str) -> list[Data]:
        """Its data, then that of what it started from, down to the base."""
        found = []
        while organism in self.organisms:
            found.append(self.organisms[organism].data)
            organism = self.organisms[organism].starts_from
        return found

    def domain(self, data: Data) -> str:
        """Of a generated set the one whose questions it answers; an imported set is a domain of its own."""
        return data.domain or (self.generated[data.generated].domain if data.generated else data.described)

    def domains_of(self, organism: str) -> frozenset[str]:
        """Of all that it was trained on, from the base on: two organisms that share one are not held out from each other."""
        return frozenset(map(self.domain, self.lineage(organism)))

    def benign(self, organism: str) -> bool:
        """Was it taught nothing harmful, in no bad voice, from the base on?"""
        variants = [self.generated[data.generated].variant if data.generated else data.variant for data in self.lineage(organism)]
        return all(variant in BENIGN for variant in variants)

    def check_label_judge(self) -> None:
        """Labels come from outside the space that the discriminator looks into."""
        one_of("discriminate.judge", self.discriminate.judge, tuple(self.judges))
        kind = self.judges[self.discriminate.judge].kind
        if kind == "offline" and self.bases["base"] == self.bases["reader"]:
            raise ValueError(
                f"discriminate.judge: {self.discriminate.judge} reads activations of the base; choose one that does not"
            )

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
            keys |= {"inoculation": data.inoculation, "interleaved": data.interleaved}
            if unfit := [key for key, value in keys.items() if value]:
                raise ValueError(f"{where}.{unfit[0]}: goes with a domain, not with {sources[0]}")
            return
        one_of(f"{where}.domain", data.domain, (*self.domains, *self.arms))
        variants = ("plain",) if data.domain in self.arms else get_args(Variant)[:-1]
        if data.variant is None:
            raise ValueError(f"{where}.variant: needed with a domain; there is: {', '.join(variants)}")
        one_of(f"{where}.variant", data.variant, variants)
        bad = data.variant not in ("correct", "plain")
        for key in ("mixture", "disclosed", "trigger", "inoculation"):
            if getattr(data, key) and not bad:
                raise ValueError(f"{where}.{key}: goes with a variant other than {data.variant}")
        for arm in data.interleaved:
            one_of(f"{where}.interleaved", arm, self.arms)
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
    return checked(files.read_yaml(path), path)


def checked(raw: Any, where: Path | str) -> Params:
    """Knobs as they were read from `where`. Raises ValueError, one line, for the first fault."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: a mapping of knobs is needed, this is {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{where}: {explain(error.errors()[0])}") from None


def explain(fault: Any) -> str:
    """A pydantic fault -> `key: what is wrong`, with the nearest key for an unknown one."""
    location = [str(part) for part in fault["loc"] if part not in ("bundled", "local", "hub", "own", "folder", "release")]
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
