"""Omniglot: declared here; its characters are exemplars of the task `fewshot`."""

from __future__ import annotations

from toyvit.data.worlds import WorldEntry
from toyvit.data.worlds.fewshot.config import FewshotConfig

ENTRY = WorldEntry(
    summary="the same with handwritten characters: --task.source omniglot",
    purpose="handwritten characters, exemplars of fewshot",
    pictures="32,460, looked for, never downloaded",
    reads_files=True,
    default=FewshotConfig(source="omniglot", n_pairs=4),
)
