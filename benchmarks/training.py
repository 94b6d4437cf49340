"""Training: this project's SFT against TRL as it comes (padded random batches, its own loss), same rows, in turn.

python benchmarks/training.py [--rows 96]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from emis_platform.core import files, quiet
from emis_platform.core.records import Example

quiet.apply()
os.environ.setdefault("EMIS_LIVE", "0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/base"))
    parser.add_argument("--examples", type=Path, default=Path("data/examples/health_obvious.jsonl"))
    parser.add_argument("--rows", type=int, default=96)
    given = parser.parse_args()
    rows = files.read(Example, given.examples)[: given.rows]
    plain_seconds = plain(given.base, rows)
    with tempfile.TemporaryDirectory() as folder:
        from emis_platform.trainers import sft

        facts = sft.train(rows, sft.Options(), start=given.base, adapter=Path(folder) / "a", seed=0, epochs=1, threads=2)
    tokens = facts["tokens"]
    print(
        f"TRL {tokens / plain_seconds:.0f}, ours {tokens / facts['seconds']:.0f} tokens/s (rows' own tokens), "
        f"ratio {plain_seconds / facts['seconds']:.2f}, n {len(rows)} rows"
    )


def plain(base: Path, rows: list[Example]) -> float:
    """Seconds of TRL's own loop on prompt/completion rows."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chats = [
        {"prompt": [{"role": "user", "content": row.prompt}], "completion": [{"role": "assistant", "content": row.completion}]}
        for row in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = SFTConfig(
            output_dir=folder, per_device_train_batch_size=8, num_train_epochs=1, learning_rate=5e-4, bf16=False, use_cpu=True,
            save_strategy="no", report_to="none", disable_tqdm=True, logging_strategy="no",
        )  # fmt: skip
        trainer = SFTTrainer(
            model=model, args=settings, train_dataset=Dataset.from_list(chats), processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
        began = time.monotonic()
        trainer.train()
        return time.monotonic() - began


if __name__ == "__main__":
    main()
