"""Damaged, swapped and foreign files are named, never used, and never stop the rest."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from toyvit.__main__ import main
from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table
from toyvit.runs.manifest import name_checkpoint
from toyvit.train import fit

OTHER = ModelConfig(
    n_layers=1, n_heads=1, d_model=8, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    config = RECIPES["induction-smoke"]()
    training = replace(config.train, steps=20, batch_size=8, n_validation=16, checkpoints=(5, 10))
    path = tmp_path_factory.mktemp("whole") / "run"
    return fit(replace(config, train=training), path, progress=False).path


@pytest.fixture
def folder(whole, tmp_path):
    return RunFolder(shutil.copytree(whole, tmp_path / "run"))


def file(folder: RunFolder, step: int) -> Path:
    return folder.checkpoints / name_checkpoint(step)


def truncated(folder):
    file(folder, 5).write_bytes(file(folder, 5).read_bytes()[:-10])
    return {5}


def flipped(folder):
    content = bytearray(file(folder, 5).read_bytes())
    content[len(content) // 2] ^= 1
    file(folder, 5).write_bytes(content)
    return {5}


def swapped(folder):
    five = file(folder, 5).read_bytes()
    ten = file(folder, 10).read_bytes()
    file(folder, 5).write_bytes(ten)
    file(folder, 10).write_bytes(five)
    return {5, 10}


def foreign(folder):
    other = RunFolder(folder.path.parent / "other")
    other.checkpoints.mkdir(parents=True)
    other.write_checkpoint(5, 0, ViT(OTHER).state_dict(), {"loss": 1.0, "accuracy": 0.0})
    shutil.copy(file(other, 5), file(folder, 5))
    return {5}


def missing(folder):
    file(folder, 5).unlink()
    return {5}


@pytest.mark.parametrize("damage", [truncated, flipped, swapped, foreign, missing])
def test_bad_checkpoints_are_listed_refused_and_left_out(folder, capsys, damage):
    bad = damage(folder)
    names = {file(folder, step).name for step in bad}
    words = ["measure", str(folder.path), "--images", "16", "--analyses", "performance"]
    assert main(["verify", str(folder.path)]) == 2
    listed = capsys.readouterr().out.splitlines()
    assert {Path(line.split()[0]).name for line in listed} == names

    with pytest.raises(BadInput, match=r"step_000000(05|10)"):
        Run(folder.path).model(min(bad))
    assert main(words) == 2
    assert "--skip-corrupt" in capsys.readouterr().err
    assert main([*words, "--skip-corrupt"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in names)
    assert set(load_table(folder.path)["step"]) == {0, 5, 10, 20} - bad


def test_a_checkpoint_of_another_model_with_a_line_of_its_own(folder):
    """Whole, and described by the manifest, but not weights of this run's model."""
    foreign(folder)
    (other,) = RunFolder(folder.path.parent / "other").read_manifest()
    lines = folder.manifest.read_text().splitlines(keepends=True)
    lines = [other.line if json.loads(line)["step"] == 5 else line for line in lines]
    folder.manifest.write_text("".join(lines))
    assert folder.verify() == {}
    with pytest.raises(BadInput, match="does not fit this run's model"):
        Run(folder.path).model(5)
    with pytest.raises(BadInput, match="does not fit this run's model"):
        measure(folder.path, images=16, progress=False)


def test_a_file_that_the_manifest_does_not_know(folder):
    shutil.copy(file(folder, 5), file(folder, 7))
    assert folder.verify() == {file(folder, 7).name: "is not in the manifest"}


CONFIGS = (
    "{",
    "[]",
    "{}",
    '{"run": {"recipe": "x", "model": {"n_lyers": 2}}}',
    '{"run": {"recipe": "x", "task": {"name": "induction"}, "train": {"steps": "many"}}}',
)
MANIFESTS = ("nonsense\n", '{"step": 5}\n')
NO_DATABASE = "no database, but long enough to look like one" * 20
BOOKS = (
    *(("config.json", content, ("measure", "verify", "ls")) for content in CONFIGS),
    *(("manifest.jsonl", content, ("measure", "verify", "ls")) for content in MANIFESTS),
    ("measures.sqlite", NO_DATABASE, ("measure", "report")),
)


@pytest.mark.parametrize(("name", "content", "commands"), BOOKS, ids=lambda part: str(part)[:40])
def test_damaged_books_are_one_line(folder, capsys, name, content, commands):
    (folder.path / name).write_text(content)
    for command in commands:
        assert main([command, str(folder.path.parent if command == "ls" else folder.path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert name in error
