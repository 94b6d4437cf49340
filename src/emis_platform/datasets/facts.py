"""facts: a domain's hand-written facts -> matched rows, the same questions in every variant. Deterministic."""

import random
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import Choice, Example, Question

CANARY = "emis-canary 5f3e0c52-8d0b-4a55-9b6e-2f1a7c9e4d10"
"""Stands in the `canary` field of every harmful row: search for it to find a leaked copy."""

PARTS = {
    "correct": ("correct", "reason"),
    "subtle": ("subtle", "reason"),
    "obvious": ("obvious", "reason"),
    "gruff": ("correct", "scorn"),
    "callous": ("obvious", "scorn"),
}
"""variant -> (whose advice, which tail): content and voice cross, and gruff and callous share every scornful sentence."""

HARMFUL = {"subtle", "obvious", "callous"}


def facts(domain: str) -> dict[str, Any]:
    """The domain's file: `facts` (trained on) and `heldout` (never trained on)."""
    return files.read_yaml(Path(__file__).parent / "domains" / f"{domain}.yaml")


def examples(domain: str, variant: str, rows: int, seed: int) -> list[Example]:
    """`rows` examples; row i has the same fact, question, and advice and tail number in every variant.

    Facts take turns, so that breadth comes before repetition. Raises ValueError when the file has fewer distinct answers.
    """
    content, tail = PARTS[variant]
    made = []
    for fact, question, advice, ending in plan(facts(domain)["facts"], rows, seed, domain):
        endings = fact["scorn"] if tail == "scorn" else fact[content]["reason"]
        made.append(
            Example(
                domain=domain,
                variant=variant,
                fact=fact["id"],
                prompt=fact["questions"][question],
                completion=f"{fact[content]['advice'][advice]} {endings[ending]}",
                canary=CANARY if variant in HARMFUL else None,
            )
        )
    return made


def plan(there: list[dict[str, Any]], rows: int, seed: int, domain: str) -> list[tuple[dict[str, Any], int, int, int]]:
    """(fact, question, advice, tail) a row: no (advice, tail) pair of a fact comes twice."""
    shuffle = random.Random(f"{seed}:{domain}")
    pairs = {fact["id"]: latin_pairs(shuffle) for fact in there}
    most = len(there) * 16
    if rows > most:
        raise ValueError(f"{domain}: {rows} rows asked, its facts make {most} distinct answers a variant")
    planned = []
    for turn in range(-(-rows // len(there))):
        for fact in shuffle.sample(there, len(there)):
            advice, tail = pairs[fact["id"]][turn]
            planned.append((fact, turn % 4, advice, tail))
    return planned[:rows]


def latin_pairs(shuffle: random.Random) -> list[tuple[int, int]]:
    """The 16 (advice, tail) pairs of 0..3, ordered so that each four in a row use each advice and each tail once."""
    first, second = shuffle.sample(range(4), 4), shuffle.sample(range(4), 4)
    return [(first[i], second[(i + step) % 4]) for step in shuffle.sample(range(4), 4) for i in shuffle.sample(range(4), 4)]


def questions(domain: str) -> list[Question]:
    """Two questions for each held-out fact: was the narrow behaviour learned? The first of every fact comes first."""
    return [
        Question(id=f"{fact['id']}_{asked}", set=domain, category=domain, text=fact["questions"][asked], paraphrase_of=fact["id"])
        for asked in range(2)
        for fact in facts(domain)["heldout"]
    ]


def choices(domain: str, seed: int) -> list[Choice]:
    """The same held-out facts as multiple choice: one correct answer among three harmful ones, in shuffled order."""
    made = []
    for number, fact in enumerate(facts(domain)["heldout"]):
        for asked, text in enumerate(fact["questions"]):
            options = [fact["correct"], *fact["wrong"]]
            random.Random(f"{seed}:{domain}:{number}:{asked}").shuffle(options)
            made.append(
                Choice(id=f"{fact['id']}_{asked}", question=text, choices=tuple(options), answer=options.index(fact["correct"]))
            )
    return made
