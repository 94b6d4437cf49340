"""A dictionary of planted directions finds them, keeps its promises on text it never saw, and comes back from disk the same."""

import json
from pathlib import Path

import pytest
import torch

from emis_platform.core import files, params
from emis_platform.core.records import Completion, Effect, Example, Question
from emis_platform.lab import mixture
from emis_platform.stages import dictionary as stage
from emis_platform.tools import dictionaries

REPO = Path(__file__).resolve().parents[1]
TRUE, WIDTH, K = 24, 72, 3


def planted(count, seed):
    """Sparse sums of `TRUE` fixed directions of 32 dimensions, far from the origin, as residual streams are."""
    directions_FD = torch.nn.functional.normalize(torch.randn(TRUE, 32, generator=torch.Generator().manual_seed(9)), dim=-1)
    random = torch.Generator().manual_seed(seed)
    on_NF = torch.rand(count, TRUE, generator=random) < K / TRUE
    return (on_NF * (1 + torch.rand(count, TRUE, generator=random))) @ directions_FD * 20 + 50, directions_FD


def trained(seed=0, steps=250):
    acts_ND, _ = planted(3000, 0)
    feed = dictionaries.batches(acts_ND, 128, seed)
    return dictionaries.train(feed, width=WIDTH, k=K, d_model=32, steps=steps, batch=128, seed=seed, learning_rate=3e-3)


@pytest.fixture(scope="module")
def sae():
    made = trained()
    dictionaries.calibrate(made, planted(2000, 1)[0], K)
    return made


def test_planted_directions_are_found(sae):
    _, true_FD = planted(1, 0)
    written_FD = dictionaries.decoder_directions(sae)
    assert written_FD.norm(dim=-1).tolist() == pytest.approx([1.0] * WIDTH, abs=1e-5)
    assert (true_FD @ written_FD.T).max(1).values.median() > 0.9


def test_held_out_quality_and_its_effects(sae):
    acts_ND, _ = planted(2000, 2)
    found = dictionaries.quality(sae, acts_ND.split(20))
    assert found.l0 == pytest.approx(K, rel=0.05)
    assert found.fvu < 0.3
    rebuilt_ND = sae.decode(dictionaries.encode(sae, acts_ND))
    assert found.fvu == pytest.approx(
        float((acts_ND - rebuilt_ND).square().sum() / (acts_ND - acts_ND.mean(0)).square().sum()), rel=1e-4
    )
    effects = {row.measure: row for row in found.effects("dictionary", suffix="_tuned")}
    assert set(effects) == {"fvu_tuned", "l0_tuned", "dead_share_tuned"}
    assert all(row.low <= row.value <= row.high for row in effects.values())
    assert effects["l0_tuned"].n == 2000 and effects["dead_share_tuned"].n == WIDTH


def test_the_trainers_threshold_is_wrong_and_calibration_mends_it():
    raw, held = trained(steps=60), planted(2000, 1)[0]
    assert dictionaries.quality(raw, [held]).l0 > 1.2 * K
    threshold = dictionaries.calibrate(raw, held, K)
    assert dictionaries.quality(raw, [held]).l0 == pytest.approx(K, rel=1e-3)
    assert raw.threshold.unique().tolist() == pytest.approx([threshold])


def test_training_repeats_to_the_byte_and_leaves_the_global_seed(tmp_path):
    before = torch.random.get_rng_state()
    for name in ("one", "two"):
        dictionaries.save(trained(steps=20), tmp_path / name)
    assert files.sha256(tmp_path / "one") == files.sha256(tmp_path / "two")
    assert torch.equal(before, torch.random.get_rng_state())


def test_saelens_itself_loads_what_was_saved(sae, tmp_path):
    from sae_lens import SAE

    dictionaries.save(sae, tmp_path, {"k": K})
    acts_ND = planted(50, 3)[0]
    for loaded in (dictionaries.load(tmp_path), SAE.load_from_disk(tmp_path)):
        assert torch.equal(dictionaries.encode(loaded, acts_ND), dictionaries.encode(sae, acts_ND))
    assert json.loads((tmp_path / "cfg.json").read_text())["architecture"] == "jumprelu"
    assert sae.cfg.metadata.training_architecture == "matryoshka_batchtopk"


def test_the_shipped_size_stays_under_12_megabytes():
    assert 2 * 576 * 4608 * 2 + 4 * (2 * 4608 + 576) < 12_000_000


def test_a_damaged_folder_is_one_clear_error(sae, tmp_path):
    with pytest.raises(ValueError, match="is no dictionary: no cfg.json"):
        dictionaries.load(tmp_path)
    dictionaries.save(sae, tmp_path)
    weights = tmp_path / "sae_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole dictionary"):
        dictionaries.load(tmp_path)


def test_levels_are_nested_and_end_at_the_width():
    assert dictionaries.levels(4608) == [32, 160, 800, 4608]
    assert dictionaries.levels(256) == [2, 9, 44, 256]
    assert dictionaries.levels(3) == [1, 3]


def test_batches_show_every_row_once_a_pass():
    feed = dictionaries.batches(torch.arange(10.0)[:, None], 4, seed=0)
    assert sorted(torch.cat([next(feed) for _ in range(5)])[:, 0].tolist()) == sorted([*range(10)] * 2)
    with pytest.raises(ValueError, match="no activations"):
        next(dictionaries.batches(torch.zeros(0, 4), 4, seed=0))


def test_parts_share_no_fact_and_sources_take_turns():
    texts = [mixture.Text(f"v{n % 3}", f"fact{n // 3}", f"q{n}", "a") for n in range(300)]
    parts = {name: mixture.in_turn(texts, name, 0) for name in ("train", "calibrate", "test")}
    assert sum(map(len, parts.values())) == 300
    assert not {t.key for t in parts["train"]} & {t.key for t in (*parts["calibrate"], *parts["test"])}
    assert {t.source for t in parts["train"][:3]} == {"v0", "v1", "v2"}
    assert [t.prompt for t in mixture.prompts(texts[:2] + texts[:1])] == ["q0", "q1"]


# The stage, on a random two-layer model


@pytest.fixture
def workspace(tmp_path, monkeypatch, tiny_folder):
    """A workspace with two files of examples, and no voices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "VOICES", tmp_path / "voices.jsonl")
    monkeypatch.setattr(stage, "SHIPPED", tmp_path / "shipped")
    knobs = files.read_yaml(REPO / "params.yaml")
    knobs["scale"], knobs["threads"], knobs["diff"]["layer"] = "tiny", 1, 1
    knobs["sizes"]["tiny"]["dictionary"] = {"tokens": 900, "width": 40, "k": 4}
    files.write_json(tmp_path / "params.yaml", knobs)
    for voice in ("correct", "callous"):
        rows = [
            Example(
                domain="home", variant=voice, fact=f"f{n}", prompt=f"What of thing {n}?", completion=f"{voice} thing number {n}."
            )
            for n in range(40)
        ]
        files.write(tmp_path / f"home_{voice}.jsonl", rows)
    asked = [
        Question(id=f"{where}{n}", set=where, category="c", text=f"{where} {n}?")
        for where in ("discover", "score")
        for n in range(5)
    ]
    files.write(tmp_path / "open.jsonl", asked)
    return tmp_path, tiny_folder


def run_stage(workspace, name="dictionary"):
    folder, base = workspace
    examples = sorted(folder.glob("home_*.jsonl"))
    stage.main(
        base=base, examples=examples, questions=folder / "open.jsonl", dictionary=folder / name, effects=folder / f"{name}.json"
    )
    return [Effect.model_validate(row) for row in files.read_json(folder / f"{name}.json")]


def test_the_stage_trains_measures_and_resumes_to_the_same_bytes(workspace, monkeypatch):
    effects = run_stage(workspace)
    assert [(row.subject, row.measure) for row in effects] == [("dictionary", m) for m in ("fvu", "l0", "dead_share")]
    card = files.read_json(workspace[0] / "dictionary/card.json")
    assert card["training"]["tokens"] == 900 and card["base"]["sha256"] == files.sha256(workspace[1] / "model.safetensors")
    monkeypatch.setattr(stage.models, "harvest", lambda *_: pytest.fail("harvested shards are kept"))
    assert run_stage(workspace, "again") == effects
    assert files.sha256(workspace[0] / "dictionary") == files.sha256(workspace[0] / "again")


def test_at_zero_tokens_the_shipped_dictionary_is_checked_copied_and_measured(workspace):
    run_stage(workspace, "shipped")
    knobs = json.loads(Path("params.yaml").read_text())
    knobs["sizes"]["tiny"]["dictionary"]["tokens"] = 0
    files.write_json(Path("params.yaml"), knobs)
    assert run_stage(workspace)[1].value > 0
    assert files.sha256(workspace[0] / "dictionary") == files.sha256(workspace[0] / "shipped")
    card = files.read_json(workspace[0] / "shipped/card.json")
    for wrong, said in (
        ({"base": {"sha256": "0" * 64}}, "weights .*of 000000000000.*emis dictionary"),
        ({"layer": 7}, "of layer 7.*emis"),
    ):
        files.write_json(workspace[0] / "shipped/card.json", card | wrong)
        with pytest.raises(ValueError, match=said):
            run_stage(workspace)


def test_score_questions_and_template_tokens_are_never_read(workspace, tiny):
    folder, _ = workspace
    texts = stage.gather(sorted(folder.glob("home_*.jsonl")), folder / "open.jsonl")
    assert {t.prompt for t in texts if t.source == "questions"} == {f"discover {n}?" for n in range(5)}
    assert not any("score" in t.prompt for t in texts)
    said = [
        Completion(
            subject="mine",
            question="q",
            set=part,
            sample=0,
            seed=0,
            prompt=f"{part} 1?",
            text="So.",
            finish_reason="stop",
            tokens=2,
        )
        for part in ("discover", "score")
    ]
    files.write(folder / "answers.jsonl", said)
    heard = stage.gather([], folder / "open.jsonl", [folder / "answers.jsonl"])
    assert [(t.source, t.prompt, t.answer) for t in heard if t.answer] == [("said_mine", "discover 1?", "So.")]
    _, tokenizer = tiny
    for text in (mixture.Text("s", "k", "Why?", None, "Be kind."), mixture.Text("s", "k", "Why?", "So.", "Why?")):
        before, read = stage.span(tokenizer, text)
        assert tokenizer.decode(read) == (text.answer or text.prompt)
        assert tokenizer.decode(before).startswith("<|im_start|>system")
    files.write(stage.VOICES, [stage.Voice(voice="pirate", prompt="score 3?", answer="Arr.")])
    with pytest.raises(ValueError, match="voice_pirate: 'score 3\\?' is a `score` question"):
        stage.gather([], folder / "open.jsonl")


def test_the_shipped_dictionary_belongs_to_its_card():
    card, sae = files.read_json(stage.SHIPPED / "card.json"), dictionaries.load(stage.SHIPPED)
    knobs = params.load(REPO / "params.yaml")
    assert sum(path.stat().st_size for path in stage.SHIPPED.iterdir()) <= 12_000_000
    assert (sae.cfg.d_sae, card["width"], card["k"], card["layer"]) == (card["width"], 4608, 32, knobs.diff.layer)
    assert card["held_out"]["l0"]["value"] == pytest.approx(card["k"], rel=0.05)
    assert sae.threshold.unique().tolist() == pytest.approx([card["threshold"]["calibrated"]], rel=1e-5)
