"""Objects on a canvas: one to three glyphs, digits or shapes at any pixel, with their masks."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.placement import list_box_pixels, place_apart
from toyvit.data.random import draw_integers, draw_normals, make_noise_keys, make_sample_keys
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
# Pixels of an object that a patch must show to carry its class: an eighth of the patch.
LEAST = CELL


class Stamps(NamedTuple):
    """Pictures of objects, sorted by split and class, in 1/1020."""

    pictures: NDArray[np.int16]  # picture pixel
    first: NDArray[np.int64]  # split class: where the class's pictures begin
    number: NDArray[np.int64]  # split class: how many they are


def _halve(pictures: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Sums of 2 x 2 pixels (picture row column)."""
    n, rows, columns = pictures.shape
    blocks = pictures.reshape(n, rows // 2, 2, columns // 2, 2)
    return blocks.sum((2, 4), dtype=np.int16)


def _stamp_glyphs() -> Stamps:
    pictures = (FULL * draw_glyph_bank(N_GLYPHS)).astype(np.int16)
    return Stamps(
        pictures=pictures.reshape(N_GLYPHS, -1),
        first=np.tile(np.arange(N_GLYPHS), (len(SPLITS), 1)),
        number=np.ones((len(SPLITS), N_GLYPHS), np.int64),
    )


def _stamp_dsprites() -> Stamps:
    """Every shape at its three largest scales and 39 orientations.

    Halved to 32 x 32, its middle cut out.
    """
    shape, scale, turn = np.meshgrid(np.arange(3), np.arange(3, 6), np.arange(39), indexing="ij")
    numbers = drawing.encode_factors(
        {"shape": shape, "scale": scale, "orientation": turn, "x": 15, "y": 15}
    ).ravel()
    middle = slice(16 - SIDE // 2, 16 + SIDE // 2)
    pictures = 255 * _halve(drawing.draw_images(numbers))[:, middle, middle]

    n_each = len(numbers) // 3
    return Stamps(
        pictures=pictures.reshape(len(numbers), -1),
        first=np.tile(n_each * np.arange(3), (len(SPLITS), 1)),
        number=np.full((len(SPLITS), 3), n_each),
    )


def _stamp_digits() -> Stamps:
    """Every digit of MNIST's own splits."""
    sums, first = load_small_digits()
    return Stamps(
        pictures=sums.reshape(len(sums), -1),
        first=first[:-1].reshape(-1, 10),
        number=np.diff(first).reshape(-1, 10),
    )


@lru_cache
def load_stamps(source: str) -> Stamps:
    """All pictures of a source's objects, read or drawn once a process."""
    stamp = {"glyphs": _stamp_glyphs, "mnist": _stamp_digits, "dsprites": _stamp_dsprites}
    return stamp[source]()


class ObjectsWorld(World):
    """A square canvas with 1 to `most` objects of random classes at random pixels.

    Their boxes do not overlap. Glyphs are ink +1 and paper -1, digits and shapes 0 to 1, the canvas
    0; normal noise on every pixel. The digits of a split are MNIST's own of that split. Factors:
    `count`, and of each object (the first `count` are shown) its `kind`, its `picture` (how far
    into the pictures of its class, in 1/65536) and its `place` (the corner's row * columns +
    column); `split`; `noise_key`.

    Some combinations (class, quarter of the canvas) may be held out: no object of another split is
    one of them, every object of `held_out` is (its digits are those of `test`). All quarters lose
    as many classes, all classes as many quarters or one more.
    """

    name = "objects"
    patch_size = CELL

    def __init__(self, config: ObjectsConfig) -> None:
        self.config = config
        self.stamps = load_stamps(config.source)
        self.image_size = (config.size, config.size)
        self.side = CELL if config.source == "glyphs" else SIDE
        self.corners = config.size - self.side + 1  # a row
        self.n_kinds = self.stamps.first.shape[1]
        if round(config.held_out * self.n_kinds) == self.n_kinds:
            raise BadInput(
                f"task.held_out {config.held_out:g} of {self.n_kinds} classes leaves none for "
                "training"
            )

        n_held = self.kinds[True].size
        self.sizes = dict.fromkeys(add_held_out(SPLITS, config.held_out, n_held))
        self.factors = {
            "count": config.most + 1,
            "kind": self.n_kinds,
            "picture": FIRST,
            "place": self.corners**2,
            "split": len(SPLITS),
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def kinds(self) -> dict[bool, NDArray[np.int64]]:
        """The classes (quarter class) that a quarter holds out (True), and those it does not."""
        n_held = round(self.config.held_out * self.n_kinds)
        first = n_held * np.arange(QUARTERS)[:, None]
        order = (first + np.arange(self.n_kinds)) % self.n_kinds
        return {True: order[:, :n_held], False: np.sort(order[:, n_held:], 1)}

    def quarter(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """The quarter of the canvas that a place is in: 0 and 1 above, 0 and 2 on the left."""
        row, column = np.divmod(place, self.corners)
        return 2 * (2 * row >= self.corners) + (2 * column >= self.corners)

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        most = self.config.most
        place = place_apart(keys, most, (self.corners, self.corners), self.side)
        kinds = self.kinds[split == "held_out"]
        drawn_from = min(SPLITS.index("test"), list(self.sizes).index(split))

        return {
            "count": 1 + draw_integers(keys, "count", 1, most)[:, 0],
            "kind": kinds[self.quarter(place), draw_integers(keys, "kind", most, kinds.shape[1])],
            "picture": draw_integers(keys, "picture", most, FIRST),
            "place": place,
            "split": np.full(len(keys), drawn_from),
            "noise_key": make_noise_keys(keys),
        }

    def boxes(self, factors: Factors) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
        """What each object's box shows, and where in the batch of pictures (image object pixel).

        In 1/1020; zeros for objects that are not there.
        """
        split = factors["split"][:, None]
        kind = factors["kind"]
        into_class = factors["picture"] * self.stamps.number[split, kind] // FIRST
        pictures = self.stamps.pictures[self.stamps.first[split, kind] + into_class]
        is_there = np.arange(self.config.most) < factors["count"][:, None]

        size = self.config.size
        pixels = list_box_pixels(factors["place"], self.corners, self.side, size)
        first = size**2 * np.arange(len(kind))[:, None, None]
        return pictures * is_there[:, :, None].astype(np.int16), first + pixels

    def render(self, factors: Factors) -> Tensor:
        shown, where = self.boxes(factors)
        keys = factors["noise_key"].astype(np.uint64)
        images = draw_normals(keys, "pixels", self.config.size**2, self.config.noise)
        flat = images.reshape(-1)
        bright = shown * np.float32(1 / FULL)
        for each in range(self.config.most):
            flat[where[:, each]] += bright[:, each]
        return torch.from_numpy(images.reshape(len(keys), 1, *self.image_size))

    def mask(self, factors: Factors) -> NDArray[np.uint8]:
        """Which object each pixel shows (image row column): 0 none, else 1 to `most`.

        Of two that overlap, the later. A pixel shows an object where its picture is at least half
        bright: all of a glyph's box, the strokes of a digit.
        """
        shown, where = self.boxes(factors)
        mask = np.zeros((len(shown), *self.image_size), np.uint8)
        for each in range(self.config.most):
            is_bright = abs(shown[:, each]) >= FULL // 2
            mask.reshape(-1)[where[:, each][is_bright]] = each + 1
        return mask

    def covering(self, factors: Factors) -> NDArray[np.int64]:
        """Which object each patch shows most of (image patch), 1 to `most`.

        Of equals the first, 0 where none has 8 pixels.
        """
        mask = self.mask(factors).reshape(-1)
        rows = self.config.size // CELL
        most = self.config.most
        n_patches = len(mask) // CELL**2
        pixel = np.flatnonzero(mask > 0)

        # The pixels of one line and one patch are a run; runs of all pictures are in order.
        run = pixel // CELL
        patch = run // (rows * CELL) * rows + run % rows
        slot = patch * most + mask[pixel] - 1
        covered = np.bincount(slot, minlength=n_patches * most).reshape(-1, rows**2, most)
        return np.where(covered.max(2) >= LEAST, covered.argmax(2) + 1, 0)

    def objects(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.covering(factors))

    def labels(self, factors: Factors) -> NDArray[np.int64]:
        """The class that each patch shows (image patch): 0 background, else the kind + 1."""
        background = np.zeros_like(factors["kind"][:, :1])
        kinds = np.concatenate([background, factors["kind"] + 1], 1)
        return np.take_along_axis(kinds, self.covering(factors), 1)


def build_objects(config: ObjectsConfig) -> Task:
    """Which class does each patch show (`patches`), or how many objects are there (`count`)?"""
    world = ObjectsWorld(config)
    by_patch = config.ask == "patches"
    names = ("-", "square", "ellipse", "heart")

    def count(factors: Factors) -> NDArray[np.int64]:
        return factors["count"]

    def probe_factors(factors: Factors) -> Factors:
        return {"count": factors["count"], "first_kind": factors["kind"][:, 0]}

    return Task(
        config=config,
        world=world,
        n_classes=world.n_kinds + 1 if by_patch else config.most + 1,
        ask=ask_target(world.labels if by_patch else count),
        probe_factors=probe_factors,
        baselines=score_baselines,
        output_kind="patch" if by_patch else "image",
        class_names=names if by_patch and config.source == "dsprites" else None,
    )


def score_baselines(batch: Batch) -> dict[str, float]:
    """The commonest class; where patches are asked about, also the commonest class of each place.

    Both are those of this very batch.
    """
    scores = score_class_baselines(batch.target)
    if batch.target.ndim == 2:
        share = F.one_hot(batch.target).double().mean(0)
        scores["accuracy.position"] = share.amax(1).mean().item()
        scores["loss.position"] = -torch.xlogy(share, share).sum(1).mean().item()
    return scores
