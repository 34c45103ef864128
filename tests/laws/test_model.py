"""Laws of the model as a module: seeds, gradients, torch.func and torch.compile, loss at step 0."""

from __future__ import annotations

import math
from dataclasses import replace

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load, save
from torch.autograd import grad as grad_of
from torch.func import functional_call, grad, vmap

from tests.laws.models import CASES, build, configs, every_case, noise, pictures
from toyvit.data.task import build_task, loss, resolve_config
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.options import READ_TOKENS
from toyvit.model.taps import editing, recording
from toyvit.recipes import RECIPES


@every_case
def test_weights_are_a_function_of_the_seed(config):
    first = ViT(config, seed=4).state_dict()
    same = ViT(config, seed=4).state_dict()
    other = ViT(config, seed=5).state_dict()
    assert list(first) == list(same) == list(other)
    torch.manual_seed(0)
    for name, weight in first.items():
        assert torch.equal(weight, same[name]), name
        constant = name.endswith(("bias", "gain")) or not weight.numel()
        assert constant == torch.equal(weight, other[name]), name


@settings(max_examples=10)
@given(configs())
def test_weights_pass_through_bytes(config):
    model, images = build(config), pictures(config)
    other = build(config, seed=2)
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(other(images), model(images))


@settings(max_examples=25)
@given(configs())
def test_dropout_acts_in_training_only(config):
    model, images = build(config), pictures(config)
    plain = model(images)
    assert torch.equal(model(images), plain)
    torch.manual_seed(0)
    assert torch.equal(model.train()(images), plain) == (config.dropout == 0)


def differentiate(model, logits) -> dict[str, torch.Tensor]:
    """The gradient of every parameter, 0 where none comes."""
    weights = dict(model.named_parameters())
    gradients = grad_of((logits * noise(logits)).sum(), list(weights.values()), allow_unused=True)
    pairs = zip(weights.items(), gradients, strict=True)
    return {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in pairs
    }


def answers_as_it_reads(config):
    """What is read gives the same logits and gradients, to rounding, and twice the same bits."""
    model, images = build(config), pictures(config, n=4)
    logits, answer = model(images), model.answer(images)
    assert torch.allclose(answer, logits, rtol=1e-5, atol=2e-6)
    assert torch.equal(model.answer(images), answer)

    expected = differentiate(model, logits)
    for name, gradient in differentiate(model, answer).items():
        atol = 1e-5 * max(1.0, expected[name].abs().max().item()) if gradient.numel() else 0
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=atol), name


@every_case
def test_the_answer_is_the_logits(config):
    answers_as_it_reads(config)


@settings(max_examples=25)
@given(configs())
def test_the_answer_of_any_model_is_its_logits(config):
    answers_as_it_reads(config)


@settings(max_examples=10)
@given(configs())
def test_dropout_acts_on_the_answer_in_training_only(config):
    model, images = build(config), pictures(config)
    plain = model.answer(images)
    torch.manual_seed(0)
    assert torch.equal(model.train().answer(images), plain) == (config.dropout == 0)


@pytest.mark.parametrize("readout", READ_TOKENS)
def test_no_other_token_of_the_last_block_is_formed_for_an_answer(readout):
    """The MLP of the last block, its output projection and the final norm see one row a picture."""
    model = build(replace(CASES["norm=layer"], readout=readout))
    last = model.layers[-1]
    rows = {}
    for name, part in {"out": last.attn.out, "up": last.mlp.up, "norm": model.ln_final}.items():
        part.register_forward_hook(
            lambda part, inputs, output, name=name: rows.update({name: output.shape[:-1]})
        )
    model.answer(pictures(model.config, n=4))
    assert rows == {"out": (4,), "up": (4,), "norm": (4,)}


def never_read(name: str, config) -> bool:
    """CLS and registers that no patch may see, where the read-out does not read them."""
    hidden = config.mask == "causal" or (config.mask == "no-cls-read" and not config.n_registers)
    return name == "prefix" and (config.n_prefix == 0 or (hidden and config.readout != "cls"))


def every_parameter_is_used(config):
    model, images = build(config), pictures(config, n=4)
    logits = model(images)
    (logits * noise(logits)).sum().backward()
    for name, weight in model.named_parameters():
        if not never_read(name, config):
            assert weight.grad is not None, name
            assert weight.grad.isfinite().all() and weight.grad.abs().max() > 1e-7, name


@every_case
def test_the_gradient_reaches_every_parameter(config):
    every_parameter_is_used(config)


@settings(max_examples=25)
@given(configs())
def test_the_gradient_reaches_every_parameter_of_any_model(config):
    every_parameter_is_used(config)


@every_case
def test_torch_func(config):
    """grad over weights, vmap over images, and both with an edit, agree with plain autograd."""
    model, images = build(config), pictures(config)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    tap = editing({"blocks.0.attn.z": lambda z: 0.5 * z})

    def score(weights, image):
        return functional_call(model, weights, (image[None], tap)).square().sum()

    gradients = vmap(grad(score), (None, 0))(weights, images)
    for place, image in enumerate(images):
        model.zero_grad()
        score(dict(model.named_parameters()), image).backward()
        for name, weight in model.named_parameters():
            if weight.numel():
                here = gradients[name][place]
                atol = 1e-4 * weight.grad.abs().max()
                assert torch.allclose(here, weight.grad, rtol=1e-3, atol=atol), name


@pytest.fixture
def unchecked_shapes():
    """torch.compile cannot trace jaxtyping's checks, which are there in tests only."""
    jaxtyping.config.update("jaxtyping_disable", True)
    torch._dynamo.reset()
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "backend"),
    [("mask=local", "eager"), ("registers", "aot_eager"), ("norm=rms", "aot_eager")],
)
def test_torch_compile_in_one_graph(case, backend, unchecked_shapes):
    config = replace(CASES[case], n_layers=1)
    model, images = build(config), pictures(config)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), atol=1e-6)
        site = "blocks.0.attn.pattern"
        tap = recording([site])
        expected = recording([site])
        assert torch.allclose(compiled(images, tap), model(images, expected), atol=1e-6)
        assert torch.allclose(tap.values[site], expected.values[site], atol=1e-6)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_patch_embedding_starts_at_its_scale(scale):
    usual, scaled = ViT(CASES["norm=layer"]), ViT(replace(CASES["norm=layer"], patch_scale=scale))
    assert torch.allclose(scaled.patch.weight, scale * usual.patch.weight)
    others = [name for name in usual.state_dict() if name != "patch.weight"]
    assert all(torch.equal(scaled.state_dict()[name], usual.state_dict()[name]) for name in others)


def test_an_unknown_option_is_refused_and_the_nearest_named():
    with pytest.raises(BadInput, match=r"\(2, 6, 8\) here, got \(5, 2, 8, 8\)"):
        ViT(CASES["norm=layer"])(torch.zeros(5, 2, 8, 8))
    message = r"unknown model.norm 'layr': allowed are .*; did you mean 'layer'"
    with pytest.raises(BadInput, match=message):
        ViT(replace(CASES["norm=layer"], norm="layr"))
    for field in ("positions", "mask", "activation", "readout"):
        with pytest.raises(BadInput, match=f"unknown model.{field}"):
            ViT(replace(CASES["norm=layer"], **{field: "no-such"}))


@pytest.mark.parametrize("name", RECIPES)
def test_step_zero_scores_chance(name):
    """Cross-entropy within 10 % of ln(classes) for every recipe that names classes."""
    run = RECIPES[name]()
    run = resolve_config(run)
    batch = build_task(run.task).eval_batch("test", 64, 0)
    with torch.no_grad():
        value = loss(ViT(run.model, seed=run.seeds.init)(batch.images), batch.target).item()
    if not batch.target.is_floating_point():
        assert value == pytest.approx(math.log(run.model.n_classes), rel=0.1)
