"""Every result's machinery at a tiny size: it gives the numbers that its checks read.

The same for the same seed.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from toyvit.config import InductionConfig
from toyvit.data import files
from toyvit.dynamics.transitions import find_first_step
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.replications import (
    REPLICATIONS,
    belief_geometry,
    double_descent,
    fewshot,
    llc,
    markov,
    omnigrok,
    quanta,
    rank_one,
    repeats,
    sums,
    superposition,
)
from toyvit.replications.record import load_records
from toyvit.replications.training import descend, space_evenly, space_steps
from toyvit.report.replicated import draw_replication
from toyvit.stats import feature_dimensionality

PAGE = Path(__file__).parents[2] / "docs/replications"


def describe_panel(panel):
    """All that a panel says but for its numbers: titles, axes, and the names of what it shows."""
    texts = {key: value for key, value in panel.items() if isinstance(value, str)}
    return texts | {key: list(panel[key]) for key in ("curves", "levels") if key in panel}


# Numbers that a curve ends with: the panel, and the name of its curve.
ENDS = {
    "belief-geometry": {
        "mess3_final": (0, "layer 2"),
        "rrxor_together": (1, "all together"),
    },
    "fewshot": {"accuracy": (1, "accuracy"), "strength": (1, "induction strength, layer 1")},
    "markov": {
        "end": (0, "two layers"),
        "one_layer": (0, "one layer"),
        "previous_end": (1, "two layers"),
    },
    "modular-addition": {"test_at_end": (0, "test"), "llc_end": (1, "LLC")},
    "omnigrok": {"test_at_end": (0, "test")},
    "repeats": {"one_layer": (0, "one layer"), "two_layers": (0, "two layers")},
}
# Numbers that a panel draws across.
LEVELS = {
    "fewshot": {"bag": "bag of labels"},
    "markov": {"bayes": "bayes"},
    "repeats": {"bag": "bag of glyphs"},
}


def check_numbers(name, outcome):
    """The numbers are those of the panels."""
    for number, (place, curve) in ENDS.get(name, {}).items():
        last = outcome.panels[place]["curves"][curve][1][-1]
        assert outcome.numbers[number] == (None if last is None else pytest.approx(last, rel=1e-3))
    for number, level in LEVELS.get(name, {}).items():
        drawn = outcome.panels[0]["levels"][level]
        assert outcome.numbers[number] == pytest.approx(drawn, rel=1e-3)


def short(name, steps=15, **task):
    """A recipe of a few steps, and of checkpoints five steps apart."""
    config = RECIPES[name]()
    checkpoints = tuple(range(0, steps, 5))
    train = replace(config.train, steps=steps, n_validation=32, checkpoints=checkpoints)
    return replace(config, task=replace(config.task, **task), train=train)


TINY = {
    "belief-geometry": lambda path: belief_geometry.run_seed(
        0, path, short("mess3"), replace(belief_geometry.build_rrxor(), train=short("mess3").train)
    ),
    "markov": lambda path: markov.run_seed(
        0, path, short("markov", rows=4, columns=4), short("markov-control", rows=4, columns=4)
    ),
    "fewshot": lambda path: fewshot.run_seed(
        0, path, replace(fewshot.RECIPE, train=short("induction").train)
    ),
    "superposition": lambda path: superposition.run_seed(0, path, steps=20),
    "rank-one": lambda path: rank_one.run_seed(0, path),
    "llc": lambda path: llc.run_seed(0, path, shorter=100),
    "repeats": lambda path: repeats.run_seed(0, path, short("repeats")),
    "modular-addition": lambda path: sums.run_seed(0, path, steps=40, looks=1),
    "omnigrok": lambda path: omnigrok.run_seed(0, path, steps=20),
    "quanta": lambda path: quanta.run_seed(0, path, steps=20),
    "double-descent": lambda path: double_descent.run_seed(0, path, steps=20, sizes=(3, 10, 30)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLICATIONS)
def test_a_result_gives_the_numbers_that_its_checks_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "SAMPLER", replace(sums.SAMPLER, draws=4, burn_in=2))
    outcome = TINY[name](tmp_path / "first")
    assert {check.number for check in REPLICATIONS[name].checks} <= set(outcome.numbers)
    numbers = [value for value in outcome.numbers.values() if value is not None]
    assert all(isinstance(value, float | int) and math.isfinite(value) for value in numbers)

    check_numbers(name, outcome)
    panels = outcome.panels
    for record in load_records(PAGE, REPLICATIONS[name]):
        assert set(outcome.numbers) == set(record.numbers)
        for panel, earlier in zip(panels, record.panels, strict=True):
            assert describe_panel(panel) == describe_panel(earlier)

    assert json.loads(json.dumps(panels)) == panels
    assert len(draw_replication([panels, panels]).panels()) == len(panels)
    assert TINY[name](tmp_path / "second") == outcome, "the same seed twice"


@pytest.mark.parametrize("name", REPLICATIONS)
def test_a_row_says_what_it_compares_and_where_from(name):
    row = REPLICATIONS[name]
    assert row.name == name
    assert row.checks
    assert row.minutes > 0
    assert all(text.strip() for text in (row.title, row.source, row.compared))
    for check in row.checks:
        assert check.low <= check.high
        assert check.published
        assert check.origin


def test_without_mnist_omnigrok_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_mnist", lambda: None)
    omnigrok.load_mnist.cache_clear()
    with pytest.raises(BadInput, match="MNIST is not here"):
        omnigrok.check_ready()


@pytest.mark.slow
def test_rank_one_plateau_drop_and_smooth():
    """The order that Singh 2024 has: nothing clamped after c clamped after b and c clamped.

    Which has no plateau at all.
    """
    curves = [pd.Series(rank_one.train_product(1, clamped, 700)) for clamped in ("", "c", "bc")]
    halves = [find_first_step(curve < curve[0] / 2) for curve in curves]
    assert halves[0] > 3 * halves[1] > 9 * halves[2]
    free, _, two = curves
    assert free[100] > 0.98 * free[0]
    assert two[3] < 0.8 * two[0]
    assert free.iloc[-1] < 1e-6


@pytest.mark.slow
def test_superposition_of_an_antipodal_pair_and_a_lone_feature():
    """Two features in one dimension: sparse and equal share it, dense and unequal do not."""
    importance = torch.tensor([[1.0, 1.0], [1.0, 0.1]])
    density = torch.tensor([0.05, 1.0])
    weight, losses = superposition.train_copies(2, 1, importance, density, 0, steps=800, batch=256)
    shares = feature_dimensionality(weight)
    assert shares[0].tolist() == pytest.approx([0.5, 0.5], abs=0.03)
    assert shares[1, 0] > 0.85 > shares[1, 1] + 0.6
    assert losses.shape == (2,)


def test_of_a_group_of_copies_the_one_of_lowest_loss_is_taken():
    weight = torch.arange(8.0).view(4, 2, 1)
    best = superposition.select_best(weight, torch.tensor([2.0, 1.0, 3.0, 5.0]), 2)
    assert best.flatten().tolist() == [2, 3, 4, 5]


def test_sparse_features_are_there_as_often_as_said():
    density = torch.tensor([1.0, 0.1])
    x = superposition.draw_sparse(4000, density, 5, torch.Generator().manual_seed(0))
    assert (x > 0).float().mean((0, 2)).tolist() == pytest.approx([1, 0.1], abs=0.01)
    assert x.max() <= 1
    unit = double_descent.draw_samples(50, torch.Generator().manual_seed(0)).norm(dim=1)
    assert torch.all((unit - 1).abs() < 1e-5)


def test_parities_and_clusters():
    generator = torch.Generator().manual_seed(0)
    orders = [torch.randperm(quanta.BITS, generator=generator) for _ in range(quanta.TASKS)]
    subsets = torch.stack(orders)[:, : quanta.ASKED]
    tasks = torch.arange(quanta.TASKS)
    x, y = quanta.draw_parities(tasks, subsets, generator)
    for task in tasks:
        bits = x[task, quanta.TASKS :]
        assert x[task, : quanta.TASKS].argmax() == task
        assert y[task] == bits[subsets[task]].sum() % 2

    n = quanta.TASKS
    steps = torch.arange(100.0)[:, None]
    apart = (steps < 5 * torch.arange(1, n + 1)).float().repeat_interleave(quanta.TESTED, 1)
    assert quanta.score_clusters(apart + 1e-3, list(range(n))) == pytest.approx(1)
    noise = torch.rand(100, n * quanta.TESTED, generator=generator)
    assert abs(quanta.score_clusters(noise, list(range(n)))) < 0.05

    assert quanta.measure_width(list(range(100)), (torch.arange(100) < 50).float()) == 0
    width = quanta.measure_width(list(range(1, 102)), 1 - torch.arange(101) / 100)
    assert width == pytest.approx(80 / 11, rel=0.1)


def test_pairs_of_modular_addition_are_split_once():
    pairs, totals, others, answers = sums.list_sums(3)
    both = torch.cat([pairs, others])
    assert len(both.unique(dim=0)) == sums.P**2
    assert len(pairs) == round(sums.SHARE * sums.P**2)
    assert torch.equal(torch.cat([totals, answers]), both.sum(1) % sums.P)
    assert not torch.equal(sums.list_sums(4)[0], pairs)


def test_descend_is_plain_gradient_descent_that_is_looked_at_before_its_updates():
    line = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        line.weight.fill_(1)
    optimizer = torch.optim.SGD(line.parameters(), lr=0.25)
    looks = []

    def look(step):
        looks.append((step, line.weight.item()))

    descend(line, optimizer, lambda step: line.weight.square().sum(), 3, look, (0, 1, 3))
    assert looks == [(0, 1), (1, 0.5), (3, 0.125)]


def test_steps_to_look_at():
    assert space_steps(1000, 20)[:3] == [0, 1, 2]
    assert space_steps(1000)[-1] == 1000
    assert space_evenly(10, 4) == [0, 2, 5, 8, 10]


def test_the_shapes_of_the_recipes_stay_those_that_the_page_names():
    assert isinstance(RECIPES["induction"]().task, InductionConfig)
    task = fewshot.RECIPE.task
    assert (task.n_pairs, task.n_classes, task.n_labels) == (2, 50, 5)


@pytest.mark.slow
def test_the_coefficient_of_a_model_that_knows_nothing_is_no_more_than_its_noise():
    """Where the loss does not depend on the weights, the coefficient is 0.

    Far from a minimum there is none, or it is low.
    """
    model = sums.Sums(sums.P)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    pairs, totals, *_ = sums.list_sums(0)
    flat = sums.estimate_coefficient(model, pairs, torch.zeros_like(totals))
    assert flat is None or flat < 1
