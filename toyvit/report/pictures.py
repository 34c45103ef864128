"""Parts of figures that are pictures: shades, frames around patches, hidden patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from toyvit.data.task import Batch, Task
from toyvit.report.panels import ColourScale, Frame, PicturePanel


def select_steps(steps: Sequence[int], n: int = 4) -> list[int]:
    """The first checkpoint, the last, and between them ever further apart (as k squared)."""
    goals = [steps[-1] * (place / (n - 1)) ** 2 for place in range(n)]
    return sorted({min(steps, key=lambda step: abs(step - goal)) for goal in goals})


def name_answer(task: Task, label: int) -> str:
    """The name of a class, or its number where it has none."""
    return task.class_names[label] if task.class_names else str(label)


def find_black(images: Tensor) -> int:
    """The value drawn black: -1, or 0 where no pixel is below 0; white is +1."""
    return -1 if images.min() < 0 else 0


def picture_of(image: Tensor, black: float) -> tuple[np.ndarray, ColourScale | None]:
    """One picture (channel height width) as a panel takes it, white +1."""
    if len(image) == 1:
        return image[0].numpy(), ColourScale(kind="brightness", low=black, high=1)
    shares = ((image - black) / (1 - black)).clamp(0, 1)
    return shares.permute(1, 2, 0).numpy(), None


def show_picture(image: Tensor, black: float) -> PicturePanel:
    """A panel of one picture (channel height width)."""
    picture, scale = picture_of(image, black)
    return PicturePanel(picture=picture, scale=scale)


def ink_of(image: Tensor) -> tuple[np.ndarray, ColourScale]:
    """One channel of a picture (height width), the darker the higher its values, from its lowest to
    its highest.
    """
    grey = image.mean(0).numpy()
    return grey, ColourScale(kind="ink", low=float(grey.min()), high=float(grey.max()))


def frame_patch(patch: int, size: int, columns: int, colour: str) -> Frame:
    """A frame around one patch, of so many pixels and so many of them in a row."""
    row, column = divmod(patch, columns)
    return Frame(
        left=column * size - 0.5, top=row * size - 0.5, width=size, height=size, colour=colour
    )


def restore_patches(batch: Batch, patches: Tensor) -> Tensor:
    """The pictures of a batch with these pixels (image patch pixel) where a patch is hidden."""
    n_channels, height, width = batch.images.shape[1:]
    size = round((patches.shape[2] // n_channels) ** 0.5)
    shape = {"row": height // size, "column": width // size, "height": size, "width": size}
    cut = "image (row column) (channel height width) -> image channel (row height) (column width)"
    hidden = rearrange(~batch.target.isnan(), cut, **shape)
    return torch.where(hidden, rearrange(patches, cut, **shape), batch.images)


def scale_both_ways(top: float, label: str) -> ColourScale:
    """Colours of what may be negative, with a line at nothing."""
    return ColourScale(kind="diverging", low=-top, high=top, label=label, marks=((0.0, "nothing"),))
