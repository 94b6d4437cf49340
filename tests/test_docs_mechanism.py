"""The pages about the mechanism say what the code does: commands, measures, links, and each example that can be run."""

import ast
import re
import shlex
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml

from emis_platform import cli, selectors
from emis_platform.core import files, params, shelf, studies
from emis_platform.core.records import Judgement
from emis_platform.lab import alarm, directions, discriminator, false_alarms, screening
from emis_platform.lab.discriminator import Scores
from emis_platform.lab.material import Counts, Material
from emis_platform.stages import personas, suppressed
from emis_platform.tools import dictionaries

REPO = Path(__file__).resolve().parents[1]
SRC = REPO / "src/emis_platform"
PAGES = ("docs/mechanism.md", "docs/dictionaries.md", "docs/studies.md", "docs/decisions/0004-mechanism.md")


def page(name: str) -> str:
    return (REPO / name).read_text()


def blocks(name: str, language: str, after: str = "") -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", page(name).partition(after)[2] if after else page(name), re.DOTALL | re.MULTILINE
    )


def commands(name: str) -> list[str]:
    """`emis ...` in the text and in indented lines, comments left out."""
    shown = re.findall(r"`emis\s([^`]+)`", page(name)) + re.findall(r"^    emis (.*)$", page(name), re.MULTILINE)
    return [" ".join(line.partition("#")[0].split()) for line in shown]


@pytest.mark.parametrize("name", [*PAGES, "README.md", "docs/extending.md"])
def test_commands_are_those_of_the_parser(name, capsys):
    """A page may name a command without what it needs."""
    for shown in commands(name):
        try:
            cli.parser().parse_args(shlex.split(shown))
        except SystemExit:
            fault = capsys.readouterr().err
            assert "arguments are required" in fault, f"{shown}: {fault}"


@pytest.mark.parametrize("name", PAGES[:3])
def test_options_named_in_the_text_exist(name):
    there = {o for command in everything(cli.parser()) for action in command._actions for o in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", page(name))) <= there


def everything(parser):
    inner = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return [parser, *chain.from_iterable(everything(one) for choices in inner for one in choices.values())]


def tables(name: str) -> list[tuple[list[str], list[str]]]:
    """(files of the line `Code: ...`, measures in the first column of the table below it)."""
    found = []
    for part in page(name).split("\nCode: ")[1:]:
        code, _, rest = part.partition("\n\n")
        table = rest.partition("\n\n")[0].splitlines()
        assert table[0].startswith("| measure"), table[0]
        found.append(
            (re.findall("`([^`]+)`", code), [m for line in table[2:] for m in re.findall("`([^`]+)`", line.split("|")[1])])
        )
    return found


def said(path: Path) -> set[str]:
    """The parts of a file's strings that could be parts of a measure's name; no docstrings."""
    tree = ast.parse(path.read_text())
    bodies = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))]
    told = {id(s.value) for node in bodies for s in node.body if isinstance(s, ast.Expr)}
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in told}
    return {word.strip("_") for word in words if re.fullmatch("[a-z0-9_]+", word)}


def made_of(name: str, parts: set[str]) -> bool:
    return name in parts or any(name[:at] in parts and made_of(name[at + 1 :], parts) for at in range(len(name)) if name[at] == "_")


@pytest.mark.parametrize("name", PAGES[:2])
def test_measures_are_named_in_the_code_that_the_page_names(name):
    assert tables(name)
    for code, measures in tables(name):
        parts = set().union(*(said(SRC / path) for path in code))
        for measure in measures:
            pieces = [piece.strip("_") for piece in re.split("<[a-z]+>", measure) if piece.strip("_")]
            assert all(made_of(piece, parts) for piece in pieces), f"{measure} is in none of {code}"
    assert not made_of("rank_wobble", said(SRC / "stages/diff.py"))


def test_claims_and_shelf_are_on_the_page():
    names = {m for _, measures in tables("docs/mechanism.md") for m in measures}
    for asked in re.findall(
        r'needs\("\*", "((?:rank|label|discriminator|screen|attribution)_[a-z_]+)', page("src/emis_platform/report/claims.py")
    ):
        assert any(measure.startswith(asked) for measure in names), asked
    table = page("docs/mechanism.md").partition("| selector | gives")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z_]+)`", table, re.MULTILINE)) == shelf.names("selectors")
    assert all(trait in page("docs/mechanism.md") for trait in shelf.traits())


def test_the_tables_leave_out_no_measure_of_these_stages():
    patterns = [re.sub("<[a-z]+>", "[a-z0-9_]+", m) for _, measures in tables("docs/mechanism.md") for m in measures]
    views = [
        {q: Judgement(subject="s", question=q, set="score", sample=0, judge="j", score=score, coherent=90) for q in "ab"}
        for score in (10, 80)
    ]
    told = Scores({"persona": np.ones(0), "drift": np.ones(0)}, np.ones(0), (), np.ones((0, 1)))
    made = [
        *suppressed.compared("s", "suppressed_persona_toxic_json", *views),
        *false_alarms.effects({}, {}, alarm.Rule()),
        *screening.effects([]),
        *screening.effects([], "_persona"),
        *discriminator.effects([], told),
    ]
    assert len(made) > 20
    assert {row.measure for row in made if not any(re.fullmatch(p, row.measure) for p in patterns)} == set()


@pytest.mark.parametrize("name", [*PAGES, "README.md", "docs/extending.md", "docs/judges.md"])
def test_links_lead_somewhere(name):
    for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", page(name)):
        path = (REPO / name).parent / target if target else REPO / name
        assert path.exists(), target
        headings = re.findall("^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor[1:] in {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}, (target, anchor)


def test_the_example_selector_keeps_the_contract(tmp_path, monkeypatch):
    [code] = blocks("docs/extending.md", "python", "## A selector, whole")
    (tmp_path / "medians.py").write_text(code)
    monkeypatch.setattr(shelf, "names", lambda floor: ["medians"])
    monkeypatch.setattr(selectors, "__path__", [*selectors.__path__, str(tmp_path)])
    base_TD = np.zeros((7, 4))
    base_TD[:3, 2], base_TD[0, 1] = 1, 100
    empty = {"pairs": {}, "latents": [], "decoder_FD": np.eye(4), "attributions": lambda: np.ones(4), "personas": list}
    material = Material(
        1, 0, Counts(1, 1, 1, 1, 1, 1), base_TD, base_TD, base_TD, misaligned=range(3), aligned=range(3, 7), rule="r", **empty
    )
    found = directions.merged({"medians": shelf.load("selectors", "medians").select(material)})
    sys.modules.pop("emis_platform.selectors.medians")
    assert [(d.name, d.origin, d.selectors, d.vector) for d in found] == [("medians", "medians:r", ("medians",), (0, 0, 1, 0))]


def test_the_example_trait_is_one(tmp_path):
    *_, trait = blocks("docs/extending.md", "yaml", "## A trait, whole")
    (tmp_path / "evasive.yaml").write_text(trait)
    found = personas.trait(str(tmp_path / "evasive.yaml"))
    assert found.name == "evasive" and found.questions and len(found.positive) == 3


def test_the_example_study_is_nine_workspaces(tmp_path, monkeypatch):
    text, sizes = blocks("docs/studies.md", "yaml")
    files.replace(tmp_path / "studies/share.yaml", text)
    monkeypatch.chdir(tmp_path)
    for path in re.findall(r"path: /(models/[^}]+)}", sizes):
        files.write_json(tmp_path / path / "config.json", {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 30})
    files.replace(tmp_path / "studies/sizes.yaml", sizes.replace("path: /models", f"path: {tmp_path}/models"))
    assert len(studies.points("sizes", *studies.load("sizes"), yaml.safe_load(page("params.yaml")))) == 3
    points = studies.points("share", *studies.load("share"), yaml.safe_load(page("params.yaml")))
    assert len(points) == 9 and (points[0].label, points[-1].label) == ("0.25,0", "1.0,2")
    assert set(studies.Study.model_fields) == set(
        re.findall("^\\| `([a-z]+)` \\|", page("docs/studies.md").partition("| key of `study`")[2], re.MULTILINE)
    )


def test_the_three_kinds_of_dictionary_are_params():
    raw = yaml.safe_load(page("params.yaml"))
    shown = [yaml.safe_load(block) for block in blocks("docs/dictionaries.md", "yaml")]
    assert [params.checked(raw | block, "page").dictionary.kind for block in shown] == ["own", "folder", "release"]


def test_the_conversion_of_a_pt_gives_a_folder_that_loads(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    names = {"W_enc": "encoder", "b_enc": "bias", "W_dec": "decoder", "b_dec": "centre"}
    shapes = {"encoder": (8, 16), "bias": (16,), "decoder": (16, 8), "centre": (8,)}
    torch.save({name: torch.randn(shape) for name, shape in shapes.items()}, "ae.pt")
    [code] = blocks("docs/dictionaries.md", "python")
    exec(code.replace("3584", "8").replace("131072", "16"), {"NAMES": names})
    about = dictionaries.facts(dictionaries.load(Path("models/theirs")))
    assert (about["hook"], about["model"], about["d_in"]) == ("blocks.15.hook_resid_post", "Qwen2.5-7B-Instruct", 8)
