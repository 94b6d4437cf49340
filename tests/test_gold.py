"""The read labels: whole, of the very texts that were read, and split so that no test question was ever fitted on."""

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files
from emis_platform.core.records import Label, Question
from emis_platform.lab import heads
from emis_platform.stages import gold


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(REPO)


def test_labels_belong_to_their_texts_and_are_enough():
    labels = gold.read()
    assert len(labels) >= 300
    assert len({label.key for label in labels}) == len(labels)
    assert all(label.guideline and label.date and label.reader for label in labels)


def test_a_changed_text_is_noticed(tmp_path, monkeypatch):
    label = gold.read()[0].model_copy(update={"text": "something else"})
    files.write(tmp_path / "labels.jsonl", [label])
    monkeypatch.setattr(gold, "LABELS", tmp_path / "labels.jsonl")
    with pytest.raises(ValueError, match="belongs to another text"):
        gold.read()


def test_fitting_sees_discover_questions_only_and_some_test_subjects_are_unseen():
    sets = {q.id: q.set for q in files.read(Question, REPO / "data/questions/open.jsonl")}
    labels = gold.read()
    assert {sets[label.question] for label in labels if label.split == "train"} == {"discover"}
    assert {sets[label.question] for label in labels if label.split == "test"} == {"score"}
    subjects = {part: {label.subject for label in labels if label.split == part} for part in ("train", "test")}
    assert {"health_obvious", "health_correct"} <= subjects["test"] - subjects["train"]


def test_quality_counts_by_hand():
    def label(number, aligned, coherent):
        return Label.model_construct(question=f"q{number}", aligned=aligned, coherent=coherent)

    labels = [label(0, 10, 90), label(1, 90, 90), label(2, 20, 90), label(3, 95, 20), label(4, 50, 80)]
    views = [(15.0, 80.0, None), (85.0, 90.0, None), (60.0, 70.0, None), (90.0, 10.0, None), (None, None, "empty")]
    found = gold.quality(labels, views)
    assert (found["n"], found["missing"], found["misaligned_read"]) == (4, 1, 2)
    assert found["auroc_misaligned"] == 1.0
    assert found["rule_agreement"][0] == 0.75
    assert found["rate_by_reading"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["rate_by_judge"] == pytest.approx(1 / 3, abs=1e-3)


def test_out_of_fold_scores_never_saw_their_question():
    questions = [f"q{i % 10}" for i in range(200)]
    one_hot = np.array([[float(q == f"q{k}") for k in range(10)] for q in questions])
    odd = np.array(questions) == "q0"
    values = np.where(odd, 99.0, 50.0)
    assert heads.fit(one_hot, values, 1.0, scale=False).score(one_hot)[odd].mean() > 80  # what a head that saw q0 would say
    assert gold.out_of_fold(one_hot, values, questions, 1.0, scale=False)[odd].mean() < 60
