"""How files of pictures and masks are decoded and cut to a size: by stated rules, into bytes."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from toyvit.config.foreign_files import read_file
from toyvit.errors import BadInput

FORMATS = ("PNG", "JPEG")
MOST_PIXELS = 50_000_000  # of a file: 150 MB when it is decoded
MOST_SAID = 120  # characters of what a decoder says
Pixels = NDArray[np.uint8]  # (height width), or (height width 3) in colour


def read_picture(path: Path) -> Image.Image:
    """A PNG or JPEG file as a picture of bytes in grey or in colour: `flatten_picture`.

    Of several pictures in a file the first. BadInput, which names the file, where it is damaged, no
    picture, or has over 50 million pixels.
    """
    return flatten_picture(_decode(path, FORMATS), path)


def flatten_picture(image: Image.Image, name: object) -> Image.Image:
    """A picture as it is shown, in grey (`L`) or colour (`RGB`); BadInput where that is not known.

    Turned as its EXIF orientation says; of 16 bits the upper 8; transparent parts over white;
    palettes, CMYK and others as colour. Colour profiles and gamma are not applied.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise BadInput(f"{name} is a picture of floats: give bytes")
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 2**16 - 1)
        clear = image.info.get("transparency")  # the one number that is transparent
        return Image.fromarray(np.where(deep == clear, 255, deep >> 8).astype(np.uint8))
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        paper = Image.new("RGBA", shown.size, "white")
        return Image.alpha_composite(paper, shown).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def cut_picture(image: Image.Image, size: tuple[int, int] | None, channels: int | None) -> Pixels:
    """The bytes of a picture in grey or colour, of a size (height, width).

    It is made smaller or larger so that it just covers the size, linearly and without aliasing, and
    cut around its middle; one that has the size stays as it is. Grey is the luma of ITU-R 601; what
    has no colour is grey, whatever its file says.
    """
    if channels == 1:
        image = image.convert("L")
    if size is not None:
        height, width = size
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    return pixels


def read_mask(
    path: Path, shown: tuple[int, int], size: tuple[int, int] | None
) -> NDArray[np.uint16]:
    """Which object each pixel of a picture shows (height width), 0 for none: its mask's numbers.

    `shown` is the height and width of the picture before it is cut to a size; the mask is cut
    likewise, to the nearest pixel. A palette's numbers are those of its entries. BadInput for a
    mask of another size, in colour, or not PNG.
    """
    image = ImageOps.exif_transpose(_decode(path, ("PNG",)))
    if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
        raise BadInput(
            f"{path} is no mask: its pixels must be numbers (grey or palette), got {image.mode}"
        )
    if image.size != shown[::-1]:
        raise BadInput(
            f"{path} is a mask of {image.height} x {image.width}, "
            f"its picture has {shown[0]} x {shown[1]} pixels"
        )
    numbers = Image.fromarray(np.asarray(image).astype(np.int32))
    if size is not None:
        numbers = ImageOps.fit(numbers, size[::-1], Image.Resampling.NEAREST)
    return np.asarray(numbers).astype(np.uint16)


def _decode(path: Path, formats: tuple[str, ...]) -> Image.Image:
    """A file's picture as it is stored, whole; BadInput names the file."""
    content = read_file(path, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about sizes and EXIF
            with Image.open(BytesIO(content), formats=formats) as image:
                _check_pixels(image)
                image.verify()  # the checksums of a PNG; after it a picture cannot be read
            image = Image.open(BytesIO(content), formats=formats)
            image.load()
            return image
    except UnidentifiedImageError:
        raise BadInput(f"{path} is no picture of a kind that is read: {_name(formats)}") from None
    except Exception as error:  # whatever a damaged picture does to its decoders
        why = (str(error).splitlines() or [type(error).__name__])[0][:MOST_SAID]
        raise BadInput(f"{path} cannot be read as a picture: {why}") from None


def _check_pixels(image: Image.Image) -> None:
    n = image.width * image.height
    if n > MOST_PIXELS:
        raise ValueError(f"it has {n:,} pixels, and may have {MOST_PIXELS:,}")


def _name(formats: tuple[str, ...]) -> str:
    return " or ".join(formats)
