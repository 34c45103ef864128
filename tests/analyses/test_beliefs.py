"""Beliefs about a hidden state: Bayes' rule by brute force, planted layers, and the nulls."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from toyvit.analyses.beliefs import measure_beliefs, score_map, score_shortcuts
from toyvit.config import ModelConfig
from toyvit.data.task import build_task
from toyvit.data.worlds.hidden_states.config import HiddenStatesConfig
from toyvit.data.worlds.hidden_states.world import (
    PROCESSES,
    HiddenStatesWorld,
    find_stationary,
    predict_next,
)
from toyvit.model import ViT
from toyvit.model.forward import trace

SMALL = {name: HiddenStatesConfig(rows=1, columns=5, process=name) for name in PROCESSES}


def weigh_paths(world: HiddenStatesWorld, textures: tuple[int, ...]) -> np.ndarray:
    """The probability of the textures with each last state, summed over all paths of states."""
    weights = np.zeros(world.n_states)
    for path in product(range(world.n_states), repeat=len(textures) + 1):
        chance = world.stationary[path[0]]
        for texture, (state, after) in zip(textures, pairwise(path), strict=True):
            chance *= world.matrices[texture, state, after]
        weights[path[-1]] += chance
    return weights


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_one(name):
    matrices = PROCESSES[name]()
    assert (matrices >= 0).all()
    assert matrices.sum((0, 2)) == pytest.approx(np.ones(matrices.shape[1]))
    stationary = find_stationary(matrices)
    assert stationary @ matrices.sum(0) == pytest.approx(stationary)


def test_the_matrices_of_mess3_are_those_of_the_source():
    first = [[0.765, 0.00375, 0.00375], [0.0425, 0.0675, 0.00375], [0.0425, 0.00375, 0.0675]]
    assert PROCESSES["mess3"]()[0] == pytest.approx(np.array(first))


@pytest.mark.parametrize("name", PROCESSES)
def test_beliefs_are_sums_over_all_paths(name):
    world = HiddenStatesWorld(SMALL[name])
    textures = world.sample(0, "test", np.arange(6))["texture"][:, :4]
    beliefs = world.compute_beliefs(textures)
    for row, own in zip(textures, beliefs, strict=True):
        for n in (1, 2, 4):
            weights = weigh_paths(world, tuple(row[:n]))
            assert own[n - 1] == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize("name", PROCESSES)
def test_predictions_are_what_follows_in_many_samples(name):
    """Of pictures with equal beginnings, and after each hidden state."""
    world = HiddenStatesWorld(SMALL[name])
    factors = world.sample(0, "test", np.arange(40_000))
    textures = factors["texture"]
    given = predict_next(world, factors)
    begin = (textures[:, :2] == textures[0, :2]).all(1)
    share = np.bincount(textures[begin, 2], minlength=world.n_textures) / begin.sum()
    assert given["bayes"][0, 1].tolist() == pytest.approx(share.tolist(), abs=0.02)
    for state in range(world.n_states):
        here = factors["state"][:, 3] == state
        share = np.bincount(textures[here, 3], minlength=world.n_textures) / here.sum()
        own = given["truth"][:, 2][torch.from_numpy(here)][0]
        assert own.tolist() == pytest.approx(share.tolist(), abs=0.02)
    assert given["bayes"][:, -1].isnan().all()


def test_rrxor_is_two_bits_and_whether_they_differ():
    world = HiddenStatesWorld(HiddenStatesConfig(rows=1, columns=9, process="rrxor"))
    factors = world.sample(1, "test", np.arange(50))
    for states, bits in zip(factors["state"], factors["texture"], strict=True):
        first = int(np.argmax(states == 0))
        for start in range(first, len(bits) - 2, 3):
            assert bits[start + 2] == bits[start] ^ bits[start + 1]


@pytest.fixture(scope="module")
def batch():
    return build_task(HiddenStatesConfig(process="rrxor")).eval_batch("test", 300, 0)


def test_an_image_of_the_beliefs_is_1_and_noise_is_0(batch):
    generator = torch.Generator().manual_seed(0)
    n_states = batch.beliefs.shape[-1]
    turned = batch.beliefs @ torch.randn(n_states, 12, generator=generator) + 3
    assert score_map(turned, batch.beliefs) == pytest.approx(1, abs=1e-3)
    noise = torch.randn(*turned.shape, generator=generator)
    assert score_map(noise, batch.beliefs) == pytest.approx(0, abs=0.03)
    half = score_map(turned[..., :1] + 0 * turned, batch.beliefs)
    assert 0.05 < half < 0.6  # one direction of five states


def test_what_is_no_belief_tells_less(batch):
    nulls = score_shortcuts(batch)
    assert nulls["r2_shuffled"] == pytest.approx(0, abs=0.02)
    assert 0 < nulls["r2_patch"] < 0.3
    assert nulls["r2_patch"] < nulls["r2_answer"] < 0.9
    plain = build_task(HiddenStatesConfig()).eval_batch("test", 300, 0)
    assert score_shortcuts(plain)["r2_answer"] == pytest.approx(1, abs=1e-3)  # three of three


def test_all_layers_together_hold_what_one_of_them_does(batch):
    config = ModelConfig(
        image_size=(16, 16),
        patch_size=4,
        n_channels=1,
        n_classes=2,
        n_layers=2,
        mask="causal",
        cls_token=False,
        readout="every",
    )
    model = ViT(config, seed=0).eval()
    seen = trace(model, batch.images, ("blocks.*.resid_pre", "blocks.*.resid_post"))
    measured = measure_beliefs(model, batch, seen)
    assert measured["r2"].shape == (3,)
    assert measured["r2"][0] == pytest.approx(measured["r2_patch"].item(), abs=0.02)
    planted = dict(seen)
    where = torch.zeros_like(seen["blocks.1.resid_pre"])
    where[..., : batch.beliefs.shape[-1]] = batch.beliefs
    planted["blocks.1.resid_pre"] = seen["blocks.1.resid_pre"] + where * 10
    found = measure_beliefs(model, batch, planted)
    assert found["r2"][1] > 0.9 > found["r2"][2]
    assert found["r2_together"] > 0.9
