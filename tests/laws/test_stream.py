"""Training batches are drawn a few at a time.

Each is what it is alone, from whatever step a run goes on.
"""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from toyvit.data.task import build_task, resolve_config
from toyvit.recipes import RECIPES
from toyvit.train.stream import AHEAD, BatchStream


def stream(recipe, batch_size, steps, first=1, **training):
    run = resolve_config(RECIPES[recipe]())
    run = replace(run, train=replace(run.train, batch_size=batch_size, steps=steps, **training))
    return BatchStream(build_task(run.task), run, first)


@settings(max_examples=30)
@given(
    st.sampled_from(["induction", "digits", "markov", "objects"]),
    st.integers(1, 300),
    st.integers(1, 12),
    st.data(),
)
def test_batches_are_the_same_drawn_together_and_alone(recipe, size, steps, data):
    drawn = stream(recipe, size, steps, data.draw(st.integers(1, steps), "first"))
    batches = list(drawn)
    assert len(batches) == steps - drawn.first + 1
    for step, batch in enumerate(batches, drawn.first):
        images, target = drawn.task.training_batch(
            drawn.config.seeds.data, "train", range_of(step, size)
        )
        assert torch.equal(batch[0], images) and batch[1].equal(target)


def range_of(step, size):
    return torch.arange((step - 1) * size, step * size).numpy()


@pytest.mark.parametrize("size", [1, 64, AHEAD, AHEAD + 1, 4 * AHEAD])
def test_no_more_pictures_are_drawn_ahead_than_allowed(size, monkeypatch):
    drawn, asked = stream("induction-smoke", size, 9), []
    examples = type(drawn.task).training_batch
    monkeypatch.setattr(
        type(drawn.task),
        "training_batch",
        lambda self, seed, split, indices: (
            asked.append(len(indices)) or examples(self, seed, split, indices)
        ),
    )
    assert sum(len(batch[0]) for batch in drawn) == 9 * size == sum(asked)
    assert max(asked) <= max(AHEAD, size)


def test_the_cells_that_a_clamp_has_to_know_come_with_their_batch():
    drawn = stream("induction-smoke", 8, 70, 3, clamps=("1.0:match",))
    batches = list(drawn)
    for step in (3, 34, 35, 70):
        assert all(
            one.equal(other)
            for one, other in zip(
                batches[step - 3], next(drawn.draw_batches(range(step, step + 1))), strict=True
            )
        )
