"""Figures drawn from checkpoints and pictures: attention over training and over a picture, hidden patches restored."""

from __future__ import annotations

from pathlib import Path

import torch
from einops import rearrange
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from toyvit.clamps.patterns import apply_clamps
from toyvit.data.task import Batch, Task, build_task
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.report.figures import BLUE, GREEN, ORANGE
from toyvit.runs.handle import Run


def select_steps(steps: list[int], n: int = 4) -> list[int]:
    """`n` checkpoints that tell the story: the first, the last, and between them ever further apart (as k squared)."""
    goals = [steps[-1] * (place / (n - 1)) ** 2 for place in range(n)]
    return sorted({min(steps, key=lambda step: abs(step - goal)) for goal in goals})


def load_trained(run: Run, step: int, batch: Batch) -> ViT:
    """The model of that step as it was trained, under the run's clamps, for the pictures of this batch."""
    return apply_clamps(run.bare_model(step), run.config.train.clamps, step, batch.retrieval)


def draw_attention(
    path: Path, beside: Path | None = None, steps: list[int] | None = None
) -> Figure:
    """Mean attention pattern of every head (query down, key across) at four checkpoints, or those given: a row a checkpoint."""
    run = Run(path)
    batch = build_task(run.config.task).eval_batch("test", 128, run.config.seeds.measure)
    steps, config = steps or select_steps(run.steps), run.config.model
    heads = [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    size = min(2.1, 10 / len(heads))
    figure = Figure(
        figsize=(size * len(heads) + 1, (size + 0.1) * len(steps) + 0.5), layout="constrained"
    )
    panels = figure.subplots(len(steps), len(heads), squeeze=False)
    means = {
        step: [
            pattern.mean(0).numpy()
            for pattern in trace(
                load_trained(run, step, batch), batch.images, ["blocks.*.attn.pattern"]
            ).values()
        ]
        for step in steps
    }
    top = max(float(pattern.max()) for patterns in means.values() for pattern in patterns)
    for step, row in zip(steps, panels, strict=True):
        for (layer, head), panel in zip(heads, row, strict=True):
            picture = panel.imshow(means[step][layer][head], vmin=0, vmax=top, cmap="magma")
            for axis in (panel.xaxis, panel.yaxis):
                axis.set_major_locator(MaxNLocator(5, integer=True))
            panel.tick_params(
                labelsize=6, labelleft=head + layer == 0, labelbottom=step == steps[-1]
            )
        row[0].set_ylabel(f"step {step:,}\nquery token", fontsize="small")
    for (layer, head), panel in zip(heads, panels[0], strict=True):
        panel.set_title(f"layer {layer}, head {head}", fontsize="small")
    for panel in panels[-1]:
        panel.set_xlabel("key token" + " (0: CLS)" * config.cls_token, fontsize="small")
    figure.colorbar(
        picture, ax=panels, label=f"attention, mean of {len(batch.target)} pictures", shrink=0.6
    )
    return figure


def draw_query_attention(
    path: Path, beside: Path | None = None, steps: list[int] | None = None, image: int = 0
) -> Figure:
    """Where the query cell of one test picture looks: a row a head, a column a checkpoint; the answering label is framed."""
    run = Run(path)
    made = build_task(run.config.task)
    batch, config = made.eval_batch("test", image + 1, run.config.seeds.measure), run.config.model
    assert batch.retrieval is not None
    query, match = int(batch.retrieval.query[-1]), int(batch.retrieval.target[-1])
    steps = steps or select_steps(run.steps, n=7)
    heads = [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
    figure = Figure(figsize=(2 * len(steps) + 0.8, 2.2 * len(heads)), layout="constrained")
    panels = figure.subplots(len(heads), len(steps), squeeze=False)
    for step, column in zip(steps, panels.T, strict=True):
        seen = trace(load_trained(run, step, batch), batch.images, ["blocks.*.attn.pattern"])
        for (layer, head), panel in zip(heads, column, strict=True):
            row = seen[f"blocks.{layer}.attn.pattern"][
                -1, head, config.n_prefix + query, config.n_prefix :
            ]
            picture = _overlay(panel, batch.images[-1, 0], row.reshape(config.grid), 1)
            frame_patch(panel, made, query, ORANGE)
            frame_patch(panel, made, match, BLUE)
        column[0].set_title(f"step {step:,}", fontsize="small")
    for (layer, head), row in zip(heads, panels, strict=True):
        row[0].set_ylabel(f"layer {layer}, head {head}", fontsize="small")
    figure.colorbar(
        picture,
        ax=panels,
        label="attention from the query (orange)\nto each cell; blue: the answer",
        shrink=0.7,
    )
    return figure


def draw_cls_attention(
    path: Path, beside: Path | None = None, steps: list[int] | None = None, image: int = 0
) -> Figure:
    """Attention from CLS to the patches, laid over one test picture: rows layers, columns heads, a block a checkpoint."""
    run = Run(path)
    batch = build_task(run.config.task).eval_batch("test", image + 1, run.config.seeds.measure)
    config, steps = run.config.model, steps or select_steps(run.steps)
    across = min(2, len(steps))
    down = -(-len(steps) // across)
    size = (across * (1.7 * config.n_heads + 0.5), down * (1.7 * config.n_layers + 0.6))
    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(size[0], 0.9))[0]
    blocks = left.subfigures(down, across, squeeze=False, wspace=0.04).flatten()
    top = max(_cls_rows(run, step, batch).max().item() for step in steps)
    for block, step in zip(blocks, steps, strict=False):
        picture = _cls_block(block, run, step, batch, top)
    bar = figure.colorbar(picture, cax=right.add_axes((0.05, 0.15, 0.2, 0.7)))
    bar.set_label(
        f"attention from CLS to a patch (uniform: {1 / config.n_tokens:.3f})", fontsize="small"
    )
    bar.ax.tick_params(labelsize="small")
    return figure


def _cls_rows(run: Run, step: int, batch: Batch) -> Tensor:
    """CLS's attention to the patches of the last picture of the batch: (layer, head, patch)."""
    seen = trace(load_trained(run, step, batch), batch.images, ["blocks.*.attn.pattern"])
    return torch.stack(
        [pattern[-1, :, 0, run.config.model.n_prefix :] for pattern in seen.values()]
    )


def _cls_block(block: SubFigure, run: Run, step: int, batch: Batch, top: float) -> AxesImage:
    """One checkpoint's grid; the last image drawn carries the colour scale that all share."""
    config = run.config.model
    rows = _cls_rows(run, step, batch)
    answer = run_model(load_trained(run, step, batch), batch.images)[-1]
    panels = block.subplots(config.n_layers, config.n_heads, squeeze=False)
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            panel = panels[layer, head]
            picture = _overlay(
                panel, batch.images[-1, 0], rows[layer, head].reshape(config.grid), top
            )
            if layer == 0:
                panel.set_title(f"head {head}", fontsize="small")
        panels[layer, 0].set_ylabel(f"layer {layer}", fontsize="small")
    block.suptitle(f"step {step:,}{_said(answer, batch)}", fontsize="small")
    return picture


def _said(answer: Tensor, batch: Batch) -> str:
    """What logits say of the last picture, where that is one class or one number."""
    if batch.classes is not None:
        chances = answer.softmax(-1)
        return f": answers {int(chances.argmax())} with {chances.max():.0%}"
    return f": says {answer.item():.2f}" if answer.numel() == 1 else ""


def draw_reconstruction(
    path: Path, beside: Path | None = None, steps: list[int] | None = None, n: int = 8
) -> Figure:
    """Test pictures, what the model sees of them, and what it makes of the hidden patches at some checkpoints: a row each."""
    run = Run(path)
    steps = steps or select_steps(run.steps, 5)
    batch = build_task(run.config.task).eval_batch("test", n, run.config.seeds.measure)
    rows = {"picture": restore_patches(batch, batch.target.nan_to_num()), "seen": batch.images}
    rows |= {
        f"step {step:,}": restore_patches(
            batch, run_model(load_trained(run, step, batch), batch.images)
        )
        for step in steps
    }
    figure = Figure(figsize=(1.1 * n + 0.6, 1.15 * len(rows)), layout="constrained")
    for (name, images), panels in zip(
        rows.items(), figure.subplots(len(rows), n, squeeze=False), strict=True
    ):
        for panel, image in zip(panels, images, strict=True):
            show_picture(panel, image, find_black(batch.images))
        panels[0].set_ylabel(name, fontsize="small")
    return figure


def restore_patches(batch: Batch, patches: Tensor) -> Tensor:
    """The pictures of a batch with these pixels (image patch pixel) where a patch is hidden."""
    n_channels, height, width = batch.images.shape[1:]
    size = round((patches.shape[2] // n_channels) ** 0.5)
    shape = {"row": height // size, "column": width // size, "height": size, "width": size}
    cut = "image (row column) (channel height width) -> image channel (row height) (column width)"
    hidden = rearrange(~batch.target.isnan(), cut, **shape)
    return torch.where(hidden, rearrange(patches, cut, **shape), batch.images)


def find_black(images: Tensor) -> int:
    """The value drawn black, -1, or 0 where no pixel is below 0; white is +1: brightness grows with the value."""
    return -1 if images.min() < 0 else 0


def show_picture(panel: Axes, image: Tensor, black: float) -> None:
    """One picture (channel height width), white +1."""
    if len(image) == 1:
        panel.imshow(image[0].numpy(), cmap="gray", vmin=black, vmax=1, interpolation="nearest")
    else:
        shares = ((image - black) / (1 - black)).clamp(0, 1)
        panel.imshow(shares.permute(1, 2, 0).numpy(), interpolation="nearest")
    hide_ticks(panel)


def frame_patch(panel: Axes, made: Task, patch: int, colour: str) -> None:
    """A frame around one patch."""
    size = made.world.patch_size or 1
    row, column = divmod(patch, made.world.image_size[1] // size)
    panel.add_patch(
        Rectangle(
            (column * size - 0.5, row * size - 0.5),
            size,
            size,
            fill=False,
            color=colour,
            lw=2,
            clip_on=False,
        )
    )


_TINT = LinearSegmentedColormap.from_list(
    "tint", [to_rgba(GREEN, 0), to_rgba(GREEN, 0.85)]
)  # from clear to colour


def _overlay(panel: Axes, image: Tensor, attention: Tensor, top: float) -> AxesImage:
    """A picture in grey with attention per patch laid over it."""
    height, width = image.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    panel.imshow(image.numpy(), cmap="Greys", alpha=0.5, extent=extent)
    hide_ticks(panel)
    return panel.imshow(attention.numpy(), cmap=_TINT, vmin=0, vmax=top, extent=extent)


def hide_ticks(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
