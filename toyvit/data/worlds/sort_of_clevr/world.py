"""Sort-of-CLEVR (Santoro 2017): six coloured squares and circles, and a question about one, alone or among the others."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.placement import list_box_pixels, place_apart
from toyvit.data.random import draw_integers, draw_normals, draw_subsets, make_sample_keys
from toyvit.data.task import Batch, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.sort_of_clevr.config import SortOfClevrConfig

CELL = 8  # pixels a side of a patch; the last patch is the question
HEIGHT, WIDTH = 56, 64  # pixels that objects lie on
SIDE = 9  # pixels of an object's box
CORNERS = (
    HEIGHT - SIDE + 1,
    WIDTH - SIDE + 1,
)  # an even number of each: no object is in the middle, and each half as likely
RADIUS = 4.3  # pixels, of a circle
COLOURS = ("red", "green", "blue", "orange", "grey", "yellow")
RGB = np.array(
    [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0.6, 0], [0.5, 0.5, 0.5], [1, 1, 0]], np.float32
)
QUESTIONS = (
    "shape",
    "left",
    "top",
    "shape of the closest",
    "shape of the farthest",
    "number of its shape",
)
N_PLAIN = 3  # questions about the object alone come first, then the relational ones
ANSWERS = ("square", "circle", "yes", "no", "1", "2", "3", "4", "5", "6")
# The probability of each answer (question answer) to one who sees only the question: shapes are fair coins, left and top
# halves mirror images, and of the five other objects Binomial(5, 1/2) share the shape.
KNOWING = np.zeros((len(QUESTIONS), len(ANSWERS)))
KNOWING[[0, 3, 4], :2] = KNOWING[1:3, 2:4] = 1 / 2
KNOWING[5, 4:] = np.array([1, 5, 10, 10, 5, 1]) / 32
# And (question, number, answer) to one who also knows how many of the six are squares (or left, or at the top), but not which:
# any of them may be the one that is asked about, or its closest, or its farthest.
BAG = np.zeros((len(QUESTIONS), 7, len(ANSWERS)))
for number in range(7):
    BAG[[0, 3, 4], number, :2] = BAG[1:3, number, 2:4] = number / 6, 1 - number / 6
    BAG[5, number, 3 + number] += number / 6
    BAG[5, number, 9 - number] += 1 - number / 6


def draw_shapes() -> NDArray[np.bool_]:
    """A square and a circle (shape pixel)."""
    place = np.arange(SIDE) - SIDE // 2
    circle = np.hypot(place[:, None], place) <= RADIUS
    return np.stack([np.ones_like(circle), circle]).reshape(2, -1)


def measure_distances(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Squared distance in pixels between the middles of any two objects (image object object)."""
    row, column = np.divmod(places, CORNERS[1])
    return (row[:, :, None] - row[:, None]) ** 2 + (column[:, :, None] - column[:, None]) ** 2


def mark_untied(places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each object has one closest and one farthest object (image)."""
    order = np.sort(measure_distances(places), 2)
    return np.asarray(
        ((order[:, :, 1] < order[:, :, 2]) & (order[:, :, -2] < order[:, :, -1])).all(1)
    )


class SortOfClevrWorld(World):
    """64 x 64 pixels, red green blue, 0 to 1, on black: six objects, one of each colour, and a question below.

    Objects are squares or circles of 9 pixels and do not overlap; each has one closest and one farthest object. The last patch
    is the question: its upper half shows the colour asked about; of the four bars below, the first is white if the question is
    relational, and one of the others for the first, second or third of its kind. Factors: `shape` and `place` (the corner's
    row * 56 + column) of each colour, `colour` asked about, `question` (0 to 2 alone, 3 to 5 relational), `noise_key`. Some pairs
    (colour, question) may be held out: no other split asks them, `held_out` asks nothing else; each colour and each question
    loses as many, to within one.
    """

    name = "sort-of-clevr"
    image_size = (HEIGHT + CELL, WIDTH)
    n_channels = 3
    patch_size = CELL

    def __init__(self, config: SortOfClevrConfig) -> None:
        self.config = config
        self.sizes = dict.fromkeys(
            add_held_out(
                ("train", "validation", "test"), config.held_out, len(self.combinations[True])
            )
        )
        objects = {"shape": 2, "place": CORNERS[0] * CORNERS[1]}
        self.factors = objects | {
            "colour": len(COLOURS),
            "question": len(QUESTIONS),
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def questions(self) -> range:
        """The questions that are asked."""
        first, n = {
            "both": (0, 6),
            "non-relational": (0, N_PLAIN),
            "relational": (N_PLAIN, N_PLAIN),
        }[self.config.ask]
        return range(first, first + n)

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Pairs (colour, question) that are held out (True) and that are not."""
        n, n_colours = len(self.questions), len(COLOURS)
        colour = draw_subsets(
            make_sample_keys(0, "sort-of-clevr pairs", np.array([n])),
            "colour",
            n_colours,
            n_colours,
        )[0]
        shift = np.arange(n)[
            :, None
        ]  # one round after the other: each asks every colour once, and every question as often
        every = np.stack(
            [
                np.tile(colour, n),
                (self.questions.start + (np.arange(n_colours) + shift) % n).ravel(),
            ],
            1,
        )
        n_held = round(self.config.held_out * len(every))
        return {True: every[:n_held], False: every[n_held:]}

    def _asked(
        self, keys: NDArray[np.uint64], split: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Colours and questions; independent draws where nothing is held out."""
        if len(self.combinations[True]):
            pairs = self.combinations[split == "held_out"]
            colour, question = pairs[draw_integers(keys, "pair", 1, len(pairs))[:, 0]].T
            return colour, question
        question = self.questions.start + draw_integers(keys, "question", 1, len(self.questions))
        return draw_integers(keys, "colour", 1, len(COLOURS))[:, 0], question[:, 0]

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        colour, question = self._asked(keys, split)
        return {
            "shape": draw_integers(keys, "shape", len(COLOURS), 2),
            "place": place_apart(keys, len(COLOURS), CORNERS, SIDE, mark_untied),
            "colour": colour,
            "question": question,
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def render(self, factors: Factors) -> Tensor:
        n, (kind, which) = len(factors["colour"]), np.divmod(factors["question"], N_PLAIN)
        images = np.zeros((n, 3, *self.image_size), np.float32)
        inside = draw_shapes()[factors["shape"]]
        first = images[0].size * np.arange(n)[:, None, None]
        where = (first + list_box_pixels(factors["place"], CORNERS[1], SIDE, WIDTH))[inside]
        colour = np.repeat(np.tile(np.arange(len(COLOURS)), n), inside.sum(2).ravel())
        for channel in range(3):
            images.reshape(-1)[where + channel * images[0, 0].size] = RGB[colour, channel]
        images[:, :, -CELL : -CELL // 2, -CELL:] = RGB[factors["colour"]][:, :, None, None]
        bars = images[:, :, -CELL // 2 :, -CELL:].reshape(n, 3, CELL // 2, 4, 2)
        bars[:, :, :, 0] = kind[:, None, None, None]
        bars[np.arange(n), :, :, 1 + which] = 1
        if self.config.noise:
            keys = factors["noise_key"].astype(np.uint64)
            images += draw_normals(keys, "pixels", images[0].size, self.config.noise).reshape(
                images.shape
            )
        return torch.from_numpy(images)

    def relations(self, factors: Factors) -> dict[str, NDArray[np.int64]]:
        """The colours of the objects closest to the one asked about and farthest from it; of two as far, the first."""
        every = np.arange(len(factors["colour"]))
        far = measure_distances(factors["place"])[every, factors["colour"]]
        farthest = far.argmax(1)
        far[every, factors["colour"]] = HEIGHT**2 + WIDTH**2
        return {"closest": far.argmin(1), "farthest": farthest}

    def list_answers(self, factors: Factors) -> NDArray[np.int64]:
        """The answer to each question about the object asked about (image question)."""
        shape, every = factors["shape"], np.arange(len(factors["colour"]))
        own, related = shape[every, factors["colour"]], self.relations(factors)
        row, column = np.divmod(factors["place"][every, factors["colour"]], CORNERS[1])
        found = [own, 2 + (column >= CORNERS[1] // 2), 2 + (row >= CORNERS[0] // 2)]
        found += [shape[every, related["closest"]], shape[every, related["farthest"]]]
        return np.stack([*found, 3 + (shape == own[:, None]).sum(1)], 1)


def build_sort_of_clevr(config: SortOfClevrConfig) -> Task:
    """One of six questions about the object of one colour; ten answers, see `ANSWERS`."""
    world = SortOfClevrWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return world.list_answers(factors)[np.arange(len(factors["colour"])), factors["question"]]

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        answers, (row, column) = (
            world.list_answers(factors),
            np.divmod(factors["place"], CORNERS[1]),
        )
        return {
            "colour": factors["colour"],
            "question": factors["question"],
            "relational": factors["question"] // N_PLAIN,
            "shape": answers[:, 0],
            "closest": answers[:, 3],
            "farthest": answers[:, 4],
            "same_shape": answers[:, 5] - 3,
            "squares": (factors["shape"] == 0).sum(1),
            "on_left": (column < CORNERS[1] // 2).sum(1),
            "on_top": (row < CORNERS[0] // 2).sum(1),
        }

    return Task(
        config=config,
        world=world,
        n_classes=len(ANSWERS),
        class_names=tuple(map(str, ANSWERS)),
        ask=ask_target(target),
        probe_factors=probe_factors,
        baselines=lambda batch: {
            **score_class_baselines(batch.target),
            **score_expected("question", torch.from_numpy(KNOWING)[batch.factors["question"]]),
            **score_expected("bag_of_objects", score_bag_of_objects(batch)),
        },
        counterfactuals={"colour": flip_answer(world, "colour", target)},
    )


def score_bag_of_objects(batch: Batch) -> Tensor:
    """What is said (image answer) by who sees the question and all objects, but not which of them is asked about: see `BAG`."""
    counts = torch.stack(
        [batch.factors[name] for name in ("squares", "on_left", "on_top", *["squares"] * 3)], 1
    )
    question = batch.factors["question"]
    return torch.from_numpy(BAG)[question, counts[torch.arange(len(question)), question]]


def score_expected(name: str, said: Tensor) -> dict[str, float]:
    """Accuracy and loss of what is said (image answer), where answers come as often as is said."""
    entropy = -torch.xlogy(said, said).sum(1)
    return {f"accuracy.{name}": said.amax(1).mean().item(), f"loss.{name}": entropy.mean().item()}
