"""The shape of one vision transformer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from toyvit.config.fields import Checked, number
from toyvit.errors import BadField, BadInput


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """The shape of one vision transformer.

    `image_size`, `patch_size`, `n_channels` and `n_classes` may be left to the task (None); a model
    that is built without a run must state them. Texts are keys of the tables in `model/options.py`.

    d_mlp           width of the MLPs; 0: attention only
    embed_norm      a norm of every token before the first block, as CLIP has
    position_scale  standard deviation of learned positions at the start
    relative_scale  of the biases of relative positions at the start
    patch_scale     of the patch embedding at the start, times its usual standard deviation
    window          the mask `local`: patches see this far in rows and columns
    attention_bias  biases of q, k, v and the output projection
    bias            biases of the patch embedding, the MLP and the head
    """

    later: ClassVar[tuple[str, ...]] = ("relative_scale", "embed_norm")

    n_layers: int = number(2, least=1)
    n_heads: int = number(1, least=1)
    d_model: int = number(64, least=1)
    d_mlp: int = number(0, least=0)
    activation: str = "gelu"
    norm: str = "layer"
    norm_epsilon: float = number(1e-5, above=0)
    embed_norm: bool = False
    positions: str = "learned"
    position_scale: float = number(0.5, least=0)
    relative_scale: float = number(0.0, least=0)
    patch_scale: float = number(1.0, above=0)
    mask: str = "bidirectional"
    window: int = number(1, least=1)
    cls_token: bool = True
    n_registers: int = number(0, least=0)
    readout: str = "cls"
    attention_bias: bool = False
    bias: bool = True
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
            _check_tiling(self.image_size, self.patch_size)
        if self.embed_norm and self.norm == "none":
            raise BadInput("embed_norm true needs a norm, got norm 'none'")
        for needed, value in (("readout", "cls"), ("mask", "no-cls-read")):
            if getattr(self, needed) == value and not self.cls_token:
                raise BadInput(f"{needed} {value!r} needs cls_token true, got false")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def is_rotary(self) -> bool:
        """Whether queries and keys turn with their place, so that their product is no score."""
        return self.positions == "rotary"

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
                f"ModelConfig.{name} is not stated: give it, or build the model through a run, "
                "whose task knows it"
            )
        return value


def _check_tiling(image_size: tuple[int, int], patch_size: int) -> None:
    """BadField, with the sizes that do, for patches that do not tile the image."""
    height, width = image_size
    sides = range(1, min(height, width) + 1)
    allowed = [str(side) for side in sides if height % side == 0 and width % side == 0]
    if str(patch_size) not in allowed:
        why = f"patches of {patch_size} x {patch_size} do not tile an image of {height} x {width}"
        problem = f"cannot be {patch_size}: {why}; allowed are {', '.join(allowed)}"
        raise BadField("ModelConfig", "patch_size", problem)
