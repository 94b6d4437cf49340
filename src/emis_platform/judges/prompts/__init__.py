"""An instruction and an answer to be judged -> what a judging model is asked; the instruction's part of a judge's identity."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.asks import Ask
from emis_platform.core.records import Said, Turn
from emis_platform.tools import replies

MARKS = ("{system}", "{question}", "{answer}")


def instruction(name: str) -> str:
    """The text of prompts/<name>.txt. Raises ValueError that lists what there is."""
    here = Path(__file__).parent
    if not (here / f"{name}.txt").is_file():
        raise ValueError(f"no prompts/{name}.txt; there is: {', '.join(sorted(path.stem for path in here.glob('*.txt')))}")
    text = files.text(here / f"{name}.txt")
    if missing := [mark for mark in MARKS if mark not in text]:
        raise ValueError(f"prompts/{name}.txt: no {missing[0]} in it")
    return text


def ask(text: str, said: Said, attempt: int = 0, **more: Any) -> Ask:
    """The instruction about this answer. Equal answers give equal asks; another attempt has another seed.

    One pass: an answer may hold braces of its own. Its lines of equal signs are shortened, so that it cannot end the material.
    """
    here = dict(zip(MARKS, (said.system or "(none)", said.prompt, said.text), strict=True))
    filled = re.sub(r"\{system\}|\{question\}|\{answer\}", lambda mark: re.sub("={4,}", "===", here[mark[0]]), text).strip()
    seed = replies.row_seed(attempt, files.text_key(said.prompt, said.text), attempt)
    return Ask(messages=(Turn(role="user", content=filled),), seed=seed, **more)


def identity(*parts: Any) -> str:
    """12 hex digits of everything that JSON can hold among the parts: texts, settings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
