"""Lenses: the last layer is the answer, a tuned lens is never worse, and saved lenses come back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

from tests.laws.models import BASE, CASES, build, configs, mark_slow, pictures
from toyvit.errors import BadInput
from toyvit.instruments.lenses import (
    RESIDUALS,
    TunedLens,
    apply_logit_lens,
    find_decision_layer,
    fit_lens,
    intersection_over_union,
    kl_to_final,
    load_lens,
    stack_residuals,
)
from toyvit.model.forward import run_model, trace
from toyvit.model.options import READOUTS, pool


def streams(model, images):
    return stack_residuals(model, trace(model, images, RESIDUALS))


def check_last(config):
    model, images = build(config), pictures(config, 3)
    stream = streams(model, images)
    stream[-1] = pool(config, stream[-1])  # where the mean is taken before the norm
    last = apply_logit_lens(model, stream)[-1]
    answer = READOUTS[config.readout](last, config.n_prefix)
    assert torch.allclose(answer, run_model(model, images), atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_the_last_layer_at_the_read_out_is_the_answer(case):
    check_last(CASES[case])


@settings(max_examples=25)
@given(configs())
def test_the_same_for_any_model(config):
    check_last(config)


def test_a_lens_of_nothing_is_the_logit_lens():
    model, d = build(BASE), BASE.d_model
    stream = streams(model, pictures(BASE, 3))
    nothing = TunedLens(torch.zeros(2, d, d), torch.zeros(2, d), 0)
    assert torch.equal(nothing(model, stream), apply_logit_lens(model, stream))


@pytest.mark.parametrize("case", mark_slow(["norm=layer", "bare", "readout=mean"], ["bare"]))
def test_a_tuned_lens_is_never_worse_than_the_logit_lens(case):
    """On the pictures it was fitted on, layer by layer; here far better, and exact at the last."""
    model = build(CASES[case])
    stream = streams(model, pictures(CASES[case], 64))
    plain = kl_to_final(apply_logit_lens(model, stream)).mean((1, 2))
    for steps in (0, 3, 200):
        lens = fit_lens(model, stream, n_steps=steps, learning_rate=0.02)
        tuned = kl_to_final(lens(model, stream)).mean((1, 2))
        assert (tuned <= plain + 1e-6).all() and tuned[-1] == 0
    assert (tuned[:-1] < 0.8 * plain[:-1]).all()


def test_a_wild_fit_keeps_its_best_iterate():
    model = build(BASE)
    stream = streams(model, pictures(BASE, 16))
    plain = kl_to_final(apply_logit_lens(model, stream)).mean((1, 2))
    wild = fit_lens(model, stream, n_steps=5, learning_rate=1e3)
    assert (kl_to_final(wild(model, stream)).mean((1, 2)) <= plain + 1e-6).all()


def test_a_saved_lens_comes_back_and_others_are_refused(tmp_path):
    model = build(BASE)
    stream = streams(model, pictures(BASE, 8))
    lens = fit_lens(model, stream, step=40, n_steps=3)
    path = tmp_path / "lens.safetensors"
    lens.save(path)
    back = load_lens(path, model)
    assert back.step == 40 and torch.equal(back(model, stream), lens(model, stream))
    with pytest.raises(BadInput, match="is a lens of"):
        load_lens(path, build(CASES["one layer"]))
    path.write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="holds no tensors"):
        load_lens(path, model)
    with pytest.raises(BadInput, match="cannot be read"):
        load_lens(tmp_path / "none", model)


def test_the_layer_of_decision():
    """From which on nothing changes: an answer that goes and comes back counts from its return."""
    answers = torch.tensor([[3, 1, 2, 0], [3, 2, 1, 0], [3, 2, 2, 1]])
    assert find_decision_layer(answers).tolist() == [0, 1, 2, 2]


def test_intersection_over_union():
    """Truth: the mask itself has 1; null: two labels in random places, half each, have 1 / 3."""
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(400, 25, generator=generator) < 0.5).long()
    random = (torch.rand(400, 25, generator=generator) < 0.5).long()
    assert intersection_over_union(truth, truth, 5) == 1
    assert intersection_over_union(1 - truth, truth, 5) == 0
    assert intersection_over_union(random, truth, 2).item() == pytest.approx(1 / 3, abs=0.02)
