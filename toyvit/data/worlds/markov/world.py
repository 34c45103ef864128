"""Markov textures: patches drawn from a chain over k textures that is fresh for each picture.

After Edelman 2024.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import gammaln
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import draw_integers, draw_uniforms, make_noise_keys, make_sample_keys
from toyvit.data.task import Batch, Task, accuracy
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import blank_cells, draw_glyph_bank, render_cells
from toyvit.data.worlds.markov.config import MarkovConfig

CELL = 4  # pixels a side


def ask_next(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
    """The pictures, and of each cell the texture of the next; -1 at the last."""
    textures = torch.from_numpy(factors["texture"])
    return images, torch.cat([textures[:, 1:], torch.full_like(textures[:, :1], -1)], 1)


class MarkovWorld(World):
    """Cells in raster order; each cell's texture is drawn given its context.

    Its probabilities are a row of this picture's own, drawn from Dirichlet(1). The context is the
    cell before (`chain`), or the left and the upper cell (`grid`); outside the picture counts as
    one more texture. Factors: `chain` (the key of the rows), `texture` (one a cell), `noise_key`,
    `masked` (the cell that the masked question hides).
    """

    name = "markov"
    patch_size = CELL

    def __init__(self, config: MarkovConfig) -> None:
        self.config = config
        self.grid = (config.rows, config.columns)
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
        n_cells = self.config.n_cells
        chain = make_noise_keys(keys)
        return {
            "chain": chain,
            "texture": self.walk(self.rows(chain), draw_uniforms(keys, "walk", n_cells)),
            "noise_key": chain,
            "masked": draw_integers(keys, "masked", 1, n_cells)[:, 0],
        }

    @property
    def n_contexts(self) -> int:
        n_values = self.config.n_textures + 1
        return n_values if self.config.form == "chain" else n_values * n_values

    def rows(self, chain: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probabilities (image context texture): normalised exponentials, which is Dirichlet(1)."""
        k = self.config.n_textures
        draws = -np.log(draw_uniforms(chain.astype(np.uint64), "rows", self.n_contexts * k))
        rows = draws.reshape(len(chain), self.n_contexts, k)
        return rows / rows.sum(2, keepdims=True)

    def walk(self, rows: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
        """Textures (image cell), each by inverting the cumulative probabilities of its context.

        A line of cells at a time, for a chain all of them: first what each cell would show after
        every texture on its left (cell left image), as its place in the next cell's table, texture
        * images + image; then the places from left to right.
        """
        n = len(rows)
        k = self.config.n_textures
        width = self.config.n_cells if self.config.form == "chain" else self.grid[1]
        limits = rows.cumsum(2)[:, :, :-1].reshape(n, k + 1, -1, k - 1)
        limits = limits.transpose(2, 0, 3, 1)  # above image texture left
        images = np.arange(n)
        above = np.full((1, n), -1)
        lines = []

        for line in draws.T.reshape(-1, width, 1, n):
            given = limits[above, images].transpose(2, 0, 3, 1)  # texture cell left image
            passed = sum(line > limit for limit in np.ascontiguousarray(given))
            following = passed * n + images
            places = np.empty((len(line), n), np.int64)
            place = k * n + images
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

    def ask_masked(self, factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures with one cell blanked, and its texture; -1 at the other cells."""
        textures = torch.from_numpy(factors["texture"])
        hidden = F.one_hot(torch.from_numpy(factors["masked"]), self.config.n_cells).bool()
        return blank_cells(images, hidden, self.grid), textures.masked_fill(~hidden, -1)

    def probe_factors(self, factors: Factors) -> Factors:
        counts = np.eye(self.config.n_textures, dtype=np.int64)[factors["texture"]].sum(1)
        return {"commonest": counts.argmax(1), "last": factors["texture"][:, -1]}


def predict_next(world: MarkovWorld, factors: Factors) -> dict[str, Tensor]:
    """What each predictor says of the next cell, having seen the cells so far.

    (image cell texture), NaN at the last. `truth` knows the rows; `bayes` counts what followed the
    same context, plus one (exact: rows are Dirichlet(1) and independent); `unigram` counts
    textures, plus one; `uniform` knows nothing.
    """
    textures = factors["texture"]
    n, n_cells = textures.shape
    contexts = world.contexts(textures)
    one_hot = np.eye(world.config.n_textures)[textures]
    truth = world.rows(factors["chain"])[np.arange(n)[:, None], contexts]

    is_before = np.tri(n_cells, k=-1, dtype=bool)
    same = (contexts[:, :, None] == contexts[:, None, :]) & is_before
    bayes = 1 + np.einsum("nqp,npk->nqk", same, one_hot)
    unigram = 1 + np.cumsum(one_hot, 1) - one_hot
    weights = {"truth": truth, "bayes": bayes, "unigram": unigram}
    weights["uniform"] = np.ones_like(unigram)
    return {name: _shift_to_asking(weight) for name, weight in weights.items()}


def _shift_to_asking(weights: NDArray[np.float64]) -> Tensor:
    """Probabilities, what is said of cell p + 1 at cell p; NaN at the last cell."""
    shares = weights / weights.sum(2, keepdims=True)
    nothing = np.full_like(shares[:, :1], np.nan)
    return torch.from_numpy(np.concatenate([shares[:, 1:], nothing], 1).astype(np.float32))


def predict_masked(world: MarkovWorld, factors: Factors) -> dict[str, Tensor]:
    """What each predictor says of the hidden cell, having seen all others.

    (image cell texture), NaN at the other cells. `truth` knows the rows; `bayes` weighs each
    filling by its exact marginal likelihood under Dirichlet(1) rows (a product over contexts of
    Dirichlet-multinomials); `unigram` counts the other cells, plus one; `uniform` knows nothing.
    """
    k = world.config.n_textures
    hidden = factors["masked"]
    images = np.arange(len(hidden))
    rows = world.rows(factors["chain"])
    one_hot = np.eye(k)[factors["texture"]]
    one_hot[images, hidden] = 0
    truth = np.empty((len(images), k))
    bayes = np.empty((len(images), k))
    for texture in range(k):
        filled = factors["texture"].copy()
        filled[images, hidden] = texture
        contexts = world.contexts(filled)
        truth[:, texture] = np.log(rows[images[:, None], contexts, filled]).sum(1)
        bayes[:, texture] = _log_marginal(contexts, filled, world.n_contexts, k)

    scores = {"truth": truth, "bayes": bayes, "unigram": np.log(1 + one_hot.sum(1))}
    scores["uniform"] = np.zeros_like(truth)
    predictions = {}
    for name, score in scores.items():
        prediction = torch.full((len(images), world.config.n_cells, k), torch.nan)
        prediction[images, hidden] = torch.from_numpy(score).softmax(1).float()
        predictions[name] = prediction
    return predictions


def _log_marginal(
    contexts: NDArray[np.int64], textures: NDArray[np.int64], n_contexts: int, k: int
) -> NDArray[np.float64]:
    """ln of the probability of each picture's textures, rows integrated out (image)."""
    counts = np.zeros((len(textures), n_contexts, k))
    np.add.at(counts, (np.arange(len(textures))[:, None], contexts, textures), 1)
    by_context = gammaln(counts + 1).sum(2) - gammaln(counts.sum(2) + k)
    return by_context.sum(1) + n_contexts * gammaln(k)


def score_strategies(batch: Batch) -> dict[str, float]:
    """Loss and accuracy of every strategy, and its distance KL(truth, strategy), nats."""
    assert batch.strategies is not None
    asked = batch.target >= 0
    answers = batch.target[asked][:, None]
    truth = batch.strategies["truth"][asked].double()

    scores = {}
    for name, prediction in batch.strategies.items():
        p = prediction[asked].double()
        distance = torch.xlogy(truth, truth) - torch.xlogy(truth, p)
        scores[f"loss.{name}"] = -p.gather(1, answers).log().mean().item()
        scores[f"accuracy.{name}"] = accuracy(prediction, batch.target).item()
        scores[f"kl.{name}"] = distance.sum(1).mean().item()
    return scores


def build_markov(config: MarkovConfig) -> Task:
    """Which texture comes next (`next`), or which is hidden (`masked`)?

    The first is asked at every cell but the last; for the second one cell is blanked.
    """
    world = MarkovWorld(config)
    is_next = config.ask == "next"
    predict = predict_next if is_next else predict_masked

    return Task(
        config=config,
        world=world,
        n_classes=config.n_textures,
        ask=ask_next if is_next else world.ask_masked,
        probe_factors=world.probe_factors,
        baselines=score_strategies,
        output_kind="patch",
        strategies=lambda factors: predict(world, factors),
    )
