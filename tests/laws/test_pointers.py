"""Pointers: answers followed by hand and read off the picture, and held-out combinations.

MNIST's own splits are kept, and no pixel gives the answer away.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.laws.worlds import CONFIGS, MADE, mark_splits, patches, splits
from toyvit.config import PointersConfig
from toyvit.data.baselines import fit_baselines, score_linear_probe, score_patch_probes
from toyvit.data.task import build_task
from toyvit.data.worlds.glyphs.world import draw_glyph_bank
from toyvit.data.worlds.mnist.world import load_mnist
from toyvit.data.worlds.pointers.world import load_drawings
from toyvit.errors import BadInput

NAMES = [name for name in CONFIGS if isinstance(CONFIGS[name], PointersConfig)]
every_pointer = pytest.mark.parametrize("name", NAMES)
every_split = pytest.mark.parametrize(
    ("name", "split"), mark_splits([(name, split) for name in NAMES for split in splits(name)])
)


def followed(config: PointersConfig, cells: list[int]) -> tuple[int, int]:
    """The cell where the pointer leads, and the answer."""
    pointer, *blocks = cells
    for _ in range(config.hops - 1):
        pointer = blocks[pointer]
    return pointer + 1, sum(
        blocks[(pointer + step) % len(blocks)] for step in range(config.window)
    ) % config.n_values


@every_split
def test_the_answer_is_where_the_pointer_leads(name, split):
    made = MADE[name]
    batch = made.draw_batch(4, split, range(200))
    found = [followed(CONFIGS[name], cells) for cells in batch.content.tolist()]
    assert (
        [value for _, value in found] == batch.target.tolist() == batch.factors["answer"].tolist()
    )
    assert [
        cell for cell, _ in found
    ] == batch.retrieval.target.tolist() and batch.retrieval.query.eq(0).all()
    assert batch.factors["pointer"].equal(batch.content[:, 0])
    assert batch.factors["value"].tolist() == [
        cells[1 + cells[0]] for cells in batch.content.tolist()
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if CONFIGS[name].source == "glyphs"])
def test_the_picture_shows_the_numbers(name):
    """Each cell is nearest to the glyph of its number."""
    made, glyphs = (
        MADE[name],
        draw_glyph_bank(CONFIGS[name].n_values).reshape(CONFIGS[name].n_values, -1),
    )
    batch = made.draw_batch(4, "test", range(60))
    for cell, pixels in enumerate(patches(made, batch)):
        assert np.array_equal((pixels @ glyphs.T).argmax(1), batch.content[:, cell].numpy())


@every_pointer
def test_held_out_combinations_are_shown_nowhere_else(name):
    made, config = MADE[name], CONFIGS[name]
    seen = {}
    for split in splits(name):
        factors = made.world.sample(2, split, np.arange(4000))
        there = factors["value"][np.arange(4000), factors["pointer"]]
        seen[split] = set(zip(factors["pointer"].tolist(), there.tolist(), strict=True))
    shown = seen["train"] | seen["validation"] | seen["test"]
    hidden = seen.get("held_out", set())
    n_pairs = config.n_values * (config.n_values - (config.hops - 1))
    assert (
        not hidden & shown
        and len(hidden | shown) == n_pairs
        and len(hidden) == round(config.held_out * n_pairs)
    )
    for part in (0, 1):
        counts = [sum(pair[part] == number for pair in hidden) for number in range(config.n_values)]
        assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    "name", [name for name in NAMES if CONFIGS[name].held_out and CONFIGS[name].n_values >= 5]
)
def test_held_out_combinations_follow_no_sum_and_no_difference(name):
    """Else a model could compute which ones it never saw.

    Were they a diagonal of the table, one difference would have all.
    """
    n = CONFIGS[name].n_values
    combinations = MADE[name].world.combinations[True]
    for numbers in (combinations[:, 1] - combinations[:, 0], combinations.sum(1)):
        assert np.bincount(numbers % n).max() <= len(combinations) / 2


@pytest.mark.parametrize("name", [name for name in NAMES if CONFIGS[name].hops == 2])
def test_with_two_hops_the_second_leads_on(name):
    for split in splits(name):
        factors = MADE[name].world.sample(2, split, np.arange(500))
        assert (factors["value"] != np.arange(CONFIGS[name].n_blocks)).all()


@every_pointer
def test_answers_are_balanced(name):
    made = MADE[name]
    share = (
        np.bincount(made.draw_batch(1, "train", range(8000)).target, minlength=made.n_classes)
        / 8000
    )
    assert np.abs(share - 1 / made.n_classes).max() < 0.025


@pytest.mark.parametrize(
    "name", [name for name in NAMES if CONFIGS[name].window == CONFIGS[name].hops == 1]
)
def test_another_pointer_changes_the_answer_and_one_cell(name):
    made, config = MADE[name], CONFIGS[name]
    factors = made.world.sample(2, "test", np.arange(80))
    other = made.batch_from_factors(
        made.world.change_factor(factors, "pointer", (factors["pointer"] + 1) % config.n_values)
    )
    one = made.batch_from_factors(factors)
    assert [followed(config, cells)[1] for cells in other.content.tolist()] == other.target.tolist()
    assert ((one.content != other.content).nonzero()[:, 1] == 0).all() and (
        one.target != other.target
    ).any()


@pytest.mark.slow
def test_mnist_s_splits_share_no_drawing():
    """Every cell is a digit of its own split of MNIST, of the class that it should be.

    Averaged over 2 x 2 pixels.
    """
    made = build_task(PointersConfig(source="mnist", noise=0))
    for split, of in (
        ("train", "train"),
        ("validation", "validation"),
        ("test", "test"),
        ("held_out", "test"),
    ):
        mnist = load_mnist()
        images, labels = mnist.images[mnist.splits[of]], mnist.known["class"][mnist.splits[of]]
        pooled = (
            images.reshape(-1, 14, 2, 14, 2).astype(np.int64).sum((2, 4)).reshape(len(images), -1)
        )
        known = {row.tobytes(): label for row, label in zip(pooled, labels.tolist(), strict=True)}
        batch = made.draw_batch(0, split, range(40))
        for cell, pixels in enumerate(patches(made, batch)):
            shown = np.rint((pixels + 1) * 510).astype(np.int64)
            assert [known[row.tobytes()] for row in shown] == batch.content[:, cell].tolist()


def test_every_drawing_of_mnist_can_be_shown():
    pictures, first = load_drawings()
    assert (
        len(pictures) == first[-1] == 70000
        and first[0] == 0
        and first[10] == 55000
        and first[20] == 60000
    )
    counts = [
        np.bincount(load_mnist().known["class"][rows]).tolist()
        for rows in load_mnist().splits.values()
    ]
    assert np.diff(first).tolist() == [count for split in counts for count in split]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rows": 2, "columns": 4}, "has 7 cells to point to: n_values 8"),
        ({"source": "mnist", "n_values": 11, "rows": 4}, "mnist has 10 digits"),
        ({"n_values": 2, "hops": 2}, "2 hops need n_values of at least 3"),
        ({"window": 2}, "at most 1 with 'first'"),
        ({"window": 9, "aggregate": "sum"}, "at most the 8 cells"),
        ({"source": "mnis"}, "did you mean 'mnist'"),
        ({"aggregate": "sun"}, "did you mean 'sum'"),
    ],
)
def test_an_impossible_setting_is_one_clear_line(values, message):
    with pytest.raises(BadInput, match=message):
        PointersConfig(**values)


@pytest.mark.parametrize(
    ("name", "most_of_a_patch"),
    [
        ("pointers", 0.27),
        pytest.param("pointers 2 hops", 0.22, marks=pytest.mark.slow),
        pytest.param("pointers mnist", 0.27, marks=pytest.mark.slow),
    ],
)
def test_no_linear_reader_of_pixels_knows_where_to_look(name, most_of_a_patch):
    """All pixels give no more than the bag of values; one block gives its own share.

    That is 1/8 + 7/8 * 1/8 with one hop.
    """
    made, config = MADE[name], CONFIGS[name]
    ceiling = made.baselines(made.eval_batch("test", 2000, 0))["accuracy.bag_of_values"]
    assert fit_baselines(config)["accuracy.pixel_probe"] < ceiling + 0.03
    assert score_patch_probes(config, made.world.patch_size).max() < most_of_a_patch


def test_a_linear_reader_of_pixels_reads_the_pointer():
    """The probe that must fail above."""
    made = MADE["pointers"]
    train, test = made.eval_batch("train", 2000, 0), made.eval_batch("test", 2000, 0)
    assert (
        score_linear_probe(
            *[
                (patches(made, batch)[0], batch.factors["pointer"].numpy())
                for batch in (train, test)
            ]
        )
        > 0.99
    )
    assert torch.equal(test.factors["pointer"], test.content[:, 0])
