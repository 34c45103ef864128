"""How commands take what is large: libraries, and memory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# Of glibc's mallopt, and what they are set to: bytes.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
KEPT = 2**29
LARGEST = 2**25  # the most that glibc takes


@contextmanager
def importing() -> Iterator[None]:
    """Import within the block without searching for cycles: what is imported stays.

    Nor is it searched later. Of the time that a command takes to import torch and the like, the
    search is a sixth.
    """
    keep_memory()
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


def keep_memory() -> None:
    """Let this process hold what it has freed, up to half a GiB, where the C library is glibc.

    By itself it gives the memory of each batch back to the system and asks for it again: half a
    million pages in a training of half a minute, a thirtieth of its time.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST)
