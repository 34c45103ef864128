"""What an npz of own pictures may hold besides: names of classes, masks, counterfactuals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from toyvit.circuits.pairs import counterfactual_pairs
from toyvit.config import ClassifyConfig
from toyvit.data.own_pictures import cover_patches
from toyvit.data.task import Task, build_task, resolve_config
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES

N = 40
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (N, 8, 8), dtype=np.uint8)
LABELS = np.arange(N) % 4
OTHERS = 255 - IMAGES
MASKS = RNG.integers(0, 3, (N, 8, 8))
PAIRS = {"counterfactuals": OTHERS, "counterfactual_labels": (LABELS + 1) % 4}


def load(folder: Path, **changed: object) -> Task:
    arrays = {"images": IMAGES, "labels": LABELS, **changed}
    np.savez(folder / "own.npz", **arrays)
    return build_task(ClassifyConfig(npz=str(folder / "own.npz")))


def rows_of(task: Task, split: str) -> np.ndarray:
    size = task.world.sizes[split]
    assert size is not None
    return task.world.sample(0, split, np.arange(size))["row"]


def test_class_names_are_the_tasks(tmp_path):
    names = ["ant", "b\nee", "</script>", "cow"]
    assert load(tmp_path, class_names=np.array(names)).class_names == (
        "ant",
        "b\\nee",
        "</script>",
        "cow",
    )
    assert load(tmp_path).class_names is None


def test_a_class_with_a_name_needs_no_picture(tmp_path):
    task = load(tmp_path, class_names=np.array(list("abcdef")))
    assert task.n_classes == 6
    (notice,) = task.list_notices()
    assert notice.endswith("no training picture is of the class 'e', 'f'")


def test_a_factor_has_no_names_of_classes(tmp_path):
    load(tmp_path, class_names=np.array(list("abcd")), factor_odd=LABELS % 2, **PAIRS)
    task = build_task(ClassifyConfig(npz=str(tmp_path / "own.npz"), factor="odd"))
    assert task.class_names is None and not task.counterfactuals
    assert any("are of the classes, not of 'odd'" in notice for notice in task.list_notices())


def test_counterfactuals_are_the_files(tmp_path):
    task = load(tmp_path, **PAIRS)
    batch = task.eval_batch("test", 4, 0)
    rows = rows_of(task, "test")
    other = batch.counterfactuals["own"]
    assert other.target.tolist() == PAIRS["counterfactual_labels"][rows].tolist()
    exact = torch.tensor(OTHERS[rows]).float().sub(127.5).div(127.5)
    assert torch.equal(other.images[:, 0], exact)
    assert batch.target.tolist() == LABELS[rows].tolist()
    pairs = counterfactual_pairs(batch, "own")
    assert torch.equal(pairs.corrupt[:, 0], exact)


def test_masks_are_read_for_the_models_patches(tmp_path):
    load(tmp_path, masks=MASKS)
    run = replace(RECIPES["classify"](), task=ClassifyConfig(npz=str(tmp_path / "own.npz")))
    run = resolve_config(run)
    assert run.task.patch_size == run.model.patch_size == 4
    task = build_task(run.task)
    objects = task.eval_batch("train", 32, 0).objects
    assert objects is not None
    rows = task.world.sample(0, "train", np.arange(32))["row"]
    assert objects.tolist() == cover_patches(MASKS[rows].astype(np.uint16), 4).tolist()
    load(tmp_path)
    plain = replace(run, task=ClassifyConfig(npz=str(tmp_path / "own.npz")))
    assert resolve_config(plain).task.patch_size is None


@settings(max_examples=50)
@given(st.integers(0, 2**16 - 1), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_patches_show_what_most_of_their_pixels_show(seed, size, n_rows, n_columns):
    rng = np.random.default_rng(seed)
    masks = rng.choice(rng.integers(0, 2**16, 3), (2, n_rows * size, n_columns * size))
    covering = cover_patches(masks.astype(np.uint16), size)
    for picture, mask in enumerate(masks):
        for patch in range(n_rows * n_columns):
            row, column = divmod(patch, n_columns)
            pixels = mask[row * size : (row + 1) * size, column * size : (column + 1) * size]
            numbers, counts = np.unique(pixels, return_counts=True)
            assert covering[picture, patch] == numbers[counts.argmax()]


def test_mean_and_deviation_are_for_bytes(tmp_path):
    load(tmp_path)
    config = ClassifyConfig(npz=str(tmp_path / "own.npz"), mean=(0.0,), deviation=(1.0,))
    images = build_task(config).eval_batch("test", 4, 0).images
    assert images.min() >= 0 and images.max() <= 1
    load(tmp_path, images=IMAGES / 255)
    with pytest.raises(BadInput, match=r"holds floats, which are shown as they are: task\.mean"):
        build_task(config)


BAD = {
    "names too few": (
        {"class_names": np.array(["a", "b"])},
        "labels in .* go to 3, but .* 2 names",
    ),
    "one name": ({"class_names": np.array(["a"])}, "2 to 10000 texts"),
    "an empty name": ({"class_names": np.array(["a", "", "c", "d"])}, "hold an empty name"),
    "names that are numbers": ({"class_names": np.arange(4)}, "2 to 10000 texts"),
    "names that are bytes": ({"class_names": np.array([b"a"] * 4)}, "2 to 10000 texts"),
    "names that are no text": (
        {"class_names": np.full(4, 0xFFFFFFF0, "<u4").view("<U1")},
        "hold what is no text",
    ),
    "names in a table": ({"class_names": np.array([["a", "b"]])}, "2 to 10000 texts"),
    "masks of another shape": ({"masks": MASKS[:, :4]}, r"masks in .* must be whole numbers"),
    "masks of floats": ({"masks": MASKS / 2}, r"masks in .* must be whole numbers"),
    "masks below 0": ({"masks": MASKS - 1}, "numbers 0 to 65535, got -1 to 1"),
    "masks too high": ({"masks": MASKS + 65535}, "got 65535 to 65537"),
    "counterfactuals alone": ({"counterfactuals": OTHERS}, "counterfactuals alone"),
    "their labels alone": (
        {"counterfactual_labels": PAIRS["counterfactual_labels"]},
        "counterfactual_labels alone",
    ),
    "counterfactuals of another shape": (
        PAIRS | {"counterfactuals": OTHERS[:, :4]},
        r"counterfactuals in .* must be \(40, 8, 8, 1\) of uint8",
    ),
    "counterfactuals of another type": (
        PAIRS | {"counterfactuals": OTHERS / 255},
        "as the images, got .* of float32",
    ),
    "counterfactuals too few": (PAIRS | {"counterfactuals": OTHERS[1:]}, "as the images"),
    "their labels too high": (
        PAIRS | {"counterfactual_labels": np.full(N, 4)},
        "go to 4, labels to 3",
    ),
    "their labels too few": (PAIRS | {"counterfactual_labels": LABELS[1:]}, "40 whole numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(tmp_path, case):
    changed, says = BAD[case]
    with pytest.raises(BadInput, match=says):
        load(tmp_path, **changed)
