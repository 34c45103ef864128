"""The version, and which variables would change bits, where nothing heavy is imported for it."""

from __future__ import annotations

import os
import re
import time

VERSION = "0.2.0"
# Variables that choose other instructions or kernels before the first line of ours runs.
READ_BEFORE = re.compile(
    r"(ATEN|MKL|ONEDNN|DNNL|OPENBLAS|BLIS|CUBLAS|CUDA|NVIDIA|KMP|GOMP|OMP|TORCH|PYTORCH)_\w+"
)


def list_variables() -> dict[str, str]:
    """The variables of the environment that libraries under torch read, and their values."""
    return {
        name: value for name, value in sorted(os.environ.items()) if READ_BEFORE.fullmatch(name)
    }


STARTED = time.time_ns()
AT_START = list_variables()  # scikit-learn and others set some when they are imported
