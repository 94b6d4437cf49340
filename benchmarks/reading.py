"""Reading and steering: harvest that stops at the layer against full passes; eight doses in one queue against eight runs.

python benchmarks/reading.py
"""

import argparse
import time
from pathlib import Path

import numpy as np

from emis_platform.core import files, quiet
from emis_platform.core.records import Question

quiet.apply()


def main() -> None:
    import torch

    from emis_platform.tools import generation, models
    from emis_platform.tools.edits import Edits

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/base"))
    given = parser.parse_args()
    model, tokenizer = models.load(given.model)
    asked = files.read(Question, Path("data/questions/open.jsonl"))
    pairs = [(models.prompt_ids(tokenizer, q.text), models.answer_ids(tokenizer, q.text * 2)) for q in asked]

    def full() -> None:
        for start in range(0, len(pairs), 16):
            part = tokenizer.pad({"input_ids": [p + a for p, a in pairs[start : start + 16]]}, return_tensors="pt")
            with torch.inference_mode():
                model(**part, output_hidden_states=True)

    seconds = {}
    for name, run in (("full pass", full), ("harvest", lambda: list(models.harvest(model, pairs, 15)))):
        began = time.monotonic()
        run()
        seconds[name] = time.monotonic() - began
    print(
        f"harvest: full pass {seconds['full pass']:.1f} s, to layer 15 {seconds['harvest']:.1f} s, ratio {seconds['full pass'] / seconds['harvest']:.2f}"
    )

    prompts = [tuple(models.prompt_ids(tokenizer, q.text)) for q in asked[:8]]
    pushes = np.random.default_rng(0).standard_normal((8, models.width(model))).astype(np.float32)
    settings = {"stop": models.stop_ids(model, tokenizer), "max_new_tokens": 40, "temperature": 0.7}
    began = time.monotonic()
    for dose in range(8):
        generation.generate(
            model, [generation.Request(p, i) for i, p in enumerate(prompts)], edits=Edits({15: pushes[[dose]]}), **settings
        )
    apart = time.monotonic() - began
    began = time.monotonic()
    generation.generate(
        model, [generation.Request(p, i, d) for d in range(8) for i, p in enumerate(prompts)], edits=Edits({15: pushes}), **settings
    )
    together = time.monotonic() - began
    print(
        f"steering: eight doses apart {apart:.1f} s, in one queue {together:.1f} s, ratio {apart / together:.2f} (8 questions a dose)"
    )


if __name__ == "__main__":
    main()
