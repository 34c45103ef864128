"""Markov textures: patches drawn from a Markov chain over k textures, the chain fresh for each picture (after Edelman 2024)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor

from toyvit.data.random import draw_integers, draw_uniforms, make_sample_keys
from toyvit.data.task import Batch, Task, accuracy
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import draw_glyph_bank, render_cells
from toyvit.data.worlds.markov.config import MarkovConfig

CELL = 4  # pixels a side


class MarkovWorld(World):
    """Cells in raster order; each cell's texture is drawn given its context, from a row of probabilities of this picture's own.

    The context is the cell before (`chain`), or the left and the upper cell (`grid`); outside the picture counts as one more
    texture. Every row is drawn from Dirichlet(1). Factors: `chain` (the key of the rows), `texture` (one a cell), `noise_key`.
    """

    name = "markov"
    patch_size = CELL

    def __init__(self, config: MarkovConfig) -> None:
        self.config, self.grid = config, (config.rows, config.columns)
        self.image_size = (config.rows * CELL, config.columns * CELL)
        self.sizes = dict.fromkeys(("train", "validation", "test"))
        self.factors = {
            "chain": 2**63 - 1,
            "texture": config.n_textures,
            "noise_key": 2**63 - 1,
            "masked": config.n_cells,
        }
        self.glyphs = draw_glyph_bank(config.n_textures, CELL)

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        chain = (keys >> np.uint64(1)).astype(np.int64)
        return {
            "chain": chain,
            "texture": self.walk(
                self.rows(chain), draw_uniforms(keys, "walk", self.config.n_cells)
            ),
            "noise_key": chain,
            "masked": draw_integers(keys, "masked", 1, self.config.n_cells)[:, 0],
        }

    @property
    def n_contexts(self) -> int:
        k = self.config.n_textures + 1
        return k if self.config.form == "chain" else k * k

    def rows(self, chain: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities (image context texture): normalised exponentials, which is Dirichlet(1)."""
        k = self.config.n_textures
        draws = -np.log(draw_uniforms(chain.astype(np.uint64), "rows", self.n_contexts * k))
        rows = draws.reshape(len(chain), self.n_contexts, k)
        return rows / rows.sum(2, keepdims=True)

    def walk(self, rows: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Textures (image cell), each drawn by inverting the cumulative probabilities of its context.

        A line of cells at a time, for a chain all of them: first what each cell would show after every texture on its left
        (cell left image), as its place in the next cell's table, texture * images + image; then the places from left to right.
        """
        n, k = len(rows), self.config.n_textures
        limits = (
            rows.cumsum(2)[:, :, :-1].reshape(n, k + 1, -1, k - 1).transpose(2, 0, 3, 1)
        )  # above image texture left
        every, above, lines = np.arange(n), np.full((1, n), -1), []
        for line in draws.T.reshape(
            -1, self.config.n_cells if self.config.form == "chain" else self.grid[1], 1, n
        ):
            given = np.ascontiguousarray(
                limits[above, every].transpose(2, 0, 3, 1)
            )  # texture cell left image
            following = sum(line > limit for limit in given) * n + every
            places, place = np.empty((len(line), n), np.int64), k * n + every
            for follows, here in zip(following, places, strict=True):
                place = follows.take(place, out=here, mode="clip")
            above = places // n
            lines.append(above)
        return np.concatenate(lines).T.copy()

    def context(self, textures: NDArray[np.int64], cell: int) -> NDArray[np.int64]:
        """The context of one cell (image): textures before it, the border where there are none."""
        border = np.full(len(textures), self.config.n_textures)
        if self.config.form == "chain":
            return textures[:, cell - 1] if cell else border
        left = textures[:, cell - 1] if cell % self.grid[1] else border
        above = textures[:, cell - self.grid[1]] if cell >= self.grid[1] else border
        return left * (self.config.n_textures + 1) + above

    def contexts(self, textures: NDArray[np.int64]) -> NDArray[np.int64]:
        """The context of every cell (image cell)."""
        return np.stack([self.context(textures, cell) for cell in range(textures.shape[1])], 1)

    def render(self, factors: Factors) -> Tensor:
        cells = factors["texture"].reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(factors["texture"])


def predict_next(world: MarkovWorld, factors: Factors) -> dict[str, Tensor]:
    """What each predictor says of the next cell, having seen the cells so far: (image cell texture), NaN at the last.

    `truth` knows the rows; `bayes` counts what followed the same context, plus one (exact: rows are Dirichlet(1) and
    independent); `unigram` counts textures, plus one; `uniform` knows nothing.
    """
    k, textures = world.config.n_textures, factors["texture"]
    contexts, seen = world.contexts(textures), np.eye(k)[textures]
    truth = world.rows(factors["chain"])[np.arange(len(textures))[:, None], contexts]
    same = (contexts[:, :, None] == contexts[:, None, :]) & np.tri(
        textures.shape[1], k=-1, dtype=bool
    )
    bayes = 1 + np.einsum("nqp,npk->nqk", same, seen)
    unigram = 1 + np.cumsum(seen, 1) - seen
    found = {"truth": truth, "bayes": bayes, "unigram": unigram, "uniform": np.ones_like(unigram)}
    return {
        name: torch.from_numpy(_for_next(said / said.sum(2, keepdims=True)))
        for name, said in found.items()
    }


def _for_next(said: NDArray[np.float64]) -> NDArray[np.float32]:
    """What is said of cell p + 1 stands at cell p; the last cell, after which nothing comes, is NaN."""
    return np.concatenate([said[:, 1:], np.full_like(said[:, :1], np.nan)], 1).astype(np.float32)


def predict_masked(world: MarkovWorld, factors: Factors) -> dict[str, Tensor]:
    """What each predictor says of the hidden cell, having seen all others: (image cell texture), NaN at the other cells.

    `truth` knows the rows; `bayes` weighs each filling by its exact marginal likelihood under Dirichlet(1) rows (a product over
    contexts of Dirichlet-multinomials); `unigram` counts the other cells, plus one.
    """
    k, every = world.config.n_textures, np.arange(len(factors["texture"]))
    rows, seen = world.rows(factors["chain"]), np.eye(k)[factors["texture"]]
    seen[every, factors["masked"]] = 0
    truth, bayes = np.empty((len(every), k)), np.empty((len(every), k))
    for texture in range(k):
        filled = factors["texture"].copy()
        filled[every, factors["masked"]] = texture
        contexts = world.contexts(filled)
        truth[:, texture] = np.log(rows[every[:, None], contexts, filled]).sum(1)
        bayes[:, texture] = _marginal(contexts, filled, world.n_contexts, k)
    scores = {
        "truth": truth,
        "bayes": bayes,
        "unigram": np.log(1 + seen.sum(1)),
        "uniform": np.zeros_like(truth),
    }
    out = {}
    for name, score in scores.items():
        said = torch.full((len(every), world.config.n_cells, k), torch.nan)
        said[every, factors["masked"]] = torch.from_numpy(score).softmax(1).float()
        out[name] = said
    return out


def _marginal(
    contexts: NDArray[np.int64], textures: NDArray[np.int64], n_contexts: int, k: int
) -> NDArray[np.float64]:
    """ln of the probability of each picture's textures, rows integrated out (image)."""
    counts = np.zeros((len(textures), n_contexts, k))
    np.add.at(counts, (np.arange(len(textures))[:, None], contexts, textures), 1)
    return (gammaln(counts + 1).sum(2) - gammaln(counts.sum(2) + k)).sum(1) + n_contexts * gammaln(
        k
    )


def build_markov(config: MarkovConfig) -> Task:
    """Which texture comes next (`next`, asked at every cell but the last), or which is hidden (`masked`, one cell blanked)?"""
    world = MarkovWorld(config)
    strategies = predict_next if config.ask == "next" else predict_masked

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        textures = torch.from_numpy(factors["texture"])
        if config.ask == "next":
            return images, torch.cat([textures[:, 1:], torch.full_like(textures[:, :1], -1)], 1)
        hidden = torch.nn.functional.one_hot(
            torch.from_numpy(factors["masked"]), config.n_cells
        ).bool()
        blank = (
            hidden.unflatten(1, world.grid).repeat_interleave(CELL, 1).repeat_interleave(CELL, 2)
        )
        return images.masked_fill(blank[:, None], 0), textures.masked_fill(~hidden, -1)

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        counts = np.eye(config.n_textures, dtype=np.int64)[factors["texture"]].sum(1)
        return {"commonest": counts.argmax(1), "last": factors["texture"][:, -1]}

    return Task(
        config=config,
        world=world,
        n_classes=config.n_textures,
        ask=ask,
        probe_factors=probe_factors,
        baselines=score_strategies,
        output_kind="patch",
        strategies=lambda factors: strategies(world, factors),
    )


def score_strategies(batch: Batch) -> dict[str, float]:
    """Loss and accuracy of every strategy, and its distance KL(truth, strategy) to the truth, nats."""
    assert batch.strategies is not None
    asked = batch.target >= 0
    found, truth = {}, batch.strategies["truth"][asked].double()
    for name, said in batch.strategies.items():
        p = said[asked].double()
        found[f"loss.{name}"] = -p.gather(1, batch.target[asked][:, None]).log().mean().item()
        found[f"accuracy.{name}"] = accuracy(said, batch.target).item()
        found[f"kl.{name}"] = (
            (torch.xlogy(truth, truth) - torch.xlogy(truth, p)).sum(1).mean().item()
        )
    return found
