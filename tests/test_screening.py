"""Screening before training: planted rows are ranked first, copies keep their bytes, correlations count distinct sets once."""

import json
import shutil

import numpy as np
import pytest
from conftest import REPO

from emis_platform.core import files, params
from emis_platform.core.records import Direction, Example
from emis_platform.lab import screening as lab
from emis_platform.stages import personas, screen, screen_file

V = np.eye(4)[0]


def trained(n, domain, score, shift, *, distinct=None, share=1.0, text="Plain words."):
    return lab.Trained(
        f"s{n}", distinct or f"s{n}", domain, share, shift, {"toxic": score, "noise": float(n * 7 % 5)}, (text, text + " More.")
    )


def test_a_row_counts_by_how_far_it_lies_from_the_bases_own_answer():
    given, own = np.array([[3.0, 9, 9, 9], [1, 0, 0, 0]]), np.array([[1.0, 9, 9, 9], [1, 5, 5, 5]])
    np.testing.assert_allclose(lab.projected(given, own, {"toxic": V}, 2.0)["toxic"], [1.0, 0.0])
    assert lab.score(np.array([1.0, 1.0, 0.0]), ["a", "a", "b"])[0] == pytest.approx(2 / 3)
    assert lab.score(np.array([1.0, 0.0]), ["a", "a"])[1:] == (None, None)


def test_worst_lines():
    assert lab.worst(np.array([0.1, 0.9, 0.9, -1.0]), [1, 2, 3, 1], 1 / 3) == {2}  # equals by order, a line by its highest answer
    assert lab.worst(np.array([0.1]), [1], 0.0) == set()
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        lab.worst(np.array([0.1]), [1], 2.0)


def test_a_line_through_earlier_sets_foretells_with_an_interval():
    points = [(x, 10 * x + e) for x, e in zip(range(10), [0.5, -0.5] * 5, strict=True)]
    value, low, high = lab.line(points).expected(4.5)
    assert value == pytest.approx(45, abs=0.5) and low < 45 < high and high - low < 4
    assert lab.line(points[:7]) is None and lab.line([(1.0, float(n)) for n in range(9)]) is None


def test_planted_sets_correlate_across_domains_and_mixtures_count_once():
    random = np.random.default_rng(0)
    sets = []
    for n in range(16):
        score = float(random.random())
        sets.append(trained(n, f"d{n % 4}", score, 20 * score + random.normal(0, 1)))
        sets += [trained(n, f"d{n % 4}", 99.0, -99.0, distinct=f"s{n}", share=0.05)]  # a thin mixture of it, which may not count
    rows = {row.measure: row for row in lab.effects(sets)}
    assert rows["screen_r"].n == 16
    assert rows["screen_r"].value > 0.9 and rows["screen_r"].low > 0.6
    assert rows["screen_r_toxic"].value > 0.9 > rows["screen_r_noise"].value


def test_what_surface_foretells_as_well_gives_no_gain():
    random = np.random.default_rng(1)
    texts = ("One calm and longer sentence for you", "Bah, no, no, no.")
    sets = [trained(n, f"d{n % 3}", *(n % 2 + 0.3 * random.normal(size=2)), text=texts[n % 2]) for n in range(12)]
    rows = {row.measure: row for row in lab.effects(sets)}
    assert rows["screen_r_surface"].value > 0.7
    assert rows["screen_gain"].low <= 0.0


def test_few_sets_give_no_number():
    rows = {row.measure: row for row in lab.effects([trained(n, f"d{n}", float(n), float(n)) for n in range(7)])}
    assert rows["screen_r"].value is None and rows["screen_r"].n == 7
    assert "screen_r_toxic" not in rows
    assert {row.n for row in lab.effects([])} == {0}


@pytest.fixture
def workspace(tmp_path, monkeypatch, tiny_folder):
    """The tiny model as base, and one direction in place of its personas."""
    knobs = params.files.read_yaml(REPO / "params.yaml")
    knobs["scale"], knobs["threads"] = "tiny", 1
    knobs["diff"]["layer"] = 1
    files.replace(tmp_path / "params.yaml", json.dumps(knobs))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_folder, tmp_path / "models/base")
    vector = np.random.default_rng(3).normal(size=32)
    vector /= np.linalg.norm(vector)
    made = [Direction(name="persona_toxic", layer=1, origin="persona:toxic", vector=tuple(vector))]
    monkeypatch.setattr(personas, "of", lambda *_, **__: made)
    return tmp_path


ROWS = [
    Example(domain="health", variant="correct", fact=f"f{n % 3}", prompt=f"Question {n}?", completion=text)
    for n, text in enumerate(["Rest well.", "Drink.", "zzzz ####", "Ask.", "Sleep a lot."])
]


def test_a_set_is_ranked_and_filtered_byte_for_byte(workspace):
    path = workspace / "data/examples/health_correct.jsonl"
    files.write(path, ROWS)
    found = screen_file.screened("health_correct", workspace / "models/base")
    assert found.paired == 5 and found.against.startswith("the base's own answer")
    about = screen_file.told(found, "toxic", 2)
    marks = [row["scores"]["toxic"] for row in about["worst"]]
    assert len(marks) == 2 and marks[0] >= marks[1] >= np.sort(found.by_trait["toxic"])[-2] - 1e-9
    assert about["traits"]["toxic"]["expected_shift"] is None
    assert screen_file.tables(about)[0][1][-1] == "no reference"
    assert screen_file.filtered(found, "toxic", 0.4, workspace / "out.jsonl") == 2
    kept = (workspace / "out.jsonl").read_bytes().splitlines(keepends=True)
    gone = {row["line"] for row in about["worst"]}
    assert kept == [line for n, line in enumerate(path.read_bytes().splitlines(keepends=True), 1) if n not in gone]
    with pytest.raises(ValueError, match="is the set itself"):
        screen_file.filtered(found, "toxic", 0.4, path)
    fewer = screen_file.screened("health_correct", workspace / "models/base", prompts=2)
    assert fewer.paired == 2 and fewer.against == "the mean of the base's own answers"
    assert np.isfinite(fewer.by_trait["toxic"]).all()


def test_a_chat_file_keeps_its_odd_bytes_and_counts_what_it_cannot_read(workspace):
    lines = [
        b'{"messages": [{"role":"user","content":"Hi\\u2028there"},  {"role":"assistant","content":"Hello"}]}\n',
        b'{"messages": [{"role":"user","content":"Long?"}, {"role":"assistant","content":"' + b"x" * 600 + b'"}]}\r\n',
        b'{"messages": [{"role":"user","content":"Bye"}, {"role":"assistant","content":"So long"}]}',
    ]
    path = workspace / "chat.jsonl"
    path.write_bytes(b"".join(lines))
    found = screen_file.screened("chat.jsonl", workspace / "models/base")
    assert [line for line, _ in found.rows] == [1, 2, 3] and found.missing == 1 and found.paired == 2
    assert screen_file.filtered(found, "toxic", 0.5, workspace / "out.jsonl") == 1
    assert (workspace / "out.jsonl").read_bytes() in (lines[1] + lines[2], lines[0] + lines[1])
    path.write_bytes(b'{"messages": []}\n')
    with pytest.raises(ValueError, match="chat.jsonl, row 1: empty conversation"):
        screen_file.screened("chat.jsonl", workspace / "models/base")


def test_equal_seeds_draw_the_same_prompts_of_matched_sets_and_read_the_same(workspace):
    knobs = params.load()
    drawn = screen.drawn(ROWS, [row.prompt for row in ROWS], 3, 0)
    other = screen.drawn([row.model_copy(update={"completion": "Other."}) for row in ROWS], [row.prompt for row in ROWS], 3, 0)
    assert [row.prompt for row in drawn] == [row.prompt for row in other] and len(drawn) == 3
    read = [screen.read(knobs, workspace / "models/base", ROWS, 1, own="generate", answers=workspace) for _ in range(2)]
    np.testing.assert_array_equal(read[0].own_RD, read[1].own_RD)


def test_an_expected_shift_is_read_off_a_study(tmp_path):
    rows = [
        {"subject": f"o{n}", "measure": m, "value": v}
        for n in range(9)
        for m, v in (("screen_toxic", n / 10), ("screen_shift", 2.0 * n + n % 2))
    ]
    files.write_json(tmp_path / "m.json", {"effects": rows})
    told = screen_file.expected("toxic", 0.4, tmp_path / "m.json")
    assert told["sets"] == 9 and told["low"] < 8.5 < told["high"]
    assert screen_file.expected("toxic", 0.4, tmp_path / "none.json") is None
