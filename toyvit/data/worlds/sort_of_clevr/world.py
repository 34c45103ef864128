"""Sort-of-CLEVR (Santoro 2017): six coloured squares and circles, and a question about one.

About it alone, or among the others.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.placement import list_box_pixels, place_apart
from toyvit.data.random import (
    Keys,
    draw_integers,
    draw_normals,
    draw_order,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Batch, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.sort_of_clevr.config import SortOfClevrConfig
from toyvit.data.worlds.sort_of_clevr.questions import (
    ANSWERS,
    N_PLAIN,
    QUESTIONS,
    predict_from_bag,
    score_expected,
    tabulate_question,
)

# Pixels that objects lie on; the height by the side of a patch, of which the last row is the
# question's.
HEIGHTS = {8: 56, 16: 64}
WIDTH = 64
SIDE = 9  # pixels of an object's box
COLUMNS = WIDTH - SIDE + 1  # of corners: an even number, so that none is in the middle
BEYOND = 2 * WIDTH**2 + 1  # squared pixels: farther apart than any two objects
RADIUS = 4.3  # pixels, of a circle
COLOURS = ("red", "green", "blue", "orange", "grey", "yellow")
RGB = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0.6, 0], [0.5, 0.5, 0.5], [1, 1, 0]], np.float32
)


def draw_shapes() -> NDArray[np.bool_]:
    """A square and a circle (shape pixel)."""
    place = np.arange(SIDE) - SIDE // 2
    circle = np.hypot(place[:, None], place) <= RADIUS
    return np.stack([np.ones_like(circle), circle]).reshape(2, -1)


def measure_distances(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Squared distance in pixels between the middles of two objects (image object object)."""
    row, column = np.divmod(places, COLUMNS)
    return (row[:, :, None] - row[:, None]) ** 2 + (column[:, :, None] - column[:, None]) ** 2


def mark_untied(places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each object has one closest and one farthest object (image)."""
    order = np.sort(measure_distances(places), 2)
    one_closest = order[:, :, 1] < order[:, :, 2]
    one_farthest = order[:, :, -2] < order[:, :, -1]
    return np.asarray((one_closest & one_farthest).all(1))


class SortOfClevrWorld(World):
    """64 x 64 pixels, red green blue, 0 to 1, on black: six objects and, below, a question.

    With patches of 16 pixels there are 80 lines. There is one object of each colour, or of some
    colours, the one asked about among them. They are squares or circles of 9 pixels and do not
    overlap; each has one closest and one farthest object. The last patch is the question: its upper
    half shows the colour asked about; of the four bars below, the first is white if the question is
    relational, and one of the others for the first, second or third of its kind.

    Factors: `there` (1: an object has it), `shape` and `place` (the corner's row * 56 + column) of
    each colour, `colour` asked about, `question` (0 to 2 alone, 3 to 5 relational), `noise_key`.
    Some combinations (colour, question) may be held out: no other split asks them, `held_out` asks
    nothing else; each colour and each question loses as many, to within one.
    """

    name = "sort-of-clevr"
    n_channels = 3

    def __init__(self, config: SortOfClevrConfig) -> None:
        self.config = config
        self.patch_size = config.cell
        height = HEIGHTS[config.cell]
        self.image_size = (height + config.cell, WIDTH)
        self.corners = (height - SIDE + 1, COLUMNS)  # an even number of each, see `COLUMNS`

        splits = ("train", "validation", "test")
        n_held = len(self.combinations[True])
        self.sizes = dict.fromkeys(add_held_out(splits, config.held_out, n_held))
        self.factors = {
            "there": 2,
            "shape": 2,
            "place": self.corners[0] * self.corners[1],
            "colour": len(COLOURS),
            "question": len(QUESTIONS),
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def questions(self) -> range:
        """The questions that are asked."""
        return {
            "both": range(len(QUESTIONS)),
            "non-relational": range(N_PLAIN),
            "relational": range(N_PLAIN, len(QUESTIONS)),
        }[self.config.ask]

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Combinations (colour, question) that are held out (True) and that are not.

        One round after the other: each asks every colour once, and every question as often.
        """
        n = len(self.questions)
        n_colours = len(COLOURS)
        key = make_sample_keys(0, "sort-of-clevr pairs", np.array([n]))
        colour = np.tile(draw_order(key, "colour", n_colours)[0], n)
        shift = (np.arange(n_colours) + np.arange(n)[:, None]) % n
        table = np.stack([colour, (self.questions.start + shift).ravel()], 1)
        n_held = round(self.config.held_out * len(table))
        return {True: table[:n_held], False: table[n_held:]}

    def _draw_questions(
        self, keys: Keys, split: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Colours and questions; independent draws where nothing is held out."""
        if len(self.combinations[True]):
            combinations = self.combinations[split == "held_out"]
            numbers = draw_integers(keys, "pair", 1, len(combinations))[:, 0]
            colour, question = combinations[numbers].T
            return colour, question
        question = self.questions.start + draw_integers(keys, "question", 1, len(self.questions))
        return draw_integers(keys, "colour", 1, len(COLOURS))[:, 0], question[:, 0]

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        colour, question = self._draw_questions(keys, split)
        there, place = self._draw_places(keys, colour)
        return {
            "there": there,
            "shape": draw_integers(keys, "shape", len(COLOURS), 2),
            "place": place,
            "colour": colour,
            "question": question,
            "noise_key": make_noise_keys(keys),
        }

    def _draw_places(
        self, keys: Keys, asked: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which colours objects have, and where they are (image colour); 0 where there is none."""
        n = self.config.n_objects
        places = place_apart(keys, n, self.corners, SIDE, mark_untied if n > 2 else None)
        if n == len(COLOURS):
            return np.ones_like(places), places

        rank = draw_order(keys, "present", len(COLOURS))
        np.put_along_axis(rank, asked[:, None], -1, 1)  # the one asked about is there
        colours = rank.argsort(1)[:, :n]
        there = np.zeros_like(rank)
        np.put_along_axis(there, colours, 1, 1)
        by_colour = np.zeros_like(rank)
        np.put_along_axis(by_colour, colours, places, 1)
        return there, by_colour

    def render(self, factors: Factors) -> Tensor:
        n = len(factors["colour"])
        images = np.zeros((n, 3, *self.image_size), np.float32)
        self._paint_objects(images, factors)
        self._paint_question(images, factors)
        if self.config.noise:
            keys = factors["noise_key"].astype(np.uint64)
            noise = draw_normals(keys, "pixels", images[0].size, self.config.noise)
            images += noise.reshape(images.shape)
        return torch.from_numpy(images)

    @staticmethod
    def _paint_objects(images: NDArray[np.float32], factors: Factors) -> None:
        n = len(images)
        inside = draw_shapes()[factors["shape"]] & (factors["there"] == 1)[:, :, None]
        first = images[0].size * np.arange(n)[:, None, None]
        where = (first + list_box_pixels(factors["place"], COLUMNS, SIDE, WIDTH))[inside]
        colour = np.repeat(np.tile(np.arange(len(COLOURS)), n), inside.sum(2).ravel())
        for channel in range(3):
            images.reshape(-1)[where + channel * images[0, 0].size] = RGB[colour, channel]

    def _paint_question(self, images: NDArray[np.float32], factors: Factors) -> None:
        n = len(images)
        side = self.config.cell
        half = side // 2
        kind, which = np.divmod(factors["question"], N_PLAIN)
        images[:, :, -side:-half, -side:] = RGB[factors["colour"]][:, :, None, None]
        bars = images[:, :, -half:, -side:].reshape(n, 3, half, 4, side // 4)
        bars[:, :, :, 0] = kind[:, None, None, None]
        bars[np.arange(n), :, :, 1 + which] = 1

    def relations(self, factors: Factors) -> dict[str, NDArray[np.int64]]:
        """The colours of the objects closest to the one asked about and farthest from it.

        Of two as far, the first.
        """
        images = np.arange(len(factors["colour"]))
        distance = measure_distances(factors["place"])[images, factors["colour"]]
        is_absent = factors["there"] == 0
        farthest = np.where(is_absent, -1, distance).argmax(1)
        distance[is_absent] = BEYOND
        distance[images, factors["colour"]] = BEYOND
        return {"closest": distance.argmin(1), "farthest": farthest}

    def list_answers(self, factors: Factors) -> NDArray[np.int64]:
        """The answer to each question about the object asked about (image question)."""
        images = np.arange(len(factors["colour"]))
        shape = factors["shape"]
        own = shape[images, factors["colour"]]
        related = self.relations(factors)
        row, column = np.divmod(factors["place"][images, factors["colour"]], COLUMNS)

        answers = [
            own,
            2 + (column >= COLUMNS // 2),
            2 + (row >= self.corners[0] // 2),
            shape[images, related["closest"]],
            shape[images, related["farthest"]],
            3 + ((shape == own[:, None]) & (factors["there"] == 1)).sum(1),
        ]
        return np.stack(answers, 1)

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """The answer to the question asked (image)."""
        return self.list_answers(factors)[np.arange(len(factors["colour"])), factors["question"]]

    def probe_factors(self, factors: Factors) -> Factors:
        answers = self.list_answers(factors)
        row, column = np.divmod(factors["place"], COLUMNS)
        is_there = factors["there"] == 1

        return {
            "colour": factors["colour"],
            "question": factors["question"],
            "relational": factors["question"] // N_PLAIN,
            "shape": answers[:, 0],
            "closest": answers[:, 3],
            "farthest": answers[:, 4],
            "same_shape": answers[:, 5] - 3,
            "squares": ((factors["shape"] == 0) & is_there).sum(1),
            "on_left": ((column < COLUMNS // 2) & is_there).sum(1),
            "on_top": ((row < self.corners[0] // 2) & is_there).sum(1),
        }


def build_sort_of_clevr(config: SortOfClevrConfig) -> Task:
    """One of six questions about the object of one colour; ten answers, see `ANSWERS`."""
    world = SortOfClevrWorld(config)

    def baselines(batch: Batch) -> dict[str, float]:
        table = torch.from_numpy(tabulate_question(config.n_objects))
        by_question = table[batch.factors["question"]]
        return {
            **score_class_baselines(batch.target),
            **score_expected("question", by_question),
            **score_expected("bag_of_objects", predict_from_bag(batch, config.n_objects)),
        }

    return Task(
        config=config,
        world=world,
        n_classes=len(ANSWERS),
        class_names=ANSWERS,
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=baselines,
        # Where some colours are not there, another may have no answer.
        counterfactuals={"colour": flip_answer(world, "colour", world.answers)}
        if config.n_objects == len(COLOURS)
        else {},
    )
