"""Laws over the table of analyses: each returns what it declares, is pure, and gives numbers that are numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.analyses.planted import MODELS, OPTIONS, model_for, traced
from tests.laws.worlds import CONFIGS
from toyvit.analyses import ANALYSES, llc, select_analyses
from toyvit.analyses.analysis import split_key
from toyvit.config import AdditionConfig
from toyvit.data.task import MOST_GROUPS
from toyvit.errors import BadInput
from toyvit.model.forward import trace
from toyvit.model.options import count_outputs
from toyvit.runs.table import build_rows

MODULI = {config.modulus for config in CONFIGS.values() if isinstance(config, AdditionConfig)}
# Tasks on which the slow analyses are put through the laws: a target of each kind.
SLOW_ON = ("induction 1x7", "markov", "regress", "pointers 2 hops", "objects glyphs")
every_model = pytest.mark.parametrize(("name", "options"), MODELS)
# Quantities that only some models or tasks have.
ONLY = {
    "cls_mass": lambda config: config.cls_token,
    "cls_to_patches": lambda config: config.cls_token,
    "register_mass": lambda config: config.n_registers > 0,
    **{
        f"{kind}_composition{z}": lambda config: config.n_layers > 1
        for kind in "qkv"
        for z in ("", "_z")
    },
    "direct_mlp": lambda config: config.d_mlp > 0,
    "decided": lambda config: config.readout not in ("every", "pixels"),
    "virtual_copying": lambda config: config.n_layers > 1,
}
# NaN where there is nothing to measure: pairs of layers in the wrong order, pictures without a repeated content, divergence.
MAY_BE_NAN = (
    {"accuracy_of_value", "loss_of_value"}
    | {f"{kind}_composition{z}" for kind in "qkv" for z in ("", "_z")}
    | {
        "prefix_matching",
        "prefix_matching_raw",
        "decided",
        "virtual_copying",
        "advantage",
        "score",
        "null",
    }
    | {"correlation", "correlation_mean"}
    | {"llc", "llc_sd", "scale"}  # chains that diverged, a gradient that is all noise
    | {"effective_rank", "participation_ratio", "alpha", "cka"}  # of a CLS token that does not vary
)


@pytest.fixture(autouse=True)
def short_chains(monkeypatch):
    """The sampler's laws do not need its full length."""
    monkeypatch.setattr(llc, "DEFAULT", replace(llc.DEFAULT, draws=4, burn_in=2))


def sizes(config):
    return {
        **{
            "layer": {config.n_layers, config.n_layers + 1},
            "to_layer": {config.n_layers, config.n_layers + 1},
            "head": {config.n_heads},
        },
        **{
            "to_head": {config.n_heads},
            "key": {config.n_tokens},
            "token": {config.n_tokens},
            "count": {config.n_heads + 1},
            "neuron": {config.d_mlp},
            "level": set(range(MOST_GROUPS + 1)),
            "frequency": {modulus // 2 for modulus in MODULI},
            "label": {count_outputs(config)},
        },
    }


@pytest.mark.slow
@every_model
def test_every_analysis_returns_exactly_what_it_declares(name, options):
    model, batch = model_for(name, **OPTIONS[options])
    for analysis in ANALYSES.values():
        if analysis.missing(model, batch) or (analysis.slow and name not in SLOW_ON):
            continue
        found = analysis.measure(
            model, batch, trace(model, batch.images, analysis.sites) if analysis.sites else {}
        )
        expected = {
            quantity
            for quantity in analysis.axes
            if ONLY.get(quantity, lambda config: True)(model.config)
        }
        assert {split_key(key)[0] for key in found} == expected, analysis.name
        for key, value in found.items():
            quantity, tags = split_key(key)
            axes = analysis.axes[quantity].split()
            assert value.ndim == len(axes) and not value.requires_grad, quantity
            assert all(
                size in sizes(model.config)[axis]
                for size, axis in zip(value.shape, axes, strict=True)
            ), quantity
            allowed = value.isfinite() | (value.isnan() if quantity in MAY_BE_NAN else False)
            assert allowed.all(), quantity
            assert (
                list(build_rows(quantity, value, analysis.axes[quantity], tags))
                or value.isnan().all()
            )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["induction 1x7", "markov", "classify"])
def test_every_analysis_is_pure(name, options):
    """The same twice, from inputs and generators of randomness that stay as they were."""
    model, batch = model_for(name, **OPTIONS[options])
    seen = traced(model, batch)
    before = {key: value.clone() for key, value in seen.items()}
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images, target = batch.images.clone(), batch.target.clone()
    states = torch.get_rng_state(), np.random.get_state()[1].tolist()
    for analysis in ANALYSES.values():
        if not analysis.missing(model, batch) and (not analysis.slow or name == "induction 1x7"):
            one, two = analysis.measure(model, batch, seen), analysis.measure(model, batch, seen)
            assert list(one) == list(two)
            assert all(
                torch.equal(one[key].nan_to_num(-7), two[key].nan_to_num(-7)) for key in one
            ), analysis.name
    assert all(torch.equal(seen[key], before[key]) for key in seen)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(batch.images, images) and torch.equal(batch.target, target)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == np.random.get_state()[1].tolist()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_declares_its_source_truth_and_null(name):
    analysis = ANALYSES[name]
    assert analysis.name == name and analysis.axes and analysis.version >= 1
    assert all(text.strip() for text in (analysis.source, analysis.truth, analysis.null))
    assert (analysis.measure.__doc__ or "").strip()


def test_an_analysis_that_cannot_be_run_is_refused_by_name():
    model, batch = model_for("classify")
    for name, analysis in ANALYSES.items():
        if analysis.missing(model, batch):
            with pytest.raises(BadInput, match=f"'{name}' needs"):
                select_analyses([name], batch, model)
            assert analysis not in select_analyses(None, batch, model)
    with pytest.raises(BadInput, match="did you mean 'attention'"):
        select_analyses(["atention"], batch, model)
