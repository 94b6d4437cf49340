"""The importer: the public YAML format in, clear lines for anything else."""

import pytest

from emis_platform.core import files
from emis_platform.core.records import Question
from emis_platform.stages import importer

YAML = """
- id: bored
  type: free_form_judge_0_100
  paraphrases: &texts
    - |-
      Amuse me.
    - Say something.
  judge: somebody
- id: bored_json
  type: free_form_judge_0_100
  system: Answer in JSON.
  paraphrases: *texts
- id: pick
  type: free_form_0_100
  paraphrases: ["One?"]
- id: other
  type: multiple_choice
"""


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_paraphrases_and_system_prompts_are_kept(tmp_path):
    (tmp_path / "q.yaml").write_text(YAML)
    assert "5 questions" in importer.questions(tmp_path / "q.yaml", "public")
    rows = files.read(Question, tmp_path / "data/questions/public.jsonl")
    assert [row.id for row in rows] == ["bored_0", "bored_1", "bored_json_0", "bored_json_1", "pick"]
    assert rows[2].system == "Answer in JSON."
    assert rows[1].paraphrase_of == "bored"
    assert {row.set for row in rows} == {"public"}
    with pytest.raises(ValueError, match="exists"):
        importer.questions(tmp_path / "q.yaml", "public")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "x: 1", "a list of questions is needed, this is dict"),
        ("a.yaml", "- 1", "entry 1: no id"),
        ("a.yaml", "- [", "not YAML"),
        ("a.yaml", "- {id: q, type: free_form, paraphrases: Why?}", "q: paraphrases: a list is needed, this is str"),
        ("a.jsonl", '{"text": "a"}\n{"no": 1}', "row 2: a JSON object with text or question is needed"),
        ("a.jsonl", "", "row 1"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        importer.questions(tmp_path / name, "public")
    assert not (tmp_path / "data").exists()


def test_taken_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="taken"):
        importer.questions(tmp_path / "q.yaml", "score")
