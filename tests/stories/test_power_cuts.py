"""What a power cut or a kill at the start leaves: the config is flushed first, names are free."""

from __future__ import annotations

import os

import pytest

from tests.stories.processes import contents, train_here
from toyvit.errors import BadInput

STEPS = ("--train.steps", "4")


@pytest.fixture
def flushed(monkeypatch):
    """Numbers of the files and folders that were flushed, in order."""
    numbers = []
    fsync = os.fsync

    def note(descriptor):
        numbers.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    return numbers


def test_a_config_is_flushed_before_all_else_and_the_names_of_states_are(flushed, tmp_path):
    run = train_here(tmp_path / "run", *STEPS)
    config, folder, states = (
        path.stat().st_ino for path in (run / "config.json", run, run / "states")
    )
    assert flushed[:2] == [config, folder]
    last = (run / "states/step_00000004.pt").stat().st_ino
    assert flushed[flushed.index(last) + 1] == states


def test_what_a_killed_start_leaves_blocks_no_name_and_is_removed(tmp_path):
    """Killed before its config was whole, and later beside a state and a checkpoint."""
    whole = train_here(tmp_path / "whole", *STEPS)
    run = tmp_path / "run"
    for name in ("checkpoints", "states"):
        (run / name).mkdir(parents=True)
    (run / "lock").touch()
    (run / "config.json.7-0123abcd.part").write_text('{"run":')
    train_here(run, *STEPS)
    kinds = ("checkpoints/*", "manifest.jsonl")
    assert contents(run, *kinds) == contents(whole, *kinds)
    assert not list(run.rglob("*.part"))


def test_a_folder_with_something_of_its_own_is_still_no_run(tmp_path):
    for name in ("checkpoints/note", "note", "note.7-0123abcd.part"):
        run = tmp_path / name.replace("/", "-")
        (run / name).parent.mkdir(parents=True)
        (run / name).touch()
        with pytest.raises(BadInput, match="exists and is not a run folder"):
            train_here(run, *STEPS)
        assert (run / name).exists()
