"""Previews: the first training pictures of a task as the model sees them, each with its target."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from toyvit.data.task import Batch, Task
from toyvit.report.figures import BLUE, ORANGE
from toyvit.report.pictures import (
    find_black,
    frame_patch,
    hide_ticks,
    restore_patches,
    show_picture,
)

WIDTH = 9.0  # inches of a figure
COLOURS = 64  # of the file: enough for noise, a quarter of the size


def draw_preview(made: Task, path: Path) -> Path:
    """Draw the preview into a PNG file of few colours, so that it stays small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    build_preview(made).savefig(drawn, dpi=90)
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(
            COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(path, optimize=True)
    return path


def build_preview(made: Task) -> Figure:
    """Pictures of the split `train`, seed 0, and under each its target: a class, numbers, or a map of what each patch asks.

    Brightness grows with the value, on one scale for all: white is +1; black is -1, or 0 where no pixel is below 0.
    Of pictures that hold item-label pairs or a pointer, the cell that asks and the cell that answers are framed.
    """
    by_patch = made.output_kind != "image"
    across, down = (4 if made.world.patch_size else 8), (1 if by_patch else 2)
    batch = made.draw_batch(0, "train", range(across * down))
    black = find_black(batch.images)
    height = made.world.image_size[0] / made.world.image_size[1]
    size = (WIDTH, down * (WIDTH / across * height * (1 + by_patch) + 0.3) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots((1 + by_patch) * down, across, squeeze=False)
    for place in range(across * down):
        row, column = divmod(place, across)
        panel = panels[row * (1 + by_patch), column]
        show_picture(panel, batch.images[place], black)
        _mark_cells(panel, made)
        if batch.retrieval:
            frame_patch(panel, made, int(batch.retrieval.query[place]), ORANGE)
            frame_patch(panel, made, int(batch.retrieval.target[place]), BLUE)
        if by_patch:
            _map(panels[2 * row + 1, column], made, batch, place, black)
        else:
            panel.set_xlabel(_said(made, batch.target[place]), fontsize="x-small", labelpad=2)
    figure.suptitle(_caption(made, black), fontsize="small")
    return figure


def _mark_cells(panel: Axes, made: Task) -> None:
    """Ticks where one cell ends and the next begins."""
    size, (height, width) = made.world.patch_size, made.world.image_size
    if size:
        panel.set_xticks([place - 0.5 for place in range(size, width, size)], [])
        panel.set_yticks([place - 0.5 for place in range(size, height, size)], [])
        panel.tick_params(length=2)


def _caption(made: Task, black: float) -> str:
    under = {
        "patch": "the target of each patch, none where nothing is asked",
        "pixels": "what hidden patches showed",
    }
    parts = [
        f"{made.world.name}: training pictures, black {black}, white +1; below each: {under.get(made.output_kind, 'its target')}"
    ]
    if made.output_kind == "patch" and made.class_names:
        parts += [
            ", ".join(
                f"{number} {name.replace('-', 'background')}"
                for number, name in enumerate(made.class_names)
            )
        ]
    return "; ".join(
        [
            *parts,
            *["orange: the cell that asks, blue: the cell that answers"] * bool(made.retrieval),
        ]
    )


def _said(made: Task, target: Tensor) -> str:
    """The target of a picture in words: its class's name or number; numbers in lines of four."""
    if not target.is_floating_point():
        return made.class_names[int(target)] if made.class_names else f"{int(target)}"
    words = [f"{value:.1f}" for value in target.tolist()]
    return "\n".join(" ".join(words[first : first + 4]) for first in range(0, len(words), 4))


def _map(panel: Axes, made: Task, batch: Batch, place: int, black: float) -> None:
    """What is asked of each patch: its class as a number, or the pixels that it hides."""
    if made.output_kind == "pixels":
        show_picture(panel, restore_patches(batch, batch.target.nan_to_num())[place], black)
        return
    size = made.world.patch_size or 1
    rows, columns = (pixels // size for pixels in made.world.image_size)
    panel.set(xlim=(0, columns), ylim=(rows, 0), aspect="equal")
    hide_ticks(panel)
    for patch, answer in enumerate(batch.target[place].tolist()):
        row, column = divmod(patch, columns)
        if answer >= 0:
            grey = "0.75" if made.class_names and made.class_names[answer] == "-" else "0"
            panel.text(
                column + 0.5,
                row + 0.55,
                f"{answer}",
                ha="center",
                va="center",
                fontsize=7,
                color=grey,
            )
