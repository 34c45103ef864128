"""The world `stripes`: its factors, their rendering, and its task."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_integers, draw_normals, make_sample_keys
from toyvit.data.task import Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World
from toyvit_stripes.config import StripesConfig

N_PHASES = 64


class StripesWorld(World):
    """Stripes from -1 to +1 with normal noise on every pixel.

    Factors: `orientation` (0 to n - 1, over half a turn), `phase` (in 1/64 of a period),
    `noise_key` (the key of the pixel noise).
    """

    name = "stripes"

    def __init__(self, config: StripesConfig) -> None:
        self.config = config
        self.image_size = (config.size, config.size)
        self.sizes = dict.fromkeys(("train", "validation", "test"))
        self.factors = {
            "orientation": config.n_orientations,
            "phase": N_PHASES,
            "noise_key": 2**63 - 1,
        }

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        return {
            "orientation": draw_integers(keys, "orientation", 1, self.config.n_orientations)[:, 0],
            "phase": draw_integers(keys, "phase", 1, N_PHASES)[:, 0],
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def render(self, factors: Factors) -> Tensor:
        config = self.config
        angle = np.pi * factors["orientation"] / config.n_orientations
        row, column = np.indices(self.image_size)
        along = (
            np.cos(angle)[:, None, None] * column + np.sin(angle)[:, None, None] * row
        ) / config.period
        phase = factors["phase"][:, None, None] / N_PHASES
        images = np.sin(2 * np.pi * (along + phase)).astype(np.float32)[:, None]
        if config.noise:
            keys = factors["noise_key"].astype(np.uint64)
            noise = draw_normals(keys, "pixels", config.size**2, config.noise)
            images = images + noise.reshape(images.shape)
        return torch.from_numpy(images)


def build_stripes(config: StripesConfig) -> Task:
    """Which way do the stripes run?"""
    world = StripesWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return factors["orientation"]

    return Task(
        config=config,
        world=world,
        n_classes=config.n_orientations,
        ask=ask_target(target),
        probe_factors=lambda factors: {"orientation": factors["orientation"]},
        baselines=lambda batch: score_class_baselines(batch.target),
        counterfactuals={"orientation": flip_answer(world, "orientation", target)},
    )
