"""Whatever stands in a file of own arrays: it is trained on rightly, or refused in one line."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from bench import hostile_arrays as files
from toyvit.config import ClassifyConfig
from toyvit.data import npz_files, own_loading
from toyvit.data.own_arrays import read_arrays
from toyvit.data.own_pictures import PictureSet
from toyvit.data.task import Task, build_task
from toyvit.errors import BadInput, escape_text

PLAIN = files.PLAIN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


@cache
def hostile() -> dict[str, bytes]:
    return dict(files.hostile_arrays())


def load(folder: Path, content: bytes, factor: str = "class") -> Task:
    file = folder / "own.npz"
    file.write_bytes(content)
    return build_task(ClassifyConfig(npz=str(file), factor=factor))


def refuse(folder: Path, content: bytes) -> str:
    """The line with which a file is refused."""
    with pytest.raises(BadInput) as refusal:
        load(folder, content)
    line = escape_text(str(refusal.value))
    assert line.isprintable() and str(folder / "own.npz") in line and len(line) < 600
    return line


def check_bits(task: Task, images: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    """Every picture is in one split, as the model sees its native array, with its own label."""
    native = torch.tensor(images.astype(images.dtype.newbyteorder("=")))
    shown = native.float() if native.is_floating_point() else native.float().sub(127.5).div(127.5)
    seen_rows = []
    for split, size in task.world.sizes.items():
        assert size is not None
        factors = task.world.sample(0, split, np.arange(size))
        batch = task.batch_from_factors(factors)
        rows = factors["row"]
        assert torch.equal(batch.images, shown.reshape(len(shown), 1, *images.shape[1:3])[rows])
        assert batch.target.dtype == torch.int64
        assert batch.target.tolist() == labels[rows].tolist()
        seen_rows += rows.tolist()
    assert sorted(seen_rows) == list(range(len(images)))


@pytest.mark.parametrize("kind", [files.same_arrays, files.same_floats])
def test_the_same_arrays_in_another_form_give_the_same_bits(folder, kind: Callable):
    floats = ((PLAIN["images"].astype(np.float16) - 128) / 128).astype(np.float32)
    images = floats if kind is files.same_floats else PLAIN["images"]
    n = 0
    for name, content in kind():
        task = load(folder, content)
        check_bits(task, images, PLAIN["labels"])
        assert task.world.factors == {"odd": 2, "class": 4}, name
        assert task.list_notices() == [], name
        n += 1
    assert n >= 12


def test_a_double_is_shown_as_the_nearest_float(folder):
    images = np.random.default_rng(1).normal(size=(files.N, 8, 8)) / 3
    for order in "<>":
        content = files.change(images=images.astype(f"{order}f8"))
        check_bits(load(folder, content), images, PLAIN["labels"])


def test_hostile_files_are_refused_in_one_line(folder):
    """A pickle that is loaded would end this process."""
    for name, content in hostile().items():
        try:
            refuse(folder, content)
        except BaseException as error:
            raise AssertionError(name) from error
    assert len(hostile()) > 150


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pictures of <g", "floats of at most 64 bits"),
        ("a member 'factor_row.npy'", "the name is taken"),
        ("a member 'factor_a,b.npy'", "'a,b': a name is 1 to 64 letters, digits"),
        ("a member 'factor_\\u202eevil.npy'", "a name is"),
        ("images twice", "it holds 2 times 'images'"),
        ("a zero byte in a name", "it holds what is no array, 'labels.npy"),
        ("a name in a code page", "is not UTF-8"),
        ("stored, flags 1", "'images.npy' is encrypted"),
        ("method 14", "compressed in another way"),
        ("header: more pictures than bytes", "(41, 8, 8) of uint8, 2624 bytes, but holds 2560"),
        ("header: negative sizes", "there is no shape (-40, -8, 8)"),
        ("header: truths as sizes", "there is no shape"),
        ("stored, a bit flipped", "CRC"),
        ("a bomb that says 4 GB", "bytes too early"),
        ("labels: records", "no plain type"),
        ("header: a type of no width", "no plain type"),
        ("objects", "pickled objects, which are never loaded"),
    ],
)
def test_a_refusal_says_why(folder, name, says):
    assert says in refuse(folder, hostile()[name])


def test_arrays_beyond_the_memory_are_refused_unread(folder, monkeypatch):
    monkeypatch.setattr(npz_files, "read_free_memory", lambda: 3000)
    new = PLAIN | {"images": PLAIN["images"] // 2}  # a file that was not read before
    line = refuse(folder, files.save_arrays(new, zipfile.ZIP_DEFLATED))
    assert "its arrays need 0.0 GB of memory" in line


def test_devices_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe", tmp_path):
        with pytest.raises(BadInput, match="a folder, a pipe or a device"):
            build_task(ClassifyConfig(npz=str(path)))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "own.npz"
    file.write_bytes(files.save_arrays(PLAIN))

    def overtake(path: Path) -> PictureSet:
        path.write_bytes(files.change(images=PLAIN["images"][::-1]))
        return read_arrays(path)

    monkeypatch.setattr(own_loading, "read_arrays", overtake)
    with pytest.raises(BadInput, match="was written to while it was read"):
        build_task(ClassifyConfig(npz=str(file)))


NOTICES = {
    "classes of one picture": "'class' goes from 0 to 13, but no training picture has 13",
    "floats to 255": "images are floats from 0 to 255, shown as they are",
    "a factor of one value": "factor 'odd' is 7 for every picture: it is left out",
    "pictures all the same": "all pictures are the same",
    "every picture twice": "4 of 4 test pictures are among the training pictures too",
}


def test_what_is_odd_is_one_line(folder):
    odd = dict(files.odd_arrays())
    assert odd.keys() == NOTICES.keys()
    for name, content in odd.items():
        task = load(folder, content)
        (notice,) = task.list_notices()
        assert notice.startswith(f"{folder / 'own.npz'}: {NOTICES[name]}"), notice
    with np.load(folder / "own.npz") as last:
        check_bits(task, last["images"], PLAIN["labels"])


def test_a_factor_of_one_value_is_neither_learned_nor_probed(folder):
    content = files.change(factor_odd=np.full(files.N, 7), factor_half=PLAIN["labels"] // 2)
    batch = load(folder, content).eval_batch("train", 8, 0)
    assert batch.factors.keys() == {"class", "half"}
    with pytest.raises(BadInput, match=r"task\.factor 'odd' is 7 for every picture of .*own\.npz"):
        load(folder, content, factor="odd")


def test_a_factor_with_gaps_is_learned_with_a_notice(folder):
    task = load(folder, files.change(factor_odd=PLAIN["labels"] * 3), factor="odd")
    assert task.n_classes == 10
    (notice,) = task.list_notices()
    assert notice.endswith("no training picture has 1, 2, 4, 5, 7 and so on")


@pytest.mark.slow
@settings(max_examples=100)
@given(st.data())
def test_any_file_is_trained_on_rightly_or_refused(folder, data):
    """Types, sizes, orders and names at random, and damage; an undamaged file is what it says."""
    arrays = data.draw(ARRAYS)
    content = files.save_arrays(arrays, data.draw(METHODS))
    content = data.draw(st.one_of(st.just(content), damage(content)))
    try:
        task = load(folder, content)
    except BadInput:
        refuse(folder, content)
        return
    check_bits(task, arrays["images"], arrays["labels"])
    assert all(escape_text(notice).isprintable() for notice in task.list_notices())


METHODS = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
NUMBERS = ("u1", "u1", "<f4", ">f8", ">f2", "<f8", "g", "i1", ">u2", "?", "c8", "U2")
WHOLE = ("<i8", ">i8", "u1", ">u2", "i1", "?", ">u8", "f4", "S2")
NAMES = st.one_of(st.just("odd"), st.text(st.characters(codec="utf-8"), max_size=8))


@st.composite
def draw_arrays(draw: st.DrawFn) -> files.Arrays:
    n = draw(st.sampled_from([40, 24, 20, 19, 0]))
    shape = draw(st.sampled_from([(8, 8), (4, 8), (8, 4, 1), (1, 1), (0, 4), (8,), ()]))
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    images = rng.integers(0, draw(st.sampled_from([2, 256])), (n, *shape))
    images = images.astype(draw(st.sampled_from(NUMBERS)))
    if draw(st.booleans()):
        images = np.asfortranarray(images)
    labels = (np.arange(n) % draw(st.integers(1, 4))).astype(draw(st.sampled_from(WHOLE)))
    factor = rng.integers(0, 3, n - draw(st.sampled_from([0, 0, 0, n // 2])))
    return {"images": images, "labels": labels, f"factor_{draw(NAMES)}": factor}


ARRAYS = draw_arrays()


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """A bit flipped, a piece cut out, or a piece put over another."""
    place = draw(st.integers(0, len(content) - 1))
    size = draw(st.integers(1, 64))
    piece = content[place : place + size]
    other = draw(st.integers(0, len(content) - 1))
    bit = 1 << draw(st.integers(0, 7))
    flipped = bytes([content[place] ^ bit])
    return draw(
        st.sampled_from(
            [
                content[:place] + flipped + content[place + 1 :],
                content[:place] + content[place + size :],
                content[:other] + piece + content[other + len(piece) :],
            ]
        )
    )


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(folder):
    """Of the numbers: a factor may come to have another name."""
    whole = files.save_arrays(PLAIN, zipfile.ZIP_DEFLATED)
    n_refused = 0
    for place in range(0, len(whole), 11):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        try:
            task = load(folder, bytes(flipped))
        except BadInput:
            n_refused += 1
        else:
            check_bits(task, PLAIN["images"], PLAIN["labels"])
    assert n_refused > len(whole) / 11 / 2
