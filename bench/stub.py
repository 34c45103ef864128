"""`python -m bench.stub` writes `toyvit/__init__.pyi` from the table of public names."""

from __future__ import annotations

from pathlib import Path

import toyvit


def format_stub() -> str:
    """The stub: one import a module, every name re-exported."""
    lines = ["# Written by `python -m bench.stub` from the table in __init__.py."]
    for module, names in toyvit.PUBLIC.items():
        lines.append(f"from {module} import (")
        lines += [f"    {name} as {name}," for name in sorted(names)]
        lines.append(")")
    lines += ["", "PUBLIC: dict[str, tuple[str, ...]]", "MODULES: dict[str, str]"]
    return "\n".join([*lines, "__version__: str", ""])


if __name__ == "__main__":
    (Path(__file__).parents[1] / "toyvit/__init__.pyi").write_text(format_stub())
