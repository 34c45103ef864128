"""Which run was meant where a path is none."""

from __future__ import annotations

from pathlib import Path

from toyvit.errors import suggest_nearest


def suggest_run(path: Path) -> str:
    """A hint at a run in this folder, of this name below `runs`, or of a near name beside.

    >>> suggest_run(Path("no/such/folder"))
    ''
    """
    inside = sorted(config.parent for config in path.glob("*/config.json"))
    if inside:
        return f"; it holds {len(inside)}, such as {inside[0]}"
    if (Path("runs") / path / "config.json").is_file():
        return f"; did you mean {str(Path('runs') / path)!r}?"
    beside = path.parent.glob("*/config.json") if path.parent.is_dir() else []
    return suggest_nearest(path.name, [config.parent.name for config in beside])
