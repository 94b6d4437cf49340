"""benchmarks/judging.py on the tiny model: each judge is timed on the same answers of one length."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

from emis_platform.core import files
from emis_platform.core.records import GoldAnswer


def test_the_benchmark_times_a_judge_against_chat_prompts_on_answers_of_one_length(tiny_folder, tmp_path, capsys):
    place = importlib.util.spec_from_file_location("judging_benchmark", Path(__file__).parents[1] / "benchmarks/judging.py")
    benchmark = importlib.util.module_from_spec(place)
    place.loader.exec_module(benchmark)
    reader = shutil.copytree(tiny_folder, tmp_path / "reader")
    config = json.loads((reader / "config.json").read_text())
    (reader / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8192}))
    place = {"subject": "base", "origin": "written", "drawn": "chosen", "split": "test"}
    rows = [
        GoldAnswer(key=f"{n}", question=f"q{n}", prompt="Why?", text=text, **place)
        for n, text in enumerate(("Because.", "x" * 50, " "))
    ]
    files.write(tmp_path / "answers.jsonl", rows)
    words = ["--reader", reader, "--answers", tmp_path / "answers.jsonl", "--tokens", 20, "--max-new", 2, "--threads", 1]
    benchmark.main([str(word) for word in [*words, "--judge", "persona", "--against", "rubric", "logprob"]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["persona", "rubric", "logprob"]
    assert all("n 2, 20 tokens each" in line and "1500 such answers" in line for line in lines)
    assert "ratio" not in lines[0] and float(re.search(r"ratio ([0-9.]+)", lines[1])[1]) > 0
