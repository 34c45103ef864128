"""Faults in every file of a run: each is found by `verify`, or does no harm. None is silent."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench import fault_files
from tests.stories.processes import contents, train_here
from toyvit.__main__ import main
from toyvit.circuits.circuit import Circuit, hash_architecture, load_circuit
from toyvit.circuits.graph import build_graph
from toyvit.errors import BadInput
from toyvit.instruments.lenses import fit_tuned_lens, load_lens
from toyvit.measuring import measure
from toyvit.replications.record import Record, write_record
from toyvit.runs import verification
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.sessions import note_session
from toyvit.train import fit

STEPS = ("--train.steps", "20", "--train.checkpoints", "5,10,15")
FILES = tuple(name for name in fault_files.FILES if name != fault_files.RECORD)
KEPT = Path(__file__).parents[1] / "kept"
FLIPS = 12  # of a bit, at places drawn once and for all


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs that differ in their seed alone: measured, with a circuit and a tuned lens."""
    folder = tmp_path_factory.mktemp("two")
    return [
        add_findings(train_here(folder / f"seed-{n}", *STEPS, "--seeds.init", n)) for n in (0, 1)
    ]


def add_findings(path):
    measure(path, analyses=["performance", "norms"], images=16, progress=False)
    run = Run(path)
    run.folder.figures.mkdir()
    build_circuit(run).save(run.folder.figures / "circuit.json")
    lens, _ = fit_tuned_lens(run, images=4, n_steps=2)
    (path / "lenses").mkdir()
    lens.save(path / "lenses/step_00000020.safetensors")
    return path


def build_circuit(run):
    """By hand, with the first three edges."""
    model = run.bare_model()
    return Circuit(
        edges=build_graph(model.config).edges[:3],
        metric="kl",
        ablation="mean",
        method="by hand",
        checkpoint=f"{run.name} at 20, {run.entries[20].sha256[:12]}",
        architecture=hash_architecture(model.config),
    )


@pytest.fixture
def run(two, tmp_path):
    return RunFolder(shutil.copytree(two[0], tmp_path / "run"))


def is_found(folder, capsys):
    """Whether `verify` says that something is wrong, in a line and without a traceback."""
    code = main(["verify", str(folder.path)])
    error = capsys.readouterr().err
    assert code in (0, 2) and "Traceback" not in error and error.count("\n") <= 1
    return code == 2


@pytest.mark.slow
def test_a_whole_run_is_found_whole(run, capsys):
    assert not is_found(run, capsys)
    assert main(["verify", str(run.path), "--hashes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10 and all(len(line.split("  ")[0]) == 64 for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_a_decay_to_nothing_is_no_fault(tmp_path, capsys, decay):
    """The rate of the last update is 0: its checkpoint has the weights of the one before it."""
    path = train_here(tmp_path / "run", "--train.steps", 120, "--train.decay", decay)
    entries = RunFolder(path).read_manifest()
    assert entries[-1].sha256 == entries[-2].sha256
    assert not is_found(RunFolder(path), capsys)


def flip(content, at):
    damaged = bytearray(content)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_is_silent(two, run, capsys, name):
    path = run.path / name
    content = path.read_bytes()
    draw = random.Random(0)
    places = draw.sample(range(8 * len(content)), FLIPS)
    missed = []
    for at in places:
        path.write_bytes(flip(content, at))
        if not is_found(run, capsys) and not is_harmless(run, two, name):
            missed.append(at)
    assert missed == []


def read_config_part(path):
    """What numbers depend on: not the versions and surroundings that the config notes."""
    return json.loads(path.read_text())["run"]


def read_measures(path):
    run = Run(path.parent)
    return run.table.drop(columns="run").to_csv(), run.baselines


def read_lens(path):
    lens = load_lens(path, Run(path.parents[1]).model(20))
    return lens.matrix.tolist(), lens.offset.tolist(), lens.step, lens.checkpoint


# Files in which a bit may change that says nothing, and what a run's claims rest on in them.
READERS = {
    "config.json": read_config_part,
    "measures.sqlite": read_measures,
    "figures/circuit.json": load_circuit,
    "lenses/step_00000020.safetensors": read_lens,
}


def is_harmless(run, two, name):
    """Whether a damaged file says the very same as before."""
    if name not in READERS:
        return False
    try:
        return READERS[name](run.path / name) == READERS[name](two[0] / name)
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
    if name in READERS and name != "config.json":  # nor where it is read without being verified
        with pytest.raises(BadInput):
            READERS[name](run.path / name)


OLD = {
    "measures.sqlite": KEPT / "digits/measures.sqlite",
    "figures/circuit.json": KEPT / "induction/figures/circuit.json",
}


@pytest.mark.parametrize("name", OLD)
def test_no_file_of_an_earlier_version_is_silent(run, capsys, name):
    """What had no digests then has none to be compared with."""
    shutil.copy(OLD[name], run.path / name)
    assert is_found(run, capsys)


def test_an_earlier_table_of_the_run_says_less_and_nothing_else(two, run, capsys):
    """Replayed after more was measured: what it lacks is measured again."""
    earlier = run.measures.read_bytes()
    measure(run.path, analyses=["attention"], images=16, progress=False)
    later = Run(run).table
    run.measures.write_bytes(earlier)
    assert not is_found(run, capsys)
    rows = Run(run).table
    assert rows.drop(columns="run").equals(Run(two[0]).table.drop(columns="run"))
    measure(run.path, analyses=["attention"], images=16, progress=False)
    assert Run(run).table.equals(later)


def change_circuit(run, change):
    """A circuit with another field and, as if nothing were, the digest that it had."""
    path = run.figures / "circuit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


CHANGES = {
    "fewer edges": {"edges": []},
    "another metric": {"metric": "probability"},
    "another ablation": {"ablation": "zero"},
    "another checkpoint": {"checkpoint": "seed-0 at 10, 0123456789ab"},
    "no checkpoint": {"checkpoint": ""},
    "another digest": {"check": "0123456789abcdef"},
    "no digest": {"check": None},
}


@pytest.mark.parametrize("case", CHANGES)
def test_no_other_meaning_of_a_circuit_is_silent(run, capsys, case):
    change_circuit(run, CHANGES[case])
    assert is_found(run, capsys)
    with pytest.raises(BadInput, match="it is not what was written"):
        load_circuit(run.figures / "circuit.json")


def test_a_circuit_that_lost_its_digest_is_said(run, capsys, caplog):
    path = run.figures / "circuit.json"
    record = json.loads(path.read_text())
    record.pop("check")
    path.write_text(json.dumps(record))
    assert is_found(run, capsys)
    assert load_circuit(path).edges
    assert "has no digest" in caplog.text


def test_a_record_of_another_kind_is_no_circuit(run, capsys):
    record = Record(name="coin", version=1, seed=0, minutes=None, numbers={}, panels=[])
    write_record(run.figures, record)
    (run.figures / "coin-0.json").rename(run.figures / "circuit.json")
    assert is_found(run, capsys)


@pytest.mark.parametrize("step", ["5", "x"])
def test_a_lens_of_another_step_or_checkpoint_is_found(run, capsys, step):
    """Whole, and under a name that is not its own or with a checkpoint that is not the run's."""
    opened = Run(run)
    path = run.path / "lenses/step_00000020.safetensors"
    lens = load_lens(path, opened.model(20))
    other = replace(lens, step=5, checkpoint=opened.entries[5].sha256)
    if step == "x":
        other = replace(lens, checkpoint="0" * 64)
    other.save(path)
    assert is_found(run, capsys)


def rewrite(run, name, change):
    """Every line of a book with what a change makes of it, and digests that fit."""
    file = run.path / name
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line.pop("check")
    salt = "" if name == "manifest.jsonl" else run.hash_run()
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
    "no session": ("sessions.jsonl", lambda lines: []),
    "a session twice": ("sessions.jsonl", lambda lines: lines * 2),
    "a session that is not counted": ("sessions.jsonl", lambda lines: [{"step": 0}]),
    "a first session in the middle": ("sessions.jsonl", lambda lines: [{**lines[0], "step": 10}]),
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


def test_with_the_home_not_looked_up_a_circuit_of_another_run_is_silent(
    two, run, capsys, monkeypatch
):
    """The harness can fail."""
    monkeypatch.setattr(verification, "check_home", lambda *arguments: None)
    shutil.copy(two[1] / "figures/circuit.json", run.figures / "circuit.json")
    assert not is_found(run, capsys)


def test_with_digests_of_records_not_compared_another_meaning_is_silent(run, capsys, monkeypatch):
    monkeypatch.setattr("toyvit.runs.records.take_digest", lambda *arguments: True)
    change_circuit(run, CHANGES["another metric"])
    assert not is_found(run, capsys)


CHECKS = {
    "_compare_weights": "another norm",
    "_check_schedule": "other samples",
    "_check_metrics": "metrics of fewer steps",
    "_check_sessions": "a session twice",
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


def test_sessions_go_on_after_half_a_line_and_are_missed(two, run, capsys):
    """Half a line is what a killed process may leave; a file that is gone, what somebody took."""
    with run.sessions.open("a") as file:
        file.write('{"session": 1, "st')
    assert is_found(run, capsys)
    with run.lock():  # somebody is writing it now
        assert not is_found(run, capsys)
    note_session(run, 10)
    assert not is_found(run, capsys)
    lines = [json.loads(line) for line in run.sessions.read_text().splitlines()]
    assert [(line["session"], line["step"]) for line in lines] == [(0, 0), (1, 10)]
    run.sessions.unlink()
    assert is_found(run, capsys)


def test_sessions_without_digests_pass_in_a_run_of_an_earlier_version_alone(two, run, capsys):
    lines = '{"step": 10, "versions": {}}\n'
    run.sessions.write_text(lines)
    assert is_found(run, capsys)
    old = RunFolder(shutil.copytree(KEPT / "digits", run.path.parent / "kept"))
    old.sessions.write_text(lines)
    assert not is_found(old, capsys)


@pytest.mark.parametrize("digest", ["", ', "check": null', ', "check": "0000000000000000"'])
@pytest.mark.parametrize("name", fault_files.BOOKS)
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
