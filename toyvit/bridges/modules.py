"""What a living model from elsewhere is: its family, and all that its weights do not tell."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from torch import Tensor, nn

from toyvit.bridges.descriptions import Description, describe_hugging_face
from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.mappings.assembly import Parts, infer_config, sort_tensors
from toyvit.model.mappings.families import FAMILIES, Family

# What the classes of activations are called here.
ACTIVATIONS = {
    "GELU": "gelu",
    "GELUTanh": "gelu-tanh",
    "QuickGELU": "quick-gelu",
    "ReLU": "relu",
}
NORMS = (nn.LayerNorm,)


class ForeignModel(NamedTuple):
    """A model from elsewhere; its weights by our names are `read_parts`."""

    module: nn.Module
    family: Family
    description: Description
    config: ModelConfig

    def check_pictures(self, images: Tensor) -> None:
        """BadInput for pictures that the model does not take."""
        expected = (self.config.n_channels, *self.config.stated("image_size"))
        if tuple(images.shape[1:]) != expected:
            raise BadInput(f"pictures must be (image, *{expected}), got {tuple(images.shape)}")


def describe_module(module: nn.Module) -> ForeignModel:
    """The family and the shape of a model; wrappers of parallel or compiled models are taken off.

    BadInput for a model that no mapping knows, and where it is none that this lab's ViT can be.
    """
    module = _unwrap(module)
    if isinstance(module, ViT):
        raise BadInput("this is a model of the lab itself: toyvit.fit trains and keeps it")
    for name, describe in DESCRIBERS.items():
        if any(kind.__module__.startswith(name) for kind in type(module).__mro__):
            family, description = describe(module)
            weights = _list_weights(module)
            config = infer_config(sort_tensors(weights, family), family, description.stated)
            return ForeignModel(module, family, description, config)
    raise BadInput(
        f"{type(module).__qualname__} is no model that is known: watched can be ViTs of"
        f" {', '.join(DESCRIBERS)}"
    )


def read_parts(model: ForeignModel) -> Parts:
    """The weights of a model as they are now, by our names, float32."""
    parts = sort_tensors(_list_weights(model.module), model.family)
    return {name: part.float() for name, part in parts.items()}


def _list_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def _unwrap(module: nn.Module) -> nn.Module:
    for wrapper in ("_orig_mod", "module"):
        inner = getattr(module, wrapper, None)
        if isinstance(inner, nn.Module):
            return _unwrap(inner)
    return module


def _describe_timm(module: nn.Module) -> tuple[Family, Description]:
    """A `VisionTransformer` of timm's, of the plain kind."""
    _check_class(module, "VisionTransformer")
    pool = str(module.global_pool)
    has_own_norm = not isinstance(module.fc_norm, nn.Identity)
    readouts = {"token": "cls", "avg": "pooled" if has_own_norm else "mean"}
    if pool not in readouts:
        raise BadInput(f"timm's global_pool {pool!r} is no read-out here: token or avg")
    stated = {
        "n_heads": attrgetter("blocks.0.attn.num_heads")(module),
        "image_size": tuple(attrgetter("patch_embed.img_size")(module)),
        "activation": _name_activation(attrgetter("blocks.0.mlp.act")(module)),
        "readout": readouts[pool],
        "norm_epsilon": _read_epsilon(module),
    }
    facts = getattr(module, "pretrained_cfg", None) or {}
    return FAMILIES["timm"], Description(
        family="timm",
        stated=stated,
        mean=tuple(facts.get("mean") or ()),
        deviation=tuple(facts.get("std") or ()),
    )


def _describe_torchvision(module: nn.Module) -> tuple[Family, Description]:
    _check_class(module, "VisionTransformer")
    side = int(attrgetter("image_size")(module))
    layer = "encoder.layers.encoder_layer_0"
    stated = {
        "n_heads": attrgetter(f"{layer}.num_heads")(module),
        "image_size": (side, side),
        "activation": _name_activation(attrgetter(f"{layer}.mlp.1")(module)),
        "norm_epsilon": _read_epsilon(module),
    }
    return FAMILIES["torchvision"], Description(family="torchvision", stated=stated)


def _describe_transformers(module: nn.Module) -> tuple[Family, Description]:
    config = getattr(module, "config", None)
    to_dict: Callable[[], dict[str, object]] | None = getattr(config, "to_dict", None)
    if to_dict is None:
        raise BadInput(f"{type(module).__qualname__} of transformers has no config")
    described = describe_hugging_face(to_dict(), "the model's config", {})
    return FAMILIES[described.family], described


def _check_class(module: nn.Module, name: str) -> None:
    if type(module).__name__ != name:
        raise BadInput(f"{type(module).__qualname__} is no plain {name}: only that has a mapping")


def _name_activation(activation: object) -> str:
    name = type(activation).__name__
    if name == "GELU" and getattr(activation, "approximate", "none") == "tanh":
        name = "GELUTanh"
    if name not in ACTIVATIONS:
        raise BadInput(f"the activation {name} is none of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def _read_epsilon(module: nn.Module) -> float:
    """The epsilon that all norms have; BadInput where they differ, or are no LayerNorms."""
    epsilons = {float(norm.eps) for norm in module.modules() if isinstance(norm, NORMS)}
    if len(epsilons) != 1:
        listed = ", ".join(f"{epsilon:g}" for epsilon in sorted(epsilons)) or "none"
        raise BadInput(f"all norms must be LayerNorms of one epsilon, got {listed}")
    return epsilons.pop()


DESCRIBERS: dict[str, Callable[[nn.Module], tuple[Family, Description]]] = {
    "timm.": _describe_timm,
    "torchvision.": _describe_torchvision,
    "transformers.": _describe_transformers,
}
