"""Laws over the table of analyses: each returns what it declares, is pure, and gives numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle, islice, product

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.analyses.planted import MODELS, OPTIONS, SLOW_ON, iterate_less, model_for, traced
from tests.laws.worlds import CONFIGS, MADE
from toyvit.analyses import ANALYSES, places
from toyvit.analyses.analysis import Analysis, Quantity, split_key
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.runs.table import build_rows

ROUNDING = 1e-4
# Shapes are checked on one of the options.
every_model = pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(name, options, marks=[pytest.mark.shapes] * (options == "bare, causal"))
        for name, options in MODELS
    ],
)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    iterate_less(monkeypatch)
    monkeypatch.setattr(places, "SHUFFLES", 10)


def check_sizes(analysis: Analysis, quantity: Quantity, value: Tensor, model: ViT, batch: Batch):
    """The tensor has the declared axes, each of a size that its declaration allows."""
    names = quantity.axes.split()
    assert value.ndim == len(names)
    for size, name in zip(value.shape, names, strict=True):
        assert size in analysis.axes[name].sizes(model.config, batch), name


def check_values(quantity: Quantity, value: Tensor):
    """Numbers in the declared range; NaN where it is declared, and nothing infinite."""
    assert quantity.may_be_nan or not value.isnan().any()
    numbers = value[~value.isnan()].double()
    assert numbers.isfinite().all()
    assert (numbers >= quantity.least - ROUNDING).all(), numbers.min()
    assert (numbers <= quantity.most + ROUNDING).all(), numbers.max()


def list_met(models: Iterable[tuple[str, str]]) -> set[tuple[str, str, str]]:
    """Each analysis with the options under which it runs, and the kind of output it runs on."""
    met = set()
    for name, options in models:
        model, batch = model_for(name, n=4, **OPTIONS[options])
        for analysis in ANALYSES.values():
            if runs(analysis, name, model, batch):
                met.add((analysis.name, options, MADE[name].output_kind))
    return met


@pytest.mark.slow
def test_every_analysis_meets_every_option_on_every_kind_of_output():
    """The models are not every task with every option; nothing that these would show is lost."""
    assert list_met(MODELS) == list_met(product(CONFIGS, OPTIONS))


def runs(analysis: Analysis, name: str, model: ViT, batch: Batch) -> bool:
    """Whether an analysis is put through the laws on a task: a slow one only on some."""
    return not analysis.list_missing(model, batch) and (not analysis.slow or name in SLOW_ON)


@pytest.mark.slow
@every_model
def test_every_analysis_returns_exactly_what_it_declares(name, options):
    model, batch = model_for(name, **OPTIONS[options])
    for analysis in ANALYSES.values():
        if not runs(analysis, name, model, batch):
            continue

        cache = trace(model, batch.images, analysis.sites) if analysis.sites else {}
        measures = analysis.measure(model, batch, cache)
        declared = analysis.quantities.items()
        there = {key for key, quantity in declared if quantity.is_there(model.config, batch)}
        assert {split_key(key)[0] for key in measures} == there, analysis.name
        for key, value in measures.items():
            quantity, tags = split_key(key)
            declaration = analysis.quantities[quantity]
            assert not value.requires_grad, key
            check_sizes(analysis, declaration, value, model, batch)
            check_values(declaration, value)
            assert build_rows(quantity, value, declaration.axes, tags) or value.isnan().all()


@pytest.mark.parametrize(
    "quantity",
    [Quantity("head", least=0.5), Quantity("head", most=0.5), Quantity("head", unit="nats")],
)
def test_the_check_of_values_can_fail(quantity):
    """A number below the range, one above it, and NaN where it is not declared."""
    check_values(replace(quantity, may_be_nan=True), torch.tensor([0.5, torch.nan]))
    with pytest.raises(AssertionError):
        check_values(quantity, torch.tensor([0.0, 1.0, torch.nan]))
    with pytest.raises(AssertionError):
        check_values(quantity, torch.tensor([0.5, torch.inf]))


# Three tasks and five options in turn; the slow analyses run on the first task.
IN_TURN = zip(cycle((SLOW_ON[0], "markov", "classify")), cycle(OPTIONS), strict=False)
PURE_ON = [
    pytest.param(name, options, marks=[pytest.mark.slow] * (name in SLOW_ON))
    for name, options in islice(IN_TURN, 8)
]


@pytest.mark.parametrize(("name", "options"), PURE_ON)
def test_every_analysis_is_pure(name, options):
    """The same twice, from inputs and generators of randomness that stay as they were."""
    model, batch = model_for(name, **OPTIONS[options])
    cache = traced(model, batch)
    before = {key: value.clone() for key, value in cache.items()}
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = batch.images.clone()
    target = batch.target.clone()
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].tolist()

    for analysis in ANALYSES.values():
        if analysis.list_missing(model, batch) or (analysis.slow and name != SLOW_ON[0]):
            continue
        first = analysis.measure(model, batch, cache)
        second = analysis.measure(model, batch, cache)
        assert list(first) == list(second)
        for key, value in first.items():
            assert torch.equal(value.nan_to_num(-7), second[key].nan_to_num(-7)), analysis.name

    assert all(torch.equal(value, before[key]) for key, value in cache.items())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(batch.images, images) and torch.equal(batch.target, target)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == np.random.get_state()[1].tolist()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_declares_its_source_truth_and_null(name):
    analysis = ANALYSES[name]
    assert analysis.name == name and analysis.quantities and analysis.version >= 1
    texts = (analysis.computes, analysis.source, analysis.truth, analysis.null)
    assert all(text.strip() and "\n" not in text for text in texts)
    assert analysis.cost > 0 and analysis.rough_cost
    assert (analysis.measure.__doc__ or "").startswith(f"The analysis `{name}`")
