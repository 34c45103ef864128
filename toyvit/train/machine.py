"""What a training asks of its machine beside memory: an accelerator and threads."""

from __future__ import annotations

import os

from pytorch_lightning.accelerators import AcceleratorRegistry

from toyvit.config import TrainConfig
from toyvit.errors import BadInput, choose

MOST_THREADS = 64  # or as many as there are processors


def check_machine(config: TrainConfig) -> None:
    """BadInput for an accelerator or a number of threads that this machine does not have."""
    _check_threads(config.threads)
    name = config.accelerator
    kinds = AcceleratorRegistry.available_accelerators()
    choose(name, ["auto", "gpu", *kinds], "train.accelerator")
    here = [
        kind for kind, entry in AcceleratorRegistry.items() if entry["accelerator"].is_available()
    ]
    if {"cuda", "mps"} & set(here):
        here.append("gpu")
    if name not in ("auto", *here):
        names = ", ".join(["auto", *here])
        raise BadInput(f"train.accelerator {name!r} is not on this machine: allowed are {names}")


def _check_threads(n_threads: int) -> None:
    """BadInput for more threads than a machine could start."""
    most = max(MOST_THREADS, os.cpu_count() or 1)
    if n_threads > most:
        raise BadInput(f"train.threads must be <= {most} on this machine, got {n_threads}")
