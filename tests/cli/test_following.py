"""TensorBoard files without torch: the summaries are torch's, and one process follows all runs."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard.summary import custom_scalars, text

from toyvit.cli.following import follow
from toyvit.recipes import RECIPES
from toyvit.runs.disk import format_line
from toyvit.runs.events import EVENTS, LAYOUT, build_layout, build_text, hold
from toyvit.runs.folder import RunFolder

ROOT = Path(__file__).parents[2]


def test_texts_and_layouts_are_those_of_torch():
    assert build_text("config", "    é\n**b**") == text("config", "    é\n**b**")
    lists = {
        category: {title: ["Multiline", [pattern]] for title, pattern in charts.items()}
        for category, charts in LAYOUT.items()
    }
    assert build_layout(LAYOUT) == custom_scalars(lists)


@pytest.fixture
def folders(tmp_path):
    """Three runs that have begun, and no checkpoint."""
    folders = [RunFolder(tmp_path / name) for name in ("a", "b", "c")]
    for folder in folders:
        folder.create(RECIPES["induction-smoke"]())
    return folders


def note(folder: RunFolder, step: int) -> None:
    with folder.metrics.open("a") as file:
        file.write(format_line({"step": step, "loss": 1 / step}, folder.hash_run()))


def read_steps(folder: RunFolder) -> list[int]:
    shown = EventAccumulator(str(folder.tensorboard), size_guidance={"scalars": 0}).Reload()
    assert "config/text_summary" in shown.Tags()["tensors"]
    return [event.step for event in shown.Scalars("Training/loss")]


def test_one_process_follows_all_runs_from_when_they_begin(folders):
    """Each is followed to the end; one that never begins is not touched."""
    first, second, never = folders
    turns = []

    with ExitStack() as training:

        def ended() -> bool:
            turns.append(1)
            if len(turns) == 2:
                training.enter_context(first.lock())
            if len(turns) == 3:
                training.enter_context(second.lock())
            if len(turns) >= 2:
                note(first, len(turns))
                note(second, len(turns))
            return len(turns) == 4

        follow([folder.path for folder in folders], ended)
    assert read_steps(first) == read_steps(second) == [2, 3, 4]
    assert len(list(first.tensorboard.glob(EVENTS))) == 1
    assert not never.tensorboard.exists()


def test_files_of_before_are_replaced_unless_another_process_writes_them(folders):
    folder, other, _ = folders
    for path in (folder.tensorboard, other.tensorboard):
        path.mkdir()
        (path / "events.out.tfevents.0.old.1.0").write_bytes(b"old")
    note(folder, 1)
    with folder.lock(), other.lock(), hold(other.tensorboard):
        follow([folder.path, other.path], lambda: True)
    assert read_steps(folder) == [1]
    assert [path.read_bytes() for path in other.tensorboard.glob(EVENTS)] == [b"old"]
    assert all(path.read_bytes() != b"old" for path in folder.tensorboard.glob(EVENTS))


@pytest.mark.slow
def test_a_follower_needs_neither_torch_nor_pandas_before_there_are_measures(folders):
    folder = folders[0]
    note(folder, 1)
    code = (
        "import sys\nfrom pathlib import Path\nfrom toyvit.cli.following import follow\n"
        "follow([Path(sys.argv[1])], lambda: True)\n"
        "print(*{'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    )
    with folder.lock():
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder.path)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "\n"
    assert read_steps(folder) == [1]
