"""Few shots: which classes and drawings a split shows, and the answer read off the picture.

And what a linear probe cannot find.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import RidgeClassifier

from tests.laws.worlds import CONFIGS, MADE, mark_splits
from toyvit.config import FewshotConfig, InductionConfig
from toyvit.data.task import build_task
from toyvit.data.worlds.fewshot.world import DRAWINGS, draw_distinct
from toyvit.data.worlds.omniglot import drawings
from toyvit.errors import BadInput

NAMES = [name for name in CONFIGS if name.startswith("fewshot")]
every_task = pytest.mark.parametrize("name", NAMES)
every_split = pytest.mark.parametrize(
    ("name", "split"),
    mark_splits([(name, split) for name in NAMES for split in MADE[name].world.sizes]),
)


@pytest.mark.slow
@every_split
def test_the_answer_read_off_the_picture(name, split):
    """Each cell is compared with every picture of the table.

    The last of the query's class has the answer beside it.
    """
    made, world, config = MADE[name], MADE[name].world, MADE[name].config
    n = 2 if world.n_drawings > 1 else 6
    factors = world.sample(4, split, np.arange(n))
    images, target = made.ask(factors, world.render(factors))
    side, n_drawings = world.patch_size, world.n_drawings
    table = world.pictures.reshape(len(world.pictures), -1)
    n_exemplars = len(table) - config.n_labels
    for image in range(n):
        read = []
        for row in range(world.grid[0]):
            for column in range(world.grid[1]):
                cell = images[
                    image, 0, row * side : (row + 1) * side, column * side : (column + 1) * side
                ].numpy()
                read.append(int(((table - cell.reshape(-1)) ** 2).sum(1).argmin()))
        read = read[world.grid[0] * world.grid[1] - 2 * config.n_pairs - 1 :]
        asked = read[-1] // n_drawings
        answer = asked % config.n_labels
        for place in range(0, len(read) - 1, 2):
            assert read[place] < n_exemplars <= read[place + 1]
            if read[place] // n_drawings == asked:
                answer = read[place + 1] - n_exemplars
        assert answer == target[image]


@pytest.mark.parametrize(
    "config", [FewshotConfig(n_pairs=5, noise=0), InductionConfig(rows=4, columns=4, noise=0)]
)
def test_first_cells_that_show_nothing_are_grey_and_all_others_are_ink_and_paper(config):
    world = build_task(config).world
    factors = world.sample(0, "train", np.arange(20))
    images, content = world.render(factors)[:, 0], world.content(factors).unflatten(1, world.grid)
    side, blank = world.patch_size, content < 0
    assert blank.any() and (blank.flatten(1).diff(dim=1).sum(1) == 1).all()
    cells = images.unfold(1, side, side).unfold(2, side, side)
    assert (cells[blank] == 0).all() and (cells[~blank].abs() == 1).all()


@every_task
def test_classes_that_training_never_shows_are_shown_by_in_context_alone(name):
    world, config = MADE[name].world, CONFIGS[name]
    seen = {split: world.sample(2, split, np.arange(3000)) for split in world.sizes}
    for split, factors in seen.items():
        classes = np.concatenate([factors["class"], factors["query"][:, None]], 1)
        if split == "in_context":
            assert classes.min() == config.n_classes and classes.max() == world.n_all_classes - 1
        else:
            assert classes.max() == config.n_classes - 1
    if config.labels != "fixed":
        assert "in_weights" not in world.sizes
    else:
        factors = seen["in_weights"]
        assert not (factors["class"] == factors["query"][:, None]).any()
        assert all(
            (seen[split]["label"] == seen[split]["class"] % config.n_labels).all()
            for split in seen
            if split != "in_context"
        )


@every_task
def test_how_often_a_class_is_shown(name):
    """Laid-out pictures have `copies` of every class but the last.

    A class has one label a picture; slots are in any order.
    """
    made, config = MADE[name], CONFIGS[name]
    sizes = [config.copies] * (config.n_pairs // config.copies)
    sizes += [config.n_pairs % config.copies] * (config.n_pairs % config.copies > 0)
    for split in made.world.sizes:
        factors = made.world.sample(5, split, np.arange(400))
        laid_out, asked = 0, Counter()
        for classes, labels, query in zip(
            factors["class"].tolist(), factors["label"].tolist(), factors["query"], strict=True
        ):
            counts = Counter(classes)
            assert len(set(zip(classes, labels, strict=True))) == len(counts)
            here = sorted(counts.values(), reverse=True) == sizes
            laid_out += here and counts[query] == (0 if split == "in_weights" else config.copies)
            asked.update(slot for slot, one in enumerate(classes) if one == query)
        if split in ("in_context", "in_weights") or (config.p_bursty == 1 and config.burstiness):
            assert laid_out == 400
            share = 0 if split == "in_weights" else 400 * config.copies / config.n_pairs
            assert all(abs(asked[slot] - share) <= 5 * share**0.5 for slot in range(config.n_pairs))
        elif config.burstiness:
            assert 400 * config.p_bursty - 60 < laid_out < 400 * config.p_bursty + 100


@pytest.mark.parametrize(
    ("name", "split"),
    [(name, "in_context") for name in NAMES]
    + [("fewshot random", "train"), ("fewshot distinct", "train")],
)
def test_fresh_labels_say_nothing_of_their_class(name, split):
    """Uniform, and independent between two classes.

    A label is as often the one that the class would have if fixed as any other.
    """
    config, n = CONFIGS[name], 8000
    factors = MADE[name].world.sample(6, split, np.arange(n))
    bound = 5 * (0.25 / n) ** 0.5
    for label in factors["label"].T:
        assert (
            np.abs(np.bincount(label, minlength=config.n_labels) / n - 1 / config.n_labels).max()
            < bound
        )
    one, other = factors["class"][:, 0], factors["class"][:, 1]
    label, beside = factors["label"][:, 0], factors["label"][:, 1]
    assert abs((label == one % config.n_labels).mean() - 1 / config.n_labels) < bound
    apart = one != other
    alike = 0 if config.labels == "distinct" else 1 / config.n_labels
    assert abs((label == beside)[apart].mean() - alike) < 5 * (0.25 / apart.sum()) ** 0.5


def cut_cells(world, images):
    """The numbers of each cell (image cell number)."""
    side = world.patch_size
    return images[:, 0].unfold(1, side, side).unfold(2, side, side).flatten(1, 2).flatten(2)


def test_vectors_are_a_class_and_an_exemplar_s_own_part_and_labels_are_exact():
    """Against (mu + eps eta) / sqrt(1 + eps^2) of Reddy 2024: lengths and products in the mean."""
    config = FewshotConfig(source="vectors", n_pairs=4, n_classes=300, noise=0.5, p_bursty=0)
    world = build_task(config).world
    factors = world.sample(0, "train", np.arange(500))
    cells, content = cut_cells(world, world.render(factors)), world.content(factors)
    bank = torch.from_numpy(world.pictures).flatten(1)
    shows_label = content >= world.n_all_classes
    shows_class = (content >= 0) & ~shows_label
    assert torch.equal(cells[shows_label], bank[content[shows_label]])
    assert (cells[content < 0] == 0).all()

    shown, centre = cells[shows_class], bank[content[shows_class]]
    own = (1.25**0.5 * shown - centre) / 0.5
    for vectors in (own, shown, bank):
        assert vectors.square().sum(1).mean().item() == pytest.approx(1, abs=0.03)
    n = len(own)
    assert (own * centre).sum(1).mean().abs() < 5 / (64 * n) ** 0.5  # independent of the class
    assert (own[1:] * own[:-1]).sum(1).mean().abs() < 5 / (64 * n) ** 0.5  # and of each other
    products = bank @ bank.T - torch.eye(len(bank)) * bank.square().sum(1)
    assert products.std().item() == pytest.approx(1 / 8, rel=0.05)

    plain = build_task(replace(config, noise=0.0)).world
    assert torch.equal(cut_cells(plain, plain.render(factors))[shows_class], centre)


def test_two_distinct_labels_leave_one_bit_and_every_pair_of_them_is_as_likely():
    made = MADE["fewshot distinct"]
    for split in made.world.sizes:
        batch = made.eval_batch(split, 3000, 0)
        labels = batch.content[:, made.world.label_cells()] - made.world.n_all_classes
        pairs = Counter(map(tuple, labels.tolist()))
        assert set(pairs) == {*permutations(range(3), 2)}
        assert all(abs(count - 500) < 5 * 500**0.5 for count in pairs.values())
        scores = made.baselines(batch)
        assert scores["loss.bag_of_labels"] == pytest.approx(math.log(2), abs=1e-9)
        assert scores["accuracy.bag_of_labels"] == 0.5


def test_pictures_that_are_not_bursty_draw_each_cell_by_itself():
    """The query's class is among 5 exemplars as often as independent draws have it there.

    Of 12 classes, with weights 1 / (c + 1).
    """
    world = build_task(
        FewshotConfig(n_pairs=5, n_classes=12, burstiness=3, p_bursty=0, zipf=1)
    ).world
    n = 20000
    factors = world.sample(0, "train", np.arange(n))
    p = 1 / np.arange(1, 13)
    p /= p.sum()
    for drawn in (*factors["class"].T, factors["query"]):
        assert np.abs(np.bincount(drawn, minlength=12) / n - p).max() < 5 * (0.25 / n) ** 0.5
    there = (factors["class"] == factors["query"][:, None]).any(1).mean()
    assert abs(there - (p * (1 - (1 - p) ** 5)).sum()) < 5 * (0.25 / n) ** 0.5


def test_distinct_classes_are_drawn_in_proportion_to_their_weights():
    """All tickets of three classes, once each.

    Every order comes up exactly as often as drawing without replacement has it.
    """
    weights = np.array([4, 2, 1])
    first, second = np.meshgrid((np.arange(7) + 0.5) / 7, (np.arange(30) + 0.5) / 30, indexing="ij")
    draws = np.stack([first.ravel(), second.ravel(), np.full(210, 0.5)], 1)
    found = Counter(map(tuple, draw_distinct(draws, weights).tolist()))
    expected = {}
    for a in range(3):
        for b in {0, 1, 2} - {a}:
            (c,) = {0, 1, 2} - {a, b}
            expected[a, b, c] = weights[a] * 30 * weights[b] / (7 - weights[a])
    assert found == expected
    every = draw_distinct(
        np.random.default_rng(0).uniform(size=(200, 40)),
        np.rint(2.0**30 / np.arange(1, 41) ** 3).astype(np.int64),
    )
    assert (np.sort(every, 1) == np.arange(40)).all()


def test_the_query_s_class_follows_zipf():
    world = build_task(FewshotConfig(n_pairs=6, n_classes=20, burstiness=2, zipf=1.5)).world
    n = 20000
    p = 1 / np.arange(1, 21) ** 1.5
    for split in ("train", "in_weights"):
        asked = np.bincount(world.sample(0, split, np.arange(n))["query"], minlength=20) / n
        assert np.abs(asked - p / p.sum()).max() < 5 * (0.25 / n) ** 0.5


@every_task
def test_drawings_of_a_split_are_its_own_and_no_exemplar_shows_the_query_s(name):
    world, source = MADE[name].world, CONFIGS[name].source
    seen = {split: world.sample(1, split, np.arange(2000))["drawing"] for split in world.sizes}
    if source in ("glyphs", "vectors"):
        assert all((drawing == 0).all() for drawing in seen.values())
        return
    ends = np.cumsum(DRAWINGS[source])
    assert world.n_drawings == ends[-1]
    for split, drawing in seen.items():
        place = min(list(world.sizes).index(split), 2)
        assert (
            drawing.min() >= ends[place] - DRAWINGS[source][place] and drawing.max() < ends[place]
        )
        assert (drawing[:, :-1] != drawing[:, -1:]).all()


@every_split
def test_retrieval_names_the_last_copy_of_the_query_s_class(name, split):
    batch, config = MADE[name].eval_batch(split, 40, 3), CONFIGS[name]
    n_all_classes = MADE[name].world.n_all_classes
    lost = False
    for image, cells in enumerate(batch.content.tolist()):
        labels = list(range(len(cells) - 2 * config.n_pairs, len(cells) - 1, 2))
        matching = [cell for cell in labels if cells[cell - 1] == cells[-1]]
        lost |= not matching
        if batch.retrieval is not None:
            assert (
                batch.retrieval.candidates[image].tolist() == labels
                and batch.retrieval.query[image] == len(cells) - 1
            )
            assert batch.retrieval.target[image] == matching[-1]
            assert cells[matching[-1]] - n_all_classes == batch.target[image]
    assert lost == (batch.retrieval is None)


def test_another_label_beside_the_query_s_class_is_another_answer():
    made = MADE["fewshot"]
    factors = made.world.sample(0, "test", np.arange(50))
    same = factors["class"] == factors["query"][:, None]
    before = made.batch_from_factors(factors)
    moved = made.batch_from_factors(
        made.world.change_factor(
            factors, "label", np.where(same, (factors["label"] + 1) % 32, factors["label"])
        )
    )
    others = made.batch_from_factors(
        made.world.change_factor(
            factors, "label", np.where(same, factors["label"], (factors["label"] + 1) % 32)
        )
    )
    assert ((before.target + 1) % 32 == moved.target).all() and (
        before.target == others.target
    ).all()


def probe(made, split, cells=slice(None), n=1000):
    """Accuracy on n pictures of a split, of a ridge classifier on pixels of some cells.

    It is fitted on 2,000 training pictures.
    """

    def pixels(batch):
        side = made.world.patch_size
        patches = (
            batch.images[:, 0]
            .unflatten(1, (-1, side))
            .unflatten(3, (-1, side))
            .transpose(2, 3)
            .flatten(1, 2)
        )
        return patches[:, cells].flatten(1).numpy()

    train, test = made.eval_batch("train", 2000, 0), made.eval_batch(split, n, 0)
    return (
        RidgeClassifier()
        .fit(pixels(train), train.target.numpy())
        .score(pixels(test), test.target.numpy())
    )


@pytest.mark.slow
def test_no_linear_probe_finds_a_label_that_is_fresh_for_each_picture():
    """All pixels may tell which labels are there (0.36 of answers), one cell less.

    The query's cell tells nothing (0.125).
    """
    made = build_task(FewshotConfig(n_pairs=4, n_labels=8, burstiness=1, labels="random"))
    ceiling = made.baselines(made.eval_batch("test", 5000, 0))["accuracy.bag_of_labels"]
    assert ceiling < 0.45
    assert probe(made, "test") < ceiling + 0.05
    assert max(probe(made, "test", slice(cell, cell + 1)) for cell in range(9)) < ceiling + 0.05
    assert probe(made, "test", slice(8, 9)) < 0.125 + 0.05


def test_weights_answer_in_weights_and_not_in_context():
    """16 classes with fixed labels: what a probe learns of the query's cell.

    It answers the one and is chance on the other.
    """
    made = build_task(FewshotConfig(n_pairs=4, n_classes=16, n_labels=8))
    assert probe(made, "in_weights", slice(8, 9)) > 0.95
    assert probe(made, "in_context", slice(8, 9)) < 0.125 + 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"burstiness": 13}, "does not go into n_pairs 12"),
        ({"n_classes": 6}, "12 pairs, 2 of a class, and a query take 7 classes"),
        ({"labels": "random", "n_classes": 5}, "take 6 classes"),
        ({"labels": "random", "p_bursty": 0.5}, "p_bursty 1"),
        ({"labels": "random", "burstiness": 0}, "burstiness at least 1"),
        ({"labels": "distinct", "p_bursty": 0.5}, "labels distinct can be .* p_bursty 1"),
        ({"labels": "distinct", "n_labels": 5}, "n_labels is at least 6, got 5"),
        ({"source": "mnist"}, "mnist can train 9: n_classes 64 is not from 7 to 9"),
        ({"source": "mnist", "n_classes": 7}, "leaves 3 classes"),
        ({"source": "omniglot", "n_classes": 965}, "omniglot can train 964"),
        ({"source": "letters"}, "allowed are glyphs, mnist, omniglot, vectors"),
        ({"labels": "fixd"}, "did you mean 'fixed'"),
    ],
)
def test_impossible_settings_are_one_clear_line(options, words):
    with pytest.raises(BadInput, match=words) as caught:
        FewshotConfig(**options)
    assert "\n" not in str(caught.value)


def test_a_whole_number_is_an_exponent_too():
    assert FewshotConfig(zipf=2) == FewshotConfig(zipf=2.0)
    assert np.array_equal(
        build_task(FewshotConfig(zipf=2)).world.weights,
        build_task(FewshotConfig(zipf=2.0)).world.weights,
    )


def test_omniglot_absent_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOYVIT_DATA", raising=False)
    drawings.load_drawings.cache_clear()
    with pytest.raises(BadInput, match="images_background and images_evaluation") as caught:
        build_task(FewshotConfig(source="omniglot"))
    assert "\n" not in str(caught.value)


def test_damaged_omniglot_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOYVIT_DATA")
    drawings.load_drawings.cache_clear()
    folder = tmp_path / "datasets/omniglot"
    folder.mkdir(parents=True)
    (folder / "images_background.npz").write_bytes(b"no archive")
    with pytest.raises(BadInput, match="is damaged"):
        drawings.load_drawings()
    (folder / "images_background/Latin/character01").mkdir(parents=True)
    with pytest.raises(BadInput, match="is not whole: 0 drawings"):
        drawings.load_drawings()


@pytest.mark.parametrize("kind", ["text", "cut", "small", "colours"])
def test_a_file_that_is_no_drawing_is_named(tmp_path, kind):
    folder = tmp_path / "Latin/character01"
    folder.mkdir(parents=True)
    size = (15, 105) if kind == "small" else (105, 105)
    file = folder / "0001_01.png"
    Image.new("RGB" if kind == "colours" else "1", size, 1).save(file)
    if kind in ("text", "cut"):
        file.write_bytes(b"no picture" if kind == "text" else file.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"0001_01\.png is no drawing of Omniglot: ") as caught:
        drawings.read_drawings(tmp_path)
    assert "\n" not in str(caught.value)


def test_drawings_are_read_in_the_order_of_their_numbers(tmp_path):
    """True is paper; a file's name has its character's number, then the drawing's."""
    for character, drawing in np.ndindex(2, 20):
        paper = np.arange(105 * 105).reshape(105, 105) % 105 >= 7 * (drawing % 15)
        folder = tmp_path / f"Latin/character0{character}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paper).save(folder / f"000{character}_{drawing:02d}.png")
    columns = (drawings.read_drawings(tmp_path)[:, :, 0] == 1).sum(2)
    assert columns.tolist() == [[drawing % 15 for drawing in range(20)]] * 2


@pytest.mark.slow
@pytest.mark.data
def test_unpacked_pictures_are_the_archive_s(tmp_path):
    """An official archive of five alphabets, made small, against the rows of its numbers.

    It has 2,720 pictures.
    """
    with zipfile.ZipFile(
        Path(os.environ["TOYVIT_DATA"]) / "omniglot-py/images_background_small1.zip"
    ) as archive:
        archive.extractall(tmp_path)
    numbers = sorted({int(path.name[:4]) for path in tmp_path.glob("*/*/*/*.png")})
    found = drawings.read_drawings(tmp_path / "images_background_small1")
    assert found.shape == (136, 20, 15, 15)
    drawings.load_drawings.cache_clear()
    assert np.array_equal(
        found, drawings.load_drawings()["images_background"][np.array(numbers) - 1]
    )
    assert found.min() == -1 and found.max() == 1


def test_a_small_copy_says_how_much_of_a_block_is_ink():
    ink = np.zeros((105, 105), bool)
    ink[7:14, 0:7] = True  # a whole block
    ink[14:21, 7:9] = True  # 14 of 49
    ink[104, 104] = True
    expected = np.full((15, 15), -1.0)
    expected[1, 0], expected[2, 1], expected[14, 14] = 1, 4 * 14 / 49 - 1, 4 / 49 - 1
    assert np.allclose(drawings.shrink_drawings(ink), expected)
