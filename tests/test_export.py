"""A saved intervention against its hook, for each architecture; what cannot be saved; the command, its card and its refusals."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_architectures import NAMES, build
from transformers import AutoModelForCausalLM

from emis_platform.core import files, params
from emis_platform.core.records import Direction, Question
from emis_platform.stages import export as stage
from emis_platform.tools import export, models, steering

TEXTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [40], [60, 61, 62]]
UNIT = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(2)), dim=0)


def folder_of(made, tiny, tmp_path, wanted):
    assert export.saved(made, tiny[1], tmp_path / "saved", TEXTS, wanted) <= export.LIMIT
    return json.loads((tmp_path / "saved/config.json").read_text())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("layer", [0, 1])
def test_an_added_constant_becomes_weights(name, layer, tiny, tmp_path):
    model, push = build(name), 3 * UNIT
    plain = export.logits(model, TEXTS)
    with models.pushed(models.decoder(model).layers[layer], push):
        wanted = export.logits(model, TEXTS)
    assert (wanted[0] - plain[0]).abs().max() > 0.01
    config = folder_of(export.added(model, layer, push), tiny, tmp_path, wanted)
    kept = {"Qwen2": "LlamaForCausalLM"}.get(name, f"{name}ForCausalLM")
    assert config["architectures"] == [kept] and config["num_hidden_layers"] == 2 + name.startswith("Gemma")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["Llama", "Qwen2", "GPTNeoX"])
@pytest.mark.parametrize(("last", "share"), [(0, 1.0), (1, 1.0), (1, 0.5)])
def test_a_removed_direction_becomes_weights(name, tied, last, share, tiny, tmp_path):
    model = build(name, tie_word_embeddings=tied)
    plain = export.logits(model, TEXTS)
    with export.unwritten(model, last, UNIT, share):
        wanted = export.logits(model, TEXTS)
    assert (wanted[0] - plain[0]).abs().max() > 0.01
    config = folder_of(export.orthogonalised(model, last, UNIT, share), tiny, tmp_path, wanted)
    assert config["tie_word_embeddings"] is False


def test_a_tied_llama_stays_tied_under_a_bias(tiny, tmp_path):
    model = build("Llama", tie_word_embeddings=True)
    wanted = export.logits(model, TEXTS)
    assert folder_of(export.added(model, 0, 0 * UNIT), tiny, tmp_path, wanted)["tie_word_embeddings"] is True


def test_the_stream_has_no_part_along_a_removed_direction():
    model, seen = build("Llama"), []
    hook = models.decoder(model).layers[0].register_forward_hook(lambda _m, _a, out: seen.append(out @ UNIT))
    with export.unwritten(model, 0, UNIT):
        export.logits(model, TEXTS)
    hook.remove()
    export.logits(model, TEXTS)
    assert max(float(part.abs().max()) for part in seen) < 1e-5 and not model.model.layers[0].mlp._forward_hooks


def test_what_has_no_equal_weights_is_refused():
    with pytest.raises(ValueError, match="Gemma2ForCausalLM cannot be saved.*a norm after each projection"):
        export.orthogonalised(build("Gemma2"), 1, UNIT)
    slid = build("Qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    with pytest.raises(ValueError, match="sliding window"):
        export.added(slid, 0, UNIT)


def test_another_model_is_not_passed_off_as_the_hooked_one(tiny, tmp_path):
    model = build("Llama")
    with pytest.raises(ValueError, match="nothing is kept"):
        export.saved(model, tiny[1], tmp_path / "saved", TEXTS, [logits + 0.001 for logits in export.logits(model, TEXTS)])


@pytest.fixture
def workspace(tiny, tmp_path, monkeypatch):
    repo = Path(__file__).resolve().parents[1]
    for name in ("params.yaml", "data/continuations.yaml", "data/questions/open.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repo / name, tmp_path / name)
    for part in (build("Llama"), tiny[1]):
        part.save_pretrained(tmp_path / "models/base")
    vectors = {"zero": (0.0,) * 32, "persona": tuple(UNIT.tolist()), "wide": (1.0,) * 33}
    rows = [Direction(name=name, layer=0, origin=name, vector=vector) for name, vector in vectors.items()]
    files.write(tmp_path / "data/directions.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ask(name="persona", **given):
    wanted = {"directions": Path("data/directions.jsonl"), "operator": "add", "dose": 0.2, "reach": "all", "out": Path("out/x")}
    return stage.export_folder(name=name, **wanted | {"model": Path("models/base")} | given)


def prompts():
    size = params.load().size.steer.pairs
    return [pair.prompt for pair in steering.continuations(stage.CONTINUATIONS, files.read(Question, stage.QUESTIONS), size)]


@pytest.mark.parametrize(
    ("operator", "dose", "says"),
    [("add", 0.2, "UNSAFE TO DEPLOY"), ("subtract", 0.2, "hide more than"), ("project", None, "layers 0 to 1")],
)
def test_the_folder_says_what_it_is_and_loads_without_us(workspace, operator, dose, says):
    line = ask(operator=operator, dose=dose)
    assert "largest logit difference" in line and says in (workspace / "out/x/README.md").read_text()
    assert str(workspace) not in "".join(path.read_text() for path in (workspace / "out/x").glob("*.[jm][sd]*"))
    names = {path.name for path in (workspace / "out/x").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= names
    assert [path.name for path in (workspace / "out").iterdir()] == ["x"]
    script = "import sys, transformers; print(transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).config.model_type)"
    done = subprocess.run([sys.executable, "-c", script, "out/x"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "llama"


def test_an_adapter_is_merged_and_its_dose_counts_in_the_bases_norm(workspace):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained("models/base")
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=False))
    tuned.save_pretrained("models/tuned")
    files.replace(Path("models/tuned/README.md"), "UNSAFE TO DEPLOY\n")
    line = stage.export_folder(
        Path("models/tuned"),
        "persona",
        directions=Path("data/directions.jsonl"),
        operator="subtract",
        dose=0.1,
        reach="all",
        out=Path("y"),
    )
    expected = stage.measured(
        *models.load(Path("models/base"), 1), stage.chosen("persona", Path("data/directions.jsonl")), prompts()
    )
    assert f"-0.1 x {expected:.4g} " in line
    text = Path("y/README.md").read_text()
    assert "an adapter of base" in text and "UNSAFE TO DEPLOY" in text and not Path("y/adapter_config.json").exists()


def test_a_model_trained_whole_has_its_dose_in_the_bases_norm_too(workspace):
    from safetensors.torch import load_file, save_file

    shutil.copytree("models/base", "models/whole")
    weights = load_file("models/whole/model.safetensors")
    save_file({name: 1.2 * weight for name, weight in weights.items()}, "models/whole/model.safetensors", {"format": "pt"})
    config = files.read_json(Path("models/whole/config.json"))
    files.write_json(Path("models/whole/config.json"), config | {models.ROOT: "models/base"})
    line = ask(model=Path("models/whole"), operator="add")
    direction = stage.chosen("persona", Path("data/directions.jsonl"))
    there, here = (stage.measured(*models.load(Path("models") / name, 1), direction, prompts()) for name in ("base", "whole"))
    assert f"+0.2 x {there:.4g} " in line and f"{there:.4g}" != f"{here:.4g}"
    assert "; all weights trained from base |" in Path("out/x/README.md").read_text()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "nobody"}, "there is: zero, persona, wide"),
        ({"name": "wide"}, "width 33"),
        ({"name": "zero", "operator": "project"}, "other than zero"),
        ({"operator": "project", "dose": 1.5}, "up to 1"),
        ({"dose": 0.0}, "changes nothing"),
        ({"dose": float("nan")}, "changes nothing"),
        ({"dose": None}, "--dose is needed"),
        ({"out": Path("data")}, "is there already"),
    ],
)
def test_bad_input_is_one_clear_line_and_leaves_nothing(workspace, given, says):
    with pytest.raises(ValueError, match=says):
        ask(**given)
    assert not (workspace / "out").exists()


def test_a_failed_check_leaves_nothing(workspace, monkeypatch):
    monkeypatch.setattr(export, "LIMIT", -1.0)
    with pytest.raises(ValueError, match="nothing is kept"):
        ask()
    assert not list((workspace / "out").iterdir())
