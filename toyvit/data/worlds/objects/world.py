"""Objects on a canvas: one to three glyphs, digits or shapes at any pixel, with the mask of each."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.placement import list_box_pixels, place_apart
from toyvit.data.random import draw_integers, draw_normals, make_sample_keys
from toyvit.data.task import Batch, Task, ask_target, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.dsprites import drawing
from toyvit.data.worlds.glyphs.world import CELL, draw_glyph_bank
from toyvit.data.worlds.mnist.world import load_small_digits
from toyvit.data.worlds.objects.config import ObjectsConfig
from toyvit.errors import BadInput

SPLITS = ("train", "validation", "test")
QUARTERS = 4  # of the canvas, by the corner of an object's box
SIDE = 14  # pixels of a digit or a shape
N_GLYPHS = 10
FULL = 1020  # a stamp's whole number for the value 1: the sum of four pixels of 255
FIRST = 2**16  # a factor `picture` picks the picture that far into its class, in 65,536 steps
LEAST = (
    CELL  # pixels of an object that a patch must show to carry its class: an eighth of the patch
)


class Stamps(NamedTuple):
    """Pictures of objects, sorted by split and class, in 1/1020."""

    pictures: NDArray[np.int16]  # picture pixel
    first: NDArray[np.int64]  # split class: where the class's pictures begin
    number: NDArray[np.int64]  # split class: how many they are


def _halved(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Sums of 2 x 2 pixels (picture row column)."""
    n, rows, columns = pictures.shape
    return pictures.reshape(n, rows // 2, 2, columns // 2, 2).sum((2, 4), dtype=np.int16)


def _glyphs() -> Stamps:
    every = np.arange(N_GLYPHS)
    pictures = (FULL * draw_glyph_bank(N_GLYPHS)).astype(np.int16).reshape(N_GLYPHS, -1)
    return Stamps(
        pictures, np.tile(every, (len(SPLITS), 1)), np.ones((len(SPLITS), N_GLYPHS), np.int64)
    )


def _dsprites() -> Stamps:
    """Every shape at its three largest scales and 39 orientations, halved to 32 x 32, its middle cut out."""
    shape, scale, turn = np.meshgrid(np.arange(3), np.arange(3, 6), np.arange(39), indexing="ij")
    numbers = drawing.encode_factors(
        {"shape": shape, "scale": scale, "orientation": turn, "x": 15, "y": 15}
    ).ravel()
    cut = slice(16 - SIDE // 2, 16 + SIDE // 2)
    pictures = 255 * _halved(drawing.draw_images(numbers))[:, cut, cut]
    size = len(numbers) // 3
    return Stamps(
        pictures.reshape(len(numbers), -1),
        np.tile(size * np.arange(3), (len(SPLITS), 1)),
        np.full((len(SPLITS), 3), size),
    )


def _mnist() -> Stamps:
    """Every digit of MNIST's own splits."""
    sums, first = load_small_digits()
    return Stamps(
        sums.reshape(len(sums), -1), first[:-1].reshape(-1, 10), np.diff(first).reshape(-1, 10)
    )


@lru_cache
def load_stamps(source: str) -> Stamps:
    """All pictures of a source's objects, read or drawn once a process."""
    return {"glyphs": _glyphs, "mnist": _mnist, "dsprites": _dsprites}[source]()


class ObjectsWorld(World):
    """A square canvas with 1 to `most` objects of random classes at random pixels; their boxes do not overlap.

    Glyphs are ink +1 and paper -1, digits and shapes 0 to 1, the canvas 0; normal noise on every pixel. The digits of a split
    are MNIST's own of that split. Factors: `count`, and of each object (the first `count` are shown) its `kind`, its `picture`
    (how far into the pictures of its class, in 1/65536) and its `place` (the corner's row * columns + column); `split`; `noise_key`.
    Some pairs (class, quarter of the canvas) may be held out: no object of another split is one of them, every object of
    `held_out` is (its digits are those of `test`). All quarters lose as many classes, all classes as many quarters or one more.
    """

    name = "objects"
    patch_size = CELL

    def __init__(self, config: ObjectsConfig) -> None:
        self.config, self.stamps = config, load_stamps(config.source)
        self.image_size = (config.size, config.size)
        self.side = CELL if config.source == "glyphs" else SIDE
        self.corners = config.size - self.side + 1  # a row
        self.n_kinds = self.stamps.first.shape[1]
        if round(config.held_out * self.n_kinds) == self.n_kinds:
            raise BadInput(
                f"task.held_out {config.held_out:g} of {self.n_kinds} classes leaves none for training"
            )
        self.sizes = dict.fromkeys(add_held_out(SPLITS, config.held_out, self.kinds[True].size))
        objects = {"kind": self.n_kinds, "picture": FIRST, "place": self.corners**2}
        self.factors = {
            "count": config.most + 1,
            **objects,
            "split": len(SPLITS),
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def kinds(self) -> dict[bool, NDArray[np.int64]]:
        """The classes (quarter class) that a quarter of the canvas holds out (True), and those that it does not."""
        n_held = round(self.config.held_out * self.n_kinds)
        order = (n_held * np.arange(QUARTERS)[:, None] + np.arange(self.n_kinds)) % self.n_kinds
        return {True: order[:, :n_held], False: np.sort(order[:, n_held:], 1)}

    def quarter(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """The quarter of the canvas that a place is in: 0 and 1 above, 0 and 2 on the left."""
        row, column = np.divmod(place, self.corners)
        return 2 * (2 * row >= self.corners) + (2 * column >= self.corners)

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys, most = make_sample_keys(seed, self.check_split(split), indices), self.config.most
        place, kinds = (
            place_apart(keys, most, (self.corners, self.corners), self.side),
            self.kinds[split == "held_out"],
        )
        return {
            "count": 1 + draw_integers(keys, "count", 1, most)[:, 0],
            "kind": kinds[self.quarter(place), draw_integers(keys, "kind", most, kinds.shape[1])],
            "picture": draw_integers(keys, "picture", most, FIRST),
            "place": place,
            "split": np.full(len(keys), min(SPLITS.index("test"), list(self.sizes).index(split))),
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def boxes(self, factors: Factors) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """What each object's box shows, in 1/1020, zeros for objects that are not there; and where in the batch of pictures."""
        split, kind = factors["split"][:, None], factors["kind"]
        number = self.stamps.first[split, kind] + (
            factors["picture"] * self.stamps.number[split, kind] // FIRST
        )
        there = np.arange(self.config.most) < factors["count"][:, None]
        shown = self.stamps.pictures[number] * there[:, :, None].astype(np.int16)
        first = self.config.size**2 * np.arange(len(number))[:, None, None]
        return shown, first + list_box_pixels(
            factors["place"], self.corners, self.side, self.config.size
        )

    def render(self, factors: Factors) -> Tensor:
        n, (shown, where) = len(factors["count"]), self.boxes(factors)
        images = draw_normals(
            factors["noise_key"].astype(np.uint64), "pixels", self.config.size**2, self.config.noise
        )
        flat, bright = images.reshape(-1), shown * np.float32(1 / FULL)
        for each in range(self.config.most):
            flat[where[:, each]] += bright[:, each]
        return torch.from_numpy(images.reshape(n, 1, *self.image_size))

    def mask(self, factors: Factors) -> NDArray[np.uint8]:
        """Which object each pixel shows (image row column): 0 none, else 1 to `most`; of two that overlap, the later.

        A pixel shows an object where its picture is at least half bright: all of a glyph's box, the strokes of a digit.
        """
        shown, where = self.boxes(factors)
        found = np.zeros((len(shown), *self.image_size), np.uint8)
        for each in range(self.config.most):
            found.reshape(-1)[where[:, each][abs(shown[:, each]) >= FULL // 2]] = each + 1
        return found

    def covering(self, factors: Factors) -> NDArray[np.int64]:
        """Which object each patch shows most of (image patch), 1 to `most`; of equals the first, 0 where none has 8 pixels."""
        mask, rows, most = (
            self.mask(factors).reshape(-1),
            self.config.size // CELL,
            self.config.most,
        )
        pixel = np.flatnonzero(mask > 0)
        run = (
            pixel // CELL
        )  # of the pixels of one line and one patch, those of all pictures in order
        patch = run // (rows * CELL) * rows + run % rows
        covered = np.bincount(
            patch * most + mask[pixel] - 1, minlength=len(mask) // CELL**2 * most
        ).reshape(-1, rows**2, most)
        return np.where(covered.max(2) >= LEAST, covered.argmax(2) + 1, 0)

    def objects(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.covering(factors))

    def labels(self, factors: Factors) -> NDArray[np.int64]:
        """The class that each patch shows (image patch): 0 background, else the kind + 1."""
        kinds = np.concatenate([np.zeros_like(factors["kind"][:, :1]), factors["kind"] + 1], 1)
        return np.take_along_axis(kinds, self.covering(factors), 1)


def build_objects(config: ObjectsConfig) -> Task:
    """Which class does each patch show (`patches`), or how many objects are there (`count`)?"""
    world = ObjectsWorld(config)
    patches = config.ask == "patches"
    return Task(
        config=config,
        world=world,
        n_classes=world.n_kinds + 1 if patches else config.most + 1,
        ask=ask_target(world.labels if patches else lambda factors: factors["count"]),
        probe_factors=lambda factors: {
            "count": factors["count"],
            "first_kind": factors["kind"][:, 0],
        },
        baselines=score_baselines,
        output_kind="patch" if patches else "image",
        class_names=("-", "square", "ellipse", "heart")
        if patches and config.source == "dsprites"
        else None,
    )


def score_baselines(batch: Batch) -> dict[str, float]:
    """The commonest class; where patches are asked about, also the commonest class of each place (both of this very batch)."""
    found = score_class_baselines(batch.target)
    if batch.target.ndim == 2:
        share = F.one_hot(batch.target).double().mean(0)
        found["accuracy.position"] = share.amax(1).mean().item()
        found["loss.position"] = -torch.xlogy(share, share).sum(1).mean().item()
    return found
