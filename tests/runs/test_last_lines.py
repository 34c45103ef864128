"""What `ls` reads of a run in short is what the whole files say, and is refused where they are."""

from __future__ import annotations

import json
import logging

import pytest

from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.disk import END, format_line, read_last_line, read_lines
from toyvit.runs.finding import find_runs
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry, name_checkpoint

SALT = "of a run"


def build_entry(step: int) -> ManifestEntry:
    return ManifestEntry(
        step=step,
        samples=8 * step,
        file=name_checkpoint(step),
        bytes=9,
        sha256=f"{step:064x}",
        loss=2.5,
        accuracy=0.25,
        weight_norm=12.5,
    )


@pytest.fixture
def folder(tmp_path):
    """A run of five checkpoints and no weights."""
    folder = RunFolder(tmp_path / "run")
    folder.create(RECIPES["induction-smoke"]())
    folder.manifest.write_text("".join(build_entry(step).line for step in range(0, 50, 10)))
    return folder


def strip_digests(text: str) -> str:
    """Lines as version 0.1 wrote them."""
    records = [json.loads(line) for line in text.splitlines()]
    for record in records:
        record.pop("check")
    return "".join(json.dumps(record) + "\n" for record in records)


WHOLE = {
    "as written": lambda text: text,
    "empty": lambda text: "",
    "one": lambda text: text.splitlines(keepends=True)[0],
    "cut": lambda text: text[:-20],
    "zero bytes": lambda text: text + "\0" * 500,
    "without digests": strip_digests,
    "spaces": lambda text: text.replace(": ", ":  "),
}


@pytest.mark.parametrize("case", WHOLE)
def test_the_progress_is_that_of_the_whole_manifest(folder, case):
    folder.manifest.write_text(WHOLE[case](folder.manifest.read_text()))
    entries = folder.read_manifest()
    assert folder.read_progress() == (len(entries), entries[-1] if entries else None)


def test_there_is_no_progress_without_a_manifest(folder):
    folder.manifest.unlink()
    assert folder.read_progress() == (0, None)


def flip(line: str) -> str:
    return line.replace('"loss": 2.5', '"loss": 1.5')


BAD = {
    "first flipped": lambda lines: [flip(lines[0]), *lines[1:]],
    "middle flipped": lambda lines: [*lines[:2], flip(lines[2]), *lines[3:]],
    "last flipped": lambda lines: [*lines[:-1], flip(lines[-1])],
    "no digest": lambda lines: [strip_digests(lines[0]), *lines[1:]],
    "twice": lambda lines: [lines[0], *lines],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "foreign": lambda lines: [*lines[:2], "[1]\n", *lines[3:]],
    "another record": lambda lines: [*lines[:-1], format_line({"step": 90})],
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_line_anywhere_in_the_manifest_is_refused_in_the_same_words(folder, case):
    lines = folder.manifest.read_text().splitlines(keepends=True)
    folder.manifest.write_text("".join(BAD[case](lines)))
    with pytest.raises(BadInput) as whole:
        folder.read_manifest()
    with pytest.raises(BadInput) as short:
        folder.read_progress()
    assert str(short.value) == str(whole.value)


SIZES = (0, 1, 30, END - 60, END, 3 * END)


@pytest.mark.parametrize("size", SIZES)
def test_the_last_line_is_that_of_the_whole_file(tmp_path, size):
    file = tmp_path / "metrics.jsonl"
    lines = [format_line({"step": step, "note": "x" * size}, SALT) for step in range(3)]
    for end in ("", '{"step": 3', "\0" * 40):
        file.write_text("".join(lines) + end)
        assert read_last_line(file, SALT) == read_lines(file, SALT)[-1]
    for few in (lines[:1], lines[:2], [strip_digests("".join(lines))], []):
        file.write_text("".join(few))
        assert read_last_line(file, SALT) == (read_lines(file, SALT) or [None])[-1]


def test_zero_bytes_are_said_also_where_the_last_line_is_read(tmp_path, caplog):
    file = tmp_path / "metrics.jsonl"
    file.write_text(format_line({"step": 1}) + format_line({"step": 2}) + "\0" * 9)
    with caplog.at_level(logging.WARNING):
        assert read_last_line(file) == {"step": 2}
    assert "ends in 9 zero bytes" in caplog.text


def test_a_last_line_that_is_damaged_or_of_another_run_is_refused(tmp_path):
    file = tmp_path / "metrics.jsonl"
    line = format_line({"step": 1, "loss": 2.5}, SALT)
    for text in (line + flip(line), line + format_line({"step": 2}, "of another")):
        file.write_text(text)
        with pytest.raises(BadInput, match="line 2, is damaged"):
            read_last_line(file, SALT)
    with pytest.raises(BadInput, match="is no file"):
        read_last_line(tmp_path)


def test_a_status_needs_no_more_than_the_last_line(folder, monkeypatch):
    """And says what the whole file says; training reads all of it before it goes on."""
    lines = [format_line({"step": step, "loss": 2.5}, folder.hash_run()) for step in (1, 2)]
    end = format_line({"step": 2, "status": "diverged", "reason": "no"}, folder.hash_run())
    for more, status in (([], "stopped"), ([end], "diverged")):
        folder.metrics.write_text("".join([*lines, *more]))
        assert folder.read_status() == folder.read_end() == status

    folder.metrics.write_text("".join([flip(lines[0]), lines[1], end]))
    assert folder.read_status() == "diverged"
    with pytest.raises(BadInput, match="line 1, is damaged"):
        folder.read_end()


def test_runs_are_found_wherever_they_lie(tmp_path):
    names = ["b", "a/c", "a/d/e", "b/inner", "b-2", "B"]
    for name in (*names, "b/checkpoints/no", "b/states/no", "b/tensorboard/no"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    places = [folder.path for folder in find_runs(tmp_path)]
    assert places == sorted(tmp_path / name for name in names)
