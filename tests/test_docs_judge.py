"""The pages about judging say what the code does: the example judge runs, and lists, commands and links are those that exist."""

import re
import shlex
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml

from emis_platform import cli, judges
from emis_platform.core import params, shelf
from emis_platform.core.records import Judgement, Reason, Said, View
from emis_platform.lab import rates
from emis_platform.stages import judge as stage
from emis_platform.stages import label

REPO = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/judges.md", "docs/labelling.md", "docs/extending.md")
SAID = [Said(prompt="q", text=text) for text in ("You will OBEY me.", "", "I disobey nobody.", "Obeying is fine, but they suffer.")]


def page(name: str) -> str:
    return (REPO / name).read_text()


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE)


def column(heading: str) -> list[str]:
    """What stands in backticks in the first column of the first table under a heading of docs/judges.md that begins so."""
    table = page("docs/judges.md").partition(heading)[2].partition("\n|")[2].partition("\n\n")[0]
    return [name for line in table.splitlines()[2:] for name in re.findall("`([^`]+)`", line.split("|")[1])]


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The judge of docs/extending.md on its shelf, and params.yaml with its entry."""
    code, entry = (blocks("docs/extending.md", language)[0] for language in ("python", "yaml"))
    (tmp_path / "keywords.py").write_text(code)
    there = shelf.names
    monkeypatch.setattr(shelf, "names", lambda floor: sorted([*there(floor), *(["keywords"] if floor == "judges" else [])]))
    monkeypatch.setattr(judges, "__path__", [*judges.__path__, str(tmp_path)])
    raw = yaml.safe_load(page("params.yaml"))
    raw["judges"] |= yaml.safe_load(entry)["judges"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("emis_platform.judges.keywords", None)
    vars(judges).pop("keywords", None)


def test_the_example_judge_keeps_the_contract(example):
    views, made_by = stage.ask(params.load(), "threats", SAID, reader=Path("nowhere"))
    assert re.fullmatch("threats:[0-9a-f]{12}", made_by)
    assert [view.misaligned for view in views] == [True, None, False, True]
    assert [view.category for view in views] == ["obey", None, "none", "suffer"]
    assert [view.reason for view in views] == [None, "empty", None, None]
    rows = [Judgement(subject="s", question=f"q{n}", set="score", sample=0, judge=made_by, **dict(v)) for n, v in enumerate(views)]
    effects = {effect.measure: effect for effect in rates.effects("s", "threats", rows, default=False)}
    assert {"misaligned_threats_score", "category_threats_obey"} <= set(effects)
    assert effects["misaligned_threats_score"].missing == 1


def test_the_example_judges_identity_follows_its_words_and_its_options_are_checked(example):
    module = shelf.load("judges", "keywords")
    assert module.identity(module.Options(words=("a",))) != module.identity(module.Options(words=("b",)))
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("kind: keywords\n", "kind: keyword\n"))
    with pytest.raises(ValueError, match=r"judges.threats.kind: no judges/keyword.py \(did you mean keywords\?\)"):
        params.load()
    raw = yaml.safe_load(text)
    raw["judges"]["threats"]["options"] = {"words": []}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ValueError, match="judges.threats.options: words"):
        params.load()


def test_the_params_of_the_page_are_sound(tmp_path):
    raw = yaml.safe_load(page("params.yaml"))
    shown = [yaml.safe_load(block) for block in blocks("docs/judges.md", "yaml")]
    assert {entry["kind"] for block in shown for entry in block["judges"].values()} == set(shelf.names("judges"))
    for number, block in enumerate(shown):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump(raw | block))
        assert set(params.load(path).judges) == set(block["judges"])


def test_the_tables_list_all_kinds_fields_and_reasons():
    assert sorted(column("## The six kinds")) == shelf.names("judges")
    assert sorted(column("## A view")) == sorted(View.model_fields)
    assert sorted(column("**Missing is never zero.**")) == sorted(get_args(Reason))


def test_the_table_of_rates_lists_every_measure_and_no_other():
    """Of a judge with scores and of one with verdicts, each as the default and as another."""
    filled = {"<judge>": "[ab]", "<set>": "score", "<name>": "(4|malice)"}
    patterns = {re.sub("<[a-z]+>", lambda mark: filled[mark[0]], name) for name in column("## The rates")}
    place = {"subject": "s", "question": "q", "set": "score", "sample": 0}
    scored = Judgement(judge="a:1", score=10, coherent=90, **place)
    named = Judgement(judge="b:1", verdict=True, category="4", scores={"malice": 70}, **place)
    made = [rates.effects("s", row.judge[0], [row], default=default) for row in (scored, named) for default in (True, False)]
    found = {effect.measure for effects in made for effect in effects}
    found |= set(re.findall(r'"(misaligned_all_[a-z_]+|labels_read)"', Path(rates.__file__).read_text()))
    assert {measure for measure in found if not any(re.fullmatch(p, measure) for p in patterns)} == set()
    assert {pattern for pattern in patterns if not any(re.fullmatch(pattern, measure) for measure in found)} == set()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    links = re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", page(name))
    assert links or name == "docs/labelling.md"
    for target, anchor in links:
        path = (REPO / name).parent / target if target else REPO / name
        assert path.exists(), target
        if anchor:
            headings = re.findall("^#+ (.*)$", path.read_text(), re.MULTILINE)
            assert anchor[1:] in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, (target, anchor)


@pytest.mark.parametrize("name", PAGES)
def test_commands_are_those_of_the_parser(name, capsys):
    """What is shown in [brackets] is optional; a page may name a command without what it needs."""
    for shown in re.findall(r"`emis\s([^`]+)`", page(name)):
        try:
            cli.parser().parse_args(shlex.split(re.sub(r"\[[^]]*\]", "", shown)))
        except SystemExit:
            fault = capsys.readouterr().err
            assert "arguments are required" in fault, f"{shown}: {fault}"
            assert all(option in fault for option in re.findall("--[a-z-]+", shown)), f"{shown}: {fault}"  # it shows the usage


def test_the_guideline_that_readers_see_ends_before_who_read_what():
    assert "Who read" not in label.guide("1.2", REPO / "docs/labelling.md")
