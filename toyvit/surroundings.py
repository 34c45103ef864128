"""What surrounds a computation and would change its bits: pinned where it can be, else noted.

The caller's process may have set torch otherwise, and so may variables of the environment that
Lightning and the libraries under torch read. One thread: a model this small is slower on two.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from toyvit.version import VERSION, list_variables

# Settings of the process, each by what reads it and what sets it, and the value that runs are
# trained and measured under: torch's own defaults.
Setting = tuple[Callable[[], object], Callable[[Any], None], object]
SETTINGS: dict[str, Setting] = {
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    "matmul precision": (
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
        "highest",
    ),
    "deterministic algorithms": (
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
        0,
    ),
    "cudnn benchmark": (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
        False,
    ),
    "cudnn deterministic": (
        lambda: torch.backends.cudnn.deterministic,
        lambda value: setattr(torch.backends.cudnn, "deterministic", value),
        False,
    ),
    "mkldnn": (
        lambda: torch.backends.mkldnn.enabled,
        lambda value: setattr(torch.backends.mkldnn, "enabled", value),
        True,
    ),
}


@contextmanager
def pin_torch(n_threads: int = 1) -> Iterator[None]:
    """torch as runs are trained and measured within a block, and after it as it was before.

    Float32, full precision in products, gradients on, no autocast, no inference mode, the processor
    as the default device, and so many threads. As a decorator: within a function.

    >>> torch.set_default_dtype(torch.float64)
    >>> with pin_torch():
    ...     torch.get_num_threads(), torch.zeros(()).dtype
    (1, torch.float32)
    >>> torch.get_default_dtype()
    torch.float64
    >>> torch.set_default_dtype(torch.float32)
    """
    threads: Setting = (torch.get_num_threads, torch.set_num_threads, n_threads)
    with ExitStack() as after:
        for read, write, value in (*SETTINGS.values(), threads):
            before = read()
            if before != value:
                after.callback(write, before)
                write(value)
        if torch.is_inference_mode_enabled():
            after.enter_context(torch.inference_mode(False))
        after.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                after.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            after.enter_context(torch.device("cpu"))
        yield


def leave_inference(value: Any) -> Any:
    """A tensor, or a record of some, with copies of what was made in inference mode.

    Gradients pass them, where this is called outside of that mode.

    >>> with torch.inference_mode():
    ...     images = torch.ones(2)
    >>> leave_inference(images).is_inference()
    False
    """
    if isinstance(value, torch.Tensor):
        return value.clone() if value.is_inference() else value
    if is_dataclass(value) and not isinstance(value, type):
        tensors = {
            name: leave_inference(part)
            for name, part in vars(value).items()
            if isinstance(part, torch.Tensor)
        }
        return replace(value, **tensors)
    return value


def list_versions() -> dict[str, str]:
    """Versions of what decides a run's bits, by name."""
    return {
        "toyvit": VERSION,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def describe_surroundings() -> dict[str, object]:
    """What cannot be pinned: the processor, the machine, and variables that are read before us."""
    return {
        "processor": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "system": platform.system(),
        "variables": list_variables(),
    }


def read_free_memory() -> int:
    """Bytes that can be had without swapping; all of the machine's where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        (free,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(free.split()[1])
    except (OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
