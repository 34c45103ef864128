"""`python -m bench.golden REVISION`: does this tree compute what another revision computes, to the
bit?

Both trees run the same commands in empty folders of their own: six short runs of different tasks
and one under clamps, their measures, two circuits, a sweep, a replication, reports. Compared are
the SHA-256 of every checkpoint, every row of every table of measures, the circuits, the lenses, the
sweep's table, the replication's record, and what every figure draws: the data of its lines,
pictures, meshes, bands and patches, the number of its arrows, and the words inside its panels.
Titles, axes, legends and colours are not compared. A part of which either tree gave nothing is a
difference. Names are compared after the renames of `bench/renames.py`; what is meant to differ
stands there in `MENDED` and `MENDED_FIGURES`, with its reason.

`--keep FILE` also writes what the other revision gave, and `--earlier FILE` reads it instead of
running that revision again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COLOUR_BARS = ("<colorbar>", "colour bar")

# A run's name, its recipe, its options, and the slow analyses it is measured by.
RUNS: tuple[tuple[str, str, str, str], ...] = (
    (
        "glyphs",
        "induction-smoke",
        "--train.steps 500 --train.checkpoints 0,100,200,300,400,500",
        "edges,patching,attention_knockout,geometry,gradient_noise,hessian",
    ),
    (
        "digits",
        "digits",
        "--train.steps 60 --train.checkpoints 0,20,40,60 --model.d_mlp 32 --model.n_heads 2",
        "memories,attention_knockout,geometry",
    ),
    ("chain", "markov", "--train.steps 24 --train.checkpoints 0,8,16,24", "geometry"),
    ("sums", "addition", "--train.steps 30 --train.checkpoints 0,10,20,30", "edges"),
    (
        "canvas",
        "objects",
        "--train.steps 20 --train.checkpoints 0,10,20 --model.n_registers 2",
        "attention_knockout",
    ),
    ("hidden", "reconstruct", "--train.steps 40 --train.checkpoints 0,20,40", ""),
    (
        "clamped",
        "two-pairs",
        "--train.steps 40 --train.checkpoints 0,20,40 --train.clamps 0.3:previous,1.0:copy@20",
        "edges",
    ),
)


def list_commands() -> list[list[str]]:
    """What both trees are asked to do, in today's names."""
    small = ["--images", "64"]
    commands = []
    for name, recipe, options, slow in RUNS:
        run = f"runs/{name}"
        commands.append(["train", recipe, "--name", name, *options.split()])
        commands.append(["measure", run, *small])
        if slow:
            commands.append(["measure", run, *small, "--analyses", slow])
        commands.append(["report", run])
    commands += [
        ["measure", "runs/glyphs", *small, "--split", "unseen", "--analyses", "performance"],
        ["circuit", "runs/glyphs", "--change", "item", "--pairs", "16", "--null", "5"],
        [
            "circuit",
            "runs/glyphs",
            "--method",
            "acdc",
            "--pairs",
            "16",
            "--null",
            "5",
            "--ablation",
            "mean",
        ],
        ["lens", "runs/digits", "--images", "64"],
        [
            "sweep",
            "induction-smoke",
            "--name",
            "swept",
            "--seeds",
            "0..1",
            "--jobs",
            "1",
            "--images",
            "64",
            "--train.steps",
            "30",
            "--train.checkpoints",
            "0,10,20,30",
            "--model.n_layers",
            "1,2",
            "--analyses",
            "performance",
        ],
        ["replicate", "rank-one", "--seeds", "0", "--page", "page"],
    ]
    return commands


def drive(commands: Sequence[Sequence[str]], out: Path) -> None:
    """Run the commands in this process and folder, and write what they gave."""
    from matplotlib.figure import Figure

    drawn: dict[str, list[str]] = {}
    save = Figure.savefig

    def record(figure: Figure, path: Any, *args: Any, **kwargs: Any) -> None:
        if isinstance(path, Path):
            drawn[str(path)] = sorted(describe_artists(figure))
        save(figure, path, *args, **kwargs)

    Figure.savefig = record  # type: ignore[method-assign]
    from toyvit.__main__ import main

    for command in commands:
        code = main(list(command))
        if code:
            raise SystemExit(f"{' '.join(command)} ended with {code}")
    out.write_text(json.dumps(collect(Path(), drawn)))


def describe_artists(figure: Any) -> Iterator[str]:
    """A line of text for each thing that a figure draws in its panels: its kind, and a digest of
    its data or its words.
    """
    for axes in figure.axes:
        if axes.get_label() not in COLOUR_BARS:
            yield from describe_curves(axes)
            yield from describe_areas(axes)
            yield from (f"text {text.get_text()}" for text in axes.texts)


def describe_curves(axes: Any) -> Iterator[str]:
    """Lines, and pictures and meshes by their values."""
    import numpy as np

    for line in axes.lines:
        x = np.asarray(line.get_xdata(), float)
        y = np.asarray(line.get_ydata(), float)
        yield f"line {hash_array(x)} {hash_array(y)}"

    coloured = [("image", picture) for picture in axes.images]
    coloured += [("mesh", collection) for collection in axes.collections]
    for kind, artist in coloured:
        values = artist.get_array()
        if values is not None:
            yield f"{kind} {hash_array(np.ma.filled(values.astype(float), np.nan))}"


def describe_areas(axes: Any) -> Iterator[str]:
    """Bands and patches by their corners; arrows, which are laid out for the paper, by number."""
    import numpy as np
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import FancyArrowPatch

    for collection in axes.collections:
        if isinstance(collection, PolyCollection) and collection.get_array() is None:
            corners = [path.vertices for path in collection.get_paths()]
            yield f"band {hash_array(np.concatenate(corners))}"

    for patch in axes.patches:
        if isinstance(patch, FancyArrowPatch):
            yield "arrow"
        else:
            corners = patch.get_patch_transform().transform(patch.get_path().vertices)
            yield f"patch {hash_array(corners)}"


def hash_array(values: Any) -> str:
    """The first digits of a digest of an array's shape and bytes."""
    return hashlib.sha256(f"{values.shape}".encode() + values.tobytes()).hexdigest()[:16]


def collect(folder: Path, drawn: dict[str, list[str]]) -> dict[str, Any]:
    """Everything that is compared, as plain JSON."""
    checkpoints = {}
    measures = {}
    for manifest in sorted(folder.glob("runs/**/manifest.jsonl")):
        run = str(manifest.parent)
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        checkpoints |= {f"{run} {line['step']}": line["sha256"] for line in lines}
        measures |= dict(read_measures(manifest.parent / "measures.sqlite", run))
    records = {}
    for path in sorted(folder.glob("runs/**/figures/*.json")):
        records[str(path)] = json.loads(path.read_text())
        records[str(path)].pop("check", None)
    record = json.loads((folder / "runs/replications/rank-one-0.json").read_text())
    record.pop("minutes")
    record.pop("check", None)
    return {
        "checkpoints": checkpoints,
        "measures": measures,
        "circuits": records,
        "lenses": {str(path): hash_lens(path) for path in sorted(folder.glob("runs/*/lenses/*"))},
        "sweep": (folder / "runs/swept/sweep.csv").read_text(),
        "replication": record,
        "figures": drawn,
    }


def hash_lens(path: Path) -> str:
    """A digest of the tensors in a file of safetensors."""
    from safetensors.numpy import load_file

    tensors = sorted(load_file(path).items())
    return " ".join(f"{name} {hash_array(values)}" for name, values in tensors)


def read_measures(path: Path, run: str) -> Iterator[tuple[str, float]]:
    """Every row of a table of measures: its identity as one text, and its number."""
    query = """
        select step, sha256, analysis, version, split, images, quantity, axes, value
        from cells join numbers on numbers.cell = cells.id join places on places.id = numbers.place
    """
    with sqlite3.connect(path) as db:
        for step, sha, analysis, version, split, images, quantity, axes, value in db.execute(query):
            place = " ".join(f"{axis}={at}" for axis, at in sorted(json.loads(axes).items()))
            identity = f"{run} {step} {sha[:12]} {analysis} v{version} {split} {images}"
            yield f"{identity} {quantity} [{place}]", value


def run_tree(tree: Path, rename: bool) -> dict[str, Any]:
    """What a tree gives, run in a folder of its own; with `rename` by commands in old names."""
    from bench.renames import to_old_command

    commands = list_commands()
    if rename:
        commands = [to_old_command(command) for command in commands]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "golden.json")
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        environment.pop("TOYVIT_DATA", None)
        words = [sys.executable, str(ROOT / "bench/golden.py"), "--drive", json.dumps(commands)]
        subprocess.run([*words, str(out)], cwd=folder, env=environment, check=True)
        return json.loads(out.read_text())


def run_revision(revision: str) -> dict[str, Any]:
    """What a revision of this repository gives."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(tree), revision], check=True)
        try:
            return run_tree(tree, rename=True)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A line for every part that differs, after the renames and but for what is mended."""
    from bench.renames import MENDED, to_new_record

    old = to_new_record(old)
    differences = []
    for part in sorted(old.keys() | new.keys()):
        before = list_entries(old.get(part))
        after = list_entries(new.get(part))
        print(f"{part:12} {len(before):6} before, {len(after):6} now")
        if not before or not after:
            differences.append(f"{part}: {len(before)} before, {len(after)} now")

        for key in sorted(before.keys() | after.keys()):
            was = before.get(key)
            now = after.get(key)
            if part == "figures":
                changes = list_changes(key, was or [], now or [])
                differences += [f"{part} {key}: {', '.join(changes)}"] if changes else []
            elif was != now and not any(name in key for name in MENDED):
                differences.append(f"{part} {key}: {was} is now {now}")
    return differences


def list_entries(part: Any) -> dict[str, Any]:
    """What a part holds, by name; a part that is one text holds itself."""
    if isinstance(part, dict):
        return part
    return {"": part} if part else {}


def list_changes(path: str, before: list[str], after: list[str]) -> list[str]:
    """What a figure no longer draws (-) and draws in addition (+), but for what is mended."""
    from bench.renames import MENDED_FIGURES

    if not before or not after:
        return [f"{len(before)} things drawn before, {len(after)} now"]
    name = path.rpartition(".")[0]
    mended = " ".join(
        signs for pattern, (signs, _) in MENDED_FIGURES.items() if fnmatch(name, pattern)
    ).split()
    lost = [f"-{line}" for line in (Counter(before) - Counter(after)).elements()]
    gained = [f"+{line}" for line in (Counter(after) - Counter(before)).elements()]
    return [line for line in [*lost, *gained] if line.split()[0] not in mended]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 the same, 1 something differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.golden", description=__doc__)
    parser.add_argument("revision", nargs="?", default="86e1950")
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--earlier", type=Path, metavar="FILE")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.drive:
        drive(json.loads(given.drive), Path(given.revision))
        return 0
    old = json.loads(given.earlier.read_text()) if given.earlier else run_revision(given.revision)
    if given.keep:
        given.keep.write_text(json.dumps(old))
    differences = compare(old, run_tree(ROOT, rename=False))
    for line in differences[:50]:
        print(line[:400])
    print("identical" if not differences else f"{len(differences)} parts differ")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main())
