"""Shapes that many signatures share; `toyvit.model.sites.AXES` says what their axes are."""

from jaxtyping import Bool, Float
from torch import Tensor

Images = Float[Tensor, "image channel height width"]
Residual = Float[Tensor, "image token model"]
Logits = Float[Tensor, "image *patch label"]
AllowedKeys = Bool[Tensor, "query key"]
