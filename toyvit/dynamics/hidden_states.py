"""A map of training: which hidden states the measures of many seeds pass through, and when.

After Hu et al. (2023, arXiv 2308.09543). The measures of all seeds, z-scored over all checkpoints,
are taken for draws from one of a few Gaussian states, between which training moves as a Markov
chain (a hidden Markov model with diagonal covariances). How many states there are is decided by the
lowest BIC. The map says which states each seed visits, in which order and when.

It describes and does not detect: a smooth curve is cut into as many states as the BIC allows, and
so is correlated noise. How often, beside the detector on the same curves: `rival`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toyvit.dynamics.transitions import Curves
from toyvit.errors import BadInput

if TYPE_CHECKING:
    from hmmlearn.hmm import GaussianHMM

Array = NDArray[np.float64]

MOST_STATES = 6
RESTARTS = 3  # the first from equal stretches of each seed, the others from checkpoints drawn
ITERATIONS = 50
STAYS = 0.9  # chance to stay in a state from one checkpoint to the next, at the start of a fit


@dataclass(frozen=True)
class TrainingMap:
    """The hidden states of many seeds; states are numbered by the mean step of their checkpoints.

    n_states   of the lowest BIC
    bic        by number of states, the lower the better
    centres    mean of each measure in each state, in its own unit: a row a state
    spreads    the standard deviations that z-scores are in, of each measure over all checkpoints
    paths      the likeliest state at each checkpoint (Viterbi), over steps: a series a seed
    """

    n_states: int
    bic: pd.Series
    centres: pd.DataFrame
    spreads: pd.Series
    paths: tuple[pd.Series, ...]

    def list_moves(self) -> pd.DataFrame:
        """Every change of state, a row each.

        seed            place of the seed among those given
        step            first checkpoint in the new state
        before, after   states
        jump            distance of their centres, z-scores: the largest over the measures
        lasts           whether the state before is never visited again by this seed
        """
        rows = []
        for seed, path in enumerate(self.paths):
            states = path.tolist()
            for place, (before, after) in enumerate(pairwise(states), 1):
                if before == after:
                    continue
                apart = (self.centres.loc[after] - self.centres.loc[before]) / self.spreads
                lasts = before not in states[place:]
                rows.append((seed, path.index[place], before, after, apart.abs().max(), lasts))
        return pd.DataFrame(rows, columns=["seed", "step", "before", "after", "jump", "lasts"])

    def list_orders(self) -> list[tuple[int, ...]]:
        """The states that each seed visits, in order, without repetition in a row."""
        starts = [path[path.diff() != 0] for path in self.paths]
        return [tuple(states.tolist()) for states in starts]

    def list_detours(self) -> list[int]:
        """States that some seeds visit and others leave out."""
        visited = [set(path) for path in self.paths]
        everywhere = set.intersection(*visited)
        return sorted(set.union(*visited) - everywhere)


def fit_states(
    seeds: Sequence[Curves], most: int = MOST_STATES, restarts: int = RESTARTS
) -> TrainingMap:
    """The hidden states of the measures of several seeds: 1 to `most` of them are tried.

    A measure is a curve over steps; those of a seed are over the same steps, those of two seeds
    need not be. The same curves give the same states. BadInput without seeds, for seeds of
    different measures, values that are not finite, fewer checkpoints than states; and without
    hmmlearn.
    """
    tables = _tabulate_seeds(seeds)
    lengths = [len(table) for table in tables]
    if not 1 <= most <= min(lengths):
        raise BadInput(f"{min(lengths)} checkpoints have 1 to {min(lengths)} states, got {most}")

    whole = pd.concat(tables)
    spreads = whole.std(ddof=0).replace(0, 1)
    scores = ((whole - whole.mean()) / spreads).to_numpy(float)
    models = {n: _fit_model(scores, lengths, n, restarts) for n in range(1, most + 1)}
    bic = pd.Series({n: model.bic(scores, lengths) for n, model in models.items()})
    n_states = int(np.argmin(bic.to_numpy())) + 1

    model = models[n_states]
    states = model.predict(scores, lengths)
    order = _order_states(states, whole.index.to_numpy(float), n_states)
    centres = pd.DataFrame(model.means_[order], columns=whole.columns) * spreads + whole.mean()
    places = np.argsort(order)[states]
    ends = np.cumsum(lengths)
    paths = [
        pd.Series(places[end - len(table) : end], table.index)
        for table, end in zip(tables, ends, strict=True)
    ]
    return TrainingMap(n_states, bic, centres, spreads, tuple(paths))


def _tabulate_seeds(seeds: Sequence[Curves]) -> list[pd.DataFrame]:
    """The measures of each seed side by side, the same for all."""
    tables = [_tabulate(curves, seed) for seed, curves in enumerate(seeds)]
    if not tables:
        raise BadInput("hidden states are those of seeds, and there are none")
    names = list(map(str, tables[0]))
    for seed, table in enumerate(tables):
        if (others := list(map(str, table))) != names:
            raise BadInput(
                f"seed {seed} has {', '.join(others)}, but seed 0 has {', '.join(names)}"
            )
    return tables


def _tabulate(curves: Curves, seed: int) -> pd.DataFrame:
    """The measures of a seed side by side, by name."""
    if not curves:
        raise BadInput(f"seed {seed} has no measures")
    first = next(iter(curves.values()))
    if not all(curve.index.equals(first.index) for curve in curves.values()):
        raise BadInput(f"the measures of seed {seed} must be over the same steps")
    table = pd.DataFrame(dict(curves)).sort_index(axis=1)
    if not np.isfinite(table.to_numpy(float)).all():
        raise BadInput(f"seed {seed} has values that are not finite: leave those steps out")
    return table


def _order_states(states: NDArray[np.intp], steps: Array, n_states: int) -> NDArray[np.intp]:
    """The states in the order of the mean step at which they are visited, the unvisited last."""
    means = np.full(n_states, np.inf)
    for state in np.unique(states):
        means[state] = steps[states == state].mean()
    return np.argsort(means, kind="stable")


def _fit_model(scores: Array, lengths: Sequence[int], n: int, restarts: int) -> GaussianHMM:
    """The likeliest model of n states over several starts (expectation maximisation)."""
    best = None
    for start in range(restarts if n > 1 else 1):
        model = _start_model(scores, lengths, n, start)
        model.fit(scores, lengths)
        likelihood = model.score(scores, lengths)
        if best is None or likelihood > best[0]:
            best = (likelihood, model)
    assert best is not None, "there is a start"
    return best[1]


def _start_model(scores: Array, lengths: Sequence[int], n: int, start: int) -> GaussianHMM:
    """States that training tends to stay in, in the first start of equal stretches of each seed."""
    try:
        from hmmlearn.hmm import GaussianHMM
    except ImportError:
        raise BadInput("hidden states need hmmlearn: pip install 'toyvit[hmm]'") from None

    # It warns where rounding, or its prior of the variances, costs a little likelihood.
    logging.getLogger("hmmlearn.base").setLevel(logging.ERROR)
    model = GaussianHMM(n, n_iter=ITERATIONS, init_params="")
    model.startprob_ = np.full(n, 1 / n)
    model.transmat_ = np.full((n, n), (1 - STAYS) / max(n - 1, 1))
    np.fill_diagonal(model.transmat_, STAYS if n > 1 else 1)
    model.covars_ = np.ones((n, scores.shape[1]))

    if start:
        rows = np.random.default_rng(start).choice(len(scores), n, replace=False)
        model.means_ = scores[rows]
    else:
        stretch = np.concatenate([np.arange(length) * n // length for length in lengths])
        model.means_ = np.stack([scores[stretch == state].mean(axis=0) for state in range(n)])
    return model
