"""Attention over training: the mean pattern of every head, and which tokens are of which kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.model.forward import trace
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    ColourScale,
    FigureData,
    MapPanel,
    TokenGroup,
    lay_out,
)
from toyvit.report.pictures import select_steps
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_head
from toyvit.runs.handle import Run

IMAGES = 128
DARKEST = 0.1  # of even attention: the lowest value that the scale of patterns tells apart


ATTENTION_CAPTION = Caption(
    see=(
        "A bright line or column: a head that looks at one place, the same in all pictures. "
        "Strips along the axes say which tokens are of which kind. Grey: not allowed by the "
        "mask."
    ),
    otherwise=(
        "every row is of one colour, that of even attention over the tokens that it may see "
        "(over all tokens: the line on the colour bar)."
    ),
)


def draw_attention(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None
) -> FigureData:
    """Mean attention pattern (query down, key across) of every head: a row a checkpoint."""
    batch = run.batch("test", IMAGES)
    steps = steps or select_steps(run.steps)
    means = {step: average_patterns(run, step, batch) for step in steps}
    scale = scale_patterns(means.values(), run.config.model.n_tokens, len(batch.target))
    heads = list_heads(run)
    size = max(1.4, min(2.3, 10 / len(heads)))

    return FigureData(
        name="attention",
        title=f"{run.name}: where every head looks, on average",
        caption=ATTENTION_CAPTION,
        steps=tuple(steps),
        blocks=(
            Block(
                panels=lay_out(
                    steps,
                    heads,
                    lambda step, head: _pattern_panel(run, batch, means[step][head], scale),
                ),
                row_headers=tuple(f"step {step:,}" for step in steps),
                share_y=True,
                column_headers=tuple(call_head(layer, head) for layer, head in heads),
                cell=(size, size),
                margin=(1.0, 0.8),
                scale=scale,
            ),
        ),
    )


def scale_patterns(means: Iterable[np.ndarray], n_tokens: int, n_pictures: int) -> ColourScale:
    """A logarithmic scale of all patterns, with a line at even attention."""
    even = 1 / n_tokens
    return ColourScale(
        kind="heat",
        low=DARKEST * even,
        high=max(float(patterns.max()) for patterns in means),
        label=f"attention (share), mean of {n_pictures} pictures, logarithmic",
        spacing="log",
        marks=((even, f"even over all {n_tokens} tokens"),),
    )


def average_patterns(run: Run, step: int, batch: Batch) -> np.ndarray:
    """Mean patterns (layer head query key) of the model as it was trained."""
    patterns = trace(run.model(step, batch), batch.images, ["blocks.*.attn.pattern"])
    return np.stack([pattern.mean(0).numpy() for pattern in patterns.values()])


def list_heads(run: Run) -> list[tuple[int, int]]:
    """(layer, head) of all heads."""
    config = run.config.model
    return list(product(range(config.n_layers), range(config.n_heads)))


def _pattern_panel(run: Run, batch: Batch, pattern: np.ndarray, scale: ColourScale) -> MapPanel:
    ticks = list_ticks(run)
    names = tuple(f"{tick:.0f}" for tick in ticks)
    return MapPanel(
        x=Axis(label="key token", ticks=ticks, names=names),
        y=Axis(label="query token", ticks=ticks, names=names),
        values=pattern,
        scale=scale,
        groups=group_tokens(run, batch),
    )


def list_ticks(run: Run) -> tuple[float, ...]:
    """Ticks along tokens: where rows of patches begin, all or every second, fourth, ..."""
    config = run.config.model
    rows, columns = config.grid
    every = 1
    while rows / every > 5:
        every *= 2
    return tuple(float(config.n_prefix + row * columns) for row in range(0, rows, every))


def group_tokens(run: Run, batch: Batch) -> tuple[TokenGroup, ...]:
    """CLS, registers, patches, and of these the labels and the query where all pictures agree."""
    config = run.config.model
    n = config.n_prefix
    groups = []
    if config.cls_token:
        groups.append(TokenGroup(name="CLS", tokens=(0,), colour="pink"))
    if config.n_registers:
        tokens = tuple(range(int(config.cls_token), n))
        groups.append(TokenGroup(name="registers", tokens=tokens, colour="sky"))
    groups.append(
        TokenGroup(
            name="patches, row by row", tokens=tuple(range(n, config.n_tokens)), colour="faint"
        )
    )

    if batch.retrieval is not None:
        labels = find_common(batch.retrieval.candidates)
        query = find_common(batch.retrieval.query[:, None])
        if labels:
            tokens = tuple(n + patch for patch in labels)
            groups.append(TokenGroup(name="labels", tokens=tokens, colour="green"))
        if query:
            tokens = tuple(n + patch for patch in query)
            groups.append(TokenGroup(name="the query", tokens=tokens, colour="orange"))
    return tuple(groups)


def find_common(places: Tensor) -> tuple[int, ...]:
    """The patches (image slot) where they are the same in all pictures; else none."""
    same = bool((places == places[0]).all())
    return tuple(places[0].tolist()) if same else ()


ATTENTION = FigureRow(name="attention", draw=draw_attention)
