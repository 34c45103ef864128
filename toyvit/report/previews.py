"""Previews: the first training pictures of a task as the model sees them, each with its target."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor

from toyvit.config.whole_files import remove_leftovers, write_atomically
from toyvit.data.task import Batch, Task
from toyvit.report.matplotlib_renderer import render_png
from toyvit.report.panels import (
    Block,
    Caption,
    FigureData,
    Frame,
    PicturePanel,
    Words,
)
from toyvit.report.pictures import (
    find_black,
    frame_patch,
    name_answer,
    picture_of,
    restore_patches,
)

WIDTH = 9.0  # inches of a figure
COLOURS = 64  # of the file: enough for noise, a quarter of the size
UNDER = {
    "patch": "the target of each patch, none where nothing is asked",
    "pixels": "what hidden patches showed",
}


def draw_preview(task: Task, path: Path) -> Path:
    """Draw the preview into a PNG file of few colours, so that it stays small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    drawn = BytesIO(render_png(build_preview(task), captioned=False, dpi=90))
    small = BytesIO()
    with Image.open(drawn) as picture:
        few = picture.convert("RGB").quantize(
            COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        few.save(small, "png", optimize=True)
    write_atomically(path, small.getvalue())
    return path


PREVIEW_CAPTION = Caption(
    see="The pictures as the model sees them, each with what is asked of it.",
    otherwise="pictures that look alike whatever their target is.",
)


def build_preview(task: Task) -> FigureData:
    """Pictures of the split `train`, seed 0, and under each its target: a class, numbers, or a map
    of what each patch asks.

    Brightness grows with the value, on one scale for all: white is +1; black is -1, or 0 where no
    pixel is below 0. Of pictures that hold item-label pairs or a pointer, the cell that asks and
    the cell that answers are framed.
    """
    by_patch = task.output_kind != "image"
    across = 4 if task.world.patch_size else 8
    down = 1 if by_patch else 2
    batch = task.draw_batch(0, "train", range(across * down))
    black = find_black(batch.images)
    pictures = [_picture_panel(task, batch, place, black) for place in range(across * down)]
    rows = [tuple(pictures[first : first + across]) for first in range(0, len(pictures), across)]
    if by_patch:
        rows.append(tuple(_target_panel(task, batch, place, black) for place in range(across)))
    size = WIDTH / across
    height, width = task.world.image_size

    return FigureData(
        name="preview",
        title=_describe(task, black),
        caption=PREVIEW_CAPTION,
        blocks=(
            Block(
                panels=tuple(rows),
                cell=(size, size * height / width + 0.15 * (not by_patch)),
                margin=(0.0, 0.1),
                share_x=False,
            ),
        ),
    )


def _picture_panel(task: Task, batch: Batch, place: int, black: float) -> PicturePanel:
    """One picture, its cells, the two that are framed, and its target below."""
    picture, scale = picture_of(batch.images[place], black)
    frames: tuple[Frame, ...] = ()
    if batch.retrieval:
        query = int(batch.retrieval.query[place])
        answer = int(batch.retrieval.target[place])
        size = task.world.patch_size or 1
        columns = task.world.image_size[1] // size
        frames = (
            frame_patch(query, size, columns, "orange"),
            frame_patch(answer, size, columns, "blue"),
        )
    below = _tell_target(task, batch.target[place]) if task.output_kind == "image" else ""

    return PicturePanel(
        picture=picture, scale=scale, frames=frames, below=below, cell=task.world.patch_size or 0
    )


def _describe(task: Task, black: float) -> str:
    under = UNDER.get(task.output_kind, "its target")
    parts = [f"{task.world.name}: training pictures, black {black}, white +1; below each: {under}"]
    if task.output_kind == "patch" and task.class_names:
        names = [name.replace("-", "background") for name in task.class_names]
        parts.append(", ".join(f"{number} {name}" for number, name in enumerate(names)))
    if task.retrieval:
        parts.append("orange: the cell that asks, blue: the cell that answers")
    return "; ".join(parts)


def _tell_target(task: Task, target: Tensor) -> str:
    """The target of a picture in words: its class's name or number; numbers in lines of four."""
    if not target.is_floating_point():
        return name_answer(task, int(target))
    words = [f"{value:.1f}" for value in target.tolist()]
    return "\n".join(" ".join(words[first : first + 4]) for first in range(0, len(words), 4))


def _target_panel(task: Task, batch: Batch, place: int, black: float) -> PicturePanel:
    """What is asked of each patch: its class as a number, or the pixels that it hides."""
    if task.output_kind == "pixels":
        restored = restore_patches(batch, batch.target.nan_to_num())[place]
        picture, scale = picture_of(restored, black)
        return PicturePanel(picture=picture, scale=scale)
    panel = _picture_panel(task, batch, place, black)
    words = _number_patches(task, batch.target[place])
    return replace(panel, opacity=0.0, frames=(), words=tuple(words), cell=0)


def _number_patches(task: Task, target: Tensor) -> list[Words]:
    """The class of every patch that is asked, the blank one's pale."""
    size = task.world.patch_size or 1
    columns = task.world.image_size[1] // size
    words = []
    for patch, answer in enumerate(target.tolist()):
        if answer < 0:
            continue
        row, column = divmod(patch, columns)
        blank = task.class_names is not None and task.class_names[answer] == "-"
        word = Words(
            x=(column + 0.5) * size - 0.5,
            y=(row + 0.55) * size - 0.5,
            text=f"{answer}",
            colour="pale" if blank else "black",
        )
        words.append(word)

    return words
