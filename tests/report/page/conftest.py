"""A browser (Chromium), and pages of small runs. What uses them runs with `make test-page`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.report.conftest import CONFIGS, SmallRuns
from tests.report.page.opened import Opened
from tests.report.planted import plant, shrink, train, write_arrays
from toyvit.data.task import resolve_config
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.report import compute_figures
from toyvit.report.page.document import write_page
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.train import fit


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Opened]]:
    """Opens a file without a network; at the end no page may have said or fetched anything."""
    opened: list[Opened] = []

    def open_file(file: Path, **options: object) -> Opened:
        opened.append(Opened(browser, file, **options))
        return opened[-1]

    yield open_file
    for page in opened:
        page.close()
        assert page.problems == []


@pytest.fixture(scope="session")
def glyphs_page(runs: SmallRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run on glyphs, digits beside it."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    main, beside = runs["glyphs"], runs["digits"]
    figures = [figure.data for figure in compute_figures(main)]
    return write_page([main, beside], file, {main.path: figures})


@pytest.fixture(scope="session")
def glyphs(runs: SmallRuns) -> Run:
    return runs["glyphs"]


@pytest.fixture(scope="session")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An untrained run with CLS and six registers before two by four patches, not measured."""
    path = tmp_path_factory.mktemp("prefixed")
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 16), dtype=np.uint8)
    np.savez(path / "own.npz", images=images, labels=np.arange(40) % 4)
    config = CONFIGS["digits"]()
    task = replace(config.task, npz=str(path / "own.npz"), world="")
    model = replace(config.model, patch_size=4, n_registers=6)
    resolved = resolve_config(replace(config, model=model, task=task))
    folder = RunFolder(path / "prefixed")
    folder.create(resolved)
    weights = ViT(resolved.model).state_dict()
    folder.write_checkpoint(20, 0, weights, {"loss": 1.0, "accuracy": 0.25})
    return Run(folder.path)


@pytest.fixture(scope="session")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Glyphs on a canvas, the class of every patch; ten steps of training."""
    config = RECIPES["objects"]()
    training = replace(config.train, steps=10, warmup=2, batch_size=16, checkpoints=(0, 10))
    model = replace(config.model, n_heads=1, d_model=16, d_mlp=0)
    task = replace(config.task, source="glyphs", size=24)
    path = tmp_path_factory.mktemp("masks") / "masks"
    fit(replace(config, train=training, model=model, task=task), path, progress=False)
    measure(path, images=24, analyses=["segmentation"], progress=False)
    return Run(path)


@pytest.fixture(scope="session")
def heads_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of four heads, whose scores are planted: 0.1, 0.2, 0.4 to 0.6, 0.8 and 0.9."""
    folder = tmp_path_factory.mktemp("heads")
    config = shrink(write_arrays(folder / "own.npz"))
    model = replace(config.model, n_layers=2, n_heads=4)
    run = train(folder / "run", replace(config, model=model))
    values = (0.1, 0.2, 0.4, 0.5, 0.55, 0.6, 0.8, 0.9)
    rows = [
        ("corner", {"layer": place // 4, "head": place % 4}, value)
        for place, value in enumerate(values)
    ]
    plant(run, {"attention": rows})
    return write_page([run], folder / "page.html")


@pytest.fixture(scope="session")
def mixed_page(runs: SmallRuns, prefixed: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs unlike each other: answers that are pixels, classes patch by patch, and one class."""
    file = tmp_path_factory.mktemp("mixed") / "page.html"
    return write_page([runs["hidden"], runs["chain"], prefixed], file)


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of 257 tokens and 12 heads in 2 layers, untrained."""
    from bench.large_run import make_large_run

    folder = tmp_path_factory.mktemp("large")
    return write_page([make_large_run(folder / "run")], folder / "page.html")
