"""A run on a folder of pictures, from training to its page: names of classes as they may come."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.data.picture_trees import save_pixels
from toyvit.__main__ import main
from toyvit.cli import single_runs
from toyvit.report.picture_attention import draw_cls_attention
from toyvit.report.tensorboard import draw_pictures
from toyvit.runs.handle import Run

NAMES = ("<script>alert(1)<", "a\n\u202eb", "$x_1$")
SHOWN = ("$x_1$", "<script>alert(1)<", "a\\n\\u202eb")  # in sorted order


def plant(folder: Path) -> Path:
    """The class is how bright the left is; an object is in the middle, its pair has another."""
    rng = np.random.default_rng(0)
    for number in range(60):
        label = number % 3
        pixels = rng.integers(0, 50, (8, 12), dtype=np.uint8)
        name = f"{number:02d}.png"
        for part, bright in (("pictures", label), ("pairs", (label + 1) % 3)):
            changed = pixels.copy()
            changed[:, :4] += np.uint8(90 * bright)
            save_pixels(folder / part / NAMES[bright] / name, changed)
        mask = np.zeros((8, 12), np.uint8)
        mask[:4, 4:8] = 1
        save_pixels(folder / "masks" / NAMES[label] / name, mask)
    return folder


def list_options(folder: Path, runs: Path) -> list[str]:
    options = {
        "--runs": str(runs),
        "--task.folder": str(folder / "pictures"),
        "--task.masks": str(folder / "masks"),
        "--task.pairs": str(folder / "pairs"),
        "--model.n_layers": "1",
        "--model.n_heads": "2",
        "--train.steps": "60",
        "--train.checkpoints": "0,60",
        "--train.batch_size": "16",
        "--train.learning_rate": "0.003",
        "--train.n_validation": "6",
    }
    return list(chain.from_iterable(options.items()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the run and its pictures."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_runs, "start_follower", nullcontext)  # it is tested by itself
        plant(folder / "data")
        words = ["train", "classify", *list_options(folder / "data", folder / "runs")]
        assert main(words) == 0
        measure = ["measure", str(folder / "runs/classify"), "--steps", "last"]
        assert main(measure) == 0
        assert main([*measure, "--analyses", "patching"]) == 0
    return folder


@pytest.mark.slow
def test_what_needs_masks_and_pairs_is_measured(trained):
    run = Run.open(trained / "runs/classify")
    assert run.config.task.patch_size == 4
    names = set(run.table["analysis"])
    assert {"object_attention", "patching", "attribution"} <= names
    assert run.batch("test", 6).objects.unique(dim=0).tolist() == [[0, 1, 0, 0, 0, 0]]


@pytest.mark.slow
def test_a_circuit_is_found_between_counterparts(trained, capsys):
    assert main(["circuit", str(trained / "runs/classify")]) == 0
    assert "own" in capsys.readouterr().out


@pytest.mark.slow
def test_class_names_are_on_the_page_and_in_figures(trained):
    assert main(["report", str(trained / "runs/classify"), "--all"]) == 0
    page = (trained / "runs/classify/figures/page.html").read_text()
    assert NAMES[0] not in page and NAMES[1] not in page and "\u202e" not in page
    assert all(name in page for name in ("$x_1$", "alert(1)"))
    (names,) = set(re.findall(r'"names":(\["\$x_1.*?\])', page))
    assert json.loads(names) == list(SHOWN)


@pytest.mark.slow
def test_class_names_are_in_tensorboard(trained):
    run = Run.open(trained / "runs/classify")
    assert run.task.class_names == SHOWN
    title = draw_cls_attention(run, steps=[60]).blocks[0].title
    assert any(f"answers {name} with" in title for name in SHOWN)
    pictures = list(draw_pictures(run))
    assert {tag for tag, *_ in pictures} == {"attention patterns", "CLS attention"}


@pytest.mark.slow
def test_a_finished_run_is_the_same_where_its_folder_was_moved(trained, tmp_path, capsys):
    shutil.copytree(trained / "data", tmp_path / "data")
    words = ["train", "classify", "--resume"]
    assert main([*words, *list_options(tmp_path / "data", trained / "runs")]) == 0
    mask = next((tmp_path / "data/masks").rglob("*.png"))
    save_pixels(mask, np.ones((8, 12), np.uint8))
    capsys.readouterr()
    assert main([*words, *list_options(tmp_path / "data", trained / "runs")]) == 2
    printed = capsys.readouterr().err
    assert "holds another config (task.folder" in printed and printed.count("\n") == 1
