"""params.yaml -> typed, checked knobs (core/knobs.py). Every fault is one line that names the key and what there is."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError, model_validator

from emis_platform.core import files, shelf
from emis_platform.core.knobs import (
    BENIGN,
    HELPFUL_ONLY,
    Answer,
    Base,
    Cards,
    Data,
    DictionaryFolder,
    DictionaryRelease,
    Diff,
    Discriminate,
    Generated,
    Judge,
    Knobs,
    Name,
    Organism,
    OwnDictionary,
    Screen,
    Size,
    Steer,
    Subject,
    Suppress,
    Variant,
)


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
        for key, listed in (("domains", self.domains), ("arms", self.arms), ("answer.domains", self.answer.domains)):
            if twice := next((name for name in listed if listed.count(name) > 1), None):
                raise ValueError(f"{key}: {twice} is there twice")
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
        if not getattr(shelf.load("judges", self.judges[self.judge].kind), "SCORES", True):
            raise ValueError(
                f"judge: {self.judge} gives verdicts and no scores, which diffing and steering compare; choose one that scores answers"
            )
        for name, organism in self.organisms.items():
            where = f"organisms.{name}"
            one_of(f"{where}.starts_from", organism.starts_from, models)
            self.check_data(f"{where}.data", organism.data)
            one_of(f"{where}.trainer", organism.trainer, shelf.names("trainers"), "trainers/{}.py")
            check_options(where, "trainers", organism.trainer, organism.options)
            self.check_trainer(where, organism)
            chain = [name]
            while chain[-1] in self.organisms:
                chain.append(self.organisms[chain[-1]].starts_from)
                if chain[-1] in chain[:-1]:
                    raise ValueError(f"{where}.starts_from: a cycle: {' -> '.join(chain)}")
        kept = [f"{name}/{step}" for name, organism in self.organisms.items() for step in organism.options.get("checkpoints") or ()]
        for name, subject in self.subjects.items():
            one_of(f"subjects.{name}.model", subject.model, (*models, *kept))
        try:
            layers = shelf.load("bases", self.bases["base"].kind).layers(self.bases["base"])
        except ValueError as error:
            raise ValueError(f"bases.base: {error}") from None
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

    def subject_of(self, model: str, probe: str | None = None, thinking: bool | None = None) -> str | None:
        """The first subject that asks a model in that form and way; None without one. Where a model is meant, that is the questions as they stand."""
        wanted = Subject(model=model, probe=probe, thinking=thinking)
        return next((name for name, entry in self.subjects.items() if entry == wanted), None)

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

    def check_trainer(self, where: str, organism: Organism) -> None:
        """A trainer may say which data it can learn from: `check_data(data)` raises ValueError, `key: what is wrong`."""
        if fits := getattr(shelf.load("trainers", organism.trainer), "check_data", None):
            try:
                fits(organism.data)
            except ValueError as error:
                raise ValueError(f"{where}.data.{error}") from None

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
            keys |= {"inoculation": data.inoculation, "interleaved": data.interleaved, "reasoning": data.reasoning}
            if unfit := [key for key, value in keys.items() if value]:
                raise ValueError(f"{where}.{unfit[0]}: goes with a domain, not with {sources[0]}")
            return
        one_of(f"{where}.domain", data.domain, (*self.domains, *self.arms))
        variants = ("plain",) if data.domain in self.arms else get_args(Variant)[:-1]
        if data.variant is None:
            raise ValueError(f"{where}.variant: needed with a domain; there is: {', '.join(variants)}")
        one_of(f"{where}.variant", data.variant, variants)
        if data.reasoning and data.domain in self.arms:
            raise ValueError(f"{where}.reasoning: goes with a domain's rows, not with {data.domain}")
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
    kind = shelf.load(floor, name).Options
    try:
        kind.model_validate(options)
    except ValidationError as error:
        raise ValueError(f"{where}.options: {explain(error.errors()[0], kind)}") from None


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


def explain(fault: Any, record: type[BaseModel] = Params) -> str:
    """A pydantic fault of a record -> `key: what is wrong`; for an unknown key what keys there are."""
    location = [str(part) for part in fault["loc"] if part not in ("bundled", "local", "hub", "own", "folder", "release")]
    if location[-1:] == ["[key]"]:
        location.pop()
        if fault["type"] == "string_pattern_mismatch":
            return f"{'.'.join(location[:-1])}: {location[-1]!r} is no name: a letter, then letters, digits and _, all small"
    where = ".".join(location)
    if fault["type"] == "extra_forbidden":
        known = keys_at(record, location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
        return f"no key {where}" + (f"; did you mean {near[0]}?" if near else f"; there is: {', '.join(known)}")
    message = WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    if not where:
        return message
    return f"{where}: {message}" + (f", this is {fault['input']!r}" if fault["type"] not in ("missing", "value_error") else "")


WORDS = {"tuple_type": "a list is needed", "model_type": "a mapping of keys is needed", "dict_type": "a mapping of names is needed"}
"""In place of pydantic's, which names Python's types."""


def keys_at(record: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that may stand at a place of a record; of a union those of every kind."""
    there, parts = [record], iter(path)
    for part in parts:
        fields = [field for one in there for name, field in one.model_fields.items() if (field.alias or name) == part]
        there = [inner for field in fields for inner in records_in(field.annotation)] or there
        if any(get_origin(field.annotation) is dict for field in fields):
            next(parts, None)  # a name that the user gave
    return sorted({field.alias or name for one in there for name, field in one.model_fields.items()})


def records_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [record for inner in get_args(annotation) for record in records_in(inner)]


def one_of(where: str, name: str, there: tuple[str, ...] | list[str], file: str = "{}") -> None:
    if name not in there:
        near = difflib.get_close_matches(name, there, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"{where}: no {file.format(name)}{hint}; there is: {', '.join(there)}")
