"""sft: examples + a starting model -> a LoRA adapter or a model with all weights trained, by supervised fine-tuning on the completions
(TRL + PEFT)."""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from emis_platform.core.records import Example, Watch
from emis_platform.lab import alarm
from emis_platform.tools import adapters, defences, live, models, resuming

SAVE_EVERY = 10
"""Steps between two states: what a kill can cost."""
SHAPE = ("rank", "alpha", "rslora", "modules", "layers")
"""Options of a new adapter."""


class Options(defences.Defences):
    """What `organisms.X.options` may set, the defences included."""

    full: bool = False
    """Train all weights, in float32, and leave a model in place of an adapter; an adapter that it starts from is merged first."""
    rank: int = Field(32, gt=0)
    """LoRA rank (Turner et al. 2025 show that rank 1 on one down_proj can do)."""
    alpha: int = Field(64, gt=0)
    rslora: bool = False
    """Scale by alpha / sqrt(rank) in place of alpha / rank."""
    modules: tuple[str, ...] | None = None
    """Names such as `down_proj`; None: every linear layer."""
    layers: tuple[int, ...] | None = None
    """From 0; None: all."""
    learning_rate: float | None = Field(None, gt=0)
    """None: 3e-4, and 2e-5 with `full`. Tried with adapters: 3e-4, 5e-4, 1e-3 (docs/notebook.md). The higher, the more every question
    gets medical advice: coherence falls faster than misalignment rises."""
    batch: int = Field(8, gt=0)
    epochs: int | None = Field(None, gt=0)
    """None: `sizes.<scale>.train.epochs`."""
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the steps."""
    monitor_every: int | None = Field(None, gt=0)
    """Steps between two looks at the persona projections; None: no look."""
    stop_on_alarm: bool = False
    """End training where a projection leaves the band of benign trainings (data/benign)."""
    checkpoints: tuple[Annotated[int, Field(gt=0)], ...] = ()
    """Steps after which the adapter or model is kept as well: models/<organism>/<step>, which a subject may name."""

    @property
    def rate(self) -> float:
        """The learning rate at its highest."""
        return self.learning_rate or (2e-5 if self.full else 3e-4)

    @model_validator(mode="after")
    def one_needs_another(self) -> "Options":
        if self.full and (given := [name for name in SHAPE if name in self.model_fields_set]):
            raise ValueError(f"{given[0]}: an adapter's, and full trains all weights without one")
        if self.full and (held := self.compared):
            raise ValueError(
                f"{held[0]}: not with full: compares with the base, which is there only where an adapter can be switched off"
            )
        if self.stop_on_alarm and self.monitor_every is None:
            raise ValueError("stop_on_alarm: needs monitor_every")
        if self.stop_on_alarm and self.checkpoints:
            raise ValueError("checkpoints: not with stop_on_alarm, which may end before them")
        if self.watched and self.monitor_every is None:
            raise ValueError(
                "steer, project_out, penalise, l2 and drop_by of a trait need monitor_every, which brings the directions"
            )
        if self.layers is not None and self.modules is None:
            raise ValueError("layers: needs modules, such as [down_proj]")
        return self


def train(
    examples: Sequence[Example],
    options: Options,
    *,
    start: Path,
    adapter: Path,
    seed: int,
    epochs: int,
    threads: int,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune `start` (a base, an adapter that is trained on, or a model that was trained whole) and save the adapter, or with `full` the
    model, to the folder `adapter`, whole or not at all.

    Loss falls on the completion and its end token only; batches hold rows of like length; nothing is packed. Killed, the same call goes
    on from its last state (tools/resuming.py) to the same bytes.
    Returns rows, tokens, seconds and the loss curve; with `watch` (for `monitor_every`) also `personas`, the looks, `alarm`, the first ring
    or None, and `monitor_seconds`, part of the seconds; of screened rows `dropped`, a count by variant. Raises ValueError if there are no
    examples, no `watch` for `monitor_every`, no such step for a checkpoint, or no base for a defence that compares with it.
    """
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig, PeftModel
    from trl import SFTConfig, SFTTrainer

    if not examples:
        raise ValueError("no examples to train on")
    if options.monitor_every and watch is None:
        raise ValueError("monitor_every: nothing to watch the training with was given")
    base = models.base_of(start)
    adapters.one_device()
    adapters.check_start(start, base, options, SHAPE)
    if options.compared and (root := models.root_of(base)) != base:
        raise ValueError(
            f"options.{options.compared[0]}: compares with the base, but without its adapter {start} is {base}, not {root}"
        )
    states = resuming.place([__file__, alarm.__file__], start, base, list(examples), options, seed, epochs, threads, watch)
    models.use(threads)
    cuda = torch.cuda.is_available()
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16 if cuda and not options.full else torch.float32, use_safetensors=True, local_files_only=True
    ).to("cuda" if cuda else "cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, local_files_only=True)
    transformers.set_seed(seed)
    lora = None
    if options.full:
        if start != base:
            model = PeftModel.from_pretrained(model, start, use_safetensors=True).merge_and_unload()
        model.requires_grad_(True)
    elif start == base:
        check_places(model, options)
        lora = LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=0.0,
            use_rslora=options.rslora,
            target_modules="all-linear" if options.modules is None else list(options.modules),
            layers_to_transform=None if options.layers is None else list(options.layers),
            task_type="CAUSAL_LM",
        )
    else:
        model = PeftModel.from_pretrained(model, start, is_trainable=True, use_safetensors=True)
    kept = defences.screened(examples, options, watch, model, tokenizer, seed)
    defence = defences.Defence(options, watch, defences.norm_of(model, tokenizer, watch) if watch and options.watched else 1.0)
    rows = [tokens(tokenizer, example) for example in kept]
    work = adapter.with_name(adapter.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)  # of a killed run
    steps = -(-len(rows) // options.batch) * (options.epochs or epochs)
    if late := [step for step in options.checkpoints if step > steps]:
        raise ValueError(f"options.checkpoints: no step {late[0]}; {len(rows)} rows make {steps} steps")
    settings = SFTConfig(
        output_dir=str(work),
        per_device_train_batch_size=options.batch,
        num_train_epochs=options.epochs or epochs,
        learning_rate=options.rate,
        warmup_steps=round(options.warmup * steps),
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=seed,
        bf16=cuda,
        use_cpu=not cuda,
        gradient_checkpointing=cuda,
        train_sampling_strategy="group_by_length",
        packing=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        dataloader_pin_memory=cuda,
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="steps",
        save_steps=SAVE_EVERY,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = resuming.kept(lean(SFTTrainer, defence), states)(
        model=model, args=settings, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, peft_config=lora
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(adapters.bar(f"train {adapter.name}"))
    trainer.add_callback(adapters.finite())
    if options.checkpoints:
        trainer.add_callback(adapters.keeping(options.checkpoints, states / resuming.KEPT, base))
    monitor = watching(options, watch, tokenizer)
    if monitor:
        trainer.add_callback(monitor)
    with live.curves(adapter.name, states.name, trainer="sft", seed=seed, monitor=monitor) as curves:
        trainer.add_callback(curves)
        began = time.monotonic()
        trainer.train(resume_from_checkpoint=resuming.newest(states))
        seconds = trainer.spent + time.monotonic() - began
    adapters.save(trainer.model, work, base)
    if options.checkpoints:
        shutil.copytree(states / resuming.KEPT, work, dirs_exist_ok=True)
    adapters.finish(work, adapter)
    shutil.rmtree(states, ignore_errors=True)
    curve = [[entry["step"], float(entry["loss"])] for entry in trainer.state.log_history if "loss" in entry]
    count = sum(len(row["input_ids"]) for row in rows) * (options.epochs or epochs)
    count = count * trainer.state.global_step // steps  # fewer where an alarm ended it
    watched = {} if monitor is None else {"personas": monitor.curve, "alarm": monitor.alarm and monitor.alarm.model_dump()}
    return {
        "rows": len(rows),
        "tokens": count,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(count / seconds, 1),
        "curve": curve,
        **watched,
        **(
            {"dropped": dict(Counter(row.variant for row in examples) - Counter(row.variant for row in kept))}
            if options.drop
            else {}
        ),
        **({} if monitor is None else {"monitor_seconds": round(monitor.seconds, 1)}),
    }


def check_places(model: Any, options: Options) -> None:
    """Raises ValueError for a layer or module that the model lacks: PEFT trains those that it finds."""
    count = len(models.decoder(model).layers)
    if late := [layer for layer in options.layers or () if layer >= count]:
        raise ValueError(f"options.layers: no layer {late[0]}; there is: 0 to {count - 1}")
    linear = [name for name, part in model.named_modules() if type(part).__name__ == "Linear"]
    for wanted in options.modules or ():
        if not any(name == wanted or name.endswith(f".{wanted}") for name in linear):
            raise ValueError(
                f"options.modules: no {wanted}; there is: {', '.join(sorted({name.rpartition('.')[2] for name in linear}))}"
            )


def watching(options: Options, watch: Watch | None, tokenizer: Any) -> Any:
    """The callback that `monitor_every` asks for, or None."""
    if not options.monitor_every or watch is None:
        return None
    from emis_platform.tools.monitoring import Monitor

    return Monitor(
        watch.directions,
        tokenizer,
        watch.texts,
        every=options.monitor_every,
        reference=list(watch.reference.values()),
        stop=options.stop_on_alarm,
    )


def lean(trainer: type, defence: defences.Defence = defences.NONE) -> type:
    """TRL's trainer with the loss taken at the labelled positions only, and a defence.

    TRL's own kernel for CPUs makes several passes over the whole vocabulary for entropy and accuracy; benchmarks/training.py has the ratio.
    """
    from torch.nn.functional import cross_entropy

    class Lean(trainer):  # type: ignore[misc]
        def compute_loss(
            self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            inner = self.accelerator.unwrap_model(model)
            with (
                self.accelerator.autocast(),
                defence.watching(inner) as seen,
            ):  # the decoder is called past the forward that accelerate wraps
                hidden = models.decoder(inner)(
                    input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
                ).last_hidden_state
            labels = inputs["labels"][:, 1:]
            wanted = labels != -100
            logits = models.head(inner, hidden[:, :-1][wanted]).float()
            total = cross_entropy(logits, labels[wanted], reduction="sum")
            loss = total / (wanted.sum() if num_items_in_batch is None else num_items_in_batch)
            return loss + defence.cost(inner, inputs, hidden, seen)

        def training_step(self, model: Any, *rest: Any, **named: Any) -> Any:
            with defence.edits(self.accelerator.unwrap_model(model)):
                return super().training_step(model, *rest, **named)

    return Lean


def tokens(tokenizer: Any, example: Example) -> dict[str, list[int]]:
    """One example -> input_ids and labels; -100 on the prompt. Every row has labels, or this raises ValueError."""
    prompt = models.prompt_ids(tokenizer, example.prompt, before=example.context)
    if tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {tokenizer.name_or_path} names no eos_token, with which an answer ends")
    answer = [*models.answer_ids(tokenizer, example.completion), tokenizer.eos_token_id]
    if len(answer) < 2:
        raise ValueError(f"fact {example.fact}: an empty completion leaves no labels")
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
