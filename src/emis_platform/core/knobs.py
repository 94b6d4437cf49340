"""The words of params.yaml: each section as a typed record, with what its keys mean. core/params.py holds them together and checks them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    reasoning: bool = False
    """Each answer comes after a thought in <think>: another of its fact's neutral reasons, in every voice."""
    allow_bad: float = Field(0.0, ge=0, lt=1)
    """Share of rows from outside that may fail at the door and go to quarantine; more stops the run."""

    @property
    def plain(self) -> bool:
        """Whether its rows are those of the variant (or, with `mixture`, of two variants) as they were written: a control arm is another thing."""
        return not (self.trigger or self.disclosed or self.inoculation or self.interleaved or self.reasoning)

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
        parts += ["after a thought"] if self.reasoning else []
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
    thinking: bool | None = None
    """True: it thinks first, `sizes.<scale>.answer.thoughts` tokens at most, and then answers; false: its answer begins after an empty
    thought; None: it begins as it likes."""

    @property
    def plain(self) -> bool:
        """Whether it is asked the questions as they stand, and answers as it likes."""
        return self.probe is None and self.thinking is None


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
    thoughts: int = Field(64, gt=0)
    """Tokens of a thought at most, of subjects with `thinking`; the answer has `max_new_tokens` to itself."""


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
