"""A run is one process, whatever a scheduler or a launcher says of others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# Variables by which schedulers and launchers say which of many processes this is: Slurm, torchrun,
# LSF, MPI, Kubernetes, and Lightning's own.
OF_LAUNCHERS = re.compile(
    r"(LOCAL_|NODE_|GROUP_|ROLE_|GLOBAL_)?(RANK|WORLD_SIZE)|MASTER_(ADDR|PORT)"
    r"|(SLURM|SRUN|TORCHELASTIC|LSB|LSF|JSM|OMPI|PMI|PMIX|MPI|MPICH|MV2|PL|LT|XLA|TPU|PJRT)_\w+"
)


@contextmanager
def hide_launchers() -> Iterator[None]:
    """Without the variables of schedulers and launchers within a block: a run is one process.

    Lightning would wait for the other processes, or refuse to work in an allocation of several
    tasks.

    >>> os.environ["SLURM_NTASKS"] = "4"
    >>> with hide_launchers():
    ...     os.environ.get("SLURM_NTASKS")
    >>> os.environ.pop("SLURM_NTASKS")
    '4'
    """
    hidden = {name: value for name, value in os.environ.items() if OF_LAUNCHERS.fullmatch(name)}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
