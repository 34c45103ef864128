"""The memory that is asked for beforehand is no more than what training takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.laws.models import CASES
from toyvit.config import RunConfig, TrainConfig
from toyvit.data.task import resolve_config
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.train import memory


@pytest.mark.parametrize("case", CASES)
def test_weights_are_counted_as_they_are(case):
    """Exactly where positions are learned; else more by as many as there are places."""
    config = CASES[case]
    matrices = [weight for weight in ViT(config).parameters() if weight.ndim == 2]
    fixed = 0 if config.positions == "learned" else config.n_patches * config.d_model
    assert memory.count_weights(config) == sum(matrix.numel() for matrix in matrices) + fixed


def test_layers_count_for_what_is_trained_and_not_for_what_is_only_scored():
    def estimate(**training: int) -> int:
        config: RunConfig = resolve_config(RECIPES["induction"]())
        deep = replace(config.model, n_layers=12)
        train = replace(TrainConfig(), **training)
        return memory.estimate_memory(replace(config, model=deep, train=train))

    few = estimate(batch_size=64, n_validation=1)
    assert estimate(batch_size=64, n_validation=512) < 1.5 * few
    assert estimate(batch_size=512, n_validation=1) > 6 * few


def test_what_the_machine_does_not_have_is_refused(monkeypatch):
    config = resolve_config(RECIPES["induction"]())
    needed = memory.estimate_memory(config)
    for free, is_enough in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(memory, "read_free_memory", lambda free=free: free)
        if is_enough:
            memory.check_memory(config)
        else:
            with pytest.raises(BadInput, match="GB of memory"):
                memory.check_memory(config)
