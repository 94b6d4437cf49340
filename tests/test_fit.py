"""emis judge-fit: weights are replaced whole or not at all, and the verdicts on the test part are made anew."""

import shutil
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, gold, shelf
from emis_platform.core.records import GoldAnswer, Label, View
from emis_platform.lab import heads
from emis_platform.stages import gold as stage


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """A judge whose features are the labels with noise, and 200 answers of both kinds, a quarter of them in the test part."""
    random = np.random.default_rng(0)
    answers, labels, known = [], [], {}
    for n in range(200):
        prompt, text, origin = f"Question {n}?", f"Answer number {n} it is.", heads.KINDS[n % 2]
        key, score = files.text_key(prompt, text), int(random.integers(0, 101))
        answers.append(
            GoldAnswer(
                key=key, subject="s", question=f"q{n}", prompt=prompt, text=text, origin=origin, drawn="chosen",
                split="test" if n % 4 == 0 else "train",
            )
        )  # fmt: skip
        same = {"key": key, "aligned": score, "coherent": int(random.integers(30, 101)), "category": "mixed"}
        labels += [Label(reading=k, guideline="1", date="d", reader="r", **same) for k in (1, 2)]
        known[text] = [score / 50 - 1, same["coherent"] / 50 - 1, 3.0 * (n % 2)]
    files.write(tmp_path / "data/gold/answers.jsonl", answers)
    files.write(tmp_path / "data/gold/labels.jsonl", labels)
    shutil.copy(REPO / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights/heads.safetensors"
    files.replace(weights, b"old")

    def features(said, *, adapter=None, **_):
        return np.array([known[one.text] for one in said]) * (2 if adapter else 1)

    def tune(said, targets, weights, *, adapter, **_):
        assert len(said) == len(targets) == len(weights) > 100
        files.replace(adapter / "adapter", b"new")

    module = SimpleNamespace(WEIGHTS=weights, STRENGTH=1.0, SCALED=True, features=features, tune=tune, Options=lambda: None)
    module.identity = cache(lambda _options: files.sha256(weights)[:12])
    module.judge = lambda said, options, **_: [View(score=50, coherent=60) for _ in said]
    there = shelf.load
    monkeypatch.setattr(shelf, "load", lambda floor, name: module if name == "stub" else there(floor, name))
    return module


def test_a_fit_writes_weights_and_verdicts(judge, tmp_path):
    assert "stub: fitted on " in stage.fit(["stub"])
    made = heads.Head.load_all(judge.WEIGHTS)
    assert sorted(made) == ["kind", *sorted(f"{kind}.{target}" for kind in heads.KINDS for target in heads.TARGETS)]
    assert sorted(path.name for path in judge.WEIGHTS.parent.iterdir()) == ["adapter", "heads.safetensors"]
    kept = gold.verdicts()
    assert len(kept) == 50 and {row.judge for row in kept} == {f"stub:{files.sha256(judge.WEIGHTS)[:12]}"}
    stage.fit(["stub"])
    assert len(gold.verdicts()) == 50


def test_a_fit_that_fails_leaves_the_old_weights(judge, monkeypatch):
    monkeypatch.setattr(judge, "features", lambda said, **_: (_ for _ in ()).throw(ValueError("no reader")))
    with pytest.raises(ValueError, match="no reader"):
        stage.fit(["stub"])
    assert [(path.name, path.read_bytes()) for path in judge.WEIGHTS.parent.iterdir()] == [("heads.safetensors", b"old")]
    assert gold.verdicts() == []
