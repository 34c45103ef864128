"""MNIST: declared here, asked to `classify`."""

from __future__ import annotations

from toyvit.data.question_configs import ClassifyConfig
from toyvit.data.worlds import WorldEntry

ENTRY = WorldEntry(
    summary="70,000 handwritten digits, 28 x 28",
    purpose="handwritten digits, the size people know",
    pictures="70,000, downloaded on request",
    reads_files=True,
    default=ClassifyConfig(world="mnist"),
)
