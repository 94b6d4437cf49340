"""Somebody else's dictionary: taken where it fits base, layer and hook, refused in one line where it does not; no pickle is opened."""

import json
import re
from pathlib import Path

import pytest
import torch

from emis_platform.core import files, params
from emis_platform.lab import dictionary_fit
from emis_platform.stages import dictionary as stage
from emis_platform.tools import dictionaries

REPO = Path(__file__).resolve().parents[1]
FITS = {
    "hook": "blocks.7.hook_resid_post",
    "model": "org/Tiny-1B",
    "d_in": 32,
    "d_out": None,
    "base": ["tiny-1b"],
    "layer": 7,
    "width": 32,
}


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.7.hook_resid_post", 7),
        ("blocks.8.hook_resid_pre", 7),
        ("model.layers.7", 7),
        ("layers.7", 7),
        ("blocks.0.hook_resid_pre", None),
        ("blocks.7.hook_mlp_out", None),
        ("blocks.7.attn.hook_z", None),
    ],
)
def test_the_layer_of_a_hook(hook, layer):
    assert dictionary_fit.layer_of(hook) == layer


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"model": None}, None),
        ({"base": []}, None),
        ({"d_in": 64}, "width 64, the base's are 32 wide"),
        ({"d_out": 16}, "a transcoder"),
        ({"hook": None}, "does not say which hook"),
        ({"hook": "blocks.7.hook_mlp_out"}, "it reads blocks.7.hook_mlp_out; a residual stream is needed"),
        ({"layer": 6}, "reads layer 7 .*, diff.layer is 6"),
        ({"model": "org/Tiny-3B"}, "is of org/Tiny-3B, the base is tiny-1b"),
    ],
)
def test_what_does_not_fit_is_named(change, said):
    reason = dictionary_fit.misfit(**FITS | change)
    assert reason is None if said is None else re.search(said, reason)


@pytest.fixture
def borrowed(tmp_path, monkeypatch, tiny_folder):
    """A workspace whose params name a SAELens folder for layer 1 of the tiny base; `write(**metadata)` makes the folder."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    monkeypatch.chdir(tmp_path)
    knobs = files.read_yaml(REPO / "params.yaml")
    knobs["threads"], knobs["diff"]["layer"] = 1, 1
    knobs["dictionary"] = {"kind": "folder", "path": "theirs"}
    Path("tiny-1b").symlink_to(tiny_folder)
    knobs["bases"]["base"] = {"kind": "local", "path": "tiny-1b"}
    files.write_json(Path("params.yaml"), knobs)

    def write(**about):
        about = {"hook_name": "blocks.1.hook_resid_post", "model_name": "org/Tiny-1B"} | about
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sae = StandardSAE(StandardSAEConfig(d_in=about.pop("d_in", 32), d_sae=20, metadata=SAEMetadata(**about)))
        sae.W_dec.data *= 3
        sae.save_model("theirs")
        return sae

    return write, Path("tiny-1b")


def test_a_saelens_folder_that_fits_is_taken_with_unit_rows(borrowed):
    write, base = borrowed
    theirs = write()
    acts_ND = torch.randn(30, 32, generator=torch.Generator().manual_seed(1))
    ours = stage.outside(base, params.load())
    assert dictionaries.decoder_directions(ours).allclose(ours.W_dec, atol=1e-6)
    assert ours.decode(dictionaries.encode(ours, acts_ND)).allclose(theirs(acts_ND), atol=1e-4)
    dictionaries.save(ours, Path("kept"), exact=True)
    assert torch.equal(dictionaries.load(Path("kept")).W_enc, ours.W_enc)


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"hook_name": "blocks.0.hook_resid_post"}, "theirs: it reads layer 0"),
        ({"model_name": "gpt2"}, "theirs: it is of gpt2, the base is tiny-1b"),
        ({"d_in": 16}, "theirs: it takes activations of width 16"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(borrowed, about, said):
    write, base = borrowed
    write(**about)
    with pytest.raises(ValueError, match=said):
        stage.outside(base, params.load())


def test_a_folder_of_ours_knows_the_very_weights(borrowed):
    write, base = borrowed
    write(model_name="base")
    Path("theirs/card.json").write_text(json.dumps({"base": {"sha256": stage.weights_sha256(base)}}))
    assert stage.outside(base, params.load()).cfg.d_sae == 20
    Path("theirs/card.json").write_text(json.dumps({"base": {"sha256": "0" * 64}}))
    with pytest.raises(ValueError, match="of weights 000000000000"):
        stage.outside(base, params.load())


def test_a_pickle_is_refused_unopened_and_the_way_out_is_said(tmp_path):
    (tmp_path / "ae.pt").write_bytes(b"no pickle at all")
    with pytest.raises(ValueError, match=r"ae.pt is a pickle.*only safetensors are.*weights_only=True.*save_model"):
        dictionaries.load(tmp_path)


def test_releases_are_checked_against_the_list_before_anything_is_fetched():
    asked = []

    def misfit(found):
        asked.append(found)
        return "it is of another model"

    for release, id, said in (
        ("gemma-scope-9b", "x", "dictionary.release: SAELens lists no gemma-scope-9b; near are: gemma-scope-"),
        ("llama_scope_lxr_8x", "l99r_8x", "dictionary.id: SAELens lists no l99r_8x; near are: l"),
        ("qwen2.5-7b-instruct-andyrdt", "resid_post_layer_3_trainer_1", "no safetensors.*save_model.*kind: folder"),
    ):
        with pytest.raises(ValueError, match=said):
            dictionaries.released(release, id, misfit)
    assert not asked
    with pytest.raises(ValueError, match="llama_scope_lxr_8x: it is of another model"):
        dictionaries.released("llama_scope_lxr_8x", "l15r_8x", misfit)
    assert asked == [{"model": "meta-llama/Llama-3.1-8B"}]
    with pytest.raises(ValueError, match="must be downloaded; run once with HF_HUB_OFFLINE=0"):
        dictionaries.released("llama_scope_lxr_8x", "l15r_8x", lambda found: None)


def test_params_name_a_fault_of_the_key(tmp_path):
    knobs = files.read_yaml(REPO / "params.yaml")
    for entry, said in (({"kind": "folder"}, "dictionary.path: Field required"), ({"kind": "zip"}, "dictionary: .*'own'")):
        files.write_json(tmp_path / "params.yaml", knobs | {"dictionary": entry})
        with pytest.raises(ValueError, match=said):
            params.load(tmp_path / "params.yaml")
