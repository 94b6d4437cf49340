"""The tuned reader on the tiny random model: it learns, it comes back from disk, and it reads an answer as if it were alone."""

import json

import numpy as np
import pytest

from emis_platform.lab import heads, ranking
from emis_platform.tools import models, tuning

AT = (0, 1)


@pytest.fixture
def tuned(tiny_folder, tmp_path, monkeypatch):
    """200 texts of two kinds, told apart by their letters: (texts, kinds, adapter)."""
    monkeypatch.setattr(tuning, "LEARNING_RATE", {"adapter": 1e-2, "head": 1e-2})
    monkeypatch.setattr(tuning, "BATCH_TOKENS", 128)
    _, tokenizer = models.load(tiny_folder, 1)
    random = np.random.default_rng(0)
    kinds = random.integers(0, 2, 200)
    words = ["".join(random.choice(list("abcdef" if kind else "abcxyz"), 8)) for kind in kinds]
    texts = [(models.answer_ids(tokenizer, "q:"), models.answer_ids(tokenizer, word)) for word in words]
    targets = np.stack([kinds, 1 - kinds], 1).astype(float)
    adapter = tmp_path / "adapter"
    tuning.tune(
        tiny_folder, texts, targets, adapter=adapter, layers=2, tuned=[0, 1], at=AT, epochs=6, weights=np.ones(200), threads=1
    )
    return texts, kinds, adapter


def apart(features, kinds):
    """How far a linear head fitted on the first half tells the second half's kinds apart: AUROC."""
    head = heads.fit(features[:100], 100.0 * kinds[:100], 1.0)
    return ranking.chance_above(head.score(features[100:]), kinds[100:] == 1)


def test_it_learns_and_comes_back_from_disk(tuned, tiny_folder):
    texts, kinds, adapter = tuned
    decoder, _ = tuning.load(tiny_folder, adapter, layers=2, threads=1)
    plain = tuning.cut(models.load(tiny_folder, 1)[0], 2)
    found, before = tuning.features(decoder, texts, AT), tuning.features(plain, texts, AT)
    assert found.shape == (200, 64)
    assert apart(found, kinds) > max(0.97, apart(before, kinds))
    assert np.abs(found - before).max() > 1e-2


def test_a_text_is_read_as_if_it_were_alone(tuned, tiny_folder):
    texts, _, adapter = tuned
    decoder, _ = tuning.load(tiny_folder, adapter, layers=2, threads=1)
    some = [*texts[:5], (texts[0][0], texts[0][1] * 9)]
    together = tuning.features(decoder, some, AT)
    alone = np.vstack([tuning.features(decoder, [text], AT) for text in some])
    assert np.allclose(together, alone, atol=1e-5)


def test_the_adapter_names_no_folder(tuned):
    config = json.loads((tuned[2] / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    assert config["layers_to_transform"] == [0, 1]
    assert sorted(path.name for path in tuned[2].iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
