"""Small measured runs of five tasks that between them have every figure, each made when it is first
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.browser import ARGUMENTS, find_browser
from toyvit.config import RunConfig
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run
from toyvit.train import fit

CHECKPOINTS = (0, 5, 10, 20)
TINY = {"d_model": 16, "n_heads": 2}


def shrink(recipe: str, model: dict[str, object], task: dict[str, object]) -> RunConfig:
    """A recipe with a small model, of twenty steps."""
    run = RECIPES[recipe]()
    training = replace(
        run.train, steps=20, warmup=8, batch_size=16, n_validation=16, checkpoints=CHECKPOINTS
    )
    return replace(
        run, train=training, model=replace(run.model, **model), task=replace(run.task, **task)
    )


CONFIGS: dict[str, Callable[[], RunConfig]] = {
    "glyphs": lambda: shrink("induction-smoke", {}, {}),
    "digits": lambda: shrink("digits", TINY | {"d_mlp": 16}, {}),
    "hidden": lambda: shrink("reconstruct", TINY, {}),
    "chain": lambda: shrink("markov", TINY, {"rows": 4, "columns": 4}),
    "sums": lambda: shrink("addition", TINY | {"d_mlp": 16}, {"modulus": 7}),
}
SLOW = {
    "glyphs": ["edges", "patching", "attention_knockout"],
    "digits": ["attention_knockout", "gradient_noise"],
}


class SmallRuns(dict[str, Run]):
    """Runs by the names of `CONFIGS`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Run:
        path = self.folder / name
        fit(CONFIGS[name](), path, progress=False)
        measure(path, images=24, progress=False)
        if name in SLOW:
            measure(path, images=24, analyses=SLOW[name], progress=False)
        self[name] = Run(path)
        return self[name]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SmallRuns:
    return SmallRuns(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS))
        yield browser
        browser.close()
