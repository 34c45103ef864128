"""How a picture file becomes bytes: one rule each, with bytes that are known."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.data.picture_trees import draw_pixels
from toyvit.data import picture_stack
from toyvit.data.picture_files import (
    cut_picture,
    read_mask,
    read_picture,
)
from toyvit.data.picture_stack import PictureStack, check_memory
from toyvit.errors import BadInput

GREY = draw_pixels(0, 1)
COLOUR = draw_pixels(1)
DEEP = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040


def save(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def shown(
    path: Path, size: tuple[int, int] | None = None, channels: int | None = None
) -> NDArray[np.uint8]:
    return cut_picture(read_picture(path), size, channels)


def pack_png(header: bytes, data: bytes) -> bytes:
    """A PNG written by hand."""
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_bytes_survive(tmp_path):
    assert np.array_equal(shown(save(tmp_path, Image.fromarray(GREY))), GREY)
    assert np.array_equal(shown(save(tmp_path, Image.fromarray(COLOUR))), COLOUR)


def test_a_size_that_it_has_changes_nothing(tmp_path):
    path = save(tmp_path, Image.fromarray(COLOUR))
    assert np.array_equal(shown(path, (8, 8)), COLOUR)


def test_grey_in_a_file_of_colour_is_grey(tmp_path):
    path = save(tmp_path, Image.fromarray(GREY).convert("RGB"))
    assert np.array_equal(shown(path), GREY)


def test_colour_in_grey_is_the_luma(tmp_path):
    path = save(tmp_path, Image.fromarray(COLOUR))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert abs(shown(path, channels=1) - luma).max() <= 1


def test_black_and_white(tmp_path):
    bits = GREY > 127
    assert np.array_equal(shown(save(tmp_path, Image.fromarray(bits))), 255 * bits)


def test_of_16_bits_the_upper_8(tmp_path):
    assert np.array_equal(shown(save(tmp_path, Image.fromarray(DEEP))), DEEP >> 8)


def test_of_16_bits_of_colour_the_upper_8(tmp_path):
    """Pillow writes none: this one is by hand."""
    deep = np.random.default_rng(2).integers(0, 2**16, (4, 4, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    path = tmp_path / "a.png"
    path.write_bytes(pack_png(struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0), rows))
    assert np.array_equal(shown(path), deep >> 8)


def test_a_palette_is_its_colours(tmp_path):
    palette = Image.fromarray(GREY % 4, "P")
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [1, 2, 3]])
    palette.putpalette(colours.astype(np.uint8).tobytes())
    assert np.array_equal(shown(save(tmp_path, palette)), colours[GREY % 4])


@pytest.mark.parametrize("alpha", [0, 255])
def test_what_is_transparent_is_white(tmp_path, alpha):
    layer = np.full((8, 8, 1), 255, np.uint8)
    layer[:4] = alpha
    path = save(tmp_path, Image.fromarray(np.concatenate([COLOUR, layer], 2)))
    expected = np.where(layer == 255, COLOUR, 255)
    assert np.array_equal(shown(path), expected)


def test_half_transparent_is_half_white(tmp_path):
    layers = np.dstack([np.full((8, 8), 55, np.uint8), np.full((8, 8), 128, np.uint8)])
    path = save(tmp_path, Image.fromarray(layers))
    assert abs(shown(path).astype(int) - (55 * 128 + 255 * 127) / 255).max() <= 1


@pytest.mark.parametrize("pixels", [GREY, DEEP])
def test_a_number_that_is_transparent_is_white(tmp_path, pixels):
    number = int(pixels[3, 3])
    path = save(tmp_path, Image.fromarray(pixels), transparency=number)
    bright = pixels >> 8 if pixels.dtype == np.uint16 else pixels
    assert np.array_equal(shown(path), np.where(pixels == number, 255, bright))


TURNS = {1: 0, 8: 1, 3: 2, 6: 3}  # quarter turns to the left, by EXIF's number


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_is_turned_as_its_exif_says(tmp_path, ending, orientation):
    grey = np.kron(GREY[:1, :6].reshape(2, 3), np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path, Image.fromarray(grey), f"a.{ending}", exif=exif, quality=100)
    plain = read_picture(save(tmp_path, Image.fromarray(grey), f"b.{ending}", quality=100))
    assert np.array_equal(shown(path), np.rot90(np.asarray(plain), TURNS[orientation]))


def test_a_jpeg_is_read_whatever_it_is_called(tmp_path):
    smooth = np.linspace(0, 255, 64).reshape(8, 8).astype(np.uint8)
    path = save(tmp_path, Image.fromarray(smooth), "a.png", format="JPEG", quality=100)
    assert abs(shown(path).astype(int) - smooth).max() <= 4


def test_a_picture_is_cut_around_its_middle(tmp_path):
    """Twice as wide as wanted: the middle half of the columns, untouched."""
    wide = np.random.default_rng(3).integers(0, 256, (8, 16), dtype=np.uint8)
    assert np.array_equal(shown(save(tmp_path, Image.fromarray(wide)), (8, 8)), wide[:, 4:12])


def test_a_picture_is_made_smaller_without_aliasing(tmp_path):
    """The finest stripes come to grey; the nearest pixel would give black or white."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = shown(save(tmp_path, Image.fromarray(stripes)), (8, 8))
    assert abs(small.astype(int) - 127).max() < 24


def test_a_mask_is_its_numbers(tmp_path):
    numbers = GREY % 5
    palette = Image.fromarray(numbers, "P")
    palette.putpalette(bytes(range(15)))
    for image in (Image.fromarray(numbers), palette):
        assert np.array_equal(read_mask(save(tmp_path, image), (8, 8), None), numbers)
    deep = read_mask(save(tmp_path, Image.fromarray(DEEP)), (8, 8), None)
    assert np.array_equal(deep, DEEP)
    bits = read_mask(save(tmp_path, Image.fromarray(GREY > 99)), (8, 8), None)
    assert np.array_equal(bits, GREY > 99)


def test_a_mask_is_cut_as_its_picture(tmp_path):
    wide = np.random.default_rng(4).integers(0, 9, (16, 40), dtype=np.uint8)
    mask = read_mask(save(tmp_path, Image.fromarray(wide)), (16, 40), (8, 8))
    assert mask.shape == (8, 8)
    assert set(np.unique(mask)) <= set(np.unique(wide[:, 12:28]))
    whole = np.kron(np.arange(4).reshape(2, 2), np.ones((8, 8))).astype(np.uint8)
    halved = read_mask(save(tmp_path, Image.fromarray(whole)), (16, 16), (8, 8))
    assert np.array_equal(halved, whole[::2, ::2])


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (Image.fromarray(COLOUR), "must be numbers (grey or palette), got RGB"),
        (Image.fromarray(GREY[:4]), "a mask of 4 x 8, its picture has 8 x 8 pixels"),
    ],
)
def test_what_is_no_mask_is_refused(tmp_path, image, says):
    with pytest.raises(BadInput) as refusal:
        read_mask(save(tmp_path, image), (8, 8), None)
    assert says in str(refusal.value)


def bad_files() -> dict[str, tuple[bytes, str]]:
    whole = pack_png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0), b"\0" * 72)
    bomb = pack_png(struct.pack(">IIBBBBB", 30_000, 30_000, 1, 0, 0, 0, 0), b"\0" * 9)
    large = pack_png(struct.pack(">IIBBBBB", 8_000, 8_000, 1, 0, 0, 0, 0), b"\0" * 9)
    flipped = bytearray(whole)
    flipped[45] ^= 1
    return {
        "nothing": (b"", "no picture of a kind that is read: PNG or JPEG"),
        "a text": (b"hello", "no picture of a kind that is read"),
        "a GIF": (b"GIF89a" + b"\0" * 50, "no picture of a kind that is read"),
        "half a PNG": (whole[: len(whole) // 2 + 8], "cannot be read as a picture"),
        "a PNG without its end": (whole[:-12], "cannot be read as a picture"),
        "too few rows": (
            pack_png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0), b"\0" * 30),
            "truncated",
        ),
        "a flipped bit": (bytes(flipped), "broken PNG"),
        "a bomb": (bomb, "pixels"),
        "a large one": (large, "it has 64,000,000 pixels, and may have 50,000,000"),
    }


@pytest.mark.parametrize("case", bad_files())
def test_what_is_no_whole_picture_is_refused_by_name(tmp_path, case):
    content, says = bad_files()[case]
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        read_picture(path)
    line = str(refusal.value)
    assert str(path) in line and says in line and "\n" not in line and len(line) < 400


def test_a_jpeg_that_is_cut_is_refused(tmp_path):
    noise = np.random.default_rng(5).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path, Image.fromarray(noise), "a.jpg")
    content = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(BadInput, match=r"a\.jpg"):
            read_picture(path)


def test_a_flipped_bit_of_a_png_is_refused_or_changes_nothing(tmp_path):
    path = save(tmp_path, Image.fromarray(COLOUR))
    whole = path.read_bytes()
    n_refused = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert np.array_equal(shown(path), COLOUR)
        except BadInput:
            n_refused += 1
    assert n_refused > 0.9 * len(whole)


def test_a_stack_is_grey_until_one_has_colour():
    stack = PictureStack(3, None)
    for place, pixels in enumerate((GREY, COLOUR, GREY)):
        assert stack.images.shape[3] == (1 if place < 2 else 3)
        stack.add(pixels, place)
    assert np.array_equal(stack.images[1], COLOUR)
    for place in (0, 2):
        assert (stack.images[place] == GREY[..., None]).all()


@pytest.mark.parametrize(
    ("pixels", "says"),
    [(GREY[:4], "first has 8 x 8 pixels, second 4 x 8"), (GREY / np.float32(9), "all of floats")],
)
def test_a_stack_is_of_one_size_and_type(pixels, says):
    stack = PictureStack(2, None)
    stack.add(GREY, "first")
    with pytest.raises(BadInput, match=says):
        stack.add(pixels, "second")


def test_what_does_not_fit_into_memory_is_refused(monkeypatch):
    monkeypatch.setattr(picture_stack, "read_free_memory", lambda: 3 * 64 - 1)
    stack = PictureStack(3, None)
    with pytest.raises(BadInput, match=r"3 pictures need 0\.0 GB of memory"):
        stack.add(GREY, "first")
    check_memory(3 * 64 - 1, "these")
