"""Weights that have this lab's own names: what it exports itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.mappings.families import Family
from toyvit.model.vit import ViT

OWN = Family(name="toyvit", outside={}, block={}, place="")


def list_own_weights(model: ViT) -> dict[str, Tensor]:
    """A model's weights; those without a number (the tokens of a model that has none) left out.

    >>> config = ModelConfig(cls_token=False, readout="mean", image_size=(4, 4), patch_size=2,
    ...     n_channels=1, n_classes=3)
    >>> "prefix" in ViT(config).state_dict(), "prefix" in list_own_weights(ViT(config))
    (True, False)
    """
    return {
        name: value.detach().clone() for name, value in model.state_dict().items() if value.numel()
    }


def is_own(weights: Mapping[str, object]) -> bool:
    """Whether tensors have this lab's names.

    >>> is_own({"patch.weight": 0}), is_own({"patch_embed.proj.weight": 0})
    (True, False)
    """
    return "patch.weight" in weights


def load_own_weights(weights: Mapping[str, Tensor], config: ModelConfig) -> ViT:
    """The model with these weights, in evaluation mode; BadInput where they are not of this shape.

    >>> config = ModelConfig(image_size=(4, 4), patch_size=2, n_channels=1, n_classes=3)
    >>> import torch
    >>> model = ViT(config, seed=5)
    >>> other = load_own_weights(list_own_weights(model), config)
    >>> torch.equal(other.patch.weight, model.patch.weight)
    True
    """
    model = ViT(config)
    empty = {name: value for name, value in model.state_dict().items() if not value.numel()}
    try:
        model.load_state_dict({**empty, **weights})
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise BadInput(f"the weights are not those of the model that is described: {why}") from None
    return model.eval()
