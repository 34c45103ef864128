"""Laws of every world and task.

Samples are pure functions of (seed, split, index), pictures are pure functions of factors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.laws.worlds import (
    CONFIGS,
    MADE,
    SPLITS,
    fingerprint,
    fingerprints,
    mark_splits,
    some,
    splits,
)
from toyvit.data.worlds.glyphs.world import N_UNSEEN
from toyvit.errors import BadInput

every_task = pytest.mark.parametrize("name", CONFIGS)
every_split = pytest.mark.parametrize(("name", "split"), mark_splits(SPLITS))
ENDLESS = [
    name for name in CONFIGS if all(size is None for size in MADE[name].world.sizes.values())
]
FINITE = [name for name in CONFIGS if name not in ENDLESS]


def copied(factors):
    return {name: values.copy() for name, values in factors.items()}


@every_split
def test_a_sample_is_the_same_alone_in_a_batch_and_in_another_order(name, split):
    made, places = MADE[name], np.array([5, 0, 3, 1])
    batch = made.draw_batch(3, split, places)
    images, target = made.training_batch(3, split, places)
    assert torch.equal(images, batch.images) and torch.equal(
        target.nan_to_num(-9), batch.target.nan_to_num(-9)
    )
    for place, index in enumerate(places):
        alone = made.draw_batch(3, split, [index])
        assert torch.equal(alone.images[0], batch.images[place])
        assert torch.equal(alone.target[0].nan_to_num(-9), batch.target[place].nan_to_num(-9))
        for factor, values in batch.factors.items():
            assert alone.factors[factor][0] == values[place]
    assert fingerprint(made.eval_batch(split, 6, 3)) == fingerprint(
        made.draw_batch(3, split, np.arange(6))
    )


@pytest.mark.slow
def test_samples_are_the_same_in_another_process():
    words = [sys.executable, "-m", "tests.laws.worlds"]
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    found = subprocess.run(
        words,
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == fingerprints()


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDLESS)
def test_no_two_samples_of_any_seed_or_split_are_the_same(name):
    made = MADE[name]
    keys = "noise_key"
    drawn = [
        made.world.sample(seed, split, np.arange(300)) for seed in (0, 1) for split in splits(name)
    ]
    assert len(np.unique(np.concatenate([factors[keys] for factors in drawn]))) == 300 * len(drawn)
    shown = []
    for factors in drawn:
        first = {factor: values[:100] for factor, values in factors.items()}
        shown.append(made.world.render(first).flatten(1))
    for one in range(len(shown)):
        for other in range(one):
            assert (shown[one] == shown[other]).all(1).float().mean() < 0.1


@pytest.mark.parametrize("name", FINITE)
def test_each_epoch_shows_every_training_picture_once(name):
    world = MADE[name].world
    size = world.sizes["train"]
    seen = [
        world.sample(seed, "train", np.arange(size) + size * epoch)
        for seed, epoch in ((0, 0), (0, 1), (4, 0))
    ]
    rows = [
        np.stack([values for key, values in factors.items() if key != "hidden"], 1)
        for factors in seen
    ]
    for order in rows[1:]:
        assert not np.array_equal(order, rows[0])
        assert np.array_equal(order[np.lexsort(order.T)], rows[0][np.lexsort(rows[0].T)])
    assert len(np.unique(rows[0], axis=0)) == size


@pytest.mark.parametrize("name", FINITE)
def test_finite_splits_share_no_picture_and_show_what_their_sizes_say(name):
    """Counted by what the pictures are drawn from, whatever is hidden of them."""
    world = MADE[name].world
    drawn = {split: world.sample(0, split, np.arange(size)) for split, size in world.sizes.items()}
    saved = [key for key in drawn["train"] if key != "hidden"]
    rows = [
        set(zip(*(factors[key].tolist() for key in saved), strict=True))
        for factors in drawn.values()
    ]
    assert list(map(len, rows)) == list(world.sizes.values()) and len(set.union(*rows)) == sum(
        map(len, rows)
    )


@pytest.mark.parametrize("name", FINITE)
def test_a_finite_split_ends_and_is_the_same_for_every_seed(name):
    made = MADE[name]
    for split in set(splits(name)) - {"train"}:
        size = made.world.sizes[split]
        assert len(made.eval_batch(split, size + 10, 0).images) == size
        assert fingerprint(made.eval_batch(split, size, 0)) == fingerprint(
            made.eval_batch(split, size, 1)
        )
        with pytest.raises(BadInput, match=f"{size} {split} pictures"):
            made.draw_batch(0, split, [size])


@every_task
def test_an_unknown_split_is_refused(name):
    with pytest.raises(BadInput, match="did you mean 'test'"):
        MADE[name].draw_batch(0, "tset", [0])


@every_split
def test_factors_lie_in_their_declared_range(name, split):
    world = MADE[name].world
    factors = world.sample(1, split, indices := some(name, split, 150))
    assert set(world.factors) <= set(factors)
    for factor, n_values in world.factors.items():
        least, most = 0, n_values
        if (factor, split) == (
            "item",
            "unseen",
        ):  # glyphs that no other split shows come after all others, labels too
            least = n_values + world.factors["label"]
            most = least + N_UNSEEN
        assert factors[factor].min() >= least and factors[factor].max() < most, factor
    assert all(
        values.dtype == np.int64 and len(values) == len(indices) for values in factors.values()
    )


@every_split
def test_rendering_is_pure(name, split):
    made = MADE[name]
    factors = made.world.sample(1, split, np.arange(6))
    before = copied(factors)
    images = made.world.render(factors)
    size = made.world.image_size
    assert (
        images.shape == (6, made.world.n_channels, *size)
        and images.dtype == torch.float32
        and images.isfinite().all()
    )
    assert fingerprint(made.batch_from_factors(factors)) == fingerprint(
        made.batch_from_factors(copied(factors))
    )
    images += 1  # what a caller does to a picture stays with the caller
    assert torch.equal(made.world.render(factors) + 1, images)
    assert all(np.array_equal(values, before[factor]) for factor, values in factors.items())


@every_split
def test_a_target_answers_in_the_declared_form(name, split):
    made = MADE[name]
    batch = made.draw_batch(0, split, some(name, split, 40))
    n = len(batch.images)
    world = made.world
    n_patches = (
        None
        if world.patch_size is None
        else world.image_size[0] * world.image_size[1] // world.patch_size**2
    )
    if made.output_kind == "image" and batch.target.is_floating_point():
        assert batch.target.shape == (n, made.n_classes) and batch.target.isfinite().all()
    elif made.output_kind == "image":
        assert batch.target.shape == (n,)
        assert batch.target.min() >= 0 or not batch.is_answered
    elif made.output_kind == "pixels":
        n_pixels = world.n_channels * world.patch_size**2
        assert batch.target.shape == (n, n_patches, n_pixels) and made.n_classes == n_pixels
        asked = ~batch.target.isnan()
        assert (
            torch.equal(asked.any(2), asked.all(2)) and asked.any(2).sum(1).eq(world.n_hidden).all()
        )
    elif made.output_kind == "patch":
        assert batch.target.shape == (n, n_patches) and (batch.target >= 0).any(1).all()
    if not batch.target.is_floating_point():
        assert batch.target.min() >= -1 and batch.target.max() < made.n_classes
    assert all(values.shape == (n,) and values.min() >= 0 for values in batch.factors.values())
    if batch.content is not None:
        assert batch.content.shape == (n, n_patches)
    if batch.retrieval is not None:
        assert (batch.retrieval.candidates == batch.retrieval.target[:, None]).sum(1).eq(1).all()
