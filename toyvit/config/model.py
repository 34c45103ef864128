"""The shape of one vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toyvit.config.fields import Checked, number
from toyvit.errors import BadField, BadInput


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """One vision transformer. Names in quotes are keys of the tables in `model/choices.py`.

    `image_size`, `patch_size`, `n_channels` and `n_classes` may be left to the task (None); a model that is
    built without a run must state them.
    """

    n_layers: int = number(2, least=1)
    n_heads: int = number(1, least=1)
    d_model: int = number(64, least=1)
    d_mlp: int = number(0, least=0)  # 0: attention only
    activation: str = "gelu"
    norm: str = "layer"
    norm_epsilon: float = number(1e-5, above=0)
    positions: str = "learned"
    position_scale: float = number(
        0.5, least=0
    )  # standard deviation of learned positions at the start
    patch_scale: float = number(
        1.0, above=0
    )  # of the patch embedding at the start, times its usual standard deviation
    mask: str = "bidirectional"
    window: int = number(1, least=1)  # the local mask: patches see this far in rows and columns
    cls_token: bool = True
    n_registers: int = number(0, least=0)
    readout: str = "cls"
    attention_bias: bool = False  # biases of q, k, v and the output projection
    bias: bool = True  # biases of the patch embedding, the MLP and the head
    dropout: float = number(0.0, least=0, most=0.99)
    image_size: tuple[int, int] | None = number(None, least=1)
    patch_size: int | None = number(None, least=1)
    n_channels: int | None = number(None, least=1)
    n_classes: int | None = number(None, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.n_heads:
            raise BadInput(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.image_size is not None and self.patch_size is not None:
            height, width = self.image_size
            if height % self.patch_size or width % self.patch_size:
                why = f"patches of {self.patch_size} x {self.patch_size} do not tile an image of {height} x {width}"
                fit = [
                    str(side)
                    for side in range(1, min(height, width) + 1)
                    if not (height % side or width % side)
                ]
                raise BadField(
                    "ModelConfig",
                    "patch_size",
                    f"cannot be {self.patch_size}: {why}; allowed are {', '.join(fit)}",
                )
        for needed, value in (("readout", "cls"), ("mask", "no-cls-read")):
            if getattr(self, needed) == value and not self.cls_token:
                raise BadInput(f"{needed} {value!r} needs cls_token true, got false")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.stated("image_size")
        size = self.stated("patch_size")
        return height // size, width // size

    @property
    def n_patches(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def n_prefix(self) -> int:
        """Tokens before the patches: CLS first, then the registers."""
        return int(self.cls_token) + self.n_registers

    @property
    def n_tokens(self) -> int:
        return self.n_prefix + self.n_patches

    @property
    def d_patch(self) -> int:
        """Pixel values in one patch."""
        return int(self.stated("n_channels") * self.stated("patch_size") ** 2)

    def stated(self, name: str) -> Any:
        """A field that must not be None by now."""
        value = getattr(self, name)
        if value is None:
            raise BadInput(
                f"ModelConfig.{name} is not stated: give it, or build the model through a run, whose task knows it"
            )
        return value
