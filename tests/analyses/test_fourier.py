"""Progress measures of modular addition, on tables built by hand and on random ones."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.analyses.planted import OPTIONS, model_for
from tests.laws.worlds import CONFIGS, MADE
from toyvit.analyses import ANALYSES, fourier
from toyvit.analyses.analysis import Tagged
from toyvit.config import AdditionConfig
from toyvit.data.task import loss

ADDITIONS = [name for name, config in CONFIGS.items() if isinstance(config, AdditionConfig)]


def grid_of(name="addition ordered"):
    return MADE[name].eval_batch("test", 2, 0).operand_table


def trigonometric(p, frequencies, sizes=None):
    """The sum of size cos(w_k (a + b - c)) over frequencies k."""
    a, b, c = torch.meshgrid(*(torch.arange(p).double(),) * 3, indexing="ij")
    sizes = sizes or [3.0] * len(frequencies)
    waves = [
        size * (2 * math.pi * k / p * (a + b - c)).cos()
        for k, size in zip(frequencies, sizes, strict=True)
    ]
    return torch.stack(waves).sum(0).flatten(0, 1)


def chosen(p, frequencies):
    return torch.isin(torch.arange(1, p // 2 + 1), torch.tensor(frequencies))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


@settings(max_examples=25)
@given(p=st.integers(3, 24), data=st.data())
def test_trigonometric_logits(p, data):
    """All of the variance is in their frequencies.

    Restricted they are the same, excluded nothing is left.
    """
    frequencies = data.draw(st.lists(st.integers(1, p // 2), min_size=1, unique=True))
    logits = trigonometric(p, frequencies) + noise(p)  # and a bias for each label
    keys = chosen(p, frequencies)
    assert torch.equal(fourier.find_key_frequencies(logits), keys)
    assert fourier.wave_power(logits)[keys].sum() == pytest.approx(1)
    assert torch.allclose(fourier.restrict_logits(logits, keys), logits)
    assert torch.allclose(
        fourier.exclude_waves(logits, keys), logits.mean(0).expand_as(logits), atol=1e-9
    )


@settings(max_examples=25)
@given(p=st.integers(3, 16), seed=st.integers(0, 99))
def test_what_is_kept_and_what_is_taken_out_add_up(p, seed):
    logits, keys = noise(p * p, p, seed=seed), noise(p // 2, seed=seed) > 0
    whole = fourier.restrict_logits(logits, keys) + fourier.exclude_waves(logits, keys)
    assert torch.allclose(whole, logits + logits.mean(0))
    again = fourier.restrict_logits(fourier.restrict_logits(logits, keys), keys)
    assert torch.allclose(again, fourier.restrict_logits(logits, keys))
    shifted = fourier.wave_power(logits + noise(p * p, 1, seed=seed + 1))
    assert torch.allclose(shifted, fourier.wave_power(logits)), "what all labels share says nothing"


@pytest.mark.parametrize("name", ADDITIONS)
def test_losses_of_trigonometric_logits(name):
    """Truth: restricted is the loss as it is, excluded is chance.

    Null, other frequencies: the other way round.
    """
    operand_table = grid_of(name)
    p = math.isqrt(len(operand_table.target))
    logits = trigonometric(p, [1, 3])
    right, wrong = (
        fourier.score_losses(logits, operand_table, chosen(p, keys)) for keys in ([1, 3], [2, 4])
    )
    for side, rows in (("train", operand_table.trained), ("test", ~operand_table.trained)):
        own = loss(logits[rows], operand_table.target[rows]).item()
        assert own < 0.9 * math.log(p)
        assert right[Tagged("restricted_loss", pairs=side)] == pytest.approx(own)
        assert right[Tagged("excluded_loss", pairs=side)] == pytest.approx(math.log(p))
        assert wrong[Tagged("restricted_loss", pairs=side)] == pytest.approx(math.log(p))
        assert wrong[Tagged("excluded_loss", pairs=side)] == pytest.approx(own)
    assert right["restricted_alone"] == pytest.approx(
        loss(logits[~operand_table.trained], operand_table.target[~operand_table.trained]).item()
    )


def test_a_table_learned_by_heart_on_some_pairs_is_left_alone_where_it_is_random():
    """Random logits: each frequency has 2 / (p^2 - 1) of the variance, and none is key.

    Nothing is taken out.
    """
    p = 37
    logits = noise(p * p, p)
    assert fourier.wave_power(logits).mean() == pytest.approx(2 / (p * p - 1), rel=0.1)
    keys = fourier.find_key_frequencies(logits)
    assert not keys.any() and torch.equal(fourier.exclude_waves(logits, keys), logits)
    assert torch.allclose(fourier.restrict_logits(logits, keys), logits.mean(0).expand_as(logits))
    assert fourier.wave_power(torch.ones(p * p, p).double()).sum() == 0


@pytest.mark.parametrize(
    ("p", "draws"),
    [(5, 400), (6, 400), (7, 400), (11, 200), (13, 200), (23, 20), (53, 3), (113, 1)],
)
def test_random_logits_have_a_key_frequency_in_one_case_of_twenty_at_most(p, draws):
    """Under the rule of 2 % alone all of them were key at p = 7."""
    false = sum(
        fourier.find_key_frequencies(noise(p * p, p, seed=seed)).any().item()
        for seed in range(draws)
    )
    sd = math.sqrt(0.05 * 0.95 / draws)
    assert false / draws <= 0.05 + 3 * sd
    if p <= 13:
        assert false / draws >= 0.05 - 3 * sd, "the stated chance is reached where it decides"
    else:
        assert not false


@pytest.mark.parametrize("p", [7, 12])
def test_the_share_of_a_frequency_of_random_logits_follows_its_law(p):
    """Each frequency passes its own threshold with the chance that makes 5 % of all."""
    shares = torch.stack([fourier.wave_power(noise(p * p, p, seed=seed)) for seed in range(600)])
    above = (shares > fourier.null_shares(p)).double().mean(0)
    expected = 1 - 0.95 ** (1 / (p // 2))
    assert (above - expected).abs().max() < 4 * math.sqrt(expected / 600)


def test_a_table_learned_by_heart_lends_its_answers_to_other_pairs():
    """Right on the pairs trained on, silent on all others: yet their restricted loss falls.

    Alone it is chance.
    """
    operand_table = MADE["addition"].eval_batch("test", 2, 0).operand_table
    p = math.isqrt(len(operand_table.target))
    logits = (
        8.0
        * torch.nn.functional.one_hot(operand_table.target, p).double()
        * operand_table.trained[:, None]
    )
    keys = fourier.find_key_frequencies(logits)
    found = fourier.score_losses(logits, operand_table, keys)
    assert keys.all() and found[Tagged("restricted_loss", pairs="test")] < 0.2
    assert found["restricted_alone"] == pytest.approx(math.log(p))


@pytest.mark.parametrize("name", ["addition", "addition clock"])
def test_restricted_on_its_own_pairs(name):
    """Truth: trigonometric logits stay as they are. Null: other frequencies leave little."""
    operand_table = grid_of(name)
    p = math.isqrt(len(operand_table.target))
    logits, rows = trigonometric(p, [1, 3]) + noise(p), ~operand_table.trained
    assert torch.allclose(
        fourier.score_restricted_alone(logits, chosen(p, [1, 3]), rows), logits[rows]
    )
    other = fourier.score_restricted_alone(logits, chosen(p, [2]), rows)
    assert (other - other.mean(0)).square().mean() < 0.2 * logits[rows].var()


def test_gini():
    assert fourier.gini(torch.ones(10).double()) == 0
    assert fourier.gini(torch.eye(10)[3].double()) == pytest.approx(0.9)
    assert fourier.gini(torch.tensor([1.0, 3.0]).double()) == pytest.approx(0.25)
    assert fourier.gini(torch.zeros(4).double()) == 0


@pytest.mark.parametrize("p", [12, 37])
def test_embeddings(p):
    """A pure cosine has one frequency, in whatever features.

    Random rows have all, equally: Gini under 0.1.
    """
    waves = (2 * math.pi * 5 / p * torch.arange(p).double()).cos()[:, None] * noise(1, 64) + noise(
        1, 64, seed=1
    )
    assert fourier.spectrum(waves).argmax() == 4
    assert fourier.gini(fourier.spectrum(waves)) == pytest.approx(1 - 1 / (p // 2))
    assert fourier.gini(fourier.spectrum(noise(p, 64))) < 0.1
    second = noise(p, 3, 8, seed=2)
    embed = waves.repeat_interleave(p, 0).unflatten(1, (8, 8)) + torch.cat(
        [second, noise(p, 5, 8, seed=3)], 1
    ).repeat(p, 1, 1)
    assert fourier.gini(fourier.spectrum(fourier.average_embedding(embed))) == pytest.approx(
        1 - 1 / (p // 2)
    )


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ADDITIONS)
def test_the_analysis_looks_at_all_pairs_whatever_the_batch(name, options):
    model, batch = model_for(name, n=3, **OPTIONS[options])
    found = fourier.measure_fourier(model, batch, {})
    other = model_for(name, n=9, **OPTIONS[options])[1]
    again = fourier.measure_fourier(model, other, {})
    assert all(torch.equal(found[key], again[key]) for key in found)
    assert all(value.dtype == torch.double for value in found.values())
    assert found["key_share"] == pytest.approx(found["power"][found["is_key"] > 0].sum().item())
    assert ANALYSES["fourier"].list_missing(model, replace(batch, operand_table=None)) == [
        "all pairs of an addition"
    ]


@pytest.mark.parametrize("name", ADDITIONS)
def test_the_grid_is_every_pair_in_order(name):
    made, operand_table = MADE[name], grid_of(name)
    p = made.config.modulus
    assert (
        len(operand_table.images) == p * p
        and operand_table.trained.sum() == made.world.sizes["train"]
    )
    for split in ("train", "test"):
        batch = made.eval_batch(split, 50, 0)
        place = batch.factors["a"] * p + batch.factors["b"]
        assert torch.equal(operand_table.images[place], batch.images) and torch.equal(
            operand_table.target[place], batch.target
        )
        assert (operand_table.trained[place] == (split == "train")).all()
    assert np.array_equal(
        operand_table.target.numpy(), np.add.outer(np.arange(p), np.arange(p)).flatten() % p
    )
