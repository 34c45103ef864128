"""Data sets of other libraries as an npz file: what is trained on is what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

import toyvit
from tests.data.picture_trees import draw_pixels
from toyvit.config import ClassifyConfig
from toyvit.data import dataset_arrays
from toyvit.data.own_arrays import read_arrays
from toyvit.data.task import build_task
from toyvit.errors import BadInput

N = 30
NAMES = ["ant", "bee", "cow"]


class Torchlike:
    """As a data set of torchvision: items (image, label), and the names of the classes."""

    classes = NAMES

    def __init__(self, change: Callable[[np.ndarray], object], n_channels: int = 3) -> None:
        self.change = change
        self.n_channels = n_channels

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.change(draw_pixels(index, self.n_channels)), index % 3


class Columns:
    """As a data set of Hugging Face: items by column, with features."""

    def __init__(self) -> None:
        self.features = {"img": None, "fine": SimpleNamespace(names=NAMES)}

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"img": Image.fromarray(draw_pixels(index)), "id": f"{index}", "fine": index % 3}


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize("change", [Image.fromarray, np.array, to_tensor])
def test_pictures_labels_and_names_are_the_data_sets(tmp_path, change):
    path = toyvit.from_dataset(Torchlike(change), tmp_path / "own.npz", progress=False)
    pictures = read_arrays(path)
    assert np.array_equal(pictures.images, [draw_pixels(number) for number in range(N)])
    assert pictures.factors["class"].tolist() == [number % 3 for number in range(N)]
    assert build_task(ClassifyConfig(npz=str(path))).class_names == tuple(NAMES)
    assert [file.name for file in tmp_path.iterdir()] == ["own.npz"]


def test_columns_are_named_or_looked_for(tmp_path):
    path = toyvit.from_dataset(Columns(), tmp_path / "own.npz", label="fine", progress=False)
    pictures = read_arrays(path)
    assert np.array_equal(pictures.images[7], draw_pixels(7))
    assert pictures.class_names == tuple(NAMES)
    with pytest.raises(BadInput, match="no column is called label: name one of img, id, fine"):
        toyvit.from_dataset(Columns(), tmp_path / "own.npz")
    with pytest.raises(BadInput, match=r"unknown column 'fin': .*did you mean 'fine'"):
        toyvit.from_dataset(Columns(), tmp_path / "own.npz", label="fin")


def test_floats_stay_as_they_are(tmp_path):
    data = Torchlike(lambda pixels: to_tensor(pixels).float() / 255)
    pictures = read_arrays(toyvit.from_dataset(data, tmp_path / "own.npz", progress=False))
    assert pictures.images.dtype == np.float32
    assert np.array_equal(pictures.images[5], draw_pixels(5) / np.float32(255))


@pytest.mark.parametrize("axis", [0, 2])
def test_grey_is_one_channel(tmp_path, axis):
    data = Torchlike(
        lambda pixels: torch.from_numpy(pixels)[None] if axis == 0 else pixels[..., None], 1
    )
    with np.load(toyvit.from_dataset(data, tmp_path / "own.npz", progress=False)) as arrays:
        assert np.array_equal(arrays["images"][3], draw_pixels(3, 1))


def test_a_part_of_a_data_set_has_its_names(tmp_path):
    part = Subset(Torchlike(np.array), range(1, 25))
    pictures = read_arrays(toyvit.from_dataset(part, tmp_path / "own.npz", progress=False))
    assert pictures.class_names == tuple(NAMES) and len(pictures.images) == 24
    assert np.array_equal(pictures.images[0], draw_pixels(1))


def test_numbers_have_no_names(tmp_path):
    data = TensorDataset(torch.rand(N, 1, 4, 4), torch.arange(N) % 2)
    assert read_arrays(toyvit.from_dataset(data, tmp_path / "own.npz")).class_names == ()


def test_texts_are_numbered_in_sorted_order(tmp_path):
    items = [(draw_pixels(number), ["z", "a"][number % 2]) for number in range(N)]
    pictures = read_arrays(toyvit.from_dataset(items, tmp_path / "own.npz"))
    assert pictures.class_names == ("a", "z")
    assert pictures.factors["class"].tolist() == [1 - number % 2 for number in range(N)]


def test_pictures_of_many_sizes_need_one(tmp_path):
    items = [(np.full((8 + number, 8), number, np.uint8), number % 2) for number in range(N)]
    with pytest.raises(BadInput, match=r"item 0 has 8 x 8 pixels, item 1 9 x 8: .*size=\(32, 32\)"):
        toyvit.from_dataset(items, tmp_path / "own.npz")
    assert not list(tmp_path.iterdir())
    pictures = read_arrays(toyvit.from_dataset(items, tmp_path / "own.npz", size=(6, 4)))
    assert pictures.images.shape == (N, 6, 4, 1)
    assert (pictures.images == np.arange(N)[:, None, None, None]).all()


def test_a_file_that_is_there_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "own.npz"
    path.write_text("old")

    def stop(file, arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset_arrays, "write_npz", stop)
        with pytest.raises(KeyboardInterrupt):
            toyvit.from_dataset(Torchlike(np.array), path, progress=False)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    toyvit.from_dataset(Torchlike(np.array), path, progress=False)
    assert len(read_arrays(path).images) == N


def stream() -> Iterator[tuple[np.ndarray, int]]:
    yield draw_pixels(0), 0


def items(image: object, label: object = 0, n: int = N) -> list[tuple[object, object]]:
    return [(image, label) for _ in range(n)]


GREY = draw_pixels(0, 1)
BAD: dict[str, tuple[object, str]] = {
    "splits": ({"train": [], "test": []}, "holds the splits train, test: give one of them"),
    "a stream": (stream(), "got generator: of a stream, give a list"),
    "nothing": ([], "has no items"),
    "pictures alone": ([GREY] * N, r"must be \(image, label\) or have columns, got ndarray"),
    "a path": (items("a.png"), "item 0 of the data set must be a picture"),
    "whole numbers": (items(GREY.astype(int)), r"got ndarray \(8, 8\) of int64"),
    "two channels": (items(np.zeros((8, 8, 2), np.uint8)), "of 1 or 3 channels"),
    "no pixels": (items(np.zeros((0, 8), np.uint8)), "must be a picture"),
    "floats in 32 bits": (items(Image.fromarray(np.zeros((8, 8), np.float32))), "of floats"),
    "a fraction": (items(GREY, 0.5), "must be a whole number or a text, got float"),
    "a list of labels": (items(GREY, [1]), "must be a whole number or a text, got list"),
    "numbers and texts": ([*items(GREY, 1), (GREY, "a")], "both numbers and texts"),
    "bytes and floats": ([*items(GREY), (GREY / 255, 1)], "all must be of bytes"),
    "another kind of item": ([*items(GREY), {"image": GREY}], "item 30 .* not like the first"),
    "one class": (items(GREY), "at least two classes"),
    "too few": ([*items(GREY, n=9), (GREY, 1)], "holds 10 pictures: at least 20"),
    "below 0": ([*items(GREY), (GREY, -1)], "got -1 to 0"),
    "gaps": ([*items(GREY), (GREY, 2)], "no picture has 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_trained_on_is_refused_and_not_written(tmp_path, case):
    dataset, says = BAD[case]
    with pytest.raises(BadInput, match=says) as refusal:
        toyvit.from_dataset(dataset, tmp_path / "own.npz", progress=False)
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())


def test_options_that_do_not_fit_are_refused(tmp_path):
    floats = items(GREY / 255)
    for options in ({"size": (4, 4)}, {"channels": 3}):
        with pytest.raises(BadInput, match="of floats, which stay as they are"):
            toyvit.from_dataset(floats, tmp_path / "own.npz", **options)
    with pytest.raises(BadInput, match="channels must be 1 or 3, got 2"):
        toyvit.from_dataset(items(GREY), tmp_path / "own.npz", channels=2)
    with pytest.raises(BadInput, match="name columns, and the data set's items are"):
        toyvit.from_dataset(items(GREY), tmp_path / "own.npz", image="img")
    with pytest.raises(BadInput, match="there is no folder"):
        toyvit.from_dataset(items(GREY), Path("nowhere/own.npz"))
