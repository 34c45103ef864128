"""The vision transformer, whole. Read it bottom-up: ViT, Block, Attention, MLP.

Every intermediate passes through `tap(site, value)`; see `toyvit/sites.py` for the names and `toyvit/taps.py` for taps.
Shapes: B images, T tokens (CLS, registers, patches), H heads, d width, h = d / H.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, suggest_nearest
from toyvit.model import options
from toyvit.model.sites import Site, list_sites, normalize_site, select_sites
from toyvit.model.taps import (
    Tap,
    editing,
    list_wanted,
    recording,
    settling,
    untouched,
    wants,
    within,
)


class Attention(nn.Module):
    """Softmax attention over H heads, q, k and v in one packed product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads, self.d_head, self.dropout = config.n_heads, config.d_head, config.dropout
        self.qkv = nn.Linear(d, 3 * d, bias=config.attention_bias)
        self.out = nn.Linear(d, d, bias=config.attention_bias)

    def head_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W_Q, W_K, W_V, each (H, d, h), and W_O (H, h, d), for row vectors (x @ W)."""
        w_q, w_k, w_v = rearrange(
            self.qkv.weight,
            "(part head feature) model -> part head model feature",
            part=3,
            head=self.n_heads,
        )
        return (
            w_q,
            w_k,
            w_v,
            rearrange(
                self.out.weight, "model (head feature) -> head feature model", head=self.n_heads
            ),
        )

    def project_qkv(self, x: Tensor, tap: Tap) -> list[Tensor]:
        """q, k, v, each (B, T, H, h). An edited per-head input adds W (new - x): exactly nothing where nothing changed."""
        packed = list(self.qkv(x).unflatten(-1, (3, self.n_heads, self.d_head)).unbind(2))
        for part, name in enumerate("qkv"):
            if wants(tap, f"{name}_input"):
                shared = x[:, :, None].expand(-1, -1, self.n_heads, -1)
                read = tap(f"{name}_input", shared)
                if read is not shared:
                    packed[part] = packed[part] + torch.einsum(
                        "bthd,hdf->bthf", read - shared, self.head_weights()[part]
                    )
        return [tap(f"attn.{name}", part) for name, part in zip("qkv", packed, strict=True)]

    def forward(self, x: Tensor, mask: Tensor, tap: Tap) -> Tensor:
        (n, t, _), h = x.shape, self.n_heads
        q, k, v = (
            part.transpose(1, 2).reshape(n * h, t, self.d_head) for part in self.project_qkv(x, tap)
        )
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(self.d_head))
        scores = tap("attn.attn_scores", scores.view(n, h, t, t))
        pattern = tap("attn.pattern", scores.softmax(-1))
        pattern = F.dropout(pattern, self.dropout, self.training)
        z = torch.bmm(pattern.reshape(n * h, t, t), v).view(n, h, t, self.d_head).transpose(1, 2)
        z = tap("attn.z", z)
        out = self.out(z.flatten(2))
        if wants(tap, "attn.result"):
            result = torch.einsum("bthf,hfd->bthd", z, self.head_weights()[3])
            written = tap("attn.result", result)
            if written is not result:
                out = out + (written - result).sum(2)
        return out


class MLP(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.bias)
        self.activation = options.ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        pre = tap("mlp.pre", self.up(x))
        return self.down(tap("mlp.post", self.activation(pre)))


class Block(nn.Module):
    """Pre-norm attention, then (where there is one) a pre-norm MLP, each added to the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = options.NORMS[config.norm]
        self.dropout = config.dropout
        self.ln1, self.attn = norm(config.d_model, config.norm_epsilon), Attention(config)
        if config.d_mlp:
            self.ln2, self.mlp = norm(config.d_model, config.norm_epsilon), MLP(config)

    def forward(self, x: Tensor, mask: Tensor, tap: Tap) -> Tensor:
        x = tap("resid_pre", x)
        added = self.attn(self.ln1(x, within("ln1.", tap)), mask, tap)
        return self.continue_after_attention(
            x + tap("attn_out", F.dropout(added, self.dropout, self.training)), tap
        )

    def continue_after_attention(self, x: Tensor, tap: Tap) -> Tensor:
        """The residual stream that attention has written to, taken through the rest of the block."""
        if hasattr(self, "mlp"):
            x = tap("resid_mid", x)
            added = self.mlp(self.ln2(x, within("ln2.", tap)), tap)
            x = x + tap("mlp_out", F.dropout(added, self.dropout, self.training))
        return tap("resid_post", x)


class ViT(nn.Module):
    """A vision transformer with a named tap at every intermediate. `config` must state the image and the classes."""

    mask: Tensor
    positions: Tensor | None

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        options.check_options(config)
        self.config = config
        self.patch = nn.Linear(config.d_patch, config.d_model, bias=config.bias)
        positions = options.POSITIONS[config.positions](config)
        if isinstance(positions, nn.Parameter):
            self.positions = positions
        else:
            self.register_buffer("positions", positions, persistent=False)
        self.prefix = nn.Parameter(torch.zeros(config.n_prefix, config.d_model))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = options.NORMS[config.norm](config.d_model, config.norm_epsilon)
        self.head = nn.Linear(config.d_model, options.count_outputs(config), bias=config.bias)
        allowed = options.MASKS[config.mask](config)
        mask = (
            torch.zeros(1, 1, 1)
            if allowed is None
            else torch.zeros(allowed.shape).masked_fill(~allowed, -math.inf)
        )
        self.register_buffer("mask", mask, persistent=False)
        self.initialize(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """All weights normal with mean 0; biases 0, gains 1.

        | weights                | standard deviation                 |
        |------------------------|------------------------------------|
        | learned positions      | position_scale                     |
        | CLS, registers         | 0.02                               |
        | head                   | 0.02, so that step 0 scores ln(C)  |
        | patch embedding        | patch_scale / sqrt(3 inputs)       |
        | every other matrix     | 1 / sqrt(3 inputs)                 |
        """
        for name, weight in self.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif name.endswith("gain"):
                weight.fill_(1)
            else:
                usual = 1 / math.sqrt(3 * weight.shape[-1])
                scale = {
                    "positions": self.config.position_scale,
                    "prefix": 0.02,
                    "head.weight": 0.02,
                    "patch.weight": self.config.patch_scale * usual,
                }
                weight.normal_(0, scale.get(name, usual), generator=generator)

    def sites(self) -> dict[str, Site]:
        """Every site of this model, in the order of the forward pass."""
        return list_sites(self.config)

    def forward(
        self, images: Float[Tensor, "image channel height width"], tap: Tap = untouched
    ) -> Float[Tensor, "image *patch label"]:
        """Logits. `tap(site, value) -> value` sees, and may replace, every intermediate; an unknown site is BadInput."""
        self.check_tap(tap)
        return self.unembed(self.run_blocks(self.embed(images, tap), 0, tap), tap)

    def embed(self, images: Tensor, tap: Tap = untouched) -> Float[Tensor, "image token model"]:
        """Pictures to the residual stream that enters the first block."""
        tap = settling(tap)
        size, expected = (
            self.config.patch_size,
            (self.config.n_channels, *self.config.stated("image_size")),
        )
        if tuple(images.shape[1:]) != expected:
            raise BadInput(
                f"pictures are (image, channel, height, width) with {expected} here, got {tuple(images.shape)}"
            )
        pattern = (
            "image channel (row height) (column width) -> image (row column) (channel height width)"
        )
        x = self.patch(tap("patches", rearrange(images, pattern, height=size, width=size)))
        x = tap("embed", x)
        if self.positions is not None:
            x = x + tap("pos_embed", self.positions)
        prefix = self.prefix.expand(len(x), -1, -1)
        return F.dropout(
            torch.cat([prefix, x], 1) if self.config.n_prefix else x,
            self.config.dropout,
            self.training,
        )

    def run_blocks(
        self, x: Tensor, first: int = 0, tap: Tap = untouched
    ) -> Float[Tensor, "image token model"]:
        """The residual stream entering block `first`, taken through that block and all later ones."""
        tap = settling(tap)
        mask = self.mask.expand(len(x) * self.config.n_heads, -1, -1)
        for layer, block in enumerate(self.blocks[first:], first):
            x = block(x, mask, within(f"blocks.{layer}.", tap))
        return x

    def unembed(self, x: Tensor, tap: Tap = untouched) -> Float[Tensor, "image *patch label"]:
        """The last residual stream to logits."""
        tap = settling(tap)
        x = self.ln_final(x, within("ln_final.", tap))
        x = tap("readout", options.READOUTS[self.config.readout](x, self.config.n_prefix))
        return tap("logits", self.head(x))

    def check_tap(self, tap: Tap) -> None:
        """Refuse a tap that names a site this model does not have."""
        known = self.sites()
        for name in list_wanted(tap) or ():
            if name not in known:
                raise BadInput(
                    f"unknown site {name!r} in this model (see `toyvit sites`){suggest_nearest(normalize_site(name), known)}"
                )

    def run_with_cache(self, images: Tensor, names: Iterable[str] = ("*",)) -> tuple[Tensor, Cache]:
        """Logits and the values at the chosen sites, as in TransformerLens; `hook_` in a name is allowed."""
        tap = recording(select_sites(names, self.config))
        return self(images, tap), Cache(tap.values)

    def run_with_hooks(
        self, images: Tensor, fwd_hooks: Iterable[tuple[str, Callable[..., Any]]]
    ) -> Tensor:
        """Logits with functions `hook(value, hook=site)` at named sites, as in TransformerLens; None leaves the value."""

        def changed(site: str, function: Callable[..., Any]) -> Callable[[Tensor], Tensor]:
            def edit(value: Tensor) -> Tensor:
                new = function(value, hook=site)
                return value if new is None else new

            return edit

        tap: Tap = untouched
        edits: dict[str, list[Callable[[Tensor], Tensor]]] = {}
        for name, function in fwd_hooks:
            for site in select_sites([name], self.config):
                edits.setdefault(site, []).append(changed(site, function))
        if edits:
            tap = editing({site: _chain(functions) for site, functions in edits.items()})
        return self(images, tap)


def _chain(functions: list[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def all_of_them(value: Tensor) -> Tensor:
        for function in functions:
            value = function(value)
        return value

    return all_of_them


class Cache(dict[str, Tensor]):
    """Recorded values by site; `cache["blocks.0.attn.hook_pattern"]` and `cache["pattern", 0]` work too."""

    def __missing__(self, key: Any) -> Tensor:
        if isinstance(key, tuple):
            name, layer = key
            prefix = f"blocks.{layer}."
            found = [
                site
                for site in self
                if site.startswith(prefix) and site.split(".")[-1] == normalize_site(name)
            ]
            if len(found) == 1:
                return self[found[0]]
        elif normalize_site(key) in self:
            return self[normalize_site(key)]
        raise KeyError(key)
