"""Relations: answers read off the picture, and one factor flips the answer.

Unseen shapes stay unseen, and no pixel gives the answer away.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.laws.worlds import CONFIGS, MADE, mark_splits, patches, splits
from toyvit.config import RelationsConfig
from toyvit.data.baselines import fit_baselines, score_linear_probe, score_patch_probes
from toyvit.data.worlds.glyphs.world import CELL, N_UNSEEN
from toyvit.errors import BadInput

NAMES = [name for name in CONFIGS if isinstance(CONFIGS[name], RelationsConfig)]
every_relation = pytest.mark.parametrize("name", NAMES)
every_split = pytest.mark.parametrize(
    ("name", "split"), mark_splits([(name, split) for name in NAMES for split in splits(name)])
)


def objects(picture: torch.Tensor) -> dict[tuple[int, int], tuple[bool, ...]]:
    """What a picture shows: row and column of each cell that is not blank -> its ink.

    Noise moves no pixel by 1.
    """
    found = {}
    for row in range(picture.shape[0] // CELL):
        for column in range(picture.shape[1] // CELL):
            pixels = (
                picture[CELL * row : CELL * (row + 1), CELL * column : CELL * (column + 1)]
                .flatten()
                .tolist()
            )
            if sum(abs(pixel) for pixel in pixels) > CELL * CELL / 2:
                found[row, column] = tuple(pixel > 0 for pixel in pixels)
    return found


def alike(one: tuple[bool, ...], other: tuple[bool, ...]) -> bool:
    """Glyphs differ in a quarter of their pixels; noise turns hardly any."""
    return sum(a != b for a, b in zip(one, other, strict=True)) < CELL * CELL // 8


def answer(config: RelationsConfig, picture: torch.Tensor) -> int:
    shown = objects(picture)
    if config.ask == "same":
        one, other = shown.values()
        return int(alike(one, other))
    if config.ask == "match":
        upper = [ink for (row, _), ink in shown.items() if row < config.rows // 2]
        left = [
            ink
            for (row, column), ink in shown.items()
            if row >= config.rows // 2 and column < config.columns // 2
        ]
        right = [
            ink
            for (row, column), ink in shown.items()
            if row >= config.rows // 2 and column >= config.columns // 2
        ]
        assert len(upper) == len(left) == len(right) == 2 and alike(*left) != alike(*right)
        return int(alike(*left) != alike(*upper))
    assert len(shown) == config.n_objects
    ((row, column),) = [
        place
        for place, ink in shown.items()
        if sum(alike(ink, other) for other in shown.values()) != config.n_objects - 1
    ]
    return row * config.columns + column


@every_relation
def test_probes_read_what_the_card_says(name):
    """What decides the answer, the answer, and the shape of the first object."""
    factors = MADE[name].world.sample(0, "train", np.arange(40))
    probed = MADE[name].probe_factors(factors)
    assert np.array_equal(probed["shape"], factors["shape"][:, 0])
    assert np.array_equal(probed["answer"], MADE[name].eval_batch("train", 40, 0).target.numpy())
    alone = {key: probed[key] for key in probed.keys() - {"shape", "answer"}}
    assert all(np.array_equal(values, factors[key]) for key, values in alone.items())


@every_split
def test_the_answer_is_what_the_picture_shows(name, split):
    batch = MADE[name].draw_batch(4, split, range(60))
    assert [answer(CONFIGS[name], picture[0]) for picture in batch.images] == batch.target.tolist()


@every_split
def test_answers_are_balanced(name, split):
    made = MADE[name]
    share = (
        np.bincount(made.draw_batch(1, split, range(4000)).target, minlength=made.n_classes) / 4000
    )
    assert np.abs(share - 1 / made.n_classes).max() < 0.03


@pytest.mark.parametrize("name", [name for name in NAMES if CONFIGS[name].ask != "odd"])
def test_pairs_are_alike_as_often_as_the_config_says(name):
    factors = MADE[name].world.sample(1, "train", np.arange(4000))
    assert abs(factors["relation"].mean() - CONFIGS[name].alike) < 0.03
    assert "left" not in factors or abs(factors["left"].mean() - 0.5) < 0.03


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        (name, factor)
        for name in NAMES
        for factor in ("relation", "left")
        if factor in MADE[name].world.factors
    ],
)
def test_another_relation_flips_the_answer_and_one_object_a_pair(name, factor):
    made = MADE[name]
    factors = made.world.sample(2, "test", np.arange(80))
    changed = made.world.change_factor(factors, factor, 1 - factors[factor])
    one, other = made.batch_from_factors(factors), made.batch_from_factors(changed)
    assert torch.equal(one.target, 1 - other.target)
    assert ((one.content != other.content).sum(1) == (2 if factor == "left" else 1)).all()
    assert torch.equal(one.content >= 0, other.content >= 0)
    if factor == "left":
        top = CONFIGS[name].rows // 2 * CELL
        assert torch.equal(one.images[:, :, :top], other.images[:, :, :top])
    assert [answer(CONFIGS[name], picture[0]) for picture in other.images] == other.target.tolist()


@pytest.mark.parametrize("name", [name for name in NAMES if CONFIGS[name].ask == "odd"])
def test_another_odd_one_moves_the_answer(name):
    made, config = MADE[name], CONFIGS[name]
    factors = made.world.sample(2, "test", np.arange(80))
    changed = made.world.change_factor(factors, "odd", (factors["odd"] + 1) % config.n_objects)
    one, other = made.batch_from_factors(factors), made.batch_from_factors(changed)
    assert (one.target != other.target).all() and ((one.content != other.content).sum(1) == 2).all()
    assert [answer(config, picture[0]) for picture in other.images] == other.target.tolist()


@every_relation
def test_other_shapes_and_other_places_leave_the_question_s_answer(name):
    """Shapes of the split `unseen` in the places of `test`: other pictures, the same answers."""
    made = MADE[name]
    factors, unseen = (
        made.world.sample(2, "test", np.arange(40)),
        made.world.sample(2, "unseen", np.arange(40)),
    )
    one, other = (
        made.batch_from_factors(factors),
        made.batch_from_factors(made.world.change_factor(factors, "shape", unseen["shape"])),
    )
    assert (
        torch.equal(one.target, other.target)
        and ((one.content != other.content) == (one.content >= 0)).all()
    )


@every_relation
def test_unseen_shapes_are_shown_nowhere_else(name):
    world = MADE[name].world
    for split in world.sizes:
        cells = world.cells(world.sample(2, split, np.arange(800)))
        shown = np.unique(cells[cells >= 0])
        first, last = (
            (world.config.n_shapes, N_UNSEEN) if split == "unseen" else (0, world.config.n_shapes)
        )
        assert shown.min() == first and shown.max() == first + last - 1


@every_relation
def test_a_change_that_would_make_the_answer_wrong_is_refused(name):
    world = MADE[name].world
    factors = world.sample(0, "test", np.arange(3))
    for factor in ("shape", "cell"):
        with pytest.raises(BadInput, match=f"no {factor} comes twice"):
            world.change_factor(factors, factor, np.zeros_like(factors[factor]))
    if world.config.ask == "match":
        with pytest.raises(BadInput, match="stays in its part"):
            world.change_factor(factors, "cell", factors["cell"][:, ::-1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 1, "columns": 1}, "does not hold the 2 objects of 'same'"),
        (
            {"ask": "odd", "rows": 2, "columns": 2, "n_objects": 5},
            "does not hold the 5 objects of 'odd'",
        ),
        ({"ask": "match", "rows": 1, "columns": 9}, "no room for the three pairs"),
        ({"ask": "match", "rows": 2, "columns": 3}, "no room for the three pairs"),
        ({"ask": "match", "n_shapes": 5}, "n_shapes of at least 6, got 5"),
        ({"ask": "sme"}, "did you mean 'same'"),
    ],
)
def test_an_impossible_setting_is_one_clear_line(values, message):
    with pytest.raises(BadInput, match=message):
        RelationsConfig(**values)


@pytest.mark.parametrize(
    ("name", "most", "most_of_a_patch"),
    [
        ("relations", 0.54, 0.55),
        pytest.param("relations match", 0.54, 0.55, marks=pytest.mark.slow),
        pytest.param("relations 2x5 match", 0.54, 0.55, marks=pytest.mark.slow),
        pytest.param("relations odd", 0.2, 0.13, marks=pytest.mark.slow),
    ],
)
def test_no_linear_reader_of_pixels_finds_the_answer(name, most, most_of_a_patch):
    """Near chance: 1/2, 1/2; for the odd one of six among 16 cells 1/6.

    The last is what seeing where objects are gives.
    """
    assert fit_baselines(CONFIGS[name])["accuracy.pixel_probe"] < most
    assert score_patch_probes(CONFIGS[name], CELL).max() < most_of_a_patch


def test_a_linear_reader_of_pixels_finds_what_is_there():
    """The probe that must fail above reads which of two shapes a patch shows."""
    made = MADE["relations 3x3 odd"]
    train, test = made.eval_batch("train", 2000, 0), made.eval_batch("test", 2000, 0)
    cells = [(patches(made, batch)[4], batch.content[:, 4].numpy()) for batch in (train, test)]
    assert score_linear_probe(*cells) > 0.99
