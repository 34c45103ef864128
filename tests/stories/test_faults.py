"""Faults in every file of a run: each is found by `verify`, or does no harm. None is silent."""

from __future__ import annotations

import json
import random
import shutil

import pytest

from tests.stories.processes import contents, train_here
from toyvit.__main__ import main
from toyvit.runs import verification
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.train import fit

STEPS = ("--train.steps", "20", "--train.checkpoints", "5,10,15")
FILES = (
    "config.json",
    "manifest.jsonl",
    "metrics.jsonl",
    "state.pt",
    "state.prev.pt",
    "states/step_00000010.pt",
    "checkpoints/step_00000005.safetensors",
    "checkpoints/step_00000020.safetensors",
)
FLIPS = 12  # of a bit, at places drawn once and for all


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs that differ in their seed alone."""
    folder = tmp_path_factory.mktemp("two")
    return [train_here(folder / f"seed-{n}", *STEPS, "--seeds.init", n) for n in (0, 1)]


@pytest.fixture
def run(two, tmp_path):
    return RunFolder(shutil.copytree(two[0], tmp_path / "run"))


def is_found(folder, capsys):
    """Whether `verify` says that something is wrong, in a line and without a traceback."""
    code = main(["verify", str(folder.path)])
    error = capsys.readouterr().err
    assert code in (0, 2) and "Traceback" not in error and error.count("\n") <= 1
    return code == 2


def test_a_whole_run_is_found_whole(run, capsys):
    assert not is_found(run, capsys)
    assert main(["verify", str(run.path), "--hashes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10 and all(len(line.split("  ")[0]) == 64 for line in lines)


def flip(content, at):
    damaged = bytearray(content)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_is_silent(run, capsys, name):
    path = run.path / name
    content = path.read_bytes()
    draw = random.Random(0)
    places = draw.sample(range(8 * len(content)), FLIPS)
    missed = []
    for at in places:
        path.write_bytes(flip(content, at))
        if not is_found(run, capsys) and not is_harmless(name, content, flip(content, at)):
            missed.append(at)
    assert missed == []


def is_harmless(name, before, after):
    """In the config, what no number depends on: the versions and surroundings that it notes."""
    if name != "config.json":
        return False
    try:
        return json.loads(before)["run"] == json.loads(after)["run"]
    except (ValueError, KeyError):
        return False


@pytest.mark.parametrize("name", FILES)
def test_no_cut_is_silent(run, capsys, name):
    path = run.path / name
    content = path.read_bytes()
    for share in (0.0, 0.3, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        assert is_found(run, capsys), share


@pytest.mark.parametrize("name", FILES)
def test_no_file_of_another_run_is_silent(two, run, capsys, name):
    shutil.copy(two[1] / name, run.path / name)
    assert is_found(run, capsys)


def rewrite(run, name, change):
    """Every line of a book with what a change makes of it, and digests that fit."""
    file = run.path / name
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line.pop("check")
    salt = run.hash_run() if name == "metrics.jsonl" else ""
    file.write_text("".join(format_line(line, salt) for line in change(lines)))


MEANINGS = {
    "steps in another order": ("manifest.jsonl", lambda lines: lines[::-1]),
    "a step twice": ("manifest.jsonl", lambda lines: [lines[0], *lines]),
    "a step left out": ("manifest.jsonl", lambda lines: lines[:2] + lines[3:]),
    "the weights of another step": (
        "manifest.jsonl",
        lambda lines: [*lines[:2], replace_weights(lines[2], lines[1]), *lines[3:]],
    ),
    "another norm": (
        "manifest.jsonl",
        lambda lines: [{**lines[0], "weight_norm": lines[0]["weight_norm"] * 1.01}, *lines[1:]],
    ),
    "other samples": (
        "manifest.jsonl",
        lambda lines: [lines[0], {**lines[1], "samples": 7}, *lines[2:]],
    ),
    "a metric left out": ("metrics.jsonl", lambda lines: lines[:7] + lines[8:]),
    "metrics of fewer steps": ("metrics.jsonl", lambda lines: lines[:12]),
    "a metric that is text": (
        "metrics.jsonl",
        lambda lines: [{**lines[0], "loss": "1"}, *lines[1:]],
    ),
}


def replace_weights(line, other):
    return {**line, "sha256": other["sha256"], "bytes": other["bytes"]}


@pytest.mark.parametrize("case", MEANINGS)
def test_no_valid_text_with_another_meaning_is_silent(run, capsys, case):
    name, change = MEANINGS[case]
    if case == "the weights of another step":
        files = [run.checkpoints / f"step_{step:08d}.safetensors" for step in (5, 10)]
        shutil.copy(*files)
    rewrite(run, name, change)
    assert is_found(run, capsys)


def test_another_setting_in_the_config_is_not_silent(run, capsys):
    plain = json.loads(run.config_file.read_text())
    plain["run"]["train"]["learning_rate"] *= 2
    run.config_file.write_text(json.dumps(plain))
    assert is_found(run, capsys)


CHECKS = {
    "_compare_weights": "another norm",
    "_check_schedule": "other samples",
    "_check_metrics": "metrics of fewer steps",
}


@pytest.mark.parametrize("check", CHECKS)
def test_with_a_check_switched_off_a_fault_is_silent(run, capsys, monkeypatch, check):
    """The harness can fail."""
    monkeypatch.setattr(verification, check, lambda *arguments: ())
    name, change = MEANINGS[CHECKS[check]]
    rewrite(run, name, change)
    assert not is_found(run, capsys)


@pytest.mark.parametrize("name", ["state.pt", "states/step_00000010.pt"])
def test_a_damaged_state_is_never_trained_on(two, run, caplog, name):
    """A flipped bit in every state in turn: the same bits in the end, and it is said."""
    run.truncate(10)
    for path in (run.state, run.previous_state):
        shutil.copy(run.states / "step_00000010.pt", path)
    damaged = run.path / name
    damaged.write_bytes(flip(damaged.read_bytes(), 8 * (damaged.stat().st_size // 2)))
    if name != "state.pt":
        run.state.unlink()
        run.previous_state.unlink()
    fit(run.read_config(), run.path, resume=True, progress=False)
    kinds = ("checkpoints/*", "manifest.jsonl")
    assert contents(run.path, *kinds) == contents(two[0], *kinds)
    assert "does not have the SHA-256" in caplog.text


def test_a_state_that_lacks_its_checkpoints_is_not_gone_on_from(two, run, caplog):
    """As a power cut leaves it: the state was flushed, a checkpoint before it was not."""
    run.truncate(15)
    for path in (run.state, run.previous_state):
        shutil.copy(run.states / "step_00000014.pt", path)
    (run.checkpoints / "step_00000010.safetensors").write_bytes(b"")
    fit(run.read_config(), run.path, resume=True, progress=False)
    kinds = ("checkpoints/*", "manifest.jsonl")
    assert contents(run.path, *kinds) == contents(two[0], *kinds)
    assert "lacks the checkpoint of step 10" in caplog.text


@pytest.mark.parametrize("digest", ["", ', "check": null', ', "check": "0000000000000000"'])
@pytest.mark.parametrize("name", ["manifest.jsonl", "metrics.jsonl"])
def test_a_line_whose_digest_was_taken_away_is_not_silent(run, capsys, name, digest):
    """Only in a file of version 0.1 has no line one."""
    file = run.path / name
    first, *rest = file.read_text().splitlines(keepends=True)
    body, _, _ = first.partition(', "check"')
    file.write_text("".join([f"{body}{digest}}}\n", *rest]))
    assert is_found(run, capsys)


def test_files_that_are_not_the_labs_disturb_nothing(run, capsys):
    for folder in (run.path, run.checkpoints, run.states):
        (folder / ".DS_Store").write_bytes(b"\0")
        (folder / ".ipynb_checkpoints").mkdir()
    assert not is_found(run, capsys)


def test_a_manifest_names_no_step_that_the_metrics_do_not_know(two, tmp_path, monkeypatch):
    """Whenever training is killed: seen from inside, as each checkpoint is written."""
    gaps = []
    write = RunFolder.write_checkpoint

    def look(folder, step, *rest):
        entry = write(folder, step, *rest)
        gaps.append(step - len(folder.read_metrics()))
        return entry

    monkeypatch.setattr(RunFolder, "write_checkpoint", look)
    train_here(tmp_path / "run", *STEPS, "--seeds.init", 0)
    assert len(gaps) > 4 and set(gaps) == {0}
