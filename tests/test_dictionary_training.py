"""The fast step is SAELens' own function, its top-k is exact, and a killed training ends where an uninterrupted one does."""

from itertools import islice

import pytest
import torch

from emis_platform.core import files
from emis_platform.tools import dictionaries, sparse_coding

SIZES = {"width": 60, "k": 3, "d_model": 16, "seed": 0}
ACTS_ND = torch.randn(400, 16, generator=torch.Generator().manual_seed(5)) * 3 + 2


def trained(architecture="matryoshka", feed=None, **options):
    feed = feed or dictionaries.batches(ACTS_ND, 32, 0)
    return dictionaries.train(feed, steps=40, batch=32, architecture=architecture, **SIZES, **options)


def weights(sae):
    return {name: tensor.clone() for name, tensor in sae.state_dict().items()}


@pytest.mark.parametrize("architecture", dictionaries.ARCHITECTURES)
@pytest.mark.parametrize("dead", [0, 5, 20])
def test_loss_gradients_and_threshold_are_saelens_own(architecture, dead):
    from sae_lens.saes.sae import TrainStepInput

    asked = TrainStepInput(
        sae_in=ACTS_ND[:64] / 3,
        coefficients={},
        dead_neuron_mask=torch.arange(60) < dead,
        n_training_steps=3,
        is_logging_step=False,
    )
    found = []
    for plain in (True, False):
        sae = dictionaries.fresh(architecture=architecture, plain=plain, **SIZES)
        sae.b_enc.data += 0.1 * torch.arange(60).cos()
        sae.W_dec.data *= 1 + 0.5 * torch.arange(60.0)[:, None].sin()
        out = sae.training_forward_pass(asked)
        out.loss.backward()
        grads = {name: parameter.grad for name, parameter in sae.named_parameters()}
        found.append((out, grads, float(getattr(sae, "topk_threshold", 0.0))))
    (plain, plain_grads, plain_threshold), (ours, our_grads, our_threshold) = found
    for name, loss in plain.losses.items():
        assert ours.losses[name].item() == pytest.approx(loss.item(), rel=1e-5), name
    assert ours.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)
    assert torch.allclose(ours.feature_acts.to_dense(), plain.feature_acts, atol=1e-5)
    assert torch.allclose(ours.sae_out, plain.sae_out, atol=1e-5)
    for name, grad in plain_grads.items():
        assert torch.allclose(our_grads[name], grad, atol=1e-5 + 1e-5 * float(grad.abs().max())), name
    assert our_threshold == pytest.approx(plain_threshold, rel=1e-5)


@pytest.mark.parametrize("architecture", dictionaries.ARCHITECTURES)
def test_a_training_ends_near_saelens_own(architecture):
    trainers = [
        dictionaries.prepared(
            dictionaries.batches(ACTS_ND, 32, 0), steps=30, batch=32, plain=plain, architecture=architecture, **SIZES
        )
        for plain in (True, False)
    ]
    plain, ours = (trainer.fit() for trainer in trainers)
    for (name, one), other in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-3 * float(one.abs().max())), name
    assert [int(t.n_forward_passes_since_fired.sum()) for t in trainers][0] > 0
    assert torch.equal(*(t.n_forward_passes_since_fired for t in trainers))


@pytest.mark.parametrize("bound", [0.0, 1.0, 50.0])
def test_top_k_over_the_batch_is_exact_whatever_the_guess(bound):
    values_NF = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    picks_P, least = sparse_coding.batch_top(values_NF, 3, bound)
    assert picks_P.tolist() == sorted(values_NF.flatten().topk(150).indices.tolist())
    assert least == pytest.approx(float(values_NF.flatten()[picks_P].min()))
    few_P, _ = sparse_coding.batch_top(-values_NF.abs(), 3, bound)
    assert len(few_P) == 0


@pytest.mark.parametrize("architecture", dictionaries.ARCHITECTURES)
def test_a_killed_training_ends_in_the_same_weights(architecture, tmp_path):
    state, whole = tmp_path / "state.safetensors", weights(trained(architecture))

    def killed(at):
        yield from islice(dictionaries.batches(ACTS_ND, 32, 0), at)
        raise KeyboardInterrupt

    for at in (20, 33):  # the second one dies after it went on from the first one's state
        with pytest.raises(KeyboardInterrupt):
            trained(architecture, killed(at), state=state, every=5)
        assert state.exists()
    before = files.sha256(state)
    again = weights(trained(architecture, state=state, every=5))
    assert files.sha256(state) != before
    assert whole.keys() == again.keys() and all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_state_of_another_training_is_refused(tmp_path):
    state = tmp_path / "state.safetensors"
    trained(state=state, every=5)
    with pytest.raises(ValueError, match="is no state of this training"):
        dictionaries.train(
            dictionaries.batches(ACTS_ND, 32, 0), steps=40, batch=32, state=state, every=5, **(SIZES | {"width": 50})
        )
    state.write_bytes(state.read_bytes()[:-50])
    with pytest.raises(ValueError, match="delete it to start afresh"):
        trained(state=state)


def test_a_topk_dictionary_comes_back_from_disk(tmp_path):
    sae = trained("topk")
    dictionaries.save(sae, tmp_path)
    latents_NF = dictionaries.encode(dictionaries.load(tmp_path), ACTS_ND)
    assert torch.equal(latents_NF, dictionaries.encode(sae, ACTS_ND))
    assert int((latents_NF > 0).sum(1).max()) == SIZES["k"]


def test_an_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="no architecture gated; there is: matryoshka, batchtopk, topk"):
        trained("gated")
