"""What each notebook reads: which runs, which measures, and the small runs that will do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from toyvit.config import RunConfig
from toyvit.recipes import RECIPES


@dataclass(frozen=True, kw_only=True)
class Need:
    """Runs that a notebook can read.

    name      of the folder in `runs/prepared`
    what      in words
    variable  of the environment: names another folder
    full      the folder of the full run, in `runs`
    command   that makes it
    fits      whether a run is of the kind
    config    of the small run
    analyses  that must be measured, at most `images` pictures in the small run
    least     checkpoints
    seeds     of the small runs; n_runs is how many there must be at least
    seconds   that the small runs take on a quiet machine
    """

    name: str
    what: str
    variable: str
    full: str
    command: str
    fits: Callable[[RunConfig], bool]
    config: Callable[[], RunConfig]
    analyses: tuple[str, ...]
    seconds: int
    least: int = 10
    images: int = 256
    seeds: tuple[int, ...] = (0,)
    n_runs: int = 1


def _thin(config: RunConfig, every: int, early: tuple[int, ...] = (1, 4, 16)) -> RunConfig:
    """A run with fewer checkpoints: trained and measured sooner."""
    steps = config.train.steps
    kept = sorted({*early, *range(0, steps + 1, every)})
    return replace(config, train=replace(config.train, checkpoints=tuple(kept)))


def build_glyphs() -> RunConfig:
    """Visual induction on 4 x 4 glyphs, 500 steps, a checkpoint every 10."""
    return _thin(RECIPES["induction-smoke"](), 10)


def build_digits() -> RunConfig:
    """scikit-learn's digits in patches of 2 x 2, 600 steps, a checkpoint every 25."""
    config = RECIPES["digits"]()
    return _thin(replace(config, train=replace(config.train, steps=600)), 25)


def asks_for_labels(config: RunConfig) -> bool:
    """Two attention-only layers on pictures of item-label pairs."""
    return config.task.name == "induction" and config.model.n_layers == 2


def names_digits(config: RunConfig) -> bool:
    """Handwritten digits, read from CLS."""
    digits = getattr(config.task, "world", "") in ("digits", "mnist")
    return config.task.name == "classify" and digits and config.model.cls_token


def adds(config: RunConfig) -> bool:
    """Modular addition."""
    return config.task.name == "addition"


def build_sums() -> RunConfig:
    """Sums modulo 29, 1,000 steps, a checkpoint every 20: groks near step 600."""
    config = RECIPES["addition"]()
    return _thin(
        replace(
            config,
            task=replace(config.task, modulus=29),
            train=replace(config.train, steps=1000, batch_size=672, learning_rate=5e-3),
        ),
        20,
        (4, 8, 12, 16),
    )


_PAIRS = Need(
    name="induction",
    what="two attention-only layers trained on pictures of item-label pairs",
    variable="TOYVIT_RUN",
    full="train-toy/induction",
    command="make train-toy",
    fits=asks_for_labels,
    config=RECIPES["induction-smoke"],
    analyses=("performance", "induction", "attention", "composition", "head_ablation", "lens"),
    least=40,  # fewer, and the detector of abrupt changes refuses
    seconds=20,
)
NEEDS = {
    need.name: need
    for need in (
        _PAIRS,
        Need(
            name="digits",
            what="handwritten digits read from CLS",
            variable="TOYVIT_RUN",
            full="train-mnist/mnist-mlp",
            command="make train-mnist",
            fits=names_digits,
            config=build_digits,
            analyses=(
                "performance",
                "probes",
                "attention",
                "head_ablation",
                "lens",
                "attribution",
                "weights",
            ),
            seconds=20,
        ),
        Need(
            name="addition",
            what="modular addition, two seeds or more",
            variable="TOYVIT_SWEEP",
            full="addition",
            command="toyvit sweep addition --seeds 0..4 --analyses fourier",
            fits=adds,
            config=build_sums,
            analyses=("performance", "fourier"),
            seeds=(0, 1),
            n_runs=2,
            seconds=25,
        ),
        replace(
            _PAIRS,
            name="seeds",
            what="item-label pairs, three seeds or more",
            variable="TOYVIT_SWEEP",
            full="induction",
            command="toyvit sweep induction --seeds 0..9 --analyses performance,induction",
            config=build_glyphs,
            analyses=("performance", "induction"),
            seeds=(0, 1, 2),
            n_runs=3,
            seconds=25,
        ),
    )
}
