"""A folder of small runs, served to a client that holds the token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.report.conftest import CONFIGS
from tests.report.live.asking import BASE, TOKEN
from toyvit.measuring import measure
from toyvit.report.live.app import build_app
from toyvit.report.live.security import HEADER, list_hosts
from toyvit.runs.handle import Run
from toyvit.train import fit


def train(name: str, path: Path, clamps: tuple[str, ...] = ()) -> Path:
    """Six steps of a small run, with two checkpoints."""
    config = CONFIGS[name]()
    training = replace(config.train, steps=6, warmup=2, checkpoints=(0, 6), clamps=clamps)
    fit(replace(config, train=training), path, progress=False)
    return path


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of digits (measured), of a class a patch, of pixels, and on glyphs under a clamp."""
    folder = tmp_path_factory.mktemp("live")
    measure(train("digits", folder / "more/digits"), images=24, progress=False)
    train("chain", folder / "chain")
    train("hidden", folder / "hidden")
    train("glyphs", folder / "matched", ("1.0:match",))
    return folder


@pytest.fixture(scope="session")
def digits(folder: Path) -> Run:
    return Run(folder / "more/digits")


@pytest.fixture(scope="session")
def client(folder: Path) -> TestClient:
    app = build_app(folder, TOKEN, list_hosts("127.0.0.1", 8000))
    return TestClient(app, BASE, headers={HEADER: TOKEN})
