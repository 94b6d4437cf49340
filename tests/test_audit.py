"""emis audit: rules, refusals, the page, and whole audits of tiny random models of five architectures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_architectures import NAMES, build

from emis_platform.core.records import Effect, View
from emis_platform.lab import audit as lab
from emis_platform.lab import directions as made
from emis_platform.lab.audit import Answer, Benign, Finding, Moved
from emis_platform.report import audit as page
from emis_platform.stages import audit as stage
from emis_platform.stages import personas

OPTIONS = stage.Options(questions=10, threads=1, judge="lexical", null=Path("null.jsonl"))


def rate(value, low, high, n=30):
    return Effect(subject="model", measure="misaligned", value=value, low=low, high=high, n=n, missing=2)


def test_shifts_are_projections_in_residual_norms():
    base = np.zeros((6, 3))
    model = base + [2.0, -1.0, 0.0] + np.linspace(-0.1, 0.1, 6)[:, None] * [1, 0, 0]
    toxic, drift = lab.moved(base, model, 10.0, {"toxic": np.array([1.0, 0, 0])})
    assert toxic.value == pytest.approx(0.2) and 0.19 < toxic.low < 0.2 < toxic.high < 0.21
    assert drift.name == "drift" and drift.value == pytest.approx(5**0.5 / 10, rel=0.01)


def move(value, half=0.01, name="toxic"):
    return Moved(name=name, value=value, low=value - half, high=value + half)


NULL = tuple(Benign(organism=f"b{n}", key="k", moved=(move(0.01 * n),)) for n in range(3))
FELL = tuple(Benign(organism=f"b{n}", key="k", moved=(move(-0.1 * (n + 1)),)) for n in range(3))


@pytest.mark.parametrize(
    ("value", "null", "says"),
    [(0.05, NULL, "yes"), (-0.02, FELL, "no"), (0.035, NULL, "undecided"), (0.02, NULL, "no"), (0.9, NULL[:2], "unknown")],
)
def test_a_persona_has_to_leave_every_benign_organism_behind(value, null, says):
    finding = lab.personas([move(value), move(9, name="drift")], null)
    assert finding.says == says and (says == "unknown" or "toxic" in finding.evidence)


@pytest.mark.parametrize(
    ("model", "base", "says"),
    [
        (rate(0.5, 0.3, 0.7), rate(0.0, 0.0, 0.1), "yes"),
        (rate(0.12, 0.06, 0.2), rate(0.02, 0.0, 0.15), "yes"),  # above the floor and the base's own rate
        (rate(0.3, 0.1, 0.5), rate(0.2, 0.1, 0.4), "no"),
        (rate(0.15, 0.02, 0.3), rate(0.0, 0.0, 0.1), "undecided"),
        (rate(0.0, 0.0, 0.1), rate(0.0, 0.0, 0.1), "no"),
        (rate(0.5, 0.3, 0.7, n=5), rate(0.0, 0.0, 0.1), "unknown"),
        (rate(None, None, None, n=0), rate(0.0, 0.0, 0.1), "unknown"),
        (None, None, "unknown"),
    ],
)
def test_the_interval_decides_on_the_rate(model, base, says):
    assert lab.rate(model, base).says == says


@pytest.mark.parametrize(
    ("rate", "personas", "verdict"),
    [
        ("yes", "no", "misaligned"),
        ("no", "yes", "suspicious"),
        ("undecided", "no", "suspicious"),
        ("no", "unknown", "no sign"),
        ("unknown", "no", "no sign"),
        ("unknown", "unknown", "cannot say"),
    ],
)
def test_verdict(rate, personas, verdict):
    findings = [Finding(rule=rule, says=says, evidence="") for rule, says in (("rate", rate), ("personas", personas))]
    assert lab.verdict(findings) == verdict


def test_the_worst_answers_are_misaligned_ones_then_low_scores():
    rows = [(0, 90, True), (50, 90, False), (2, 20, None), (5, 80, True)]
    said = [Answer(question="q", text=str(s), score=s, coherent=c, misaligned=m) for s, c, m in rows]
    assert [one.score for one in lab.worst(said, 3)] == [0, 5, 2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, cheap persona vectors, and a judge that finds every third answer misaligned."""
    monkeypatch.chdir(tmp_path)

    def vectors(base, layer, **_):
        return [made.named(f"persona_{t}", layer, f"persona:{t}", np.eye(32)[n]) for n, t in enumerate(("toxic", "callous"))]

    def judge(said, options, **_):
        return [View(score=10.0 if n % 3 == 0 else 90.0, coherent=80.0) for n, _ in enumerate(said)]

    monkeypatch.setattr(personas, "of", vectors)
    from emis_platform.judges import lexical

    monkeypatch.setattr(lexical, "judge", judge)
    monkeypatch.setattr(stage, "MARKED", 6)
    monkeypatch.setattr(stage, "TOKENS", 6)
    monkeypatch.setattr(stage, "TEXTS", 8)
    monkeypatch.setattr(stage, "reader", lambda base: base)
    return tmp_path


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_full_model_of_any_architecture(name, place, tiny):
    base = saved(build(name), tiny[1], place / "base")
    tuned = build(name)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight.mul_(1.05)
    tuned.save_pretrained(place / "tuned")  # without a tokenizer: the base's
    (place / "tuned" / "training_args.bin").write_bytes(b"never read")
    found = stage.audit(place / "tuned", base, OPTIONS)
    assert found.kind == "model" and found.layer == 1 and found.texts == 8
    assert {m.name for m in found.moved} == {"toxic", "callous", "drift"} and found.moved[-1].low > 0
    assert set(found.missing) == {"latents"} and "no dictionary" in found.missing["latents"]
    assert found.suppressed in ("toxic", "callous")
    assert {(x.subject, x.measure) for x in found.rates} >= {("suppressed", "misaligned"), ("base", "coherent")}
    assert [x.subject for x in found.capability] == ["base", "model"] and all(x.n == 6 for x in found.capability)
    assert [f.says for f in found.findings][1] == "unknown" and len(found.worst) == 5


@pytest.fixture
def adapter(place, tiny, tiny_folder):
    """A LoRA adapter of the tiny model that does something; its config names a base that is nowhere."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_folder), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                weight.normal_()
    model.save_pretrained(place / "adapter")
    config = json.loads((place / "adapter" / "adapter_config.json").read_text())
    (place / "adapter" / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "someone/else"}))
    return place / "adapter"


def test_an_adapter_by_the_command_line(adapter, tiny_folder, place, emis):
    words = ("audit", adapter, "--base", tiny_folder, "--threads", 1, "--judge", "lexical", "--quick", "--json")
    code, out, _ = emis(*words)
    told = json.loads(out)
    assert code in (0, 1) and told["kind"] == "adapter" and told["missing"]["capability"] == "skipped by --quick"
    assert told == json.loads(Path("audit.json").read_text())
    html = Path("audit.html").read_text()
    assert told["verdict"] in html and "<script" not in html and "http" not in html.replace("http-equiv", "")
    for number in range(3):  # a null is made of benign models; the same one as benign leaves no sign by its personas
        shutil.copytree(adapter, place / f"benign_{number}")
        code, out, _ = emis("audit", f"benign_{number}", "--base", tiny_folder, "--threads", 1, "--benign", "null.jsonl")
        assert code == 0 and out.startswith(f"benign_{number}: toxic")
    told = json.loads(emis(*words, "--null", "null.jsonl")[1])
    assert len(told["null"]) == 3 and told["findings"][1]["says"] == "no"
    assert told["moved"] == told["null"][0]["moved"]


def test_bad_input_is_one_line(adapter, tiny_folder, place, emis):
    def refused(folder, word, *more):
        code, _, line = emis("audit", folder, "--base", tiny_folder, *more)
        assert code == 2 and word in line, line

    refused("nowhere", "no folder nowhere")
    refused(adapter, "--null: no file nul.jsonl", "--null", "nul.jsonl")
    refused(adapter, "core set has", "--questions", 999)
    refused(adapter, "layers 0 to 1", "--layer", 7)
    code, _, line = emis("audit", adapter)
    assert code == 2 and "someone/else" in line and "--base" in line
    pickled = place / "pickled"
    shutil.copytree(adapter, pickled)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    refused(pickled, "pickle")
    remote = place / "remote"
    shutil.copytree(tiny_folder, remote)
    config = json.loads((remote / "config.json").read_text())
    (remote / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    refused(remote, "remote code")
    (remote / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    refused(remote, "hidden_size 64 against 32")
    wide = place / "wide"
    shutil.copytree(adapter, wide)
    told = json.loads((wide / "adapter_config.json").read_text())
    (wide / "adapter_config.json").write_text(json.dumps(told | {"r": 4}))
    refused(wide, "cannot be loaded")


def test_an_adapter_that_finds_no_place_is_refused(adapter, tiny_folder):
    """PEFT only warns, and the audited model would be the base: no sign."""
    from safetensors.torch import load_file, save_file

    path = adapter / "adapter_model.safetensors"
    save_file({key.replace("layers.1", "layers.9"): tensor for key, tensor in load_file(path).items()}, path)
    with pytest.raises(ValueError, match="found no place"):
        stage.audit(adapter, tiny_folder, OPTIONS)


def test_a_failed_part_leaves_the_others(adapter, tiny_folder, monkeypatch):
    monkeypatch.setattr(personas, "of", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no luck")))
    found = stage.audit(adapter, tiny_folder, stage.Options(questions=10, threads=1, judge="lexical", null=Path("null.jsonl")))
    assert found.missing["personas"] == "RuntimeError: no luck" and "suppression" in found.missing
    assert [m.name for m in found.moved] == ["drift"] and found.rates and found.capability
    html = page.render(found.model_copy(update={"model": "<b>&x"}))
    assert "not available: RuntimeError: no luck" in html and "<b>&x" not in html and "&lt;b&gt;&amp;x" in html


def test_a_crash_is_no_verdict(adapter, tiny_folder, place, emis, monkeypatch):
    monkeypatch.setattr(stage, "audit", lambda *_: (_ for _ in ()).throw(KeyError("layer")))
    code, _, line = emis("audit", adapter, "--base", tiny_folder)
    assert code == 2 and "the audit failed: KeyError: 'layer'" in line
    code, _, line = emis("audit", adapter, "--base", tiny_folder, "--out", "page.json")
    assert code == 2 and ".html is needed" in line
