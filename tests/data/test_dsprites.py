"""dSprites are drawn from their factors, bit for bit as documented.

They are kept whole or not at all.
"""

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from toyvit.data.worlds.dsprites import drawing
from toyvit.errors import BadInput

N = drawing.N_IMAGES
RANDOM = np.random.default_rng(0).integers(0, N, 2000)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder to prepare the first 5,000 pictures in."""
    (tmp_path / "datasets").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOYVIT_DATA", raising=False)
    monkeypatch.setattr(drawing, "N_IMAGES", 5000)
    yield tmp_path / "datasets/dsprites"
    drawing._load_official.cache_clear()


def write_official(folder, monkeypatch, n=5000):
    """A small npz made like the authors', that counts as theirs.

    Its metadata is a pickle that must not be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / drawing.OFFICIAL
    np.savez_compressed(
        path,
        metadata=np.array({"pickled": True}, object),
        imgs=1 - drawing.unpack_bits(drawing.draw_packed(np.arange(n))),
    )
    monkeypatch.setattr(drawing, "OFFICIAL_MD5", drawing.files.hash_md5(path))
    drawing._load_official.cache_clear()
    return path


# The documented rasteriser, one vertex, edge and pixel at a time, in exact fractions.


def outline(shape):
    if shape == 0:
        return [(-9.6, -9.6), (9.6, -9.6), (9.6, 9.6), (-9.6, 9.6)]
    if shape == 1:
        turns = [2 * math.pi * j / 100 for j in range(100)]
        return [(9.6 * 1.33 * math.cos(a), 9.6 / 1.33 * math.sin(a)) for a in turns]
    turns = [2 * math.pi * j / 150 for j in range(150)]
    height = [
        13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        for a in turns
    ]
    return [
        (9.6 * math.sin(a) ** 3, -(19.2 / 29) * h - 1.44)
        for a, h in zip(turns, height, strict=True)
    ]


def on_grid(centre, offset):
    """A coordinate in pixels: the sum in float32, rounded to 1/256."""
    return Fraction(round(float(np.float32(centre) + np.float32(offset)) * 256), 256)


def vertices(number):
    rest, y = divmod(number, 32)
    rest, x = divmod(rest, 32)
    rest, orientation = divmod(rest, 40)
    shape, scale = divmod(rest, 6)
    k, t = 0.5 + 0.1 * scale, 2 * math.pi * orientation / 39
    for px, py in outline(shape):
        across, down = (
            k * (math.cos(t) * px + math.sin(t) * py),
            k * (-math.sin(t) * px + math.cos(t) * py),
        )
        yield on_grid(16 + 32 * x / 31, across), on_grid(16 + 32 * y / 31, down)


def slow_image(number):
    corners = list(vertices(number))
    image = np.zeros((64, 64), np.uint8)
    for row in range(64):
        middle = row + Fraction(1, 2)
        for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
            if ay < middle <= by or by < middle <= ay:
                crossing = ax + (middle - ay) * (bx - ax) / (by - ay)
                for column in range(64):
                    image[row, column] ^= crossing <= column + Fraction(1, 2)
    return image


@pytest.mark.slow
def test_pictures_are_those_of_a_slow_rasteriser():
    numbers = RANDOM[:60]
    assert set(drawing.decode_factors(numbers)["shape"]) == {0, 1, 2}
    for number, image in zip(numbers.tolist(), drawing.draw_images(numbers), strict=True):
        assert np.array_equal(image, slow_image(number)), number


@pytest.mark.data
def test_genuine_pictures_are_reproduced():
    with np.load(Path(os.environ["TOYVIT_DATA"]) / "dsprites/dsprites_downsampled.npz") as file:
        genuine, numbers = file["imgs"], file["original_dataset_indices"]
        classes, values = file["latents_classes"], file["latents_values"]
    drawn = drawing.draw_images(numbers)
    wrong = (drawn != genuine.reshape(-1, 64, 64)).sum((1, 2))
    print(
        f"{(wrong == 0).sum()} of {len(wrong)} genuine pictures reproduced, "
        f"at most {wrong.max()} pixels off"
    )
    assert (wrong == 0).mean() >= 0.9998 and wrong.max() <= 1
    for lit in (np.flatnonzero(drawn.any(axes)) for axes in ((0, 1), (0, 2))):
        assert lit.min() >= 2 and lit.max() <= 60
    area = drawn.sum((1, 2))
    assert area.min() >= 51 and area.max() <= 400
    found = drawing.decode_factors(numbers)
    for name, coarse, value, step in zip(
        drawing.SIZES, classes.T, values.T, (1, 1, 4, 2, 2), strict=True
    ):
        assert np.array_equal(found[name], coarse * step)
        assert np.allclose(drawing.VALUES[name][found[name]], value, rtol=0, atol=1e-14)


@given(
    st.lists(st.integers(0, N - 1), max_size=20),
    st.sampled_from([np.int32, np.int64, np.uint32, np.uint64]),
)
def test_index_is_the_inverse_of_factors(numbers, dtype):
    found = drawing.decode_factors(np.array(numbers, dtype))
    assert list(found) == list(drawing.SIZES) and all(
        values.dtype == np.int64 for values in found.values()
    )
    assert drawing.encode_factors(found).tolist() == numbers


@given(st.tuples(*(st.integers(0, size - 1) for size in drawing.SIZES.values())))
def test_factors_are_the_inverse_of_index(numbers):
    given = dict(zip(drawing.SIZES, numbers, strict=True))
    number = drawing.encode_factors(given)
    shape, scale, orientation, x, y = numbers
    assert number == (((shape * 6 + scale) * 40 + orientation) * 32 + x) * 32 + y
    assert drawing.decode_factors(number) == given


def test_first_and_last_orientation_are_the_same():
    found = drawing.decode_factors(RANDOM)
    first, last = (
        drawing.encode_factors(found | {"orientation": 0 * RANDOM + end}) for end in (0, 39)
    )
    assert np.array_equal(drawing.draw_images(first), drawing.draw_images(last))


@pytest.mark.parametrize(("name", "axis"), [("x", 2), ("y", 1)])
def test_31_steps_are_32_pixels(name, axis):
    found = drawing.decode_factors(RANDOM)
    first, last = (
        drawing.draw_images(drawing.encode_factors(found | {name: 0 * RANDOM + end}))
        for end in (0, 31)
    )
    assert np.array_equal(np.roll(first, 32, axis), last)


def test_a_picture_depends_on_its_number_alone():
    numbers = np.array([[N - 1, 5, 5], [0, 300_000, 123_456]], np.int32)
    together = drawing.draw_images(numbers)
    assert (
        together.shape == (2, 3, 64, 64)
        and together.dtype == np.uint8
        and set(np.unique(together)) == {0, 1}
    )
    for at in np.ndindex(2, 3):
        assert np.array_equal(together[at], drawing.draw_images(numbers[at]))
    assert np.array_equal(drawing.draw_images(RANDOM)[::-1], drawing.draw_images(RANDOM[::-1]))
    assert drawing.draw_images(np.array([], int)).shape == (0, 64, 64)


@pytest.mark.parametrize(
    "numbers", [[-1], [0, N], np.uint64(2**63), [0.0], [True], ["1"], [10**30], [None]]
)
def test_other_numbers_are_refused(numbers):
    for function in (drawing.draw_images, drawing.draw_packed, drawing.decode_factors):
        with pytest.raises(
            BadInput, match=r"^indices of dsprites must be whole numbers 0 to 737279, got [^\n]*$"
        ):
            function(numbers)


@pytest.mark.parametrize("change", [{"shape": 3}, {"y": -1}, {"x": 0.5}, {"colour": 0}])
def test_other_factors_are_refused(change):
    with pytest.raises(BadInput, match=r"^(the )?factor[^\n]*$"):
        drawing.encode_factors(dict.fromkeys(drawing.SIZES, 0) | change)


def test_prepare_writes_once(small):
    path = drawing.prepare_images()
    assert {file.name for file in small.iterdir()} == {
        ".lock",
        "rendered.npy",
        "rendered.npy.sha256",
    }
    written = path.stat()
    pictures = drawing.load_all()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert isinstance(pictures, np.memmap) and pictures.shape == (5000, 512)
    numbers = RANDOM % 5000
    assert np.array_equal(drawing.unpack_bits(pictures[numbers]), drawing.draw_images(numbers))


@pytest.mark.parametrize("harm", ["bit", "short", "unsigned", "unfinished"])
def test_a_damaged_file_is_written_again(small, harm):
    path = drawing.prepare_images()
    whole = path.read_bytes()
    if harm == "bit":
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif harm == "short":
        path.write_bytes(whole[:-512])
    elif harm == "unsigned":
        (small / "rendered.npy.sha256").unlink()
    else:
        path.rename(small / "rendered.npy.partial")
    assert drawing.prepare_images().read_bytes() == whole
    assert {file.name for file in small.iterdir()} == {
        ".lock",
        "rendered.npy",
        "rendered.npy.sha256",
    }


def test_no_half_file_is_left_to_be_read(small, monkeypatch):
    def stops():
        yield drawing.draw_packed(np.arange(1000))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "_rendered", stops)
        with pytest.raises(KeyboardInterrupt):
            drawing.prepare_images()
    assert not (small / "rendered.npy").exists()
    assert np.array_equal(drawing.load_all(), drawing.draw_packed(np.arange(5000)))


@pytest.mark.parametrize("place", ["prepared", "TOYVIT_DATA"])
def test_the_official_file_is_found_and_read(small, monkeypatch, tmp_path, place):
    assert drawing.find_official() is None
    monkeypatch.setenv("TOYVIT_DATA", str(tmp_path / "elsewhere"))
    assert drawing.find_official() is None
    folder = small if place == "prepared" else tmp_path / "elsewhere/dsprites"
    path = write_official(folder, monkeypatch)
    assert drawing.find_official() == path
    genuine = drawing.load_all(path)
    drawn = drawing.draw_packed(np.arange(5000))
    assert np.array_equal(drawing.unpack_bits(genuine), 1 - drawing.unpack_bits(drawn))
    assert np.array_equal(drawing.load_all(), drawn)  # each in its own file
    some = np.array([[4999, 3], [0, 17]])
    assert np.array_equal(
        drawing.draw_images(some), 1 - drawing.unpack_bits(drawn)[some]
    )  # the authors' pictures are shown
    with pytest.raises(BadInput, match="got 5000 to 5000"):
        drawing.draw_images([5000])


def test_a_damaged_official_file_is_refused(small, monkeypatch):
    path = write_official(small, monkeypatch)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(BadInput, match=r"^[^\n]*is damaged[^\n]*$"):
        drawing.find_official()


def test_an_official_file_of_another_shape_is_refused(small, monkeypatch):
    with pytest.raises(BadInput, match=r"^[^\n]*must hold imgs \(5000, 64, 64\)[^\n]*$"):
        drawing.prepare_images(write_official(small, monkeypatch, n=4000))
    assert not (small / "genuine.npy").exists()


@pytest.mark.slow
def test_the_whole_set():
    """As drawn it reaches one pixel further and one smaller than the genuine pictures at hand."""
    pictures = drawing.draw_packed(np.arange(N))
    assert len(np.unique(pictures.view(f"V{drawing.N_BYTES}"))) == 715_706
    area = np.bitwise_count(pictures.view(np.uint64)).sum(1)
    assert (area.min(), area.max()) == (50, 400)
    lit = drawing.unpack_bits(np.bitwise_or.reduce(pictures))
    assert [np.flatnonzero(lit.any(axis))[[0, -1]].tolist() for axis in (0, 1)] == [
        [2, 61],
        [2, 61],
    ]
