"""Worlds of objects: answers read again from the pictures, in plain loops.

And what a linear probe can and cannot see.
"""

from __future__ import annotations

import hashlib
import math
from itertools import combinations

import numpy as np
import pytest
import torch

from toyvit.config import CountingConfig, ObjectsConfig, SortOfClevrConfig
from toyvit.data.placement import find_overlaps, place_apart
from toyvit.data.random import make_sample_keys
from toyvit.data.task import build_task
from toyvit.data.worlds.objects.world import LEAST, SIDE, load_stamps
from toyvit.data.worlds.sort_of_clevr import world
from toyvit.errors import BadInput

SOURCES = ["glyphs", "dsprites", "mnist"]
every_source = pytest.mark.parametrize("source", SOURCES)


def canvas(source, **options):
    return build_task(
        ObjectsConfig(source=source, size=32 if source == "glyphs" else 48, **options)
    )


# Sort-of-CLEVR


def seen(image, cell=8):
    """What is in a picture without noise: of each colour there its shape, middle, number of pixels.

    And the colour and question asked.
    """
    height = world.HEIGHTS[cell]
    found = {}
    for colour, rgb in enumerate(world.RGB.tolist()):
        lit = [
            (row, column)
            for row in range(height)
            for column in range(world.WIDTH)
            if image[:, row, column].tolist() == rgb
        ]
        if not lit:
            continue
        rows, columns = [row for row, _ in lit], [column for _, column in lit]
        corner = (min(rows), min(columns))
        middle = (min(rows) + max(rows)) / 2, (min(columns) + max(columns)) / 2
        found[colour] = ("square" if corner in lit else "circle", middle, len(lit))
    asked = world.RGB.tolist().index(image[:, height + cell // 4, -cell // 2].tolist())
    places = [-cell + cell // 8 + cell // 4 * bar for bar in range(4)]
    bars = [image[:, height + 3 * cell // 4, place].tolist() for place in places]
    white = [bar == [1, 1, 1] for bar in bars]
    assert white[1:].count(True) == 1 and all(bar in ([0, 0, 0], [1, 1, 1]) for bar in bars)
    assert image[:, height:, :-cell].max() == 0
    return found, asked, 3 * white[0] + white[1:].index(True)


def answer(found, asked, question, height=56):
    shape, (row, column), _ = found[asked]
    others = [each for colour, each in found.items() if colour != asked]
    far = [math.hypot(row - other[1][0], column - other[1][1]) for other in others]
    assert far.count(min(far)) == far.count(max(far)) == 1
    return (
        shape,
        "yes" if column < (world.WIDTH - 1) / 2 else "no",
        "yes" if row < (height - 1) / 2 else "no",
        others[far.index(min(far))][0],
        others[far.index(max(far))][0],
        str(1 + [other[0] for other in others].count(shape)),
    )[question]


@pytest.mark.parametrize(
    ("ask", "n_objects", "cell"),
    [
        ("both", 6, 8),
        pytest.param("relational", 6, 8, marks=pytest.mark.slow),
        pytest.param("non-relational", 6, 8, marks=pytest.mark.slow),
        ("both", 2, 16),
        ("relational", 4, 16),
    ],
)
def test_sort_of_clevr_is_answered_from_the_picture(ask, n_objects, cell):
    made = build_task(SortOfClevrConfig(ask=ask, n_objects=n_objects, cell=cell))
    height = world.HEIGHTS[cell]
    batch = made.draw_batch(4, "train", range(40))
    questions = zip(batch.images, batch.target, batch.factors["question"], strict=True)
    for place, (image, target, question) in enumerate(questions):
        found, asked, read = seen(image.numpy(), cell)
        assert read == question and answer(found, asked, read, height) == world.ANSWERS[target]
        shapes = [shape for shape, _, _ in found.values()]
        sizes = [n for _, _, n in found.values()]
        assert sizes == [{"square": 81, "circle": 61}[shape] for shape in shapes]  # none is covered
        assert len(found) == n_objects and batch.factors["squares"][place] == shapes.count("square")
        for name, axis, half in (
            ("on_top", 0, (height - 1) / 2),
            ("on_left", 1, (world.WIDTH - 1) / 2),
        ):
            assert batch.factors[name][place] == [
                middle[axis] < half for _, middle, _ in found.values()
            ].count(True)
    kinds = set(batch.factors["relational"].tolist())
    assert kinds == {"both": {0, 1}, "relational": {1}, "non-relational": {0}}[ask]


@pytest.mark.parametrize(
    ("ask", "share"), [("both", 0.25), ("both", 0.9), ("relational", 0.2), ("non-relational", 0.5)]
)
def test_questions_that_are_held_out_are_asked_nowhere_else(ask, share):
    """Every combination (colour, question) is asked on one side.

    Each colour and each question loses as many, to within one.
    """
    world = build_task(SortOfClevrConfig(ask=ask, held_out=share)).world
    asked = {}
    for split in world.sizes:
        factors = world.sample(2, split, np.arange(2000))
        asked[split] = set(
            zip(factors["colour"].tolist(), factors["question"].tolist(), strict=True)
        )
    hidden, n_questions = asked.pop("held_out"), 6 if ask == "both" else 3
    assert len(asked) == 3 and all(
        len(pairs) == 6 * n_questions - len(hidden) and not pairs & hidden
        for pairs in asked.values()
    )
    assert len(hidden) == round(share * 6 * n_questions)
    for part, values in (
        (0, range(6)),
        (1, {question for pairs in [*asked.values(), hidden] for _, question in pairs}),
    ):
        counts = [sum(pair[part] == value for pair in hidden) for value in values]
        assert max(counts) - min(counts) <= 1 and len(counts) == (6 if part == 0 else n_questions)


def test_objects_lie_apart_and_no_distance_is_tied():
    factors = build_task(SortOfClevrConfig()).world.sample(0, "train", np.arange(400))
    for places in factors["place"].tolist():
        corners = [divmod(place, world.COLUMNS) for place in places]
        assert all(
            abs(a - c) >= world.SIDE or abs(b - d) >= world.SIDE
            for (a, b), (c, d) in combinations(corners, 2)
        )
        for one in corners:
            far = sorted(
                (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
                for other in corners
                if other != one
            )
            assert far[0] < far[1] and far[-2] < far[-1]


def test_each_placing_without_overlap_is_as_likely():
    """Two boxes of 2 pixels on 3 x 4 corners: against the list of all placings that are allowed."""
    drawn = place_apart(make_sample_keys(0, "places", np.arange(40_000)), 2, (3, 4), 2)
    every = [[one, other] for one in range(12) for other in range(12)]
    allowed = [tuple(pair) for pair in every if not find_overlaps(np.array(pair), 4, 2)]
    assert len(allowed) == 144 - 70  # rows at most 1 apart: 7 of 9; columns: 10 of 16
    shares = dict.fromkeys(allowed, 0)
    for pair in drawn.tolist():
        shares[tuple(pair)] += 1
    expected = len(drawn) / len(allowed)
    assert (
        sum((n - expected) ** 2 / expected for n in shares.values()) < 120
    )  # chi squared, 73 degrees: 107 is 99.5 %


@pytest.mark.slow
def test_what_the_question_alone_tells():
    made = build_task(SortOfClevrConfig())
    factors = made.world.sample(1, "train", np.arange(12_000))
    _, target = made.ask(factors, torch.empty(0))  # pictures are not looked at
    questions = made.probe_factors(factors)["question"]
    table = world.tabulate_question(6)
    assert np.allclose(table.sum(1), 1)
    for question, known in enumerate(table):
        answers = target[questions == question]
        assert np.allclose(np.bincount(answers, minlength=10) / len(answers), known, atol=0.035)


# objects


@every_source
def test_masks_and_labels_are_what_the_picture_shows(source):
    made = canvas(source, noise=0)
    world = made.world
    factors = world.sample(2, "test", np.arange(30))
    images, masks, labels = (
        world.render(factors)[:, 0].numpy(),
        world.mask(factors),
        world.labels(factors),
    )
    bank, size = load_stamps(source), world.config.size
    assert np.array_equal(labels, made.batch_from_factors(factors).target)
    for k in range(30):
        shown = np.zeros((size, size))
        mask = np.zeros((size, size), int)
        for each in range(factors["count"][k]):
            kind, corner = (
                factors["kind"][k, each],
                divmod(factors["place"][k, each], world.corners),
            )
            first, n = bank.first[2, kind], bank.number[2, kind]
            stamp = (
                bank.pictures[first + factors["picture"][k, each] * n // 2**16].reshape(
                    world.side, world.side
                )
                / 1020
            )
            for row in range(world.side):
                for column in range(world.side):
                    place = corner[0] + row, corner[1] + column
                    assert shown[place] == 0
                    shown[place] = stamp[row, column]
                    mask[place] = each + 1 if abs(stamp[row, column]) >= 0.5 else 0
        assert np.allclose(images[k], shown, atol=1e-6) and np.array_equal(masks[k], mask)
        for patch, label in enumerate(labels[k]):
            row, column = divmod(patch, size // 8)
            here = mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].ravel().tolist()
            covered = [here.count(each + 1) for each in range(world.config.most)]
            most = covered.index(max(covered))
            assert label == (factors["kind"][k, most] + 1 if max(covered) >= LEAST else 0)
    assert len(set(labels.ravel().tolist())) == made.n_classes


@every_source
def test_classes_that_a_quarter_holds_out_are_shown_there_by_held_out_only(source):
    """A quarter is where the corner of an object's box lies."""
    world = canvas(source, held_out=0.34).world
    seen = {}
    for split in world.sizes:
        factors = world.sample(2, split, np.arange(1500))
        row, column = np.divmod(factors["place"], world.corners)
        below, right = row >= world.corners / 2, column >= world.corners / 2
        seen[split] = set(zip(factors["kind"].ravel(), below.ravel(), right.ravel(), strict=True))
    hidden = seen.pop("held_out")
    n = round(0.34 * world.n_kinds)
    assert len(hidden) == 4 * n and all(
        len(pairs) == 4 * (world.n_kinds - n) and not pairs & hidden for pairs in seen.values()
    )
    per_class = [sum(kind == one for kind, _, _ in hidden) for one in range(world.n_kinds)]
    per_quarter = [
        sum(pair[1:] == quarter for pair in hidden) for quarter in {pair[1:] for pair in hidden}
    ]
    assert max(per_class) - min(per_class) <= 1 and per_quarter == [n] * 4


@pytest.mark.parametrize("kind", [ObjectsConfig, SortOfClevrConfig])
def test_where_nothing_is_held_out_there_is_no_such_split(kind):
    """A share that comes to nothing is refused.

    That the samples are as before is in the checksums of the cards.
    """
    assert (
        "held_out" not in build_task(kind()).world.sizes
        and "held_out" in build_task(kind(held_out=0.4)).world.sizes
    )
    with pytest.raises(BadInput, match=r"held_out 0.001 comes to nothing"):
        build_task(kind(held_out=0.001))
    with pytest.raises(BadInput, match="unknown split"):
        build_task(kind()).world.sample(0, "held_out", np.arange(2))


@every_source
def test_an_object_more_leaves_the_others_where_they_are(source):
    world = canvas(source).world
    factors = world.sample(0, "train", np.arange(50))
    fewer, more = (
        world.mask(world.change_factor(factors, "count", np.full(50, n))) for n in (2, 3)
    )
    assert np.array_equal(np.where(more == 3, 0, more), fewer) and set(np.unique(more)) == {
        0,
        1,
        2,
        3,
    }
    assert set(factors["count"].tolist()) == {1, 2, 3}


@every_source
def test_every_picture_of_every_class_is_drawn_from_its_own_split(source):
    bank = load_stamps(source)
    assert (
        bank.number.sum() == len(bank.pictures)
        if source == "mnist"
        else (bank.number.sum(1) == len(bank.pictures)).all()
    )
    steps = np.arange(2**16)
    for first, number in zip(bank.first.ravel(), bank.number.ravel(), strict=True):
        picked = first + steps * number // 2**16
        assert (
            picked[0] == first
            and picked[-1] == first + number - 1
            and len(np.unique(picked)) == number
        )
    if source == "mnist":
        flat = [pictures.tobytes() for pictures in bank.pictures]
        ends = bank.number.sum(1).cumsum()
        train, test = set(flat[: ends[0]]), flat[ends[1] :]
        assert sum(picture in train for picture in test) < 5 and len(test) == 10_000


def test_shapes_fit_their_box():
    """Cut out of the halved picture nothing is lost, and classes differ."""
    bank = load_stamps("dsprites")
    assert bank.pictures.shape == (351, SIDE * SIDE) and set(np.unique(bank.pictures)) == {
        0,
        255,
        510,
        765,
        1020,
    }
    lit = bank.pictures.reshape(3, -1, SIDE * SIDE).sum(2) / 1020
    assert lit.min() > 30 and lit.max() < 100
    from toyvit.data.worlds.dsprites import drawing

    factors = {"shape": [[0], [1], [2]], "scale": 5, "orientation": np.arange(39), "x": 15, "y": 15}
    whole = drawing.draw_images(drawing.encode_factors(factors)).sum((-1, -2)) / 4
    assert np.allclose(lit.reshape(3, 3, 39)[:, 2], whole)


@pytest.mark.parametrize(
    "options",
    [
        {"size": 44},
        {"size": 32},
        {"source": "glyphs", "size": 28},
        {"source": "omniglot"},
        {"ask": "masks"},
    ],
)
def test_a_canvas_that_cannot_be_made_is_refused(options):
    with pytest.raises(BadInput):
        ObjectsConfig(**options)


# counting


def test_the_default_counting_world_is_what_it_always_was():
    """Taken before squares and the other questions were added."""
    batch = build_task(CountingConfig()).draw_batch(3, "held_out", range(64))
    found = hashlib.sha256(batch.images.numpy().tobytes() + batch.target.numpy().tobytes())
    assert found.hexdigest() == "b62564d516afa64419a70bfb61ff43c16e72ef32982946365386560a460ace9d"
    assert list(batch.factors) == ["left", "right", "sum"]


def counted(image):
    """Discs and squares on each side of a picture without noise.

    A disc has a full middle, a square an empty one.
    """
    discs, squares = [0, 0], [0, 0]
    for row in range(4):
        for column in range(8):
            cell = image[6 * row : 6 * row + 6, 6 * column : 6 * column + 6]
            if cell[2, 2] > 0:
                discs[column // 4] += 1
            elif cell.max() > 0:
                squares[column // 4] += 1
    return discs, squares


@pytest.mark.parametrize("ask", ["add", "count", "compare"])
@pytest.mark.parametrize("distractors", [0, 6])
def test_counting_is_answered_from_the_picture(ask, distractors):
    made = build_task(CountingConfig(ask=ask, distractors=distractors, noise=0))
    for split in ("train", "held_out"):
        factors = made.world.sample(1, split, np.arange(150))
        batch, drawn = made.batch_from_factors(factors), set()
        for k, target in enumerate(batch.target.tolist()):
            (left, right), squares = counted(batch.images[k, 0].numpy())
            more = 2 if left > right else 1 if left == right else 0
            assert target == {"add": left + right, "count": left, "compare": more}[ask]
            assert squares == factors["squares"][k].tolist()
            drawn.update(squares)
        assert drawn == set(range(distractors + 1))
    assert torch.equal(
        build_task(CountingConfig(noise=0)).draw_batch(1, "train", [0]).images,
        made.draw_batch(1, "train", [0]).images,
    ) == (distractors == 0)


def test_a_disc_more_leaves_the_squares_where_they_are():
    world = build_task(CountingConfig(distractors=9, noise=0)).world
    factors = world.sample(0, "train", np.arange(100))
    more = world.change_factor(factors, "left", np.full(100, 7))
    assert np.array_equal(world.distracting(factors), world.distracting(more))
    assert not (world.shown(more) & world.distracting(more)).any()


def test_more_than_a_side_holds_is_refused():
    with pytest.raises(BadInput, match="at most 16 in all"):
        CountingConfig(most=10, distractors=7)


def test_classes_that_are_all_held_out_are_refused():
    with pytest.raises(BadInput, match=r"held_out 0\.9 of 3 classes leaves none for training"):
        canvas("dsprites", held_out=0.9)
