"""Pictures through lenses: what each patch would answer at each layer, and from where in the picture an answer comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.data.task import Task, build_task
from toyvit.instruments.attribution import SITES, attribute_patches
from toyvit.instruments.lenses import RESIDUALS, apply_logit_lens, stack_residuals
from toyvit.model.forward import trace
from toyvit.report.figures import GREEN, ORANGE
from toyvit.report.pictures import hide_ticks, select_steps
from toyvit.runs.handle import Run


def draw_lens(
    path: Path, beside: Path | None = None, step: int | None = None, images: int = 3
) -> Figure:
    """What the logit lens calls every patch, by layer, on a few test pictures at one checkpoint (default: the last).

    In each patch the likeliest class: its symbol where classes are pictures themselves (labels that are glyphs), else its
    name. Fainter where it is less likely; green where it is the answer, orange where not.
    """
    run = Run(path)
    made, config = build_task(run.config.task), run.config.model
    batch = made.eval_batch("test", images, run.config.seeds.measure)
    model = run.model(step, batch)
    said = apply_logit_lens(model, stack_residuals(model, trace(model, batch.images, RESIDUALS)))[
        :, :, config.n_prefix :
    ].softmax(-1)
    names = ["embedding", *(f"after block {layer}" for layer in range(config.n_layers))]
    size = max(2.2, 0.4 * config.grid[1])
    figure = Figure(
        figsize=(size * len(said) + 0.4, size * config.grid[0] / config.grid[1] * images + 0.5),
        layout="constrained",
    )
    panels = figure.subplots(images, len(said), squeeze=False)
    for image, row in enumerate(panels):
        for layer, panel in enumerate(row):
            panel.imshow(
                to_grey(batch.images[image]),
                cmap="Greys",
                alpha=0.15 if made.class_images else 0.35,
            )
            target = batch.target[image]
            _answers(panel, made, config, said[layer, image], target.expand(config.n_patches))
            hide_ticks(panel)
            if image == 0:
                panel.set_title(names[layer], fontsize="small")
        row[0].set_ylabel(
            f"answer {int(target)}" if target.ndim == 0 else f"picture {image}", fontsize="small"
        )
    at = run.steps[-1] if step is None else step
    how = "green: right; bolder: likelier"
    figure.suptitle(
        f"{path.name}, step {at:,}: what each patch would answer ({how})", fontsize="small"
    )
    return figure


def to_grey(image: Tensor) -> NDArray[np.float32]:
    """One channel of a picture (height width)."""
    return image.mean(0).numpy()


def _answers(panel: Axes, made: Task, config: ModelConfig, said: Tensor, target: Tensor) -> None:
    """The likeliest label in each patch: its symbol, framed, or its name; the bolder the likelier, green where it is right."""
    side, columns = config.stated("patch_size"), config.grid[1]
    symbols = made.class_images() if made.class_images else None
    for patch, (chance, label) in enumerate(zip(*said.max(-1), strict=True)):
        top, left = (place * side - 0.5 for place in divmod(patch, columns))
        colour = GREEN if int(label) == int(target[patch]) else ORANGE
        if symbols is not None:
            extent = (left + 1, left + side - 1, top + side - 1, top + 1)
            panel.imshow(symbols[label].numpy(), cmap="Greys", extent=extent, alpha=float(chance))
            frame = Rectangle(
                (left + 0.5, top + 0.5),
                side - 1,
                side - 1,
                fill=False,
                ec=colour,
                lw=1.5,
                alpha=float(chance),
            )
            panel.add_patch(frame)
        else:
            name = made.class_names[int(label)] if made.class_names else str(int(label))
            panel.text(
                left + side / 2,
                top + side / 2,
                name,
                ha="center",
                va="center",
                fontsize=5 + 4 * float(chance),
                color=colour,
            )
    panel.set(xlim=(-0.5, columns * side - 0.5), ylim=(config.grid[0] * side - 0.5, -0.5))


def draw_answer_maps(
    path: Path, beside: Path | None = None, steps: list[int] | None = None, images: int = 5
) -> Figure:
    """What all heads add to the answer's logit from each patch (Gandelsman 2024), over test pictures, at some checkpoints."""
    run = Run(path)
    made, config = build_task(run.config.task), run.config.model
    batch = made.eval_batch("test", images, run.config.seeds.measure)
    assert batch.classes is not None
    steps = steps or select_steps(run.steps, 4)
    maps = {}
    for step in steps:
        model = run.bare_model(step)
        parts = attribute_patches(model, trace(model, batch.images, SITES))[:, 0, config.n_prefix :]
        over = parts.gather(2, batch.classes[:, None, None].expand(-1, config.n_patches, 1))[
            ..., 0
        ] - parts.mean(2)
        maps[step] = over.reshape(-1, *config.grid)
    top = max(one.abs().max().item() for one in maps.values())
    figure = Figure(figsize=(1.5 * images + 1.2, 1.6 * (len(steps) + 1)), layout="constrained")
    panels = figure.subplots(len(steps) + 1, images, squeeze=False)
    for image, column in enumerate(panels.T):
        column[0].imshow(to_grey(batch.images[image]), cmap="Greys")
        column[0].set_title(f"answer {int(batch.classes[image])}", fontsize="small")
        height, width = batch.images.shape[2:]
        for step, panel in zip(steps, column[1:], strict=True):
            panel.imshow(to_grey(batch.images[image]), cmap="Greys", alpha=0.4)
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            shown = panel.imshow(
                maps[step][image].numpy(),
                cmap="RdBu",
                vmin=-top,
                vmax=top,
                extent=extent,
                alpha=0.7,
            )
        for panel in column:
            hide_ticks(panel)
    for step, panel in zip(steps, panels[1:, 0], strict=True):
        panel.set_ylabel(f"step {step:,}", fontsize="small")
    figure.colorbar(
        shown,
        ax=panels,
        label="added to the answer's logit, over the mean logit (logits)",
        shrink=0.7,
    )
    return figure
