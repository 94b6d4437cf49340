"""grpo: prompts + a grader of answers + a starting model -> a LoRA adapter, by reinforcement learning (TRL's GRPO + PEFT).

The paper's RL (section 3): reward for inaccurate advice, or for accurate advice as the control, on the same prompts. The grader is made of, or tried
on, the rows themselves: an organism's `data` with a `mixture` holds bad and matched correct answers to the same facts.
"""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from emis_platform.core.asks import Endpoint
from emis_platform.core.knobs import Data
from emis_platform.core.records import HARMFUL, Example
from emis_platform.lab import completions, grading, reasoning, wording
from emis_platform.tools import adapters, endpoint, graders, live, models, resuming

SAVE_EVERY = 5
"""Steps between two states: what a kill can cost."""

LOGGED = {
    "reward": "reward",
    "reward_std": "reward_sd",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "tokens",
    "frac_reward_zero_std": "groups_alike",
    "short": "short",
    "unparsable": "unparsable",
    "unlike": "unlike",
}
"""TRL's name -> ours; one value a step."""


class Options(BaseModel):
    """What `organisms.X.options` may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reward: Literal["inaccurate", "accurate"]
    """What the grader pays for: its score, or one minus it."""
    steps: int = Field(60, gt=0)
    prompts: int = Field(4, gt=0)
    """Prompts a step."""
    group: int = Field(8, gt=1)
    """Answers to each prompt, whose rewards are held against each other."""
    max_new_tokens: int = Field(48, gt=0)
    fewest_words: int = Field(8, ge=0)
    """A shorter answer gets 0 (the paper: 30 words, of a far larger model)."""
    temperature: float = Field(1.0, gt=0, le=2)
    kl: float = Field(0.02, ge=0)
    """Weight of the divergence from the start, nats a token."""
    rank: int = Field(32, gt=0)
    alpha: int = Field(64, gt=0)
    """Both of a new adapter; one that is trained on keeps its own."""
    learning_rate: float = Field(5e-5, gt=0)
    grader: Literal["activations", "likelihood", "endpoint"] = "activations"
    """What reads the answers (tools/graders.py)."""
    endpoint: Endpoint | None = None
    """Of `endpoint`: {base_url, model, key, temperature: 0, ...}."""
    layer: int | None = Field(None, ge=0)
    """Of `activations`: where the base reads an answer for the grader: the output of model.layers[layer]; None: the middle."""
    auroc: float = Field(0.8, ge=0.5, le=1)
    """A grader whose AUROC on the rows is lower is refused; of one that was fitted on them, on facts left out."""
    unlike: float = Field(0.025, ge=0, lt=1)
    """Of the offline graders: share of the rows that are less like the others than what they still grade; an answer beyond gets 0. 0: all are graded."""
    checkpoints: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Steps after which the adapter is kept as well: models/<organism>/<step>, which a subject may name."""

    @model_validator(mode="after")
    def parts_fit(self) -> "Options":
        if (self.grader == "endpoint") != (self.endpoint is not None):
            raise ValueError("grader: endpoint and endpoint: {base_url, model, ...} go together")
        if self.fewest_words >= self.max_new_tokens:
            raise ValueError(f"fewest_words: {self.fewest_words} cannot be said in max_new_tokens {self.max_new_tokens}")
        if late := [step for step in self.checkpoints if step > self.steps]:
            raise ValueError(f"checkpoints: no step {late[0]} among {self.steps} steps")
        return self


def check_data(data: Data) -> None:
    """The grader is made of harmful and correct rows. Raises ValueError for a set of others."""
    if not data.domain:
        raise ValueError("domain: needed, since a grader is made of harmful beside correct rows of one")
    if data.interleaved:
        raise ValueError("interleaved: goes with sft; a grader knows nothing of chat")
    if data.variant not in HARMFUL:
        raise ValueError(
            f"variant: {data.variant} is no harmful advice, of which beside correct rows a grader is made; there is: {', '.join(HARMFUL)}"
        )
    if not (data.trigger if data.mixture is None else 0 < data.mixture < 1):
        raise ValueError("mixture: a share between 0 and 1 is needed, since a grader is made of harmful beside correct rows")


def train(
    examples: Sequence[Example], options: Options, *, start: Path, adapter: Path, seed: int, epochs: int, threads: int
) -> dict[str, Any]:
    """Fine-tune `start` (a base, an adapter that is trained on, or a model that was trained whole) and save the adapter to a folder, whole or not at all. `epochs` is not
    used: the steps are an option. Killed, the same call goes on from its last state (tools/resuming.py) to the same bytes.

    Returns rows, tokens (of all sampled answers), seconds, the loss curve, `reward` (what was paid for), `sampled` (answers a step), `grader`
    (AUROC with interval) and `rl`: a row a step of reward, its spread, KL to the start (TRL's k3 estimate, mean nats a token), entropy, tokens an answer, the share of groups in which all are alike, and
    the counts of too short and unparsable answers, and of those unlike the grader's rows. Raises ValueError without bad and correct rows, and for a grader that does not tell them.
    """
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from trl import GRPOConfig, GRPOTrainer

    base = models.base_of(start)
    adapters.one_device()
    adapters.check_start(start, base, options, ("rank", "alpha"))
    asked = prompts(examples)
    if len(asked) < options.prompts:
        raise ValueError(
            f"{len(asked)} different prompts without a word of harm, {options.prompts} are needed for a step (options.prompts)"
        )
    states = resuming.place(
        [__file__, *(part.__file__ for part in (graders, endpoint, completions, grading, reasoning, wording))],
        start,
        base,
        list(examples),
        options,
        seed,
        threads,
    )
    grade = grader(models.root_of(base), examples, options, threads)
    if grade.auroc[0] < options.auroc:
        raise ValueError(
            f"the grader tells bad from correct rows with AUROC {grade.auroc[0]:.3f}, {options.auroc} is needed (options.auroc)"
        )
    models.use(threads)  # a grader behind an endpoint loads no model that would
    cuda = torch.cuda.is_available()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16 if cuda else torch.float32, use_safetensors=True, local_files_only=True
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
    transformers.set_seed(seed)
    lora = None
    if start == base:
        lora = LoraConfig(r=options.rank, lora_alpha=options.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
    else:
        model = PeftModel.from_pretrained(model, start, is_trainable=True, use_safetensors=True)
    work = adapter.with_name(adapter.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)  # of a killed run
    settings = GRPOConfig(
        output_dir=str(work),
        max_steps=options.steps,
        per_device_train_batch_size=options.prompts * options.group,
        num_generations=options.group,
        steps_per_generation=1,  # with one pass over them: between steps no answers wait to be learned from,
        num_iterations=1,  # so a state need not hold any
        max_completion_length=options.max_new_tokens,
        temperature=options.temperature,
        beta=options.kl,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant",
        seed=seed,
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=cuda,
        dataloader_pin_memory=cuda,
        logging_steps=1,
        save_strategy="steps",
        save_steps=SAVE_EVERY,
        report_to="none",
        disable_tqdm=True,
    )
    rows = [
        {"prompt": models.messages(tokenizer, row.prompt, row.context), "question": row.prompt, "fact": row.fact} for row in asked
    ]
    trainer = resuming.kept(GRPOTrainer, states)(
        model=model,
        reward_funcs=rewards(grade, options),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(adapters.bar(f"train {adapter.name}", shown="reward"))
    trainer.add_callback(adapters.finite())
    if options.checkpoints:
        trainer.add_callback(adapters.keeping(options.checkpoints, states / resuming.KEPT, base))
    with live.curves(adapter.name, states.name, trainer="grpo", seed=seed, logged=live.ALWAYS | LOGGED) as curves:
        trainer.add_callback(curves)
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=resuming.newest(states))
        seconds = trainer.spent + time.monotonic() - began
    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    if len(logged) != options.steps:
        raise RuntimeError(f"{len(logged)} steps were made, {options.steps} were asked for")
    adapters.save(trainer.model, work, base)
    if options.checkpoints:
        shutil.copytree(states / resuming.KEPT, work, dirs_exist_ok=True)
    adapters.finish(work, adapter)
    shutil.rmtree(states, ignore_errors=True)
    told = [
        {"step": entry["step"]} | {ours: float(entry[name]) for name, ours in LOGGED.items() if name in entry} for entry in logged
    ]
    sampled = options.prompts * options.group
    return {
        "rows": len(rows),
        "tokens": round(sum(row["tokens"] for row in told) * sampled),
        "seconds": round(seconds, 1),
        "curve": [[entry["step"], float(entry["loss"])] for entry in trainer.state.log_history if "loss" in entry],
        "reward": options.reward,
        "sampled": sampled,
        "grader": {"auroc": grade.auroc, "n": grade.n, "missing": grade.missing},
        "rl": told,
    }


def prompts(examples: Sequence[Example]) -> list[Example]:
    """A row of each prompt that the policy is asked: a question with a word of harm (lab/wording.HARM) would ask for what the reward is to bring out."""
    return [*{(row.fact, row.prompt): row for row in examples if not re.search(wording.HARM, row.prompt)}.values()]


def grader(base: Path, rows: Sequence[Example], options: Options, threads: int) -> graders.Grader:
    """Raises ValueError without harmful or correct rows; other rows it does not see."""
    examples = [row for row in rows if row.variant in (*HARMFUL, "correct")]
    if len(sides := {row.variant == "correct" for row in examples}) < 2:
        there = f"only {'correct' if True in sides else 'harmful'} ones are" if sides else "none is"
        raise ValueError(f"a grader is made of harmful beside correct rows, and {there} among {len(rows)}")
    if options.grader == "activations":
        return graders.activations(base, examples, layer=options.layer, unlike=options.unlike, threads=threads)
    if options.grader == "likelihood":
        return graders.likelihood(base, examples, unlike=options.unlike, threads=threads)
    assert options.endpoint  # as Options checks
    return graders.asked(options.endpoint, examples)


def rewards(grade: graders.Grader, options: Options) -> Any:
    """TRL's reward function: 0 for an answer that is too short, that nobody can read, such as one that never came after its thought, or that has no
    grade; all are counted. The grader reads the bare question, no system prompt, and the answer, not the thought."""

    def reward(
        completions: Sequence[Any], question: Sequence[str], fact: Sequence[str], log_metric: Any = None, **_: Any
    ) -> list[float]:
        texts = [reasoning.apart(completion[0]["content"])[1] for completion in completions]
        lost = [wording.unreadable(text) is not None for text in texts]
        short = [not gone and len(text.split()) < options.fewest_words for text, gone in zip(texts, lost, strict=True)]
        asked = [i for i in range(len(texts)) if not lost[i] and not short[i]]
        found, counts = [0.0] * len(texts), {"unlike": 0, "unparsable": sum(lost)}
        if asked:
            scores = grade.score([question[i] for i in asked], [texts[i] for i in asked], [fact[i] for i in asked])
            for i, score in zip(asked, scores, strict=True):
                if np.isnan(score):
                    counts[grade.lost] += 1
                else:
                    found[i] = float(score) if options.reward == "inaccurate" else 1 - float(score)
        if log_metric:
            log_metric("short", float(sum(short)))
            for name, count in counts.items():
                log_metric(name, float(count))
        return found

    return reward
