"""Attention laid over a picture: where its query looks, and where CLS looks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from toyvit.clamps.patterns import allowed_keys
from toyvit.data.task import Batch, Task
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.report.attention import list_heads
from toyvit.report.panels import (
    Block,
    Caption,
    ColourScale,
    FigureData,
    Frame,
    Overlay,
    PicturePanel,
    lay_out,
)
from toyvit.report.pictures import frame_patch, ink_of, name_answer, select_steps
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_head
from toyvit.runs.handle import Run

QUERY_ATTENTION_CAPTION = Caption(
    see="A head that puts its green on the blue frame has found the label that answers.",
    otherwise="green is spread evenly over the cells that the mask allows (line on the bar).",
)


def draw_query_attention(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None, image: int = 0
) -> FigureData:
    """Where the query of a test picture looks: a row a head, a column a checkpoint."""
    batch = run.batch("test", image + 1)
    assert batch.retrieval is not None
    query = int(batch.retrieval.query[-1])
    match = int(batch.retrieval.target[-1])
    steps = steps or select_steps(run.steps, n=7)
    scale = _scale_query(run, query)
    frames = (
        _frame(run, query, "orange"),
        _frame(run, match, "blue"),
    )
    rows = {step: _query_rows(run, step, batch, query) for step in steps}

    return FigureData(
        name="query_attention",
        title=f"{run.name}: where the query of one picture looks",
        caption=QUERY_ATTENTION_CAPTION,
        steps=tuple(steps),
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


def _scale_query(run: Run, query: int) -> ColourScale:
    """From 0 to 1, with a line at attention spread over the keys that the query may see."""
    config = run.config.model
    even = 1 / int(allowed_keys(config)[config.n_prefix + query].sum())
    return ColourScale(
        kind="tint",
        low=0,
        high=1,
        label="attention from the query (orange)\nto each cell (share); blue: the answer",
        marks=((even, "even"),),
    )


def _query_rows(run: Run, step: int, batch: Batch, query: int) -> Tensor:
    """The query's attention to the patches of the batch's last picture: (layer head patch)."""
    n = run.config.model.n_prefix
    patterns = trace(run.model(step, batch), batch.images, ["blocks.*.attn.pattern"])
    return torch.stack([pattern[-1, :, n + query, n:] for pattern in patterns.values()])


def _overlaid(
    image: Tensor, attention: Tensor, run: Run, scale: ColourScale, frames: tuple[Frame, ...] = ()
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


TOKEN_ATTENTION_CAPTION = Caption(
    see="Green: where the token looks (orange frame); blue frame: the match, where there is one.",
    otherwise="green is spread evenly over the cells that the mask allows (line on the bar).",
)


def draw_token_attention(
    run: Run, step: int | None = None, image: int = 0, token: int | None = None
) -> FigureData:
    """Where one token of a test picture looks at a step: a row a layer, a column a head.

    The default token is the picture's query, else CLS, else the last one.
    """
    config = run.config.model
    at = run.check_step(step)
    batch = run.batch("test", image + 1)
    if not 0 <= image < len(batch.images):
        raise BadInput(f"no test picture {image}: there are {len(batch.images)}")
    token = choose_token(run, batch) if token is None else token
    if not 0 <= token < config.n_tokens:
        raise BadInput(f"no token {token}: there are 0 to {config.n_tokens - 1}")

    patterns = trace(run.model(at, batch), batch.images, ["blocks.*.attn.pattern"])
    rows = torch.stack([pattern[-1, :, token, config.n_prefix :] for pattern in patterns.values()])
    even = 1 / int(allowed_keys(config)[token].sum())
    scale = ColourScale(
        kind="tint", low=0, high=1, label="attention (share)", marks=((even, "even"),)
    )
    frames = _frame_tokens(run, batch, token)
    return FigureData(
        name="token_attention",
        title=f"{run.name}, step {at:,}: where {name_token(run, token)} looks",
        caption=TOKEN_ATTENTION_CAPTION,
        steps=(at,),
        blocks=(
            Block(
                panels=lay_out(
                    range(config.n_layers),
                    range(config.n_heads),
                    lambda layer, head: _overlaid(
                        batch.images[-1], rows[layer, head], run, scale, frames
                    ),
                ),
                row_headers=tuple(f"layer {layer}" for layer in range(config.n_layers)),
                column_headers=tuple(f"head {head}" for head in range(config.n_heads)),
                cell=(2.2, 2.2),
                margin=(0.5, 0.1),
                scale=scale,
            ),
        ),
    )


def choose_token(run: Run, batch: Batch) -> int:
    """The token that a reader asks about first: the last picture's query, CLS, or the last."""
    config = run.config.model
    if batch.retrieval is not None:
        return config.n_prefix + int(batch.retrieval.query[-1])
    return 0 if config.cls_token else config.n_tokens - 1


def name_token(run: Run, token: int) -> str:
    """What a token is called: CLS, a register, or a patch by row and column, from 1."""
    config = run.config.model
    if token < config.n_prefix:
        return "CLS" if config.cls_token and token == 0 else f"register {token - config.cls_token}"
    row, column = divmod(token - config.n_prefix, config.grid[1])
    return f"the patch in row {row + 1}, column {column + 1}"


def _frame(run: Run, patch: int, colour: str) -> Frame:
    config = run.config.model
    return frame_patch(patch, config.stated("patch_size"), config.grid[1], colour)


def _frame_tokens(run: Run, batch: Batch, token: int) -> tuple[Frame, ...]:
    """The token, if it is a patch, and the match of the last picture."""
    n = run.config.model.n_prefix
    frames = []
    if token >= n:
        frames.append(_frame(run, token - n, "orange"))
    if batch.retrieval is not None:
        frames.append(_frame(run, int(batch.retrieval.target[-1]), "blue"))
    return tuple(frames)


CLS_ATTENTION_CAPTION = Caption(
    see=(
        "A green patch is where a head reads from; it need not be what the answer rests on. "
        "Above each block: what the model answers."
    ),
    otherwise="all patches are equally pale, and alike at all steps.",
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
        caption=CLS_ATTENTION_CAPTION,
        steps=tuple(steps),
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
        title=f"step {step:,}{_tell(run.task, answer, batch)}",
        row_headers=tuple(f"layer {layer}" for layer in layers),
        column_headers=tuple(f"head {head}" for head in heads),
        cell=(1.6, 1.6),
        margin=(0.5, 0.1),
    )


def _tell(task: Task, answer: Tensor, batch: Batch) -> str:
    """What logits say of the last picture, where that is one class or one number."""
    if batch.classes is not None:
        chances = answer.softmax(-1)
        return f": answers {name_answer(task, int(chances.argmax()))} with {chances.max():.0%}"
    return f": says {answer.item():.2f}" if answer.numel() == 1 else ""


CLS_ATTENTION = FigureRow(
    name="cls_attention",
    draw=draw_cls_attention,
    fits=lambda config: config.cls_token,
    is_headline=True,
)
