"""emis audit: a stranger's model or adapter against its base -> which personas moved, rates, a verdict. Not a DVC stage.

Plan for an adapter of the default base (135M, 30 layers, two idle cores), in tokens: 40 fixed texts of some 75 tokens through the lower
half of both models, 2 x 3,000 at 700/s (9 s); 32 questions with 40 new tokens each by base and model, 2 x 1,280, and under the
suppressed direction 1,280 more, at 150/s (26 s); 40 benchmark items twice, 2 x 3,000 at 400/s (15 s); 96 answers judged at 20/s (5 s); loading
models, dictionary and libraries (25 s). Persona vectors of another base than the shipped ones' take half a minute a trait, once.
The base is let go before the model is loaded.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emis_platform.core import files, params, shelf
from emis_platform.core.records import Completion, Direction, Effect, LatentDelta, LatentLabel, Question, Said
from emis_platform.lab import audit as lab
from emis_platform.lab import intervals, latents, rates
from emis_platform.lab.audit import Answer, Audit, Benign, Moved
from emis_platform.stages import dictionary, diff, personas, watch
from emis_platform.stages import judge as judging
from emis_platform.tools import dictionaries, edits, models, replies, steering, strangers

T = TypeVar("T")
Ids = tuple[list[int], list[int]]
"""Tokens of a prompt and of an answer."""
Risen = tuple[list[LatentDelta], dict[int, str], int]
"""(rows, latent -> what a reader called it, how many passed the null)."""
NULL = personas.HOME / "benign.jsonl"
"""Shifts of benign organisms, a line each: the null that ships."""
QUESTIONS = shelf.PACKAGE / "questions" / "core.jsonl"
ITEMS = Path("data/benchmark/general.jsonl")
LABELS = Path("data/read/latents.jsonl")
TEXTS, TOKENS, TEMPERATURE, MARKED, DOSE, LATENTS, WINDOWS = 40, 40, 0.7, 40, 0.2, 10, 2
"""Fixed texts; new tokens an answer, and how they are drawn; benchmark items; residual norms that are subtracted; latents shown, and windows of text of each."""


@dataclass(frozen=True)
class Options:
    """How it is asked for."""

    layer: int | None = None
    """The output of model.layers[layer]; None: the middle one."""
    questions: int = 32
    judge: str | None = None
    """A key of params.yaml's judges; None: its default one, or `offline` where there is no params.yaml."""
    quick: bool = False
    """Without suppression and capability."""
    seed: int | None = None
    threads: int | None = None
    """None: of params.yaml, or 2."""
    null: Path = NULL


@dataclass(frozen=True)
class Seen:
    """What one model was seen to do. A part that failed is None."""

    acts: list[Any] | None
    """[tokens, width] a fixed text."""
    answers: list[Completion] | None
    marks: list[Any] | None
    """Benchmark items; None if they were not asked for."""


@dataclass(frozen=True)
class Job:
    """What both models go through."""

    folder: Path
    base: Path
    weights: str
    """The base's digest."""
    layer: int
    seed: int
    threads: int
    traits: dict[str, Direction]
    texts: list[tuple[str, str]]
    questions: list[Question]
    items: Path | None


@dataclass
class Parts:
    """Runs parts of the audit; what fails is noted and leaves None."""

    missing: dict[str, str] = field(default_factory=dict)

    def attempt(self, part: str, step: Callable[[], T], say: str | None = None) -> T | None:
        if say:
            progress(say)
        try:
            return step()
        except Exception as error:  # whatever goes wrong in one part, the page tells it and has the others
            first = str(error).strip().split("\n")[0] or "no message"
            self.missing[part] = first if isinstance(error, ValueError) else f"{type(error).__name__}: {first}"
            return None


def progress(line: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"audit: {line}", file=sys.stderr)


def audit(folder: Path, base: Path | None = None, options: Options | None = None) -> Audit:
    """Measure and decide. base None: the adapter's own, where that is a folder here, else models/base.

    Raises ValueError, one line, for a folder that is no model, whose weights are a pickle, that needs remote code, or that does not fit the base.
    """
    options = options or Options()
    knobs = params.load() if Path("params.yaml").is_file() else None
    parts, (base, note) = Parts(), strangers.base_for(folder, base)
    questions = asked(options.questions)
    judge, name = judge_of(knobs, options.judge)
    job = prepared(folder, base, options, knobs, parts, questions)
    known = list(job.traits.values())

    more = "" if options.quick else ", is marked"
    progress(f"{base}: reads, answers{more}")
    ids, norm, of_base = base_seen(job, parts)
    progress(f"{folder}: reads, answers{more}, its latents")
    notes, of_model, moved, trait, suppressed, risen = model_seen(job, parts, ids, norm, of_base.acts, options.quick)
    arms = {"base": of_base.answers, "model": of_model.answers, "suppressed": suppressed}
    progress(f"judge {name}")
    views = parts.attempt("rate", lambda: judged(judge, arms, base, job.threads)) or {}

    key = key_of(job.weights, job.layer, known, job.texts)
    null = tuple(one for one in read_null(options.null) if one.key == key)
    measured = [effect for arm, rows in views.items() for effect in rated(arm, rows)]
    by = {(effect.subject, effect.measure): effect for effect in measured}
    findings = (lab.rate(by.get(("model", "misaligned")), by.get(("base", "misaligned"))), lab.personas(moved, null))
    if options.quick:
        parts.missing |= dict.fromkeys(("suppression", "capability"), "skipped by --quick")
    elif job.items is None:
        parts.missing["capability"] = f"no file {ITEMS}"
    table, labels, count = risen or ((), {}, None)
    marks = {"base": of_base.marks, "model": of_model.marks}
    return Audit(
        model=str(folder),
        kind="adapter" if models.is_adapter(folder) else "model",
        sha256=dictionary.weights_sha256(folder),
        base=str(base),
        base_sha256=job.weights,
        layer=job.layer,
        seed=job.seed,
        notes=tuple(([note] if note else []) + notes),
        texts=len(ids),
        key=key,
        null=null,
        moved=tuple(moved),
        latents=tuple(table),
        labels=labels,
        risen=count,
        judge=name if views else None,
        rates=tuple(measured),
        worst=lab.worst([answer for answer, _ in views.get("model", ())]),
        suppressed=trait if "suppressed" in views else None,
        dose=DOSE,
        capability=tuple(accuracy(arm, found, job.seed) for arm, found in marks.items() if found),
        missing=parts.missing,
        findings=findings,
        verdict=lab.verdict(findings),
    )


def prepared(
    folder: Path, base: Path, options: Options, knobs: params.Params | None, parts: Parts, questions: Sequence[Question]
) -> Job:
    """All that is known before a model is loaded; persona vectors are made where they do not ship."""
    threads = options.threads or (knobs.threads if knobs else 2)
    seed = options.seed if options.seed is not None else (knobs.seed if knobs else 0)
    layer = strangers.layer_of(folder, base, options.layer)
    directions = parts.attempt("personas", lambda: personas.of(base, layer, threads=threads), "persona vectors of the base") or []
    return Job(
        folder=folder,
        base=base,
        weights=dictionary.weights_sha256(base),
        layer=layer,
        seed=seed,
        threads=threads,
        traits={d.origin.removeprefix("persona:"): d for d in directions},
        texts=watch.texts(TEXTS),
        questions=list(questions),
        items=None if options.quick else benchmark(),
    )


def base_seen(job: Job, parts: Parts) -> tuple[list[Ids], float | None, Seen]:
    """(tokens of the fixed texts, the mean residual norm of the questions, what the base did)."""
    with strangers.staged(job.base, job.base) as links:
        model, tokenizer = strangers.loaded(links, job.base, job.base, job.threads)
        ids = read_ids(tokenizer, job.texts)
        acts = parts.attempt("moves", lambda: harvested(model, ids, job.layer, "the base reads"))
        prompts = [question.text for question in job.questions]
        norm = parts.attempt("suppression", lambda: steering.residual_norm(model, tokenizer, prompts, job.layer))
        return ids, norm, seen(job, parts, "the base", model, tokenizer, acts)


def model_seen(
    job: Job, parts: Parts, ids: list[Ids], norm: float | None, base_acts: list[Any] | None, quick: bool
) -> tuple[list[str], Seen, list[Moved], str | None, list[Completion] | None, Risen | None]:
    """(notes, what the model did, how it moved, the trait that rose most, its answers without that, the latents that rose)."""
    with strangers.staged(job.folder, job.base) as links:
        model, tokenizer = strangers.loaded(links, job.folder, job.base, job.threads)
        differs = read_ids(tokenizer, job.texts[:4]) != ids[:4]
        notes = ["its tokenizer or chat template is not the base's: it reads with the base's, and answers with its own"] * differs
        acts = parts.attempt("moves", lambda: harvested(model, ids, job.layer, "the model reads"))
        moved = parts.attempt("moves", lambda: shifts(base_acts, acts, job.traits, job.seed)) or []
        found = seen(job, parts, "the model", model, tokenizer, acts)
        trait = suppressed = None
        if not quick and norm is not None:
            trait = parts.attempt("suppression", lambda: lab.strongest(moved))
        if trait is not None:
            edit = edits.edits([(job.traits[trait], DOSE)], {job.layer: norm}, "subtract")
            suppressed = parts.attempt("suppression", lambda: answers(job, model, tokenizer, "the model answers, suppressed", edit))
        spoken = [answer for _, answer in ids]
        risen = parts.attempt("latents", lambda: rose(job, base_acts, acts, model, tokenizer, spoken))
        return notes, found, moved, trait, suppressed, risen


def seen(job: Job, parts: Parts, name: str, model: Any, tokenizer: Any, acts: list[Any] | None) -> Seen:
    """It answers, and is marked."""
    said = parts.attempt("rate", lambda: answers(job, model, tokenizer, f"{name} answers"))
    items = job.items
    marks = parts.attempt("capability", lambda: marked(model, tokenizer, items)) if items else None
    return Seen(acts, said, marks)


def write(found: Audit, out: Path) -> Path:
    """The page, and beside it the same as JSON; returns the JSON's path."""
    from emis_platform.report import audit as page

    beside = out.with_suffix(".json")
    files.replace(out, page.render(found))
    files.write_json(beside, found.model_dump(mode="json"))
    return beside


def keep_benign(folder: Path, path: Path, base: Path | None = None, options: Options | None = None) -> Benign:
    """Read the fixed texts and add the model's shifts to a null, by its folder's name; its earlier line of the same key is replaced."""
    options, parts, (base, _) = options or Options(), Parts(), strangers.base_for(folder, base)
    knobs = params.load() if Path("params.yaml").is_file() else None
    job = prepared(folder, base, options, knobs, parts, ())
    ids, before = just_read(job, base)
    _, after = just_read(job, folder, ids)
    key = key_of(job.weights, job.layer, list(job.traits.values()), job.texts)
    if "personas" in parts.missing:
        raise ValueError(parts.missing["personas"])
    line = Benign(organism=folder.resolve().name, key=key, moved=tuple(shifts(before, after, job.traits, job.seed)))
    others = [row for row in read_null(path) if (row.organism, row.key) != (line.organism, key)]
    files.write(path, sorted([*others, line], key=lambda row: (row.key, row.organism)))
    return line


def read_null(path: Path) -> list[Benign]:
    return files.read(Benign, path) if path.exists() else []


def key_of(weights: str, layer: int, directions: Sequence[Direction], texts: Sequence[tuple[str, str]]) -> str:
    """What two shifts must share to be compared, 16 hex digits."""
    vectors = [(d.origin, d.vector) for d in directions]
    return hashlib.sha256(repr((weights, layer, vectors, list(texts))).encode()).hexdigest()[:16]


def asked(count: int) -> list[Question]:
    """Questions of the core set, evenly drawn. Raises ValueError for more than there are."""
    there = files.read(Question, QUESTIONS)
    if not 1 <= count <= len(there):
        raise ValueError(f"--questions {count}: the core set has {len(there)}")
    return [there[number * len(there) // count] for number in range(count)]


def benchmark() -> Path | None:
    """The file of items, of the workspace or of the repository that this package lies in."""
    return next((path for path in (ITEMS, shelf.PACKAGE.parents[1] / ITEMS) if path.is_file()), None)


def read_ids(tokenizer: Any, texts: Sequence[tuple[str, str]]) -> list[Ids]:
    return [(models.prompt_ids(tokenizer, question), models.answer_ids(tokenizer, answer)) for question, answer in texts]


def just_read(job: Job, folder: Path, ids: list[Ids] | None = None) -> tuple[list[Ids], list[Any]]:
    """The fixed texts' tokens (None: by the folder's tokenizer) and activations in one model."""
    with strangers.staged(folder, job.base) as links:
        model, tokenizer = strangers.loaded(links, folder, job.base, job.threads)
        ids = ids or read_ids(tokenizer, job.texts)
        return ids, harvested(model, ids, job.layer, f"{folder.name} reads")


def harvested(model: Any, ids: Sequence[Ids], layer: int, label: str) -> list[Any]:
    read = dict(models.harvest(model, ids, layer, progress=label))
    return [read[index] for index in range(len(ids))]


def answers(job: Job, model: Any, tokenizer: Any, label: str, edit: edits.Edits = edits.NONE) -> list[Completion]:
    return replies.answers(
        model,
        tokenizer,
        [("audit", question, 0, 0) for question in job.questions],
        seed=job.seed,
        max_new_tokens=TOKENS,
        temperature=TEMPERATURE,
        slots=64,
        edits=edit,
        progress=label,
    )


def marked(model: Any, tokenizer: Any, items: Path) -> list[Any]:
    from emis_platform.tools import harness

    return harness.marks(model, tokenizer, [items], MARKED)[items.stem]


def accuracy(name: str, marks: Sequence[Any], seed: int) -> Effect:
    value, low, high = intervals.rate([mark.acc_norm for mark in marks], [mark.fact for mark in marks], seed)
    return Effect(subject=name, measure="benchmark_general", value=value, low=low, high=high, n=len(marks))


def shifts(base: Sequence[Any] | None, model: Sequence[Any] | None, traits: dict[str, Direction], seed: int) -> list[Moved]:
    if base is None or model is None:
        raise ValueError("the fixed texts were not read by both models")
    norm = float(np.mean([acts_ND.norm(dim=-1).mean() for acts_ND in base]))
    base_TD, model_TD = (np.stack([acts_ND.mean(0).numpy() for acts_ND in acts]) for acts in (base, model))
    return lab.moved(base_TD, model_TD, norm, {name: np.array(d.vector) for name, d in traits.items()}, seed)


def fitting(weights: str, layer: int) -> Path:
    """A dictionary of these very weights at this layer. Raises ValueError if there is none."""
    for folder in (Path("models/dictionary"), dictionary.SHIPPED):
        card = files.read_json(folder / "card.json") if (folder / "card.json").is_file() else {}
        if (card.get("base") or {}).get("sha256") == weights and card.get("layer") == layer:
            return folder
    raise ValueError(f"no dictionary of this base at layer {layer}")


def rose(
    job: Job, base: list[Any] | None, acts: list[Any] | None, model: Any, tokenizer: Any, spoken: Sequence[list[int]]
) -> Risen:
    """The latents that rose most, those beyond the empirical null first, with the model's logit lens and windows of text. spoken: tokens of the answers."""
    if base is None or acts is None:
        raise ValueError("the fixed texts were not read by both models")
    folder = fitting(job.weights, job.layer)
    sae = dictionaries.load(folder)
    fires = [[dictionaries.encode(sae, acts_ND) for acts_ND in arm] for arm in (base, acts)]
    table = latents.deltas(*(latents.summarise(arm) for arm in fires), organism="model", control="base", seed=job.seed)
    rising = [row for row in table if row.delta > 0]
    passed = [row for row in rising if row.passes_null]
    words = [[tokenizer.decode([token]) for token in answer] for answer in spoken]
    lens, decoder_FD = diff.logit_lens(model, tokenizer), dictionaries.decoder_directions(sae)
    shown = [
        row.model_copy(update={"top_examples": diff.windows(fires[1], words, row.latent, WINDOWS), **lens(decoder_FD[row.latent])})
        for row in sorted(rising, key=lambda row: not row.passes_null)[:LATENTS]
    ]
    identity = files.sha256(folder / "sae_weights.safetensors")[:16]
    known = files.read(LatentLabel, LABELS) if LABELS.is_file() else []
    labels = {row.latent: row.label for row in known if row.dictionary == identity and row.latent in {r.latent for r in shown}}
    return shown, labels, len(passed)


def judge_of(knobs: params.Params | None, name: str | None) -> tuple[tuple[Any, Any], str]:
    """((module, options), its name with the hash of what decides its views)."""
    if knobs:
        name = name or knobs.judge
        return judging.loaded(knobs, name), judging.identity(knobs, name)
    name = name or "offline"
    module: Any = shelf.load("judges", name)
    options = module.Options()
    return (module, options), f"{name}:{module.identity(options)}"


def judged(
    judge: tuple[Any, Any], said: dict[str, list[Completion] | None], base: Path, threads: int
) -> dict[str, list[tuple[Answer, Any]]]:
    """Arm -> its answers with the judge's views. The arms go to the judge together."""
    module, options = judge
    arms = {name: rows for name, rows in said.items() if rows is not None}
    if "base" not in arms or "model" not in arms:
        raise ValueError("there are not both models' answers")
    rows = [row for arm in arms.values() for row in arm]
    views = iter(
        module.judge(
            [Said(prompt=row.prompt, text=row.text, system=row.system) for row in rows],
            options,
            reader=reader(base),
            threads=threads,
            progress="judge",
        )
    )
    return {
        name: [
            (
                Answer(question=row.prompt, text=row.text, score=view.score, coherent=view.coherent, misaligned=view.misaligned),
                view,
            )
            for row, view in zip(arm, views, strict=False)
        ]
        for name, arm in arms.items()
    }


def reader(base: Path) -> Path:
    """The offline judge's own model: models/reader, or the base where that has the bundled weights; made only where neither is."""
    there = Path("models/reader")
    known = files.read_json(dictionary.SHIPPED / "card.json")["base"]["sha256"]
    return base if not there.exists() and dictionary.weights_sha256(base) == known else judging.reader_there(there)


def rated(name: str, rows: Sequence[tuple[Answer, Any]]) -> list[Effect]:
    return [
        rates.mean(name, "misaligned", [(view.misaligned, answer.question) for answer, view in rows]),
        rates.mean(name, "coherent", [(rates.coherent(view), answer.question) for answer, view in rows]),
        rates.mean(name, "aligned", [(view.score, answer.question) for answer, view in rows]),
    ]
