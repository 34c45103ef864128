"""Any measure over the settings of a sweep: median and band over seeds, curves and a table."""

from __future__ import annotations

import numpy as np
import pandas as pd

from toyvit.analyses.registry import list_analyses
from toyvit.errors import BadInput, choose
from toyvit.report.curves import STEPS, baseline_levels, stack_panels
from toyvit.report.panels import Axis, Caption, Curve, CurvePanel, Dash, FigureData
from toyvit.report.style import SETTINGS, list_looks
from toyvit.report.sweeps import Settings, take_median

CHANCE = "chance under the mask"
CAPTION = Caption(
    see=(
        "Settings whose bands part differ by more than their seeds do. Bold: the median of the "
        "seeds; shaded: from the least to the most; of a measure by head the strongest head."
    ),
    otherwise="all bands lie over each other, or at chance (dotted).",
)


def parse_measure(text: str) -> tuple[str, str]:
    """`attention.corner` as analysis and quantity; BadInput for one that there is not.

    >>> parse_measure("attention.corner")
    ('attention', 'corner')
    """
    analysis, dot, quantity = text.partition(".")
    if not dot:
        raise BadInput(f"a measure is ANALYSIS.QUANTITY, got {text!r}: attention.corner")
    analyses = list_analyses()
    row = analyses[choose(analysis, analyses, "analysis")]
    return analysis, choose(quantity, row.quantities, f"quantity of {analysis}")


def draw_sweep_measure(settings: Settings, analysis: str, quantity: str) -> FigureData:
    """A measure against step: the median of each setting's seeds, and from the least to the most.

    BadInput where no run has it.
    """
    looks = list_looks(len(settings), SETTINGS)
    curves: list[Curve] = []
    first = None
    for (folder, runs), (colour, dash) in zip(settings.items(), looks, strict=True):
        seeds = [run.curve(analysis, quantity) for run in runs]
        seeds = [values for values in seeds if len(values)]
        if not seeds:
            continue
        first = first or runs[0]
        label = f"{folder.name}, {len(seeds)} seeds"
        curves.append(_build_band(seeds, label, colour, dash))
        chance = runs[0].curve(analysis, f"{quantity}_chance")
        if len(chance) and not any(curve.label == CHANCE for curve in curves):
            curves.append(_build_chance(chance))
    if first is None:
        measured = f"`toyvit measure RUN --analyses {analysis}`"
        raise BadInput(f"{analysis}.{quantity} is measured in no run: {measured}")

    levels = baseline_levels(first, quantity) if analysis == "performance" else ()
    panel = CurvePanel(
        x=STEPS,
        y=Axis(label=_label(analysis, quantity)),
        curves=tuple(curves),
        levels=levels,
        legend="inside",
    )
    return FigureData(
        name=f"sweep_{analysis}_{quantity}",
        title=f"{analysis}: {quantity.replace('_', ' ')} over the settings of a sweep",
        caption=CAPTION,
        blocks=stack_panels([panel], 3.8),
    )


def _build_band(seeds: list[pd.Series], label: str, colour: str, dash: Dash) -> Curve:
    """Median, least and most over seeds at every step of any."""
    table = pd.concat(seeds, axis=1).interpolate(limit_area="inside")
    median = take_median(seeds)
    return Curve(
        x=median.index.to_numpy(float),
        y=median.to_numpy(float),
        label=label,
        colour=colour,
        style=dash,
        width=2.0,
        band=(table.min(axis=1).to_numpy(float), table.max(axis=1).to_numpy(float)),
    )


def _build_chance(values: pd.Series) -> Curve:
    return Curve(
        x=values.index.to_numpy(float),
        y=values.to_numpy(float),
        label=CHANCE,
        colour="grey",
        style="dotted",
    )


def _label(analysis: str, quantity: str) -> str:
    """What stands beside the axis, with the unit that the row declares."""
    unit = list_analyses()[analysis].quantities[quantity].unit or "share"
    return f"{quantity.replace('_', ' ')} ({unit})"


def tabulate_measure(settings: Settings, analysis: str, quantity: str) -> pd.DataFrame:
    """The last value of a measure: a row a setting, with median, least and most over its seeds."""
    rows = []
    for folder, runs in settings.items():
        seeds = [run.curve(analysis, quantity) for run in runs]
        last = np.array([values.iloc[-1] for values in seeds if len(values)])
        if len(last):
            ends = {"median": np.median(last), "least": last.min(), "most": last.max()}
            rows.append({"setting": folder.name, "seeds": len(last), **ends})
    return pd.DataFrame(rows)
