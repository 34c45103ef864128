"""How commands import what is large."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import within the block without searching for cycles: what is imported stays.

    Nor is it searched later. Of the time that a command takes to import torch and the like, the
    search is a sixth.
    """
    n_before = len(sys.modules)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > n_before:
            gc.freeze()
        if was_enabled:
            gc.enable()
