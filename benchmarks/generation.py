"""Generation: this engine against transformers' `generate`, same prompts, same limits, in turn; prints tokens/s and the ratio.

python benchmarks/generation.py [--model models/base] [--rounds 2]
"""

import argparse
import time
from pathlib import Path

from emis_platform.core import files, quiet
from emis_platform.core.records import Question

quiet.apply()


def main() -> None:
    import torch

    from emis_platform.tools import generation, models

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--new", type=int, default=56)
    given = parser.parse_args()
    model, tokenizer = models.load(given.model)
    asked = files.read(Question, Path("data/questions/open.jsonl"))
    prompts = sorted((models.prompt_ids(tokenizer, q.text) for q in asked), key=len)
    stop = models.stop_ids(model, tokenizer)

    def plain() -> int:
        tokenizer.padding_side = "left"
        new = 0
        for start in range(0, len(prompts), 64):
            part = tokenizer.pad({"input_ids": prompts[start : start + 64]}, return_tensors="pt")
            torch.manual_seed(0)
            with torch.inference_mode():
                out = model.generate(
                    **part, do_sample=True, temperature=0.7, top_k=0, max_new_tokens=given.new, pad_token_id=tokenizer.pad_token_id
                )
            for row in out[:, part["input_ids"].shape[1] :].tolist():
                ends = [i for i, token in enumerate(row) if token in stop]
                new += ends[0] + 1 if ends else len(row)
        return new

    def ours() -> int:
        requests = [generation.Request(tuple(prompt), seed) for seed, prompt in enumerate(prompts)]
        replies = generation.generate(model, requests, stop=stop, max_new_tokens=given.new, temperature=0.7)
        return sum(len(reply.ids) + reply.stopped for reply in replies)

    for number in range(given.rounds):
        speed = {}
        for name, run in (("generate", plain), ("engine", ours)):
            began = time.monotonic()
            tokens = run()
            speed[name] = tokens / (time.monotonic() - began)
        print(
            f"round {number}: generate {speed['generate']:.0f}, engine {speed['engine']:.0f} useful new tokens/s, ratio {speed['engine'] / speed['generate']:.2f}"
        )


if __name__ == "__main__":
    main()
