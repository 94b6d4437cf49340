"""The tuned reader on the tiny random model: it learns, it comes back from disk, and it reads an answer as if it were alone."""

import json

import numpy as np
import pytest

from emis_platform.tools import models, tuning


@pytest.fixture
def tuned(tiny_folder, tmp_path, monkeypatch):
    """200 texts of two kinds, told apart by their letters: (texts, targets, adapter, weight, bias)."""
    monkeypatch.setattr(tuning, "LEARNING_RATE", 1e-2)
    monkeypatch.setattr(tuning, "BATCH_TOKENS", 128)
    _, tokenizer = models.load(tiny_folder, 1)
    random = np.random.default_rng(0)
    kinds = random.integers(0, 2, 200)
    words = ["".join(random.choice(list("abcdef" if kind else "abcxyz"), 8)) for kind in kinds]
    texts = [(models.answer_ids(tokenizer, "q:"), models.answer_ids(tokenizer, word)) for word in words]
    targets = np.stack([kinds, 1 - kinds], 1).astype(float)
    adapter = tmp_path / "adapter"
    made = tuning.tune(
        tiny_folder, texts, targets, adapter=adapter, layers=2, tuned=[1], epochs=6, weights=np.ones(200), threads=1
    )
    return texts, targets, adapter, *made


def test_it_learns_and_comes_back_from_disk(tuned, tiny_folder):
    texts, targets, adapter, weight, bias = tuned
    decoder, _ = tuning.load(tiny_folder, adapter, layers=2, threads=1)
    scores = tuning.features(decoder, texts) @ weight.T + bias
    assert ((scores > 0) == (targets > 0.5)).mean() > 0.9
    plain = tuning.cut(models.load(tiny_folder, 1)[0], 2)
    assert np.abs(tuning.features(plain, texts[:20]) - tuning.features(decoder, texts[:20])).max() > 1e-2


def test_a_text_is_read_as_if_it_were_alone(tuned, tiny_folder):
    texts, _, adapter, *_ = tuned
    decoder, _ = tuning.load(tiny_folder, adapter, layers=2, threads=1)
    some = [*texts[:5], (texts[0][0], texts[0][1] * 9)]
    together = tuning.features(decoder, some)
    alone = np.vstack([tuning.features(decoder, [text]) for text in some])
    assert np.allclose(together, alone, atol=1e-5)


def test_the_adapter_names_no_folder(tuned):
    config = json.loads((tuned[2] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["layers_to_transform"] == [1]
    assert sorted(path.name for path in tuned[2].iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
