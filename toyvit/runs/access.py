"""What may be read where nothing may be written: a run of another user, or on a read-only disk."""

from __future__ import annotations

import os
from pathlib import Path

from toyvit.errors import BadInput

EFFECTIVE = os.access in os.supports_effective_ids


def is_writable(path: Path) -> bool:
    """Whether this process may change a file, or what is in a folder.

    >>> is_writable(Path("no/such/folder"))
    False
    """
    return os.access(path, os.W_OK, effective_ids=EFFECTIVE)


def check_writable(folder: Path, hint: str) -> None:
    """BadInput, with a hint at what there is to do, where a folder cannot be written to."""
    if not is_writable(folder):
        raise BadInput(f"{folder} cannot be written to" + (f": {hint}" if hint else ""))
