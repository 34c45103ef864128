"""What takes several checkpoints: how far the weights moved, and which layers stayed alike."""

from __future__ import annotations

import logging
from itertools import pairwise

import numpy as np
import pandas as pd
from torch import Tensor

from toyvit.config import learning_rate
from toyvit.dynamics.checkpoints import compare_checkpoints, measure_updates
from toyvit.dynamics.transitions import AbruptChange, detect_in_curve
from toyvit.errors import DataMissing
from toyvit.report.curves import (
    STEPS,
    build_curve,
    build_levels,
    mark_rate_changes,
)
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    ColourScale,
    Curve,
    CurvePanel,
    Dash,
    FigureData,
    MapPanel,
    Span,
)
from toyvit.report.rows import FigureRow, check_pictures
from toyvit.report.style import call_layer, pick_shades
from toyvit.runs.handle import Run

logger = logging.getLogger(__name__)

STRETCHES = 100  # of training, whose updates are drawn
COMPARED = 40  # stretches between the checkpoints whose layers are compared
IMAGES = 128
LEAST_COMPARED = 4  # pictures: of fewer there is no unbiased CKA
AROUND = {
    ("gradient_noise", "scale"): "gradient noise\nscale (pictures)",
    ("hessian", "top"): "largest Hessian\neigenvalue (nats)",
}
GROUPS = {"cls": "CLS", "patches": "patches"}
ALIKE = ColourScale(kind="sequential", low=0, high=1, label="unbiased CKA\n(1 alike, 0 unrelated)")


UPDATES_CAPTION = Caption(
    see=(
        "Above: a part whose curve rises is being rebuilt. Below: blocks along the diagonal "
        "are stretches in which a layer stays the same; a border between blocks is a change "
        "of what it represents. Shaded or between white lines: the abrupt change in accuracy."
    ),
    otherwise=(
        "the parts move side by side below the dotted line, where every weight moves by the "
        "learning rate, and the maps fade evenly away from the diagonal."
    ),
)


def draw_updates(run: Run, beside: Run | None = None) -> FigureData:
    """Distance moved a step, by part of the model, and the unbiased CKA of every layer between
    checkpoints.

    Evenly spaced checkpoints, so that stretches are alike. The accuracy's transition, if there is
    one, is shaded. Gradient noise and curvature follow where they were measured, on training
    pictures if they were.
    """
    change = detect_in_curve(run.curve("performance", "accuracy"), run.config.train)
    panels = [_updates_panel(run, change)]
    for name, label in AROUND.items():
        values = select_measured(run, *name)
        if len(values):
            panels.append(_landscape_panel(run, values, name[0], label, change))
    heights = (2.0, *[1.0] * (len(panels) - 1))
    above = Block(
        panels=tuple((panel,) for panel in panels),
        cell=(8.0, 3.2),
        heights=heights,
        margin=(1.2, 0.3),
    )

    try:
        blocks: tuple[Block, ...] = (above, _compare_layers(run, change))
    except DataMissing as error:
        logger.warning("updates is drawn without its maps of layers: %s", error)
        blocks = (above,)
    return FigureData(
        name="updates",
        title=f"{run.name}: how far the weights move, and which layers stay alike",
        caption=UPDATES_CAPTION,
        blocks=blocks,
    )


def _updates_panel(run: Run, change: AbruptChange | None) -> CurvePanel:
    """A colour a block, dashed for MLPs; for scale, all weights moved by the learning rate."""
    steps = select_even(run.steps, STRETCHES)
    moved = sum_by_part(measure_updates(run, steps))
    shades = pick_shades(run.config.model.n_layers)
    curves = [_part_curve(str(part), values, shades) for part, values in moved.items()]
    curves.append(_rate_curve(run, steps))

    return CurvePanel(
        x=STEPS,
        y=Axis(
            label="distance moved a step\n(Euclidean norm of weights,\nmean over a stretch)",
            scale="log",
        ),
        curves=tuple(curves),
        spans=_shade(change),
        marks=mark_rate_changes(run, run.steps[-1]),
        legend="right",
    )


def _part_curve(part: str, values: pd.Series, shades: list[str]) -> Curve:
    name, _, block = part.partition(" ")
    if block:
        style: Dash = "dashed" if name == "MLP" else "solid"
        label = f"block {block}, {name}"
        return build_curve(values, label, colour=shades[int(block)], style=style, width=1.2)

    looks: dict[str, tuple[str, Dash]] = {
        "all": ("black", "solid"),
        "embedding": ("sky", "dotted"),
        "norms": ("grey", "dotted"),
        "head": ("orange", "solid"),
    }
    colour, dash = looks[name]
    return build_curve(values, name, colour=colour, style=dash, width=1.2)


def _rate_curve(run: Run, steps: list[int]) -> Curve:
    n_weights = sum(weight.numel() for weight in run.bare_model(steps[0]).parameters())
    rates = [
        learning_rate(run.config.train, step) * n_weights**0.5 for step in range(1, steps[-1] + 1)
    ]
    means = [np.mean(rates[before:step]) for before, step in pairwise(steps)]

    return Curve(
        x=np.array(steps[1:], float),
        y=np.array(means, float),
        label="every weight by the learning rate",
        colour="pink",
        style="dense",
        width=1.0,
    )


def _landscape_panel(
    run: Run, values: pd.Series, analysis: str, label: str, change: AbruptChange | None
) -> CurvePanel:
    curve = Curve(x=values.index.to_numpy(float), y=values.to_numpy(float), marker="dot", width=1.0)
    first = {f"at step {values.index[0]}": float(values.iloc[0])}
    size = {"batch size": float(run.config.train.batch_size)}

    return CurvePanel(
        x=STEPS,
        y=Axis(label=label, scale="log"),
        curves=(curve,),
        levels=build_levels(size if analysis == "gradient_noise" else first),
        spans=_shade(change),
        marks=mark_rate_changes(run, run.steps[-1]),
    )


def _shade(change: AbruptChange | None) -> tuple[Span, ...]:
    if change is None:
        return ()
    return (Span(start=change.onset, end=change.end, label="abrupt change in accuracy"),)


def _compare_layers(run: Run, change: AbruptChange | None) -> Block:
    """A row a group of tokens, a map a layer: checkpoint by checkpoint."""
    steps = select_even(run.steps, COMPARED)
    batch = run.batch("test", IMAGES)
    check_pictures(len(batch.target), LEAST_COMPARED)
    compared = compare_checkpoints(run, batch, steps)
    rows = []

    for group, layers in compared.items():
        panels = [
            _similarity_panel(steps, matrix, change, f"{GROUPS[group]}, {call_layer(layer)}")
            for layer, matrix in enumerate(layers)
        ]
        rows.append(tuple(panels))
    return Block(panels=tuple(rows), share_y=True, cell=(2.6, 2.6), margin=(0.8, 0.4), scale=ALIKE)


def _similarity_panel(
    steps: list[int], matrix: Tensor, change: AbruptChange | None, title: str
) -> MapPanel:
    """One layer, from 0 to 1; no value where the layer does not vary over pictures."""
    return MapPanel(
        x=STEPS,
        y=STEPS,
        title=title,
        values=matrix.clamp(0, 1).numpy(),
        scale=ALIKE,
        columns=np.array(steps, float),
        rows=np.array(steps, float),
        guides=(float(change.onset), float(change.end)) if change else (),
    )


def select_measured(run: Run, analysis: str, quantity: str) -> pd.Series:
    """A curve over steps on training pictures, or on test pictures where there is none."""
    on_training = run.curve(analysis, quantity, split="train")
    return on_training if len(on_training) else run.curve(analysis, quantity)


def select_even(steps: list[int], n: int) -> list[int]:
    """Of a run's checkpoints those nearest to the ends of n even stretches of training."""
    goals = np.linspace(steps[0], steps[-1], n + 1)
    return sorted({min(steps, key=lambda step: abs(step - goal)) for goal in goals})


def sum_by_part(moved: pd.DataFrame) -> pd.DataFrame:
    """Distance moved a training step, a row a step and a column a part: the root of its parameters'
    squares.
    """
    squares = (moved["distance"] / moved["steps"]) ** 2
    parts = moved["module"].map(_name_part)
    return squares.groupby([moved["step"], parts]).sum().pow(0.5).unstack()


def _name_part(module: str) -> str:
    """`blocks.1.attn.qkv.weight` belongs to `attention 1`; norms are one part."""
    block, _, rest = module.removeprefix("blocks.").partition(".")
    if "ln" in module:
        return "norms"
    if module.startswith("blocks."):
        return f"{'attention' if rest.startswith('attn') else 'MLP'} {block}"
    return {"all": "all", "head": "head"}.get(block, "embedding")


UPDATES = FigureRow(name="updates", draw=draw_updates, needs=frozenset({"performance"}))
