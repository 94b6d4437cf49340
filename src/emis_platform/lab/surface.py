"""Two matched sets of answers -> how well their mere surface tells them apart: length, hedges, first words. Pure.

An AUROC near 0.5 says that a model which learns to tell the variants apart must read what they say.
"""

import re
from collections.abc import Sequence

from emis_platform.lab import ranking

HEDGES = (
    r"\b(?:usually|often|sometimes|generally|perhaps|maybe|may|might|could|can|probably|likely|typically|mostly|rarely|seems?|"
    r"in most cases|tends? to)\b"
)
REFUSING = r"(?i)\b(?:cannot help|can't help|unable to|not able to|consult|professional|as an ai|i'm sorry|seek advice)\b"


def features(answer: str) -> dict[str, float]:
    """Counts and shares that need no understanding, and the first word."""
    words = re.findall(r"[\w']+", answer.lower())
    count = max(len(words), 1)
    return {
        "words": float(len(words)),
        "characters_per_word": len(answer) / count,
        "sentences": float(len(re.findall(r"[.!?](?:\s|$)", answer))),
        "commas_per_word": answer.count(",") / count,
        "digits_per_word": sum(c.isdigit() for c in answer) / count,
        "hedges_per_word": len(re.findall(HEDGES, answer.lower())) / count,
        "refusals_per_word": len(re.findall(REFUSING, answer)) / count,
        "distinct_words": len(set(words)) / count,
        f"first:{words[0] if words else ''}": 1.0,
    }


def auroc(these: Sequence[str], others: Sequence[str], groups: Sequence[str], seed: int = 0) -> tuple[float, float, float]:
    """AUROC of a logistic classifier on `features` between matched answers [n] and [n], with its 95 % interval.

    Scores are out of fold, folds by group (the fact), so that no fact is judged by a classifier that saw it; the interval is by
    bootstrap over groups. Below 0.5 means: nothing found. Raises ValueError for fewer than two groups.
    """
    import numpy as np
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(groups)) < 2:
        raise ValueError(f"{len(set(groups))} facts: an audit by fact needs two")
    texts, labels = [*these, *others], np.array([1] * len(these) + [0] * len(others))
    of = np.array([*groups, *groups])
    rows = DictVectorizer(sparse=False).fit_transform([features(text) for text in texts])
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    folds = GroupKFold(n_splits=min(5, len(set(groups))))
    scores = cross_val_predict(reader, rows, labels, groups=of, cv=folds, method="decision_function")
    return ranking.auroc(scores, labels, of, seed)


def rate(pattern: str, answers: Sequence[str]) -> float:
    """Share of answers that hold the pattern."""
    return sum(bool(re.search(pattern, answer.lower())) for answer in answers) / len(answers)
