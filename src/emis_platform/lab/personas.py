"""Answers given under opposed system prompts -> a trait's direction and how firm it is (persona vectors: arXiv 2507.21509). Pure.

Axes: T texts, D residual width.
"""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from emis_platform.core.records import Record


class Trait(Record):
    """A character, described by opposed system prompts: one file of personas/traits/, `<name>.yaml`."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    description: str
    positive: tuple[str, ...] = Field(min_length=3, max_length=5)
    """System prompts that ask for the trait."""
    negative: tuple[str, ...] = Field(min_length=3, max_length=5)
    """Those that ask for its opposite, worded alike: the n-th stands against the n-th."""
    questions: tuple[str, ...] = ()
    """What is asked under each of them; none: the neutral ones of personas/questions.txt."""


class Spoken(Record):
    """One whole answer of the base under one of a trait's system prompts."""

    trait: str
    side: Literal["positive", "negative"]
    wording: int
    """Which of the side's prompts, from 0."""
    question: str
    text: str
    finish_reason: Literal["stop", "length"]


class Firmness(Record):
    """What is known of one trait's direction."""

    recipe: str
    """Hash of all that decides it: weights, layer, prompts, questions, how it is sampled and read."""
    answers: int
    missing: int
    """Empty answers, which are left out."""
    norm: float
    """Length of the mean difference before it is made a unit vector, in residual units."""
    norm_share: float
    """The same as a share of the answers' mean residual norm."""
    questions_cosine: float
    """Between the directions of every other question and of the rest: what noise leaves."""
    wordings_cosine: float
    """Between those of every other pair of prompts and of the rest: what the words of a prompt leave."""
    bare_cosine: float
    """With the direction of the same answers read without a prompt, those of the positive side minus those of the negative."""


def difference(acts_TD: np.ndarray, positive_T: Sequence[bool]) -> np.ndarray:
    """Mean of the trait's answers minus mean of its opposite's [D], each text counting once. Raises ValueError for an empty side."""
    positive = np.asarray(positive_T, bool)
    if positive.all() or not positive.any():
        raise ValueError(f"{positive.sum()} answers of {len(positive)} show the trait's side: both sides are needed")
    return acts_TD[positive].mean(0) - acts_TD[~positive].mean(0)


def split_half(moved_TD: np.ndarray, groups_T: Sequence[Hashable]) -> float:
    """Cosine between the means of every other group's texts and of the rest: 1 is firm, 0 is noise; nan with one group."""
    order = list(dict.fromkeys(groups_T))
    half_T = np.array([order.index(group) % 2 == 0 for group in groups_T])
    return float("nan") if half_T.all() else cosine(moved_TD[half_T].mean(0), moved_TD[~half_T].mean(0))


def cosine(one_D: np.ndarray, other_D: np.ndarray) -> float:
    return float(one_D @ other_D / (np.linalg.norm(one_D) * np.linalg.norm(other_D)))
