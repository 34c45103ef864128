"""Samples are pure functions of (seed, split, index); the naive predictors score what is known of them."""

import numpy as np
import pytest
import torch

from toyvit.config import ClassifyConfig, InductionConfig
from toyvit.data.tasks import task

TASKS = [InductionConfig(rows=4, columns=4, n_labels=16), ClassifyConfig(world="digits")]


@pytest.mark.parametrize("config", TASKS, ids=lambda config: config.name)
def test_a_sample_is_the_same_alone_and_in_a_batch(config):
    made = task(config)
    images, target = made.examples(3, "train", np.arange(1290, 1310))
    for place, index in enumerate(range(1290, 1310)):
        alone, answer = made.examples(3, "train", np.array([index]))
        assert torch.equal(alone[0], images[place]) and answer[0] == target[place]


@pytest.mark.parametrize(
    ("rows", "n_labels", "accuracy", "loss"),
    [(5, 32, 0.174, 2.261), (5, 16, 0.215, 2.064), (4, 16, 0.272, 1.702), (3, 16, 0.337, 1.260)],
)
def test_bag_of_labels(rows, n_labels, accuracy, loss):
    made = task(InductionConfig(rows=rows, columns=rows, n_labels=n_labels))
    found = made.baselines(made.frozen(0, "test", 10000))
    assert found["accuracy.bag_of_labels"] == pytest.approx(accuracy, abs=0.004)
    assert found["loss.bag_of_labels"] == pytest.approx(loss, abs=0.01)


def test_a_counterfactual_pair_differs_in_its_factor_only():
    made = task(InductionConfig())
    factors = made.world.sample(0, "test", np.arange(8))
    changed = made.world.change(factors, "query", (factors["query"] + 1) % 12)
    before, after = made.world.render(factors), made.world.render(changed)
    assert torch.equal(before[:, :, :32], after[:, :, :32]) and torch.equal(before[:, :, :, :32], after[:, :, :, :32])
    assert (before[:, :, 32:, 32:] != after[:, :, 32:, 32:]).flatten(1).any(1).all()
