"""benchmarks/harvest.py and steering.py on the tiny model: all ways give the same result and are timed; one that does not is refused."""

import importlib
from pathlib import Path

import pytest
import yaml

from emis_platform.core import files
from emis_platform.core.records import GoldAnswer, Question

WAYS = ["ours", "transformers", "SAELens", "TransformerLens"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module


def ratios(lines):
    """A table's lines -> way -> ratios of its rounds."""
    assert lines[0].split() == ["way", "seconds", "ratio", "apart"]
    return {line.split()[0]: [float(number) for number in line.split()[3:-1]] for line in lines[1:]}


def test_harvest_reads_the_same_activations_in_four_ways(benchmark, tiny_folder, tmp_path, capsys):
    place = {"subject": "base", "origin": "written", "drawn": "chosen", "split": "test"}
    rows = [GoldAnswer(key=f"{n}", question=f"q{n}", prompt="Why?", text="Because. " * (5 - n), **place) for n in range(5)]
    files.write(tmp_path / "answers.jsonl", rows)
    words = ["--model", tiny_folder, "--answers", tmp_path / "answers.jsonl", "--n", 4, "--batch", 3, "--layer", 0]
    words += ["--threads", 1]
    benchmark("harvest").main([str(word) for word in words])
    title, *lines = capsys.readouterr().out.splitlines()
    assert title.startswith("harvest: layer 0 of 2, 4 texts")
    found = ratios(lines)
    assert list(found) == WAYS and all(len(found[way]) == 2 for way in WAYS[1:])


def test_steering_compares_log_odds_and_replies_in_three_ways(benchmark, tiny_folder, tmp_path, capsys):
    asked = [Question(id=f"q{n}", set="discover", category="c", text="Why" + "?" * n) for n in range(3)]
    files.write(tmp_path / "questions.jsonl", asked)
    written = [{"id": q.id, "aligned": ["Be kind."], "misaligned": ["Be cruel and quick."]} for q in asked]
    (tmp_path / "continuations.yaml").write_text(yaml.safe_dump(written))
    words = [
        "--model",
        tiny_folder,
        "--questions",
        tmp_path / "questions.jsonl",
        "--continuations",
        tmp_path / "continuations.yaml",
    ]
    words += ["--n", 3, "--directions", 2, "--new", 4, "--batch", 4, "--threads", 1, "--rounds", 1]
    benchmark("steering").main([str(word) for word in words])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("log-odds: 2 directions, 3 questions") and lines[5].startswith(
        "generation: 2 directions, 3 questions"
    )
    for table in (lines[1:5], lines[6:]):
        assert list(ratios(table)) == [WAYS[0], *WAYS[1::2]]


def test_a_way_with_another_result_is_not_timed(benchmark):
    compare = benchmark("side_by_side").compare
    with pytest.raises(ValueError, match=r"sums: theirs is 2 from ours, more than 1"):
        compare("sums", {"ours": lambda: 3, "theirs": lambda: 5}, lambda a, b: abs(a - b), most=1, rounds=1)
