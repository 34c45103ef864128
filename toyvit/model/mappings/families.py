"""Families of ViTs from elsewhere: how each names the tensors that this lab's model has too.

A table maps our name of a tensor to theirs. Names of ours that `ViT` has not itself:

cls, registers, distillation  tokens before the patches, in this order
positions                     of the patches, after those of tokens before them that have some
attn.q, attn.k, attn.v        where they are not packed into `attn.qkv`
scale1, scale2                LayerScale (Touvron 2021, section 2): folded into what it scales
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

LAYER = "{layer}"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One way of naming a ViT's tensors, and what its weights do not tell.

    outside       our names to theirs, outside the blocks
    block         the same within a block; `place` is what stands before them there, `{layer}` in
                  either the block's number
    prefixes      of names, left out before they are looked up: a wrapper's, a head's
    aliases       other spellings: what a pattern fits stands for the other text
    unused        names that a model may have and that its logits do not need
    norm_epsilon  of its norms, where nothing else says so
    antialiased   how it interpolates positions, bicubic, to a picture of another size
    activation    of its MLPs, where nothing else says so

    >>> TIMM.name_tensors(n_layers=1)["blocks.0.attn.out.weight"]
    'blocks.0.attn.proj.weight'
    """

    name: str
    outside: Mapping[str, str]
    block: Mapping[str, str]
    place: str
    prefixes: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    norm_epsilon: float = 1e-6
    activation: str = "gelu"
    antialiased: bool = False

    def spell(self, name: str) -> str:
        """A tensor's name as the table has it: without a prefix, in the spelling of the files."""
        for prefix in self.prefixes:
            name = name.removeprefix(prefix)
        for pattern, spelling in self.aliases:
            name = re.sub(pattern, spelling, name)
        return name

    def is_unused(self, name: str) -> bool:
        """Whether a tensor is one that logits do not need."""
        return any(fnmatchcase(name, pattern) for pattern in self.unused)

    def name_tensors(self, n_layers: int) -> dict[str, str]:
        """Their name of every tensor by ours, of a model of so many layers."""
        names = dict(self.outside)
        for layer in range(n_layers):
            for ours, theirs in self.block.items():
                name = (self.place + theirs).replace(LAYER, str(layer))
                names[f"blocks.{layer}.{ours}"] = name
        return names

    def count_layers(self, names: Iterable[str]) -> int:
        """One more than the highest layer that a name of theirs has, at least 1."""
        patterns = [re.escape(self.place + theirs) for theirs in self.block.values()]
        texts = [pattern.replace(re.escape(LAYER), r"(\d{1,4})", 1) for pattern in patterns]
        whole = re.compile("|".join(texts).replace(re.escape(LAYER), r"\d{1,4}"))
        matches = [match for match in map(whole.fullmatch, names) if match]
        layers = [int(next(filter(None, match.groups()))) for match in matches]
        return 1 + max(layers, default=0)


def _layer(ours: str, theirs: str) -> dict[str, str]:
    """The two tensors of a linear layer."""
    return {f"{ours}.weight": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}


def _norm(ours: str, theirs: str) -> dict[str, str]:
    """The two tensors of a norm."""
    return {f"{ours}.gain": f"{theirs}.weight", f"{ours}.bias": f"{theirs}.bias"}


TIMM = Family(
    name="timm",
    outside=MappingProxyType(
        {
            **_layer("patch", "patch_embed.proj"),
            "cls": "cls_token",
            "registers": "reg_token",
            "positions": "pos_embed",
            **_norm("ln_pre", "norm_pre"),
            **_norm("ln_final", "norm"),
            **_norm("ln_pooled", "fc_norm"),
            **_layer("head", "head"),
        }
    ),
    place="blocks.{layer}.",
    block=MappingProxyType(
        {
            **_norm("ln1", "norm1"),
            **_layer("attn.qkv", "attn.qkv"),
            **_layer("attn.out", "attn.proj"),
            "scale1": "ls1.gamma",
            **_norm("ln2", "norm2"),
            **_layer("mlp.up", "mlp.fc1"),
            **_layer("mlp.down", "mlp.fc2"),
            "scale2": "ls2.gamma",
        }
    ),
    prefixes=("module.", "backbone."),
    aliases=((r"^register_tokens$", "reg_token"),),  # DINOv2's own code
    unused=("mask_token",),
    antialiased=True,
)

# What Hugging Face's models of this kind share, by the names that its files have.
_HUGGING_FACE = {
    **_layer("patch", "embeddings.patch_embeddings.projection"),
    "cls": "embeddings.cls_token",
    "positions": "embeddings.position_embeddings",
    **_norm("ln_final", "layernorm"),
    **_layer("head", "classifier"),
}
_ATTENTION = {
    **_layer("attn.q", "attention.attention.query"),
    **_layer("attn.k", "attention.attention.key"),
    **_layer("attn.v", "attention.attention.value"),
    **_layer("attn.out", "attention.output.dense"),
}

# Files keep the names that models had before version 5 of the library.
_IN_MEMORY = (
    (r"\.attention\.q_proj\b", ".attention.attention.query"),
    (r"\.attention\.k_proj\b", ".attention.attention.key"),
    (r"\.attention\.v_proj\b", ".attention.attention.value"),
    (r"\.attention\.o_proj\b", ".attention.output.dense"),
)
_LAYERS_IN_MEMORY = (
    (r"^layers\.", "encoder.layer."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)

VIT = Family(
    name="vit",
    outside=MappingProxyType(_HUGGING_FACE),
    place="encoder.layer.{layer}.",
    block=MappingProxyType(
        {
            **_norm("ln1", "layernorm_before"),
            **_ATTENTION,
            **_norm("ln2", "layernorm_after"),
            **_layer("mlp.up", "intermediate.dense"),
            **_layer("mlp.down", "output.dense"),
        }
    ),
    prefixes=("vit.",),
    aliases=(*_IN_MEMORY, *_LAYERS_IN_MEMORY),
    unused=("embeddings.mask_token", "pooler.*"),
    norm_epsilon=1e-12,
)
DEIT = replace(
    VIT,
    name="deit",
    outside=MappingProxyType({**VIT.outside, "distillation": "embeddings.distillation_token"}),
    prefixes=("deit.",),
)
DINOV2 = Family(
    name="dinov2",
    outside=MappingProxyType({**_HUGGING_FACE, "registers": "embeddings.register_tokens"}),
    place="encoder.layer.{layer}.",
    block=MappingProxyType(
        {
            **_norm("ln1", "norm1"),
            **_ATTENTION,
            "scale1": "layer_scale1.lambda1",
            **_norm("ln2", "norm2"),
            **_layer("mlp.up", "mlp.fc1"),
            **_layer("mlp.down", "mlp.fc2"),
            "scale2": "layer_scale2.lambda1",
        }
    ),
    prefixes=("dinov2_with_registers.", "dinov2."),
    aliases=_IN_MEMORY,
    unused=("embeddings.mask_token",),
)
CLIP = Family(
    name="clip",
    outside=MappingProxyType(
        {
            **_layer("patch", "embeddings.patch_embedding"),
            "cls": "embeddings.class_embedding",
            "positions": "embeddings.position_embedding.weight",
            **_norm("ln_pre", "pre_layrnorm"),
            **_norm("ln_final", "post_layernorm"),
            **_layer("head", "visual_projection"),
        }
    ),
    place="encoder.layers.{layer}.",
    block=MappingProxyType(
        {
            **_norm("ln1", "layer_norm1"),
            **_layer("attn.q", "self_attn.q_proj"),
            **_layer("attn.k", "self_attn.k_proj"),
            **_layer("attn.v", "self_attn.v_proj"),
            **_layer("attn.out", "self_attn.out_proj"),
            **_norm("ln2", "layer_norm2"),
            **_layer("mlp.up", "mlp.fc1"),
            **_layer("mlp.down", "mlp.fc2"),
        }
    ),
    prefixes=("vision_model.",),
    unused=("embeddings.position_ids", "text_model.*", "text_projection.*", "logit_scale"),
    norm_epsilon=1e-5,
    activation="quick-gelu",
)
TORCHVISION = Family(
    name="torchvision",
    outside=MappingProxyType(
        {
            **_layer("patch", "conv_proj"),
            "cls": "class_token",
            "positions": "encoder.pos_embedding",
            **_norm("ln_final", "encoder.ln"),
            **_layer("head", "heads.head"),
        }
    ),
    place="encoder.layers.encoder_layer_{layer}.",
    block=MappingProxyType(
        {
            **_norm("ln1", "ln_1"),
            "attn.qkv.weight": "self_attention.in_proj_weight",
            "attn.qkv.bias": "self_attention.in_proj_bias",
            **_layer("attn.out", "self_attention.out_proj"),
            **_norm("ln2", "ln_2"),
            **_layer("mlp.up", "mlp.0"),
            **_layer("mlp.down", "mlp.3"),
        }
    ),
    aliases=((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3.")),
)
FAMILIES = {family.name: family for family in (TIMM, VIT, DEIT, DINOV2, CLIP, TORCHVISION)}
