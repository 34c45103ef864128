"""What `verify` looks at: the files of a run, or of every run below a folder and those beside them.

Beside runs stand the table of a sweep and the records of replications.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from toyvit.cli.sweep_tables import RECORD, TABLE, find_table_problem
from toyvit.config.foreign_files import hash_file
from toyvit.errors import BadInput
from toyvit.runs.finding import find_others, find_runs
from toyvit.runs.folder import RunFolder
from toyvit.runs.verification import hash_files, list_problems

OF_A_SWEEP = (TABLE, RECORD)
A_RECORD = re.compile(r".+-\d+\.json")  # of a replication, it may be
MANIFEST = "manifest.jsonl"  # without a config beside it there is no run any more


@dataclass(kw_only=True)
class Verification:
    """What was looked at, and a line for each file that is bad."""

    runs: list[RunFolder] = field(default_factory=list)
    n_checkpoints: int = 0
    beside: list[Path] = field(default_factory=list)  # files that are no run's
    n_sweeps: int = 0
    problems: list[str] = field(default_factory=list)

    def hash_files(self) -> Iterator[tuple[str, Path]]:
        """(SHA-256, path) of every file that was looked at."""
        for run in self.runs:
            for digest, name in hash_files(run):
                yield digest, run.path / name
        for path in self.beside:
            yield hash_file(path), path

    def __str__(self) -> str:
        if len(self.runs) == 1 and not self.beside:
            return f"all {self.n_checkpoints} checkpoints are whole"
        n_records = len([path for path in self.beside if path.name not in OF_A_SWEEP])
        counts = {
            "run": len(self.runs),
            "checkpoint": self.n_checkpoints,
            "table": self.n_sweeps,
            "record": n_records,
        }
        parts = (f"{n} {name}{'s' * (n > 1)}" for name, n in counts.items() if n)
        return f"{', '.join(parts)}: all whole"


def check_run(run: RunFolder) -> Verification:
    """A run and what is wrong with it; BadInput where its config or its manifest is damaged."""
    run.read_config()
    entries = run.read_manifest()
    bad = list_problems(run, entries)
    lines = [f"{run.path / name} {problem}" for name, problem in bad.items()]
    return Verification(runs=[run], n_checkpoints=len(entries), problems=lines)


def check_folder(folder: Path) -> Verification:
    """Every run, table of a sweep and record of a replication below; BadInput where none is."""
    report = Verification()
    bad = set()  # runs with which no table is compared
    for run in find_runs(folder):
        report.runs.append(run)
        try:
            checked = check_run(run)
        except BadInput as error:  # it hides no other
            checked = Verification(problems=[str(error)])
        report.n_checkpoints += checked.n_checkpoints
        report.problems += checked.problems
        if checked.problems:
            bad.add(run.path)

    for path, files in find_others(folder):
        _check_beside(path, files, report, not any(run.is_relative_to(path) for run in bad))
    if not (report.runs or report.beside or report.problems):
        RunFolder(folder).check_exists()  # which says that it is none
    return report


def _check_beside(path: Path, files: list[str], report: Verification, has_whole_runs: bool) -> None:
    """What is wrong in a folder that is no run."""
    if MANIFEST in files:
        report.problems.append(f"{path / 'config.json'} is missing")
    if set(files) & set(OF_A_SWEEP):
        report.n_sweeps += 1
        report.beside += [path / name for name in OF_A_SWEEP if name in files]
        report.problems += _check_sweep(path, has_whole_runs)
    named = [name for name in files if A_RECORD.fullmatch(name)]
    if named:
        report.problems += _check_records(path, named, report)


def _check_sweep(path: Path, has_whole_runs: bool) -> Iterator[str]:
    problem = find_table_problem(path, has_whole_runs)
    if problem:
        file, text = problem
        yield f"{file} {text}"


def _check_records(path: Path, files: list[str], report: Verification) -> Iterator[str]:
    from toyvit.replications import REPLICATIONS
    from toyvit.replications.record import find_records, read_record

    for file in find_records(path, files, REPLICATIONS):
        report.beside.append(file)
        try:
            read_record(file)
        except BadInput as error:
            yield str(error)
