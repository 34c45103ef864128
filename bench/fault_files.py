"""Damage to every file of a run, and files that nobody should have written.

`try_files` damages one file of a measured run at a time and asks `verify` and whoever reads that
file. `try_checks` does the same with one check of the lab switched off, where something must be
silent.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from toyvit import __main__ as command
from toyvit.circuits.circuit import Circuit, hash_architecture, load_circuit
from toyvit.circuits.graph import build_graph
from toyvit.config.overrides import apply_overrides
from toyvit.errors import BadInput
from toyvit.instruments.lenses import fit_tuned_lens, load_lens
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.replications.record import Record, build_path, read_record, write_record
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.sessions import note_session
from toyvit.train import fit

SMALL = ("--train.batch_size", "8", "--train.n_validation", "16", "--train.steps", "20")
STEPS = (*SMALL, "--train.checkpoints", "5,10,15")
RECORD = "replications/record-0.json"  # which lies beside the run
FILES = (
    "config.json",
    "manifest.jsonl",
    "metrics.jsonl",
    "sessions.jsonl",
    "state.pt",
    "state.prev.pt",
    "states/step_00000010.pt",
    "checkpoints/step_00000005.safetensors",
    "checkpoints/step_00000020.safetensors",
    "measures.sqlite",
    "figures/circuit.json",
    "lenses/step_00000020.safetensors",
    RECORD,
)
BOOKS = ("manifest.jsonl", "metrics.jsonl", "sessions.jsonl")
KINDS = ("flip", "cut", "swap", "older", "meaning")
TRIES = 400  # of faults, until one is silent where a check is switched off


@dataclass(frozen=True)
class Try:
    """One thing that was tried, and what was wrong with what came of it: mostly nothing."""

    what: str
    problem: str = ""


class Bench:
    """A measured run, one of another seed, and one of an earlier moment; the first is damaged.

    A whole file that the run had at an earlier moment is no fault where it stands for itself.
    """

    def __init__(self, place: Path) -> None:
        self.run, self.other, self.older = (place / name / "run" for name in ("0", "1", "older"))
        for path, seed in ((self.run, 0), (self.other, 1)):
            words = [*STEPS, "--seeds.init", str(seed)]
            fit(apply_overrides(RECIPES["induction-smoke"](), words), path, progress=False)
            measure(path, analyses=["performance"], images=16, progress=False)
            add_records(path, seed, n_edges=2)
            if path == self.run:
                shutil.copytree(path.parent, self.older.parent)
            note_session(RunFolder(path), 20)
            measure(path, analyses=["norms"], images=16, progress=False)
            add_records(path, seed, n_edges=3)

        self.olds = {name: READERS[name](self.find(self.older, name)) for name in RECORDS}
        self._turn_back()
        paths = {name: self.find(self.run, name) for name in FILES}
        self.contents = {name: path.read_bytes() for name, path in paths.items()}
        self.values = {name: read(paths[name]) for name, read in READERS.items()}
        self.earlier = {path.read_bytes() for path in self.run.glob("states/*.pt")}
        self.earlier.add((self.older / "sessions.jsonl").read_bytes())

    def _turn_back(self) -> None:
        """The earlier run as it was at step 10."""
        folder = RunFolder(self.older)
        folder.truncate(10)
        for path in (folder.state, folder.previous_state):
            shutil.copy(folder.states / "step_00000008.pt", path)
        shutil.copy(folder.states / "step_00000006.pt", folder.states / "step_00000010.pt")
        shutil.copy(
            self.run / "checkpoints/step_00000015.safetensors",
            self.older / "checkpoints/step_00000020.safetensors",
        )
        shutil.copy(
            self.run / "checkpoints/step_00000000.safetensors",
            self.older / "checkpoints/step_00000005.safetensors",
        )

    @staticmethod
    def find(run: Path, name: str) -> Path:
        """Where a file lies: the record beside the run."""
        return (run.parent if name == RECORD else run) / name

    @contextlib.contextmanager
    def damage(self, name: str, content: bytes) -> Iterator[Path]:
        """The run with another content in one of its files."""
        path = self.find(self.run, name)
        path.write_bytes(content)
        try:
            yield path
        finally:
            path.write_bytes(self.contents[name])
            for beside in ("measures.sqlite-wal", "measures.sqlite-shm"):
                (self.run / beside).unlink(missing_ok=True)

    def judge(self, name: str, content: bytes) -> str:
        """What is wrong with how the lab takes a damaged file: nothing where it is found."""
        with self.damage(name, content) as path:
            try:
                is_found = verify(path.parent if name == RECORD else self.run)
                reading = self._read(name, path)
            except Exception as error:
                return f"traceback: {error!r:.300}"
        if reading == "other" and not (is_found and name in ("config.json", "metrics.jsonl")):
            return "silent: it is read"
        if is_found or reading == "same":
            return ""
        if name.startswith(("state.", "sessions.")) and content in self.earlier:  # as it was then
            return ""
        return "silent: verify calls it whole"

    def _read(self, name: str, path: Path) -> str:
        """Whether who reads a file has the `same` from it, `other` values, or is `refused`."""
        if name not in READERS:
            return "unread"
        try:
            value = READERS[name](path)
        except BadInput:
            return "refused"
        if name == "measures.sqlite":  # a table may say less
            return "same" if value <= self.values[name] else "other"
        legit = [self.values[name], *([self.olds[name]] if name in RECORDS else [])]
        return "same" if value in legit else "other"


def add_records(path: Path, seed: int, n_edges: int) -> None:
    """A circuit by hand, a tuned lens, and beside the run a record of a replication."""
    run = Run(path)
    model = run.bare_model()
    run.folder.figures.mkdir(exist_ok=True)
    circuit = Circuit(
        edges=build_graph(model.config).edges[:n_edges],
        metric="kl",
        ablation="mean",
        method="by hand",
        checkpoint=f"{run.name} at 20, {run.entries[20].sha256[:12]}",
        architecture=hash_architecture(model.config),
    )
    circuit.save(run.folder.figures / "circuit.json")
    lens, _ = fit_tuned_lens(run, images=4, n_steps=n_edges)
    (path / "lenses").mkdir(exist_ok=True)
    lens.save(path / "lenses/step_00000020.safetensors")
    numbers = {"heads": seed + n_edges / 8, "tails": None}
    record = Record(
        name="record", version=1, seed=seed, minutes=float(n_edges), numbers=numbers, panels=[]
    )
    place = path.parent / "replications"
    write_record(place, record)
    build_path(place, record.name, seed).rename(path.parent / RECORD)


def verify(run: Path) -> bool:
    """Whether the command, in this process, says that something is wrong; what it raises goes on.

    RuntimeError for a traceback, and for a code that means nothing.
    """
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = command.main(["verify", str(run)])
    if "Traceback" in output.getvalue() or code not in (0, 2):
        raise RuntimeError(f"code {code}: {output.getvalue()[-300:]}")
    return code == 2


def read_config(path: Path) -> Any:
    """What numbers depend on: not the versions that the config notes."""
    return RunFolder(path.parent).read_config().to_json()


def read_table(path: Path) -> Any:
    """Rows, baselines, and how they are laid out: in no order."""
    run = Run(path.parent)
    rows = [repr(row.dropna().to_dict()) for _, row in run.table.drop(columns="run").iterrows()]
    with contextlib.closing(sqlite3.connect(path)) as db:
        schema = [
            f"{name} {sql}" for name, sql in db.execute("select name, sql from sqlite_master")
        ]
    return {*rows, *schema, *map(repr, run.baselines.items())}


def read_lens(path: Path) -> Any:
    """All that a lens says."""
    lens = load_lens(path, Run(path.parents[1]).bare_model())
    return lens.matrix.tolist(), lens.offset.tolist(), lens.step, lens.checkpoint


def read_weights(path: Path) -> Any:
    """The weights that the manifest has under a file's name, as bytes."""
    folder = RunFolder(path.parents[1])
    (entry,) = (entry for entry in folder.read_manifest() if entry.file == path.name)
    return save(folder.read_checkpoint(entry))


RECORDS = ("figures/circuit.json", "lenses/step_00000020.safetensors", RECORD)
READERS: dict[str, Callable[[Path], Any]] = {
    "config.json": read_config,
    "metrics.jsonl": lambda path: RunFolder(path.parent).read_metrics(),
    "measures.sqlite": read_table,
    "figures/circuit.json": load_circuit,
    "lenses/step_00000020.safetensors": read_lens,
    RECORD: read_record,
    **{name: read_weights for name in FILES if name.startswith("checkpoints/")},
}


def damage_bytes(bench: Bench, kind: str, name: str, rng: random.Random) -> bytes:
    """The content of a file with one random fault of a kind: never as it was."""
    content = bench.contents[name]
    damaged = content
    while damaged == content:
        damaged = DAMAGES[kind](bench, name, rng)
    return damaged


def flip(bench: Bench, name: str, rng: random.Random) -> bytes:
    """One bit the other way."""
    damaged = bytearray(bench.contents[name])
    at = rng.randrange(8 * len(damaged))
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def cut(bench: Bench, name: str, rng: random.Random) -> bytes:
    """The end lost, or a piece in the middle, or the end nothing but zero bytes."""
    content = bench.contents[name]
    start, end = sorted(rng.choices(range(len(content)), k=2))
    return rng.choice((content[:start], content[:start] + content[end:], _blank(content, start)))


def _blank(content: bytes, start: int) -> bytes:
    return content[:start] + bytes(len(content) - start)


def swap(bench: Bench, name: str, rng: random.Random) -> bytes:
    """Another run's file, a stretch of it, or another file of the same run."""
    if rng.random() < 0.2:
        return bench.contents[rng.choice(FILES)]
    return _splice(bench.contents[name], bench.find(bench.other, name).read_bytes(), rng)


def replay(bench: Bench, name: str, rng: random.Random) -> bytes:
    """What the file was earlier, or a stretch of that; a config was never another: its run's."""
    if name == "config.json":
        return swap(bench, name, rng)
    return _splice(bench.contents[name], bench.find(bench.older, name).read_bytes(), rng)


def _splice(content: bytes, other: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return other
    start, end = sorted(rng.choices(range(min(len(content), len(other)) + 1), k=2))
    return content[:start] + other[start:end] + content[end:]


def change_meaning(bench: Bench, name: str, rng: random.Random) -> bytes:
    """Valid for whoever parses the file, and something else."""
    content = bench.contents[name]
    if name in BOOKS:
        return _change_book(bench, name, rng)
    if name.endswith(".json"):
        return json.dumps(_change_leaf(json.loads(content), rng)).encode()
    if name.endswith(".sqlite"):
        return _change_table(bench.run / name, rng)
    if name.endswith(".pt"):
        return _change_state(content, rng)
    with safe_open(bench.run / name, "pt") as opened:
        facts = opened.metadata()
    return save(_change_tensor(load(content), rng), facts)


def _change_tensor(tensors: dict[str, torch.Tensor], rng: random.Random) -> dict[str, torch.Tensor]:
    """One tensor negated, which leaves all norms as they are, or one of its numbers changed."""
    name = rng.choice(sorted(name for name, values in tensors.items() if values.any()))
    changed = -tensors[name]
    if rng.random() < 0.5:
        changed = tensors[name].clone()
        changed.view(-1)[rng.randrange(changed.numel())] += 1e-3
    return {**tensors, name: changed.contiguous()}


def _change_state(content: bytes, rng: random.Random) -> bytes:
    head, _, body = content.partition(b"\n")
    state = torch.load(io.BytesIO(body), weights_only=True)
    if rng.random() < 0.3:
        state["step"] += rng.choice((-2, 2, 4))
    else:
        state["model"] = _change_tensor(state["model"], rng)
    saved = io.BytesIO()
    torch.save(state, saved)
    return head + b"\n" + saved.getvalue()


def _change_leaf(value: Any, rng: random.Random) -> Any:
    """A JSON value with one of its parts changed, taken away, or of another kind."""
    if isinstance(value, dict) and value:
        name = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {other: part for other, part in value.items() if other != name}
        return {**value, name: _change_leaf(value[name], rng)}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], _change_leaf(value[at], rng), *value[at + 1 :]]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice((value + 1, value * 2 + 1, -value - 1, str(value), None))
    return rng.choice((f"{value}x", "", 7, None))


def _change_book(bench: Bench, name: str, rng: random.Random) -> bytes:
    """Lines changed, left out, twice or in another order; and with digests that fit, as well."""
    lines = bench.contents[name].decode().splitlines(keepends=True)
    at = rng.randrange(len(lines) - 1)
    if rng.random() < 0.4:
        lines[at] = json.dumps(_change_leaf(json.loads(lines[at]), rng)) + "\n"
        return "".join(lines).encode()
    if rng.random() < 0.3 and name == "manifest.jsonl":
        line = json.loads(lines[at])
        del line["check"]
        change = rng.choice(({"samples": 7}, {"weight_norm": line["weight_norm"] * 1.01}))
        lines[at] = format_line(line | change)
        return "".join(lines).encode()

    changed = (
        lines[:at] + lines[at + 1 :],
        [*lines[: at + 1], *lines[at:]],
        [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]],
        lines[::-1],
    )
    return "".join(rng.choice(changed)).encode()


EDITS = {
    "update numbers set value = value + 1e-9 where rowid = {row}": "numbers",
    "update numbers set value = -value - 1 where rowid = {row}": "numbers",
    "delete from numbers where rowid = {row}": "numbers",
    "insert into numbers select * from numbers where rowid = {row}": "numbers",
    "update numbers set place = (select max(id) + min(id) - place from places)"
    " where rowid = {row}": "numbers",
    "update cells set step = 7 where rowid = {row}": "cells",
    "update cells set sha256 = 'c0ffee' where rowid = {row}": "cells",
    "update cells set analysis = 'heads' where rowid = {row}": "cells",
    "update cells set digest = 'c0ffee' where rowid = {row}": "cells",
    "update cells set split = 'train' where rowid = {row}": "cells",
    "update cells set images = 512 where rowid = {row}": "cells",
    'update cells set "check" = null where rowid = {row}': "cells",
    "delete from cells where rowid = {row}": "cells",
    "update places set quantity = 'other' where rowid = {row}": "places",
    "update places set axes = '{{\"layer\": 7}}' where rowid = {row}": "places",
    "update baselines set value = value + 1 where rowid = {row}": "baselines",
    "delete from baselines where rowid = {row}": "baselines",
    "create trigger t{row} after insert on cells begin update numbers set value = 0; end": "cells",
}


def _change_table(path: Path, rng: random.Random) -> bytes:
    """A random edit behind the lab's back."""
    edit, table = rng.choice(sorted(EDITS.items()))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(path, folder))
        with contextlib.closing(sqlite3.connect(copy)) as db, db:
            rows = [row for (row,) in db.execute(f"select rowid from {table} order by rowid")]
            db.execute(edit.format(row=rng.choice(rows)))
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("pragma journal_mode = delete")
        return copy.read_bytes()


DAMAGES = {"flip": flip, "cut": cut, "swap": swap, "older": replay, "meaning": change_meaning}


def try_files(n: int, seed: int, place: Path) -> Iterator[Try]:
    """n faults, over every kind of file and of damage in turn."""
    bench = Bench(place)
    rng = random.Random(seed)
    for number in range(n):
        name = FILES[number % len(FILES)]
        kind = KINDS[number // len(FILES) % len(KINDS)]
        problem = bench.judge(name, damage_bytes(bench, kind, name, rng))
        yield Try(f"{kind} of {name}, number {number}", problem)


# Checks of the lab: where each is, what it is replaced with, and a fault that only it finds.
def _say_nothing(*arguments: object) -> tuple[()]:
    return ()


def _believe(*arguments: object) -> bool:
    return True


def _read_unchecked(path: Path, *rest: object) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_bytes())
    record.pop("check", None)
    return record


Check = tuple[str, Callable[..., Any], str, str]
CHECKS: Mapping[str, Check] = {
    "bytes of checkpoints": (
        "toyvit.runs.folder.RunFolder.find_problem",
        lambda *arguments: None,
        "checkpoints/step_00000005.safetensors",
        "meaning",
    ),
    "norms": ("toyvit.runs.verification._compare_weights", _say_nothing, BOOKS[0], "meaning"),
    "schedule": ("toyvit.runs.verification._check_schedule", _say_nothing, BOOKS[0], "meaning"),
    "metrics": ("toyvit.runs.verification._check_metrics", _say_nothing, BOOKS[1], "flip"),
    "sessions": ("toyvit.runs.verification._check_sessions", _say_nothing, BOOKS[2], "flip"),
    "digests of lines": ("toyvit.runs.disk.is_as_written", _believe, BOOKS[1], "meaning"),
    "states": ("toyvit.runs.verification._check_states", _say_nothing, "state.pt", "flip"),
    "digests of states": (
        "toyvit.runs.verification.find_state_problem",
        lambda *arguments: None,
        "states/step_00000010.pt",
        "meaning",
    ),
    "table": ("toyvit.runs.verification._check_table", _say_nothing, "measures.sqlite", "cut"),
    "cells": (
        "toyvit.runs.cells._hash_cells",
        lambda run, frame, *rest: iter(frame["check"]),
        "measures.sqlite",
        "meaning",
    ),
    "schema": ("toyvit.runs.database.check_schema", _believe, "measures.sqlite", "meaning"),
    "records": ("toyvit.runs.verification._check_records", _say_nothing, RECORDS[0], "cut"),
    "lenses": ("toyvit.runs.verification._check_lens", _say_nothing, RECORDS[1], "flip"),
    "digests of records": ("toyvit.runs.records.take_digest", _believe, RECORDS[0], "meaning"),
    "home": ("toyvit.runs.verification.check_home", _say_nothing, RECORDS[0], "swap"),
    "replications": (
        "toyvit.replications.record.read_checked",
        _read_unchecked,
        RECORD,
        "meaning",
    ),
}


def try_checks(n: int, seed: int, place: Path) -> Iterator[Try]:
    """The first n checks, each switched off once: the harness must count a silent fault."""
    bench = Bench(place)
    for case in list(CHECKS)[:n]:
        rng = random.Random(seed)
        target, substitute, name, kind = CHECKS[case]
        with mock.patch(target, substitute):
            faults = (damage_bytes(bench, kind, name, rng) for _ in range(TRIES))
            is_counted = any(bench.judge(name, fault).startswith("silent") for fault in faults)
        yield Try(case, "" if is_counted else "switched off, and nothing is silent")
