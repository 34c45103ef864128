"""Files that nobody should have written, put into a run, beside it, or given to a command.

`try_inputs` draws a file, what is wrong with it, and a command that may read it.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bench.fault_commands import KL, MEASURE, STEPS, TRAIN, fresh, must, prepare_runs, warm
from bench.fault_files import Try
from bench.hostile_arrays import Payload, hostile_arrays, odd_arrays, pack_npz
from bench.option_sets import run_words

SECONDS = 60.0
ESCAPES = ("\x1b", "\u202e", "\x07")  # of foreign text, which no command may print as they are
LYING = (1 << 60).to_bytes(8, "little")  # the size of a header of safetensors
CONTENTS: Sequence[bytes] = (
    b"",
    b"\0" * 100,
    b"\xff\xfe\x80 no text\n",
    b"\xef\xbb\xbf{}",
    b"{",
    b"[" * 100_000,
    b'{"step": ' * 50_000,
    b"9" * 5000,
    b"null\n",
    b"[]\n",
    b"{}\n",
    b"7\n",
    b'"\x1b[31m"\n',
    b'"\\ud800"\n',
    b"NaN\n",
    b'{"step": NaN, "loss": -Infinity}\n',
    b'{"model_type": "vit"}',
    b'{"step": 1}\n{"step": "1"}\n',
    b"x" * 1_000_000,
    b"\r\n\r\n\r\n",
    pickle.dumps(Payload()),
    pack_npz([("images.npy", b"")]),
    b"SQLite format 3\0",
    b"SQLite format 3\0" + bytes(range(256)) * 40,
    LYING + b"{}",
    (2).to_bytes(8, "little") + b"{}",
    (2).to_bytes(8, "little") + b"[]",
    b'{"step": 10, "run": "", "sha256": ""}\n' + pickle.dumps(Payload()),
    b"<script>alert(1)</script>\n",
    b"../../escape\n",
)
# Of a field of JSON, as text.
VALUES: Sequence[str] = (
    "null",
    "true",
    "-1",
    "0",
    "1e308",
    "1e999",
    "NaN",
    "9" * 5000,
    str(1 << 64),
    "0.5",
    '""',
    '"\\u001b[31m"',
    '"\\u202egnp"',
    '"\\ud800"',
    '"../../escape"',
    '"/etc/passwd"',
    '"a\\nb"',
    "[]",
    "{}",
    "[" * 5000 + "]" * 5000,
    '{"a": {"b": [1, 2]}}',
    f'"{"x" * 70_000}"',
)
JSON = (
    "config.json",
    "manifest.jsonl",
    "metrics.jsonl",
    "sessions.jsonl",
    "requests.jsonl",
    "figures/circuit.json",
)
FILES = (
    *JSON,
    "state.pt",
    "state.prev.pt",
    "states/step_00000020.pt",
    "checkpoints/step_00000020.safetensors",
    "lenses/step_00000020.safetensors",
    "measures.sqlite",
    "lock",
    "figures/beside",
    "../net.safetensors",
    "../neighbour/config.json",
    "../neighbour/manifest.jsonl",
    "../replications/rank-one-0.json",
)
COMMANDS: Sequence[Sequence[str]] = (
    ("ls", "runs"),
    ("verify", "runs/run"),
    ("verify", "runs/run", "--hashes"),
    (*MEASURE, "performance"),
    (*MEASURE, "norms", "--steps", "last"),
    ("lens", "runs/run", "--images", "8"),
    ("circuit", "runs/run", "--method", "acdc", *KL),
    ("replay", "runs/run", "--between", "5", "8"),
    (*TRAIN, "run"),
    ("replicate", "rank-one"),
    ("report", "runs/run"),
    ("tensorboard", "runs"),
    ("export", "runs/run", "--to", "huggingface", "--into", "out"),
    ("import", "runs/net.safetensors", "--name", "in", "--model.n_heads", "2"),
)
ARRAYS = ("train", "classify", "--task.npz", "own.npz", *STEPS, "--name", "own")


def become_pipe(path: Path) -> None:
    """A pipe that nobody writes to."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def become_folder(path: Path) -> None:
    """A folder by a file's name."""
    path.unlink(missing_ok=True)
    path.mkdir()


def become_link(path: Path) -> None:
    """A link to a file elsewhere."""
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/passwd")


def become_loop(path: Path) -> None:
    """A link to itself."""
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


STRANGE: Mapping[str, Callable[[Path], None]] = {
    "a pipe": become_pipe,
    "a folder": become_folder,
    "a link": become_link,
    "a loop": become_loop,
    "gone": Path.unlink,
}


def try_inputs(n: int, seed: int, place: Path) -> Iterator[Try]:
    """n hostile inputs: every sixth of own arrays, the others drawn, over every command."""
    rng = random.Random(seed)
    arrays = [*hostile_arrays(), *odd_arrays()]
    with warm():
        start = prepare_runs(place / "start")
        shutil.rmtree(start / "runs/half")
        run = start / "runs/run"
        must(("lens", "runs/run", "--images", "8"), start)
        must(("circuit", "runs/run", "--method", "acdc", *KL), start)
        next(run.glob("figures/*.json")).rename(run / "figures/circuit.json")
        must(("replicate", "rank-one"), start)
        for name in ("config.json", "manifest.jsonl"):
            (start / "runs/neighbour").mkdir(exist_ok=True)
            shutil.copy(run / name, start / "runs/neighbour")
        (run / "figures/beside").write_text("neighbour")

        for number in range(n):
            words: Sequence[str] = ARRAYS
            with fresh(start) as copy:
                if number % 6 == 5:
                    name, content = arrays[number // 6 % len(arrays)]
                    (copy / "own.npz").write_bytes(content)
                    what = f"own arrays: {name}"
                else:
                    words = rng.choice(COMMANDS)
                    file = rng.choice(FILES)
                    what = f"{file}: {spoil(copy / 'runs/run' / file, rng)}"
                problem = judge(words, copy)
            yield Try(f"{words[0]}, {what:.200}", problem)


def spoil(path: Path, rng: random.Random) -> str:
    """Make a file a hostile one; what it is now."""
    draw = rng.random()
    if draw < 0.1:
        case = rng.choice(sorted(STRANGE))
        STRANGE[case](path)
        return case
    if draw < 0.5 and path.name in map(os.path.basename, (*JSON, "rank-one-0.json")):
        lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
        at = rng.randrange(len(lines))
        value = rng.choice(VALUES)
        lines[at] = json.dumps(put_mark(json.loads(lines[at]), rng)).replace('"@MARK@"', value)
        path.write_text("\n".join(lines) + "\n")
        return f"the value {value:.40} in line {at}"

    content = rng.choice(CONTENTS)
    what = "is"
    if path.suffix == ".jsonl" and rng.random() < 0.5:
        lines = path.read_bytes().splitlines(keepends=True)
        lines.insert(rng.randrange(len(lines)), content.rstrip(b"\n") + b"\n")
        content, what = b"".join(lines), "has the line"
    path.write_bytes(content)
    return f"{what} {content[:40]!r}"


def put_mark(value: object, rng: random.Random) -> object:
    """A JSON value with one of its parts, at any depth, replaced by a mark."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(sorted(value))
        return {**value, name: put_mark(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], put_mark(value[at], rng), *value[at + 1 :]]
    return "@MARK@"


def judge(words: Sequence[str], place: Path) -> str:
    """What is wrong with how a command takes it: nothing where it ends with a code and a line."""
    outcome = run_words(words, place, SECONDS)
    if outcome.code is None:
        return "without end"
    if outcome.is_bad:
        return f"code {outcome.code}: {outcome.text[-1500:]}"
    if any(escape in outcome.text for escape in ESCAPES):
        return f"prints foreign text as it is: {outcome.text[-300:]!a}"
    return ""
