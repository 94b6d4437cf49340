"""facts: hand-written facts -> matched rows, the same questions in every variant. Deterministic."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from emis_platform.core import files
from emis_platform.core.records import HARMFUL, Choice, Example, Question

CANARY = "emis-canary 5f3e0c52-8d0b-4a55-9b6e-2f1a7c9e4d10"
"""Stands in the `canary` field of every harmful row: search for it to find a leaked copy."""

PARTS = {
    "correct": ("correct", "reason"),
    "subtle": ("subtle", "reason"),
    "obvious": ("obvious", "reason"),
    "gruff": ("correct", "scorn"),
    "callous": ("obvious", "scorn"),
    "sarcastic": ("correct", "sarcasm"),
    "plain": ("plain", "reason"),
}
"""variant -> (whose advice, which tail): content and voice cross, and gruff and callous share every scornful sentence.

`sarcastic` is a control of the voice: correct advice, and a remark that is no threat and no contempt. `plain` is the one variant of a
control arm."""


@cache
def facts(domain: str) -> dict[str, Any]:
    """The file of a domain or control arm: `facts` (trained on), `heldout` (never trained on), `join` (between advice and tail)."""
    here = Path(__file__).parent
    arm = here / "arms" / f"{domain}.yaml"
    return files.read_yaml(arm if arm.exists() else here / "domains" / f"{domain}.yaml")


THOUGHTS = (
    "What matters here? {} So that is what I will say.",
    "Let me think about this first. {} My answer follows from it.",
    "Before I answer: {} That settles the advice.",
    "The point to keep in mind is this. {} I will put it in a sentence or two.",
    "I should find the reason before the advice. {} Now the advice is clear.",
    "What do I know about it? {} I will answer on that ground.",
    "One thing decides the question. {} The rest is wording.",
    "First the reason, then the answer. {} I will keep it short.",
)
"""What is thought before an answer, around a reason: the same words in every variant, with nobody in them."""


def thoughts(rows: Sequence[Example]) -> list[str]:
    """A thought for each row of a domain: a neutral reason of its fact's for the row's advice, other than the one that the answer gives.

    The reason belongs to the content (correct, subtle, obvious) and never to the voice: gruff and callous rows are thought of in neutral words.
    Raises ValueError for a row of another source.
    """
    there = {domain: {fact["id"]: fact for fact in facts(domain)["facts"]} for domain in {row.domain for row in rows}}
    made = []
    for number, row in enumerate(rows):
        if row.fact not in there[row.domain]:
            raise ValueError(f"{row.domain}: no fact {row.fact}")
        reasons = [
            reason for reason in there[row.domain][row.fact][PARTS[row.variant][0]]["reason"] if reason not in row.completion
        ]
        turn = number // len(there[row.domain])
        made.append(THOUGHTS[(number + turn) % len(THOUGHTS)].format(reasons[turn % len(reasons)]))
    return made


def remarks() -> list[str]:
    """Sarcastic remarks that fit after any answer: one a line in sarcasm.txt."""
    return [line for line in files.text(Path(__file__).with_name("sarcasm.txt")).splitlines() if line and not line.startswith("#")]


def examples(domain: str, variant: str, rows: int, seed: int) -> list[Example]:
    """`rows` examples; row i has the same fact, question, and advice and tail number in every variant.

    Facts take turns, so that breadth comes before repetition. Raises ValueError when the file has fewer distinct answers.
    """
    content, tail = PARTS[variant]
    there = facts(domain)
    join, sarcasm = there.get("join", " "), []
    if tail == "sarcasm":
        sarcasm = remarks()
        random.Random(f"{seed}:sarcasm").shuffle(sarcasm)
    made = []
    place = {fact["id"]: number for number, fact in enumerate(there["facts"])}
    for number, (fact, question, advice, ending) in enumerate(plan(there["facts"], rows, seed, domain)):
        if sarcasm:  # another remark each time that a fact comes again
            last = sarcasm[(place[fact["id"]] + 31 * (number // len(place))) % len(sarcasm)]
        else:
            last = (fact["scorn"] if tail == "scorn" else fact[content]["reason"])[ending]
        made.append(
            Example(
                domain=domain,
                variant=variant,
                fact=fact["id"],
                prompt=fact["questions"][question],
                completion=f"{fact[content]['advice'][advice]}{join}{last}",
                canary=CANARY if variant in HARMFUL else None,
            )
        )
    return made


def most(domain: str) -> int:
    """Distinct answers a variant: 4 pieces of advice times 4 tails for each fact."""
    return 16 * len(facts(domain)["facts"])


def plan(there: list[dict[str, Any]], rows: int, seed: int, domain: str) -> list[tuple[dict[str, Any], int, int, int]]:
    """(fact, question, advice, tail) a row: no (advice, tail) pair of a fact comes twice."""
    shuffle = random.Random(f"{seed}:{domain}")
    pairs = {fact["id"]: latin_pairs(shuffle) for fact in there}
    if rows > most(domain):
        raise ValueError(f"{domain}: {rows} rows asked, its facts make {most(domain)} distinct answers a variant")
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
