"""From tensors under a family's names to this lab's model, and back; nothing is left out unsaid."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.config.fields import build_record
from toyvit.errors import BadInput, escape_text, suggest_nearest
from toyvit.model.mappings.families import Family
from toyvit.model.vit import ViT

Parts = dict[str, Tensor]
MOST_NAMED = 3
USUAL_HEAD = 64  # width of a head where nothing says how many there are
# What a ViT cannot be without, and of each block: one of each group.
NEEDED = (("patch.weight",), ("positions",), ("ln_final.gain", "ln_pooled.gain"))
NEEDED_OF_BLOCK = (("ln1.gain",), ("attn.qkv.weight", "attn.q.weight"), ("attn.out.weight",))
OF_MLP = (("ln2.gain",), ("mlp.up.weight",), ("mlp.down.weight",))
BEFORE_PATCHES = ("cls", "registers", "distillation")


def sort_tensors(weights: Mapping[str, Tensor], family: Family) -> Parts:
    """Tensors by our names for them; BadInput names those that have no place, and those missing.

    >>> from toyvit.model.mappings.families import TIMM
    >>> from toyvit.model.mappings.timm import convert_to_timm
    >>> config = ModelConfig(d_mlp=8, norm_epsilon=1e-6, image_size=(8, 8), patch_size=4,
    ...     n_channels=1, n_classes=3)
    >>> parts = sort_tensors(convert_to_timm(ViT(config)), TIMM)
    >>> parts["cls"].shape, parts["positions"].shape
    (torch.Size([1, 1, 64]), torch.Size([1, 5, 64]))
    """
    spelt: Parts = {}
    for name, tensor in weights.items():
        if family.spell(name) in spelt:
            twice = _list_names([family.spell(name)])
            raise BadInput(
                f"the {family.name} weights hold {twice} twice, with and without a prefix"
            )
        spelt[family.spell(name)] = tensor
    names = family.name_tensors(family.count_layers(spelt))
    parts = {ours: spelt[theirs] for ours, theirs in names.items() if theirs in spelt}

    placed = {names[ours] for ours in parts}
    extra = [name for name in spelt if name not in placed and not family.is_unused(name)]
    _check_missing(parts, names, family, extra)
    if extra:
        hint = suggest_nearest(extra[0], [names[ours] for ours in names if ours not in parts])
        raise BadInput(
            f"the {family.name} weights hold what this model has no place for: "
            f"{_list_names(extra)}{hint}"
        )
    return parts


def _check_missing(
    parts: Parts, names: Mapping[str, str], family: Family, extra: Sequence[str]
) -> None:
    """BadInput for what a ViT cannot be without."""
    has_mlp = any(".mlp." in name for name in parts)
    in_some = dict.fromkeys(name.split(".", 2)[2] for name in parts if name.startswith("blocks."))
    groups = list(NEEDED)
    for layer in range(family.count_layers(names.values())):
        own = NEEDED_OF_BLOCK + OF_MLP * has_mlp
        groups += [tuple(f"blocks.{layer}.{name}" for name in group) for group in own]
        groups += [(f"blocks.{layer}.{name}",) for name in in_some]  # what one block has, all have

    missing = [group for group in groups if not any(name in parts for name in group)]
    theirs = [next(names[name] for name in group if name in names) for group in missing]
    theirs = list(dict.fromkeys(theirs))
    if theirs:
        hint = f"; they hold {_list_names(extra)} instead" if extra else ""
        raise BadInput(f"the {family.name} weights lack {_list_names(theirs)}{hint}")


def _list_names(names: Sequence[str]) -> str:
    """Some of them between commas, and how many more there are."""
    some = ", ".join(escape_text(repr(name[:80])) for name in names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{some} and {more} more" if more > 0 else some


def infer_config(
    parts: Parts, family: Family, stated: Mapping[str, object] | None = None
) -> ModelConfig:
    """The shape of the model whose tensors these are; `n_classes` is None where it has no head.

    `stated` are fields of the config that come from elsewhere: what the tensors do not tell (heads,
    epsilon, activation, read-out, the sides of an oblong picture). BadInput where they say other
    than the tensors do. Heads are 64 wide where nothing says how many there are; BadInput where
    that cannot be.
    """
    stated = dict(stated or {})
    embedding = parts["patch.weight"]
    shape = _infer_patches(embedding, stated)
    d_model = len(embedding)
    told: dict[str, object] = {
        "n_layers": 1 + max(int(name.split(".")[1]) for name in parts if "blocks." in name),
        "d_model": d_model,
        "d_mlp": len(parts.get("blocks.0.mlp.up.weight", ())),
        "embed_norm": "ln_pre.gain" in parts,
        "cls_token": "cls" in parts,
        "n_registers": sum(_count_rows(parts, name) for name in BEFORE_PATCHES[1:]),
        "n_classes": _count_rows(parts, "head.weight") or None,
        **shape,
    }
    usual: dict[str, object] = {
        "n_heads": d_model // USUAL_HEAD or 1,
        "norm_epsilon": family.norm_epsilon,
        "activation": family.activation,
        "attention_bias": any(".attn." in name and name.endswith("bias") for name in parts),
        "bias": any(name in parts for name in ("patch.bias", "head.bias", "blocks.0.mlp.up.bias")),
        "readout": "pooled" if "ln_pooled.gain" in parts else "cls" if "cls" in parts else "mean",
        "image_size": _infer_size(parts, told, stated),
    }
    if d_model % USUAL_HEAD and not stated.get("n_heads"):
        raise BadInput(f"weights do not tell their heads: state n_heads, which divides {d_model}")
    for name, value in told.items():
        if stated.get(name) is not None and stated[name] != value:
            raise BadInput(f"the weights have {name} {value}, stated is {stated[name]}")
    return build_record(ModelConfig, {**usual, **stated, **told})


def _count_rows(parts: Parts, name: str) -> int:
    """How many rows a tensor has before its last axis; 0 where it is not there."""
    return parts[name].numel() // parts[name].shape[-1] if name in parts else 0


def _infer_patches(embedding: Tensor, stated: Mapping[str, object]) -> dict[str, object]:
    """The size of a patch and its channels: of a convolution, or of a matrix with one of them."""
    if embedding.ndim == 4 and embedding.shape[2] == embedding.shape[3]:
        return {"patch_size": embedding.shape[3], "n_channels": embedding.shape[1]}
    if embedding.ndim != 2:
        raise BadInput(f"patches must be squares, the embedding is {tuple(embedding.shape)}")

    size = stated.get("patch_size")
    if not isinstance(size, int) or embedding.shape[1] % size**2:
        raise BadInput(
            f"an embedding of {embedding.shape[1]} numbers a patch needs a patch_size whose square"
            f" divides them, got {size}"
        )
    return {"patch_size": size, "n_channels": embedding.shape[1] // size**2}


def _infer_size(
    parts: Parts, told: Mapping[str, object], stated: Mapping[str, object]
) -> tuple[int, int]:
    """The picture's size: as it is stated, or the square that the positions are of."""
    size = stated.get("image_size")
    if isinstance(size, tuple):
        return size
    side = math.isqrt(len(split_positions(parts, None)[1]))
    patch = told["patch_size"]
    assert isinstance(patch, int)
    return (side * patch, side * patch)


def split_positions(parts: Parts, n_patches: int | None) -> tuple[Tensor, Tensor]:
    """Positions of the tokens before the patches, and of the patches.

    All of those tokens have one, or CLS alone, or none: what leaves as many as there are patches,
    or else a square of them. BadInput where nothing does, or more than one.
    """
    positions = parts["positions"].reshape(-1, parts["positions"].shape[-1])
    n_cls, *others = (_count_rows(parts, name) for name in BEFORE_PATCHES)
    choices = list(dict.fromkeys([n_cls + sum(others), n_cls, 0]))
    fits = [n for n in choices if len(positions) - n == n_patches]
    fits = fits or [n for n in choices if _is_square(len(positions) - n)]
    if len(fits) != 1:
        patches = " or ".join(str(len(positions) - n) for n in fits) or "no square of them"
        raise BadInput(
            f"{len(positions)} positions may be of {patches} patches, and of tokens before them:"
            " state image_size"
        )
    return positions[: fits[0]], positions[fits[0] :]


def _is_square(n: int) -> bool:
    return n > 0 and math.isqrt(n) ** 2 == n


def assemble(parts: Parts, config: ModelConfig) -> ViT:
    """The model of these tensors, in their precision (halves become float32).

    `config` is what `infer_config` gives. BadInput for a bias other than 0 where `config` has none,
    and for a tensor of the wrong shape.
    """
    dtype = parts["patch.weight"].dtype
    dtype = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    model = ViT(config).to(dtype)
    load_parts(model, {name: part.detach().to(dtype) for name, part in parts.items()})
    return model.eval()


def load_parts(model: ViT, parts: Parts) -> None:
    """The weights of a model overwritten by such tensors: see `assemble`."""
    ours = _name_ours(parts, model.config)
    wanted = model.state_dict()
    if "positions" not in wanted and model.positions is not None:
        _check_fixed(ours.pop("positions"), model.positions)
    for name in [name for name in ours if name not in wanted]:
        if not name.endswith("bias") or ours[name].any():
            raise BadInput(f"the weights have {name}, the config has no place for it")
        del ours[name]
    for name, tensor in wanted.items():
        given = ours.setdefault(name, torch.zeros_like(tensor))
        if given.shape != tensor.shape:
            raise BadInput(f"{name} is {tuple(given.shape)} there, {tuple(tensor.shape)} here")
    model.load_state_dict(ours)


def _check_fixed(positions: Tensor, computed: Tensor) -> None:
    """BadInput where positions are other than those that the config computes."""
    if positions.shape != computed.shape or not torch.equal(positions, computed.to(positions)):
        raise BadInput("the weights have other positions than the fixed ones of the config")


def _name_ours(parts: Parts, config: ModelConfig) -> Parts:
    """Tensors as this lab's model has them: packed, scaled, interpolated."""
    before, positions = split_positions(parts, config.n_patches)
    ours = {"positions": positions}
    rows = [parts[name].reshape(-1, config.d_model) for name in BEFORE_PATCHES if name in parts]
    tokens = torch.cat(rows) if rows else positions[:0]
    padded = F.pad(before, (0, 0, 0, len(tokens) - len(before)))
    ours["prefix"] = torch.where(padded == 0, tokens, tokens + padded)

    for name, part in parts.items():
        if name not in ("positions", *BEFORE_PATCHES) and not _is_joined(name):
            ours[name.replace("ln_pooled", "ln_final")] = part
    ours["patch.weight"] = parts["patch.weight"].flatten(1)
    for layer in range(config.n_layers):
        _join_block(ours, parts, f"blocks.{layer}.")
    return ours


def _is_joined(name: str) -> bool:
    return bool(re.search(r"\.(scale[12]$|attn\.[qkv]\.)", name))


def _join_block(ours: Parts, parts: Parts, place: str) -> None:
    """Pack queries, keys and values, and fold LayerScale into what it scales, in place."""
    for kind in ("weight", "bias"):
        names = [f"{place}attn.{part}.{kind}" for part in "qkv"]
        there = [parts[name] for name in names if name in parts]
        if there:  # CLIP's keys, and others', may have no bias
            empty = torch.zeros_like(there[0])
            ours[f"{place}attn.qkv.{kind}"] = torch.cat([parts.get(name, empty) for name in names])

    for scale, scaled in (("scale1", "attn.out"), ("scale2", "mlp.down")):
        factor = parts.get(place + scale)
        for name in (f"{place}{scaled}.weight", f"{place}{scaled}.bias"):
            if factor is not None and name in ours:
                shape = (-1,) + (1,) * (ours[name].ndim - 1)
                exact = ours[name].double() * factor.double().reshape(shape)
                ours[name] = exact.to(ours[name].dtype)


def resize_positions(parts: Parts, config: ModelConfig, family: Family) -> Parts:
    """Tensors for a picture of the config's size: positions of a square of patches interpolated.

    Bicubic, as the family does it; those of the tokens before the patches stay. Itself where there
    are as many patches as positions.
    """
    before, positions = split_positions(parts, config.n_patches)
    if len(positions) == config.n_patches:
        return parts
    side = math.isqrt(len(positions))
    square = positions.T.reshape(1, -1, side, side)
    resized = F.interpolate(
        square,
        config.grid,
        mode="bicubic",
        antialias=family.antialiased,
        align_corners=False,
    )
    return {**parts, "positions": torch.cat([before, resized.flatten(2)[0].T])}


def convert_weights(
    weights: Mapping[str, Tensor], family: Family, stated: Mapping[str, object] | None = None
) -> ViT:
    """A ViT with the weights of a model from elsewhere, and the shape that they have.

    BadInput as `sort_tensors`, `infer_config` and `assemble`, and for a model without a head.
    """
    parts = sort_tensors(weights, family)
    config = infer_config(parts, family, stated)
    if config.n_classes is None:
        raise BadInput(f"the {family.name} weights have no head: `toyvit import` fits one")
    return assemble(resize_positions(parts, config, family), config)


def fill_head(parts: Parts, config: ModelConfig, weight: Tensor, bias: Tensor) -> ModelConfig:
    """Give a model without a head one, in place; its config."""
    parts["head.weight"] = weight
    parts["head.bias"] = bias
    return replace(config, n_classes=len(weight), bias=True)
