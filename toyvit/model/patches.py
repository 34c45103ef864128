"""Pictures as the model reads them: in patches."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from toyvit.model.shapes import Images


def cut_patches(images: Images, size: int) -> Float[Tensor, "image patch pixel"]:
    """Pictures cut into squares of `size` pixels, in raster order.

    >>> import torch
    >>> cut_patches(torch.arange(4.0).view(1, 1, 2, 2), size=1)
    tensor([[[0.],
             [1.],
             [2.],
             [3.]]])
    """
    pattern = (
        "image channel (row height) (column width) -> image (row column) (channel height width)"
    )
    return rearrange(images, pattern, height=size, width=size)
