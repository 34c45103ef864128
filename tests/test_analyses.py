"""Truths and nulls of the measures, on planted patterns."""

import math

import pytest
import torch

from toyvit.analyses import attention, induction
from toyvit.analyses.probes import probe
from toyvit.data.tasks import Pairs


def uniform(tokens: int) -> torch.Tensor:
    return torch.full((2, 3, tokens, tokens), 1 / tokens)


def test_attention_on_uniform_and_one_hot():
    assert attention.entropy(uniform(17))[0].item() == pytest.approx(math.log(17), abs=1e-5)
    identity = torch.eye(16).expand(2, 3, 16, 16)
    assert attention.entropy(identity).abs().max() == 0
    assert attention.distance(uniform(16), (4, 4), 0)[0].item() == pytest.approx(2.008, abs=1e-3)
    assert attention.distance(identity, (4, 4), 0).abs().max() == 0


def test_offset_head_finds_a_shift_and_nothing_in_uniform():
    shift = torch.zeros(1, 1, 16, 16)
    for query in range(16):
        shift[0, 0, query, query - 1 if query % 4 else query] = 1
    score, row, column = attention.offset_head(shift, (4, 4), 0)
    assert (score.item(), row.item(), column.item()) == (1, 0, -1)
    assert attention.offset_head(uniform(16), (4, 4), 0)[0][0].item() == pytest.approx(1 / 16)


def test_rollout_of_uniform_patterns():
    found = attention.rollout([uniform(4)] * 2)[0]
    assert torch.allclose(found, 0.25 * torch.eye(4) + 0.75 / 4)


def test_induction_on_planted_and_uniform():
    pairs = Pairs(query=torch.tensor([8, 8]), match=torch.tensor([1, 5]), labels=torch.tensor([[1, 3, 5, 7]] * 2))
    planted = uniform(9).clone()
    planted[[0, 1], :, 8] = 0
    planted[0, :, 8, 1] = planted[1, :, 8, 5] = 1
    assert induction.strength(planted, pairs, 0).min() == 1 and induction.mass(planted, pairs, 0).min() == 1
    assert induction.strength(uniform(9), pairs, 0).abs().max() < 1e-6
    content = torch.tensor([[0, 10, 1, 11, 2, 12, 3, 13, 0], [0, 10, 1, 11, 2, 12, 3, 13, 2]])
    targets = induction.prefix_targets(content, 1, torch.ones(9, 9, dtype=torch.bool))
    asking = torch.zeros(2, 9, dtype=torch.bool)
    asking[:, 8] = True
    assert induction.prefix_matching(planted, targets, 0, asking)[0].min() == 1
    assert induction.prefix_matching(uniform(9), targets, 0, asking)[0].abs().max() < 1e-6


@pytest.mark.parametrize("angle", [0, math.pi / 3, math.pi / 2, math.pi])
def test_copying_of_a_rotation_is_its_cosine(angle):
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    assert induction.copying(torch.eye(2)[None], rotation[None]).item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_random_heads_compose_at_one_over_root_d():
    mean, _ = induction.composition_null(64, 16)
    assert mean == pytest.approx(1 / 8, rel=0.03)


def test_probe_on_planted_and_random_features():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (2000,), generator=generator)
    features = torch.nn.functional.one_hot(labels, 4).float() @ torch.randn(4, 12, generator=generator)
    assert probe(features, {"factor": labels})["factor"] == 1
    assert probe(torch.randn(2000, 12, generator=generator), {"factor": labels})["factor"] == pytest.approx(0.25, abs=0.05)
