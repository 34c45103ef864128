"""Shapes in the package's signatures are checked while its tests run; each test process, and its children, has one thread."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported: tests run side by side

from jaxtyping import install_import_hook

install_import_hook(
    [
        "toyvit.model.vit",
        "toyvit.circuits",
        "toyvit.analyses",
        "toyvit.stats",
        "toyvit.dynamics.checkpoints",
    ],
    "beartype.beartype",
)
