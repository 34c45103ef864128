"""The table of analyses, read from their rows, and which of them a model and a batch allow."""

from __future__ import annotations

from importlib import import_module

from toyvit.analyses.analysis import Analysis
from toyvit.analyses.names import ENTRIES
from toyvit.config.extensions import find_extensions, merge_extensions
from toyvit.data.task import Batch
from toyvit.errors import BadInput, choose
from toyvit.model import ViT


def _read_row(name: str, module: str) -> Analysis:
    row: Analysis = getattr(import_module(f"toyvit.analyses.{module}"), name.upper())
    return row


ANALYSES = {entry.name: _read_row(entry.name, entry.module) for entry in ENTRIES}


def list_analyses() -> dict[str, Analysis]:
    """Every analysis by its name: the lab's own, then those from outside.

    >>> list_analyses()["probes"].name
    'probes'
    """
    return merge_extensions(ANALYSES, "analyses")


def list_quantities() -> list[str]:
    """All that can be measured, each `analysis.quantity`, in the order of the analyses.

    >>> "induction.mass" in list_quantities()
    True
    """
    names: list[str] = []
    for analysis in list_analyses().values():
        names += [f"{analysis.name}.{quantity}" for quantity in analysis.quantities]
    return names


def name_version(analysis: Analysis) -> int | str:
    """What tells an analysis from itself before an edit, as cells keep it.

    The number in its row; of one from outside also its distribution and a digest of its source.
    """
    if analysis.name in ANALYSES:
        return analysis.version
    return f"{analysis.version} {find_extensions('analyses')[analysis.name].origin}"


def select_analyses(names: list[str] | None, batch: Batch, model: ViT) -> list[Analysis]:
    """The analyses with these names; by default (None) all quick ones that fit model and batch.

    BadInput for a name that is none, or for an analysis that does not fit.
    """
    if names is None:
        quick = [
            analysis for analysis in list_analyses().values() if not analysis.explain_slow(model)
        ]
        return [analysis for analysis in quick if not analysis.list_missing(model, batch)]

    analyses = list_analyses()
    selected = [analyses[choose(name, analyses, "analysis")] for name in names]
    for analysis in selected:
        if missing := analysis.list_missing(model, batch):
            what = " and ".join(missing)
            raise BadInput(f"analysis {analysis.name!r} needs {what}, which this run does not have")
    return selected


def explain_skipped(batch: Batch, model: ViT) -> dict[str, str]:
    """Why an analysis is not among the default ones, by its name."""
    unfit: dict[str, str] = {}
    slow: dict[str, str] = {}
    for name, analysis in list_analyses().items():
        if missing := analysis.list_missing(model, batch):
            unfit[name] = "needs " + " and ".join(missing)
        elif why := analysis.explain_slow(model):
            slow[name] = why
    return unfit | slow


def list_crowded_axes() -> set[str]:
    """Axes with so many places that their quantities are figures, not curves.

    >>> sorted(list_crowded_axes())
    ['count', 'key', 'level', 'neuron']
    """
    crowded = set()
    for analysis in list_analyses().values():
        crowded |= {axis.name for axis in analysis.axes.values() if axis.is_crowded}
    return crowded
