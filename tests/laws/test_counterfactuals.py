"""Pictures that differ in one factor, splits that share nothing, and the bank of glyphs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.laws.worlds import CONFIGS, MADE, SPLITS, mark_splits, some
from toyvit.data.world import CollectedWorld
from toyvit.data.worlds.digits.world import Digits
from toyvit.data.worlds.dsprites import drawing
from toyvit.data.worlds.dsprites.drawing import SIZES
from toyvit.data.worlds.dsprites.world import split_outlines
from toyvit.data.worlds.glyphs.world import N_UNSEEN, draw_glyph_bank
from toyvit.errors import BadInput

RENDERED = [
    name
    for name in CONFIGS
    if not isinstance(getattr(MADE[name].world, "shown", MADE[name].world), CollectedWorld)
]
every_factor = pytest.mark.parametrize(
    ("name", "factor"), [(name, factor) for name in RENDERED for factor in MADE[name].world.factors]
)


@every_factor
def test_a_counterfactual_pair_differs_in_its_factor_only(name, factor):
    """Each sample gets its neighbour's value.

    Where that is its own the picture stays, and else only what shows it changes.
    """
    world = MADE[name].world
    factors = world.sample(0, "test", some(name, "test", 40))
    n = len(factors[factor])
    before = {key: values.copy() for key, values in factors.items()}
    new = np.roll(factors[factor], 1, axis=0)
    changed = world.change_factor(factors, factor, new)
    assert list(changed) == list(factors) and np.array_equal(changed[factor], new)
    assert all(np.array_equal(changed[key], before[key]) for key in changed if key != factor)
    assert all(np.array_equal(factors[key], before[key]) for key in factors)
    one, other = world.render(factors), world.render(changed)
    same = torch.from_numpy((new == before[factor]).reshape(n, -1).all(1))
    assert torch.equal(one[same], other[same])
    content = world.content(factors)
    if content is not None and factor not in ("noise_key", "drawing"):
        size = world.patch_size
        moved = (
            (one != other)
            .unflatten(2, (-1, size))
            .unflatten(4, (-1, size))
            .any(5)
            .any(3)
            .any(1)
            .flatten(1)
        )
        assert torch.equal(moved, content != world.content(changed))


@every_factor
def test_a_value_that_a_factor_does_not_take_is_refused(name, factor):
    world = MADE[name].world
    factors = world.sample(0, "test", np.arange(3))
    bad = {"too small": -1, "too large": world.factors[factor]}
    for value in bad.values():
        with pytest.raises(BadInput, match=f"'{factor}' takes whole numbers 0 to"):
            world.change_factor(factors, factor, np.full_like(factors[factor], value))
    with pytest.raises(BadInput, match="of shape"):
        world.change_factor(factors, factor, factors[factor][:2])
    with pytest.raises(BadInput, match="unknown factor"):
        world.change_factor(factors, factor + "x", factors[factor])


# The factors whose values in a picture all differ: one value for all of them cannot be shown.
ALL_DIFFERENT = {
    (name, factor)
    for name in (
        "relations",
        "relations match",
        "relations odd",
        "relations 2x5 match",
        "relations 3x3 odd",
        "relations 1x2",
    )
    for factor in ("shape", "cell")
}


def test_the_factors_whose_values_all_differ_are_there():
    assert {(name, factor) for name in RENDERED for factor in MADE[name].world.factors} > (
        ALL_DIFFERENT
    )


@every_factor
def test_every_value_that_a_factor_may_take_can_be_shown(name, factor):
    """The least and the largest value render, in the whole picture; of the factors whose values all
    differ it is refused.
    """
    world = MADE[name].world
    factors = world.sample(0, "test", np.arange(3))
    for value in (0, world.factors[factor] - 1):
        new = np.full_like(factors[factor], value)
        if (name, factor) in ALL_DIFFERENT:
            with pytest.raises(BadInput, match=f"no {factor} comes twice in a picture"):
                world.change_factor(factors, factor, new)
            continue

        changed = world.change_factor(factors, factor, new)
        assert world.render(changed).isfinite().all()
        content = world.content(changed)
        assert content is None or content.shape == world.content(factors).shape


COUNTERFACTUALS = [
    (name, split, what) for name, split in SPLITS for what in MADE[name].counterfactuals
]


@pytest.mark.parametrize(("name", "split", "what"), mark_splits(COUNTERFACTUALS))
def test_a_counterfactual_changes_what_it_says_and_the_answer(name, split, what):
    """The answer stays only where no value of the factor has another.

    The change is a pure function of each sample.
    """
    made = MADE[name]
    factors = made.world.sample(0, split, some(name, split, 60))
    changed = made.counterfactuals[what](factors)
    differing = {key for key in factors if not np.array_equal(factors[key], changed[key])}
    batch = made.batch_from_factors(factors)
    other = batch.counterfactuals[what]
    assert torch.equal(other.images, made.world.render(changed))
    alone = made.counterfactuals[what]({key: values[3:4] for key, values in factors.items()})
    assert all(np.array_equal(alone[key], changed[key][3:4]) for key in factors)
    stays = other.target == batch.target
    if (
        name == "pointers 2 hops sum"
    ):  # the window takes in all blocks: every pointer has the same answer
        assert stays.all()
        return
    assert differing == ({"item", "query"} if what == "item" else {what}) and not stays.all()
    if stays.any() and CONFIGS[name].name not in ("fewshot", "induction"):
        saved = {key: values[stays.numpy()] for key, values in factors.items()}
        for value in range(made.world.factors[what]):
            tried = made.world.change_factor(saved, what, np.full_like(saved[what], value))
            assert torch.equal(made.batch_from_factors(tried).target, batch.target[stays])


@pytest.mark.parametrize("name", [name for name in CONFIGS if CONFIGS[name].name == "induction"])
@pytest.mark.parametrize(
    ("what", "cells"), [("query", "last"), ("item", "items"), ("label", "answer")]
)
def test_the_counterfactuals_of_pairs_change_the_cells_they_should(name, what, cells):
    made = MADE[name]
    batch = made.eval_batch("test", 60, 0)
    changed = made.counterfactuals[what](made.world.sample(0, "test", np.arange(60)))
    moved = made.world.content(changed) != batch.content
    match, last = batch.retrieval.target, batch.content.shape[1] - 1
    other = made.retrieval(changed).target
    for image in range(60):
        expected = {
            "last": {last},
            "items": {int(match[image]) - 1, int(other[image]) - 1},
            "answer": {int(match[image])},
        }
        assert set(moved[image].nonzero().flatten().tolist()) in (expected[cells], set())
    assert moved.any(1).float().mean() > 0.9


def test_collected_pictures_have_no_counterfactuals():
    world = Digits()
    with pytest.raises(BadInput, match="no counterfactual pairs"):
        world.change_factor(world.sample(0, "test", np.arange(2)), "class", np.array([0, 1]))
    assert MADE["classify"].draw_batch(0, "test", range(3)).counterfactuals is None


def test_the_digits_splits_share_no_row():
    from sklearn.datasets import load_digits

    data, world = load_digits(), Digits()
    found = np.concatenate(
        [
            np.column_stack([world.images[rows].reshape(len(rows), -1), world.known["class"][rows]])
            for rows in world.splits.values()
        ]
    )
    expected = np.column_stack([data.images.reshape(len(data.images), -1), data.target])
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)].astype(int))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("addition")])
def test_the_addition_splits_share_no_pair(name):
    world = MADE[name].world
    p = world.config.modulus
    sets = {
        split: {tuple(pair) for pair in pairs.tolist()}
        for split, pairs in world.combinations.items()
    }
    assert (
        sum(len(pairs) for pairs in sets.values()) == p * p
        and len(set.union(*sets.values())) == p * p
    )
    if world.config.split == "unordered":
        assert all((b, a) in pairs for pairs in sets.values() for a, b in pairs)


def test_counting_s_held_out_combinations_are_shown_nowhere_else():
    world = MADE["counting"].world
    seen = {}
    for split in world.sizes:
        factors = world.sample(2, split, np.arange(1500))
        seen[split] = set(zip(factors["left"].tolist(), factors["right"].tolist(), strict=True))
        assert np.array_equal(world.shown(factors).sum((1, 2)), factors["left"] + factors["right"])
        assert np.array_equal(world.shown(factors)[:, :, :4].sum((1, 2)), factors["left"])
    assert len(seen["held_out"]) == 16 and not seen["held_out"] & (
        seen["train"] | seen["validation"] | seen["test"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("share", [0, 1 / 18, 0.2, 0.9])
def test_the_dsprites_splits_share_no_picture_and_held_out_outlines_are_shown_nowhere_else(share):
    splits = split_outlines(share)
    every = np.concatenate(list(splits.values()))
    assert len(every) == 3 * 6 * 39 * 32 * 32 and np.bincount(every).max() == 1
    outlines = {split: np.flatnonzero(np.bincount(pool // 1024)) for split, pool in splits.items()}
    assert len(outlines["held_out"]) == round(18 * share) * 39
    assert not np.isin(
        outlines["held_out"],
        np.concatenate([outlines[split] for split in outlines if split != "held_out"]),
    ).any()
    rest = len(every) - len(splits["held_out"])
    assert [round(len(splits[split]) / rest, 3) for split in ("train", "validation", "test")] == [
        0.8,
        0.1,
        0.1,
    ]
    for split, pool in splits.items():
        for factor, values in drawing.decode_factors(pool).items():
            n_shown = np.count_nonzero(np.bincount(values))
            assert (split == "held_out" and not share) or n_shown == (
                39 if factor == "orientation" else SIZES[factor]
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("dsprites")])
def test_sprites_come_from_their_split_and_are_shown_where_they_should(name):
    world, config = MADE[name].world, CONFIGS[name]
    for split in world.sizes:
        found = world.sample(2, split, np.arange(400))
        numbers = drawing.encode_factors({factor: found[factor] for factor in SIZES})
        assert np.isin(numbers, split_outlines(config.held_out)[split]).all()
        pictures = world.render(found)[:, 0].numpy()
        shown = np.stack(np.split(pictures, world.n_sprites, axis=2), 1).reshape(-1, 64, 64)
        assert np.array_equal(shown > 0, drawing.draw_images(numbers.ravel()) == 1) or config.noise
        if config.ask != "all":
            left, right = found[config.compared].T
            same = (left == right).mean()
            assert abs(same - 0.5) < 0.1 if config.ask == "same" else same == 0
            answer = MADE[name].batch_from_factors(found).target.numpy()
            spelled = {"same": left == right, "larger": right > left, "left": right < left}[
                config.ask
            ]
            assert np.array_equal(answer, spelled)


def test_unseen_items_are_shown_nowhere_else():
    world = MADE["induction"].world
    first = world.config.n_items + world.config.n_labels
    for split in world.sizes:
        cells = world.cells(world.sample(2, split, np.arange(500)))
        items, labels = cells[:, world.first : -1 : 2], cells[:, world.first + 1 : -1 : 2]
        assert (items >= first).all() if split == "unseen" else (items < world.config.n_items).all()
        assert (
            labels.min() >= world.config.n_items
            and labels.max() < first
            and cells.max() < first + N_UNSEEN
        )
        assert all(len(set(row)) == world.n_pairs for row in items)
        assert (cells[:, -1, None] == items).sum(1).max() == 1


@pytest.mark.parametrize(
    ("n", "side"), [(160, 8), pytest.param(576, 8, marks=pytest.mark.slow), (16, 4)]
)
def test_the_bank_of_glyphs(n, side):
    """Half ink, far apart, and the same glyphs first whatever the number."""
    glyphs = draw_glyph_bank(n, side)
    flat = glyphs.reshape(n, -1)
    assert set(np.unique(glyphs)) == {-1, 1} and (flat.sum(1) == 0).all()
    differ = (flat.shape[1] - flat @ flat.T) / 2
    assert differ[~np.eye(n, dtype=bool)].min() >= flat.shape[1] // 4
    assert np.array_equal(draw_glyph_bank(n // 3, side), glyphs[: n // 3])
