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


def build_line(step, name=None, **changes):
    """A line of the manifest as it could be."""
    fields = {"step": step, "samples": 0, "file": name or name_checkpoint(step), "bytes": 1}
    fields |= {"sha256": "0", "loss": 1.0, "accuracy": 0.0, "weight_norm": 1.0}
    return json.dumps(fields | changes) + "\n"


ENDLESS = "[" * 100_000
HUGE = "9" * 5_000
CONFIGS = (
    "{",
    b"\xff\xfe{}",
    ENDLESS,
    f'{{"run": {HUGE}}}',
    '{"run": NaN}',
    '{"run": {}, "run": {}}',
    '{"model_type": "vit"}',
    '{"run": 7, "versions": {}}',
    '{"run": {"recipe": "x", "task": 7}, "versions": {}}',
    "[]",
    "{}",
    '{"run": {"recipe": "x", "model": {"n_lyers": 2}}}',
    '{"run": {"recipe": "x", "task": {"name": "induction"}, "train": {"steps": "many"}}}',
)
MANIFESTS = (
    "nonsense\n",
    '{"step": 5}\n',
    b"\xff\xfe\n",
    ENDLESS + "\n",
    HUGE + "\n",
    "[1]\n",
    "null\n",
    build_line(5) + build_line(0),
    build_line(5) + build_line(5),
    build_line(5, "../../../elsewhere.safetensors"),
    build_line(5, name_checkpoint(6)),
    build_line(-5),
    build_line(5, bytes="many"),
    build_line(5, more=1),
    build_line("5", name_checkpoint(5)),
)
NO_DATABASE = "no database, but long enough to look like one" * 20
BOOKS = (
    *(("config.json", content, ("measure", "verify", "ls")) for content in CONFIGS),
    *(("manifest.jsonl", content, ("measure", "verify", "ls")) for content in MANIFESTS),
    ("measures.sqlite", NO_DATABASE, ("measure", "report")),
)


@pytest.mark.parametrize(("name", "content", "commands"), BOOKS, ids=lambda part: str(part)[:40])
def test_damaged_books_are_one_line(folder, capsys, name, content, commands):
    encoded = content.encode() if isinstance(content, str) else content
    (folder.path / name).write_bytes(encoded)
    for command in commands:
        assert main([command, str(folder.path.parent if command == "ls" else folder.path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "Traceback" not in error
        assert name in error


def test_zero_bytes_at_the_end_of_a_book_are_cut_back_and_said(folder, caplog):
    """As a power cut leaves them: the file has its length, its last blocks were never written."""
    before = folder.read_manifest()
    folder.manifest.write_bytes(folder.manifest.read_bytes() + bytes(500))
    assert folder.read_manifest() == before
    assert "ends in 500 zero bytes" in caplog.text


def test_a_bad_neighbour_hides_no_run(folder, capsys):
    for name, content in (("foreign", b'{"model_type": "vit"}'), ("broken", b"\xff")):
        other = folder.path.parent / name
        other.mkdir()
        (other / "config.json").write_bytes(content)
    assert main(["ls", str(folder.path.parent)]) == 2
    shown = capsys.readouterr()
    assert str(folder.path) in shown.out and shown.out.count("\n") == 1
    assert "foreign" in shown.err and "broken" in shown.err and shown.err.count("\n") == 2


LINKED = ["checkpoints", "states", "figures", "tensorboard", "manifest.jsonl", "measures.sqlite"]


@pytest.mark.parametrize("name", LINKED)
def test_a_link_in_a_run_is_refused_and_what_it_leads_to_stays(folder, tmp_path, capsys, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("precious")
    (elsewhere / "step_00000099.safetensors").write_text("precious")
    config = folder.read_config()
    inside = folder.path / name
    if inside.is_dir():
        shutil.rmtree(inside)
    inside.unlink(missing_ok=True)
    inside.symlink_to(elsewhere)
    for command in (["measure"], ["report"], ["verify"], ["replay", "--between", "0", "5"]):
        assert main([command[0], str(folder.path), *command[1:]]) == 2
        error = capsys.readouterr().err
        assert "is a link" in error and error.count("\n") == 1
    with pytest.raises(BadInput, match="is a link"):
        fit(config, folder.path, resume=True, progress=False)
    assert len(list(elsewhere.iterdir())) == 2


def test_only_files_of_the_lab_are_taken_back(folder):
    """What is not a checkpoint or a state stays where it is, whoever put it there."""
    strange = [folder.checkpoints / ".DS_Store", folder.states / "notes.txt"]
    for path in strange:
        path.write_text("mine")
    folder.truncate(5)
    assert all(path.read_text() == "mine" for path in strange)
    assert not file(folder, 10).exists()
