"""The measures of the lab: a family of analyses a file, each with its row under its function.

To add one, write a pure function `(model, batch, trace) -> {quantity: tensor}` and its row in a
file of this room, and name it in `names.ENTRIES`. All is imported when it is first used, so that
the names can be listed without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toyvit.analyses.analysis import Analysis, Axis, Measures, Need, Quantity, Tagged
    from toyvit.analyses.registry import ANALYSES, explain_skipped, select_analyses

__all__ = [
    "ANALYSES",
    "Analysis",
    "Axis",
    "Measures",
    "Need",
    "Quantity",
    "Tagged",
    "explain_skipped",
    "select_analyses",
]
OF_REGISTRY = ("ANALYSES", "explain_skipped", "select_analyses")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "registry" if name in OF_REGISTRY else "analysis"
    return getattr(import_module(f"toyvit.analyses.{module}"), name)
