"""Files that are far too large are refused in a line before any of them is read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from toyvit.__main__ import main
from toyvit.circuits.circuit import load_circuit
from toyvit.config.foreign_files import LIMITS, read_file
from toyvit.data.task import resolve_config
from toyvit.errors import BadInput
from toyvit.instruments.lenses import load_lens
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.replications.record import read_record
from toyvit.runs.folder import RunFolder
from toyvit.train.states import read_state

KEPT = Path(__file__).parents[1] / "kept"
SMALL = {"record": 100_000, "book": 200_000, "weights": 1_000_000}  # bytes: limits of these tests


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    """Small ones, so that reading a file all the same would do no harm."""
    for kind, size in SMALL.items():
        monkeypatch.setitem(LIMITS, kind, size)


@pytest.fixture
def run(tmp_path):
    return Path(shutil.copytree(KEPT / "induction", tmp_path / "run"))


def enlarge(path: Path, kind: str) -> str:
    """A file that has one byte too many and hardly fills the disk; what must be said of it."""
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        file.truncate(SMALL[kind] + 1)
    return (
        f"has {SMALL[kind] + 1:,} bytes, and a file of its kind ({kind}) may have {SMALL[kind]:,}"
    )


FILES = {
    "config.json": "record",
    "manifest.jsonl": "book",
    "metrics.jsonl": "book",
    "state.pt": "weights",
    "figures/circuit.json": "record",
    "lenses/step_00000020.safetensors": "weights",
}


@pytest.mark.parametrize("name", FILES)
def test_verify_names_file_size_and_limit(run, capsys, name):
    words = enlarge(run / name, FILES[name])
    assert main(["verify", str(run)]) == 2
    printed = capsys.readouterr()
    assert words in printed.out + printed.err and name in printed.out + printed.err
    assert printed.err.count("\n") == 1


READERS = {
    "circuit.json": ("record", load_circuit),
    "coin-0.json": ("record", read_record),
    "lens.safetensors": (
        "weights",
        lambda path: load_lens(path, ViT(resolve_config(RECIPES["induction-smoke"]()).model)),
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_who_reads_it_refuses_it(tmp_path, name):
    kind, read = READERS[name]
    words = enlarge(tmp_path / name, kind)
    with pytest.raises(BadInput) as refusal:
        read(tmp_path / name)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_state_that_is_too_large_gives_way_and_it_is_said(tmp_path, caplog):
    words = enlarge(tmp_path / "state.pt", "weights")
    assert read_state(RunFolder(KEPT / "induction"), tmp_path / "state.pt") is None
    assert words in caplog.text


def test_a_checkpoint_of_another_size_is_not_read(run):
    folder = RunFolder(run)
    entry = folder.read_manifest()[-1]
    (folder.checkpoints / entry.file).write_bytes(b"")
    enlarge(folder.checkpoints / entry.file, "weights")
    with pytest.raises(BadInput, match=r"is 1000001 bytes long, the manifest says \d+"):
        folder.read_checkpoint(entry)


def test_a_file_of_the_largest_size_is_read(tmp_path):
    path = tmp_path / "note"
    path.write_bytes(bytes(SMALL["record"]))
    assert len(read_file(path)) == SMALL["record"]
