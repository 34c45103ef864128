"""What digests of cells and of baselines are of; nothing here imports torch, numpy or pandas."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

LENGTH = 16  # digits of a digest, as in lines of books
WORD = 8  # bytes of what stands for a place
CELLS = ("id", "step", "sha256", "analysis", "version", "digest", "split", "images", "check")
# Types of what stands between `id` and `check`: versions from outside the package are texts.
IDENTITIES = {(int, str, str, kind, str, str, int) for kind in (int, str)}
Baselines = dict[str, dict[str, float]]  # values by name, by the digest of the evaluation


@dataclass(frozen=True)
class Cell:
    """What is measured once: the identity of a piece of work.

    >>> Cell(100, "0f3a", "probes", version=1, digest="9c41").analysis
    'probes'
    """

    step: int
    sha256: str
    analysis: str
    version: int | str
    digest: str


def hash_place(quantity: str, axes: str) -> int:
    """What stands for a place in a digest: 64 bits.

    >>> hash_place("norm", "{}") == hash_place("norm", '{"layer": 0}')
    False
    """
    digest = hashlib.sha256(repr((quantity, axes)).encode()).digest()
    return int.from_bytes(digest[:WORD], "little")


def hash_baselines(run: str, digest: str, values: Mapping[str, float]) -> str:
    """The digest of the baselines of an evaluation; their order does not matter.

    >>> values = {"loss.even": 2.3, "accuracy.even": 0.1}
    >>> hash_baselines("run", "evaluation", values)
    '87bfcac564096a8d'
    """
    return hash_words((run, digest, sorted(values.items(), key=repr)))


def hash_words(identity: tuple[object, ...], numbers: bytes | memoryview = b"") -> str:
    """The digest of what something is of, and of its numbers.

    >>> hash_words(("run", 10), b"numbers") == hash_words(("run", 20), b"numbers")
    False
    """
    digest = hashlib.sha256(repr(identity).encode())
    digest.update(numbers)
    return digest.hexdigest()[:LENGTH]


def read_baselines(db: sqlite3.Connection, run: str) -> tuple[Baselines, list[str]]:
    """Baselines by evaluation, and the evaluations whose baselines are damaged."""
    rows = db.execute('select digest, name, value, "check" from baselines not indexed').fetchall()
    checks: dict[str, set[str]] = {}
    baselines: Baselines = {}
    for digest, name, value, check in rows:
        baselines.setdefault(digest, {})[name] = value
        checks.setdefault(digest, set()).add(check)

    broken = []
    for digest, values in list(baselines.items()):
        if checks[digest] != {hash_baselines(run, digest, values)}:
            broken.append(str(digest))
            del baselines[digest]
    return baselines, broken
