"""Textures that a process with hidden states emits: an observer has beliefs, and they have a shape.

After Shai 2024, "Transformers represent belief state geometry in their residual stream".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_uniforms, make_noise_keys, make_sample_keys
from toyvit.data.task import Task
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import draw_glyph_bank, render_cells
from toyvit.data.worlds.hidden_states.config import HiddenStatesConfig
from toyvit.data.worlds.markov.world import ask_next, score_strategies

CELL = 4  # pixels a side
Matrices = NDArray[np.float64]  # (texture state next): probabilities of both, given the state


def build_mess3(change: float = 0.05, emission: float = 0.85) -> Matrices:
    """Mess3 (Marzen & Crutchfield 2017): a state goes to each other with `change`.

    The state that is reached emits its own texture with `emission`, each other with half the rest.
    """
    moves = np.full((3, 3), change) + (1 - 3 * change) * np.eye(3)
    other = (1 - emission) / 2
    shows = np.full((3, 3), other) + (emission - other) * np.eye(3)  # next texture
    return np.einsum("sn,nt->tsn", moves, shows)


def build_rrxor() -> Matrices:
    """Random, random, XOR: two bits of a fair coin, then whether they differ, over and over.

    States: nothing known yet; after a first 0, a first 1; the bits alike, not alike.
    """
    matrices = np.zeros((2, 5, 5))
    for first in (0, 1):
        matrices[first, 0, 1 + first] = 0.5
        for second in (0, 1):
            matrices[second, 1 + first, 3 + (first ^ second)] = 0.5
    for answer in (0, 1):
        matrices[answer, 3 + answer, 0] = 1
    return matrices


PROCESSES: dict[str, Callable[[], Matrices]] = {"mess3": build_mess3, "rrxor": build_rrxor}


def find_stationary(matrices: Matrices) -> NDArray[np.float64]:
    """How often each state is visited (state).

    >>> find_stationary(build_mess3()).round(3).tolist()
    [0.333, 0.333, 0.333]
    """
    moves = matrices.sum(0)
    n = len(moves)
    rows = np.concatenate([moves.T - np.eye(n), np.ones((1, n))])
    return np.linalg.lstsq(rows, np.append(np.zeros(n), 1.0), rcond=None)[0]


class HiddenStatesWorld(World):
    """Cells in raster order: at each the state emits a texture and moves on.

    Factors: `state` (the hidden one before each cell, and after the last), `texture` (one a cell),
    `noise_key`.
    """

    name = "hidden-states"
    patch_size = CELL

    def __init__(self, config: HiddenStatesConfig) -> None:
        self.config = config
        self.matrices = PROCESSES[config.process]()
        self.stationary = find_stationary(self.matrices)
        self.n_textures, self.n_states, _ = self.matrices.shape
        self.grid = (config.rows, config.columns)
        self.image_size = (config.rows * CELL, config.columns * CELL)

        self.sizes = dict.fromkeys(("train", "validation", "test"))
        self.factors = {
            "state": self.n_states,
            "texture": self.n_textures,
            "noise_key": 2**63 - 1,
        }
        self.glyphs = draw_glyph_bank(self.n_textures, CELL)

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        draws = draw_uniforms(keys, "walk", self.config.n_cells + 1)
        states, textures = self.walk(draws)
        return {"state": states, "texture": textures, "noise_key": make_noise_keys(keys)}

    def walk(self, draws: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """States (image cell + 1) and textures (image cell), each step by one uniform draw."""
        limits = self.matrices.transpose(1, 0, 2).reshape(self.n_states, -1).cumsum(1)
        state = (draws[:, :1] > self.stationary.cumsum()[:-1]).sum(1)
        states = [state]
        textures = []
        for draw in draws[:, 1:].T:
            outcome = (draw[:, None] > limits[state][:, :-1]).sum(1)
            textures.append(outcome // self.n_states)
            state = outcome % self.n_states
            states.append(state)
        return np.stack(states, 1), np.stack(textures, 1)

    def render(self, factors: Factors) -> Tensor:
        cells = factors["texture"].reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(factors["texture"])

    def compute_beliefs(self, textures: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the textures so far, this cell's among them, tell of the state (image cell state).

        Exact: Bayes' rule from the stationary distribution on.
        """
        belief = np.broadcast_to(self.stationary, (len(textures), self.n_states))
        beliefs = []
        for seen in textures.T:
            joint = np.einsum("is,isn->in", belief, self.matrices[seen])
            belief = joint / joint.sum(1, keepdims=True)
            beliefs.append(belief)
        return np.stack(beliefs, 1)

    def predict_texture(self, beliefs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the next texture, given beliefs about the state (... texture)."""
        return beliefs @ self.matrices.sum(2).T

    def probe_factors(self, factors: Factors) -> Factors:
        return {"state": factors["state"][:, -1], "last": factors["texture"][:, -1]}


def predict_next(world: HiddenStatesWorld, factors: Factors) -> dict[str, Tensor]:
    """What each predictor says of the next cell (image cell texture), NaN at the last.

    `truth` knows the hidden state; `bayes` has exact beliefs about it from all cells so far;
    `last_texture` has them from the last cell alone; `unigram` knows how often each texture is
    shown; `uniform` knows nothing.
    """
    textures = factors["texture"]
    after = np.eye(world.n_states)[factors["state"][:, 1:]]
    alone = world.compute_beliefs(textures.reshape(-1, 1)).reshape(*textures.shape, -1)
    beliefs = {
        "truth": after,
        "bayes": world.compute_beliefs(textures),
        "last_texture": alone,
        "unigram": np.broadcast_to(world.stationary, after.shape),
    }
    answers = {name: _hide_last(world.predict_texture(belief)) for name, belief in beliefs.items()}
    return answers | {"uniform": answers["unigram"] * 0 + 1 / world.n_textures}


def _hide_last(shares: NDArray[np.float64]) -> Tensor:
    """Probabilities as they are said; NaN at the last cell, which has no next."""
    given = torch.from_numpy(shares.astype(np.float32))
    given[:, -1] = torch.nan
    return given


def build_hidden_states(config: HiddenStatesConfig) -> Task:
    """Which texture comes next, asked at every cell but the last?"""
    world = HiddenStatesWorld(config)

    def list_beliefs(factors: Factors) -> Tensor:
        return torch.from_numpy(world.compute_beliefs(factors["texture"]).astype(np.float32))

    return Task(
        config=config,
        world=world,
        n_classes=world.n_textures,
        ask=ask_next,
        probe_factors=world.probe_factors,
        baselines=score_strategies,
        output_kind="patch",
        strategies=lambda factors: predict_next(world, factors),
        beliefs=list_beliefs,
    )
