"""Attention over training: mean patterns of all heads, where one query looks, where CLS looks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from toyvit.clamps.patterns import allowed_keys
from toyvit.data.task import Batch
from toyvit.model.forward import run_model, trace
from toyvit.report.panels import (
    Axis,
    Block,
    ColourScale,
    FigureData,
    MapPanel,
    Overlay,
    PicturePanel,
    TokenGroup,
    lay_out,
)
from toyvit.report.pictures import frame_patch, ink_of, select_steps
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_head
from toyvit.runs.handle import Run

IMAGES = 128
DARKEST = 0.1  # of even attention: the lowest value that the scale of patterns tells apart


def draw_attention(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None
) -> FigureData:
    """Mean attention pattern (query down, key across) of every head: a row a checkpoint."""
    batch = run.batch("test", IMAGES)
    steps = steps or select_steps(run.steps)
    means = {step: average_patterns(run, step, batch) for step in steps}
    config = run.config.model
    even = 1 / config.n_tokens
    scale = ColourScale(
        kind="heat",
        low=DARKEST * even,
        high=max(float(patterns.max()) for patterns in means.values()),
        label=f"attention (share), mean of {len(batch.target)} pictures, logarithmic",
        spacing="log",
        marks=((even, f"even over all {config.n_tokens} tokens"),),
    )
    heads = list_heads(run)
    size = max(1.4, min(2.3, 10 / len(heads)))
    return FigureData(
        name="attention",
        title=f"{run.name}: where every head looks, on average",
        see=(
            "A bright line or column: a head that looks at one place, the same in all pictures. "
            "Strips along the axes say which tokens are of which kind. Grey: not allowed by the "
            "mask."
        ),
        otherwise=(
            "every row is of one colour, that of even attention (the line on the colour bar)."
        ),
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


def draw_query_attention(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None, image: int = 0
) -> FigureData:
    """Where the query of a test picture looks: a row a head, a column a checkpoint."""
    batch = run.batch("test", image + 1)
    assert batch.retrieval is not None
    query = int(batch.retrieval.query[-1])
    match = int(batch.retrieval.target[-1])
    steps = steps or select_steps(run.steps, n=7)
    config = run.config.model
    even = 1 / int(allowed_keys(config)[config.n_prefix + query].sum())
    scale = ColourScale(
        kind="tint",
        low=0,
        high=1,
        label="attention from the query (orange)\nto each cell (share); blue: the answer",
        marks=((even, "even"),),
    )
    frames = (frame_patch(run.task, query, "orange"), frame_patch(run.task, match, "blue"))
    rows = {step: _query_rows(run, step, batch, query) for step in steps}
    return FigureData(
        name="query_attention",
        title=f"{run.name}: where the query of one picture looks",
        see="A head that puts its green on the blue frame has found the label that answers.",
        otherwise="green is spread evenly over the cells that the mask allows (line on the bar).",
        blocks=(
            Block(
                panels=lay_out(
                    list_heads(run),
                    steps,
                    lambda head, step: _overlaid(
                        batch.images[-1], rows[step][head], run, scale, frames
                    ),
                ),
                row_headers=tuple(call_head(*place) for place in list_heads(run)),
                column_headers=tuple(f"step {step:,}" for step in steps),
                cell=(1.8, 1.9),
                margin=(0.6, 0.2),
                scale=scale,
            ),
        ),
    )


def _query_rows(run: Run, step: int, batch: Batch, query: int) -> Tensor:
    """The query's attention to the patches of the batch's last picture: (layer head patch)."""
    n = run.config.model.n_prefix
    patterns = trace(run.model(step, batch), batch.images, ["blocks.*.attn.pattern"])
    return torch.stack([pattern[-1, :, n + query, n:] for pattern in patterns.values()])


def _overlaid(
    image: Tensor, attention: Tensor, run: Run, scale: ColourScale, frames: tuple = ()
) -> PicturePanel:
    """A picture in grey with attention per patch laid over it."""
    picture, ink = ink_of(image[:1])
    values = attention.reshape(run.config.model.grid).numpy()
    return PicturePanel(
        picture=picture,
        scale=ink,
        opacity=0.5,
        overlay=Overlay(values=values, scale=scale),
        frames=frames,
    )


QUERY_ATTENTION = FigureRow(
    name="query_attention",
    draw=draw_query_attention,
    needs=frozenset({"induction"}),
    is_headline=True,
)


def draw_cls_attention(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None, image: int = 0
) -> FigureData:
    """Attention from CLS laid over a test picture: rows layers, columns heads, a block a step."""
    batch = run.batch("test", image + 1)
    steps = steps or select_steps(run.steps)
    rows = {step: _cls_rows(run, step, batch) for step in steps}
    even = 1 / run.config.model.n_tokens
    scale = ColourScale(
        kind="tint",
        low=0,
        high=max(float(values.max()) for values in rows.values()),
        label="attention from CLS to a patch (share)",
        marks=((even, "even"),),
    )
    blocks = tuple(_cls_block(run, step, batch, rows[step], scale) for step in steps)
    return FigureData(
        name="cls_attention",
        title=f"{run.name}: where CLS looks",
        see=(
            "A green patch is where a head reads from; it need not be what the answer rests on. "
            "Above each block: what the model answers."
        ),
        otherwise="all patches are equally pale, and alike at all steps.",
        blocks=blocks,
        across=min(2, len(steps)),
        scale=scale,
    )


def _cls_rows(run: Run, step: int, batch: Batch) -> Tensor:
    """CLS's attention to the patches of the last picture of the batch: (layer, head, patch)."""
    n = run.config.model.n_prefix
    patterns = trace(run.model(step, batch), batch.images, ["blocks.*.attn.pattern"])
    return torch.stack([pattern[-1, :, 0, n:] for pattern in patterns.values()])


def _cls_block(run: Run, step: int, batch: Batch, rows: Tensor, scale: ColourScale) -> Block:
    """One checkpoint: a row a layer, a column a head."""
    answer = run_model(run.model(step, batch), batch.images)[-1]
    config = run.config.model
    layers = range(config.n_layers)
    heads = range(config.n_heads)
    return Block(
        panels=lay_out(
            layers,
            heads,
            lambda layer, head: _overlaid(batch.images[-1], rows[layer, head], run, scale),
        ),
        title=f"step {step:,}{_tell(answer, batch)}",
        row_headers=tuple(f"layer {layer}" for layer in layers),
        column_headers=tuple(f"head {head}" for head in heads),
        cell=(1.6, 1.6),
        margin=(0.5, 0.1),
    )


def _tell(answer: Tensor, batch: Batch) -> str:
    """What logits say of the last picture, where that is one class or one number."""
    if batch.classes is not None:
        chances = answer.softmax(-1)
        return f": answers {int(chances.argmax())} with {chances.max():.0%}"
    return f": says {answer.item():.2f}" if answer.numel() == 1 else ""


CLS_ATTENTION = FigureRow(
    name="cls_attention",
    draw=draw_cls_attention,
    fits=lambda config: config.cls_token,
    is_headline=True,
)
