"""The vision transformer, whole. Read it bottom-up: ViT, Block, Attention, MLP.

Every intermediate passes through `tap(site, value)`; see `toyvit/model/sites.py` for the names and
`toyvit/model/taps.py` for taps. Shapes: B images, T tokens (CLS, registers, patches), H heads,
d width, h = d / H.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model import options
from toyvit.model.normalization import Norm
from toyvit.model.patches import cut_patches
from toyvit.model.shapes import HeadWeights, Images, Logits, Residual
from toyvit.model.sites import Site, check_tapped, list_sites
from toyvit.model.taps import Tap, norm_within, settling, untouched, wants, within
from toyvit.model.views import TransformerLensViews
from toyvit.surroundings import pin_torch


class Attention(nn.Module):
    """Softmax attention over H heads; q, k and v come from one packed product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.d_head = config.d_head
        self.dropout = config.dropout
        self.qkv = nn.Linear(d, 3 * d, bias=config.attention_bias)
        self.out = nn.Linear(d, d, bias=config.attention_bias)
        self.relative = options.build_relative_bias(config)
        self.rotation = options.build_rotation(config)

    def head_weights(self, qkv: Tensor | None = None) -> HeadWeights:
        """W_Q, W_K, W_V, each (H, d, h), and W_O (H, h, d).

        `qkv` is read in place of the packed matrix: the same with a norm folded in.
        """
        packed = self.qkv.weight if qkv is None else qkv
        pattern = "(part head feature) model -> part head model feature"
        q, k, v = rearrange(packed, pattern, part=3, head=self.n_heads)
        pattern = "model (head feature) -> head feature model"
        o = rearrange(self.out.weight, pattern, head=self.n_heads)
        return HeadWeights(q, k, v, o)

    def project_qkv(self, x: Tensor, tap: Tap) -> list[Tensor]:
        """q, k, v, each (B, T, H, h), as scores are made of them: turned where positions turn.

        An edited per-head input adds (new - x) W: exactly nothing where nothing changed.
        """
        packed = list(self.qkv(x).unflatten(-1, (3, self.n_heads, self.d_head)).unbind(2))
        for part, name in enumerate("qkv"):
            if not wants(tap, f"{name}_input"):
                continue

            shared = x[:, :, None].expand(-1, -1, self.n_heads, -1)
            read = tap(f"{name}_input", shared)
            if read is not shared:
                weight = getattr(self.head_weights(), name)
                change = torch.einsum("bthd,hdf->bthf", read - shared, weight)
                packed[part] = packed[part] + change

        q, k, v = (tap(f"attn.{name}", part) for name, part in zip("qkv", packed, strict=True))
        if self.rotation is not None:
            q = tap("attn.rot_q", self.rotation(q.transpose(1, 2)).transpose(1, 2))
            k = tap("attn.rot_k", self.rotation(k.transpose(1, 2)).transpose(1, 2))
        return [q, k, v]

    def attend(self, q: Tensor, k: Tensor, mask: Tensor, tap: Tap) -> Tensor:
        """The pattern, (B, H, T, T), of queries and keys (B H, T, h)."""
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(self.d_head))
        scores = scores.unflatten(0, (-1, self.n_heads))
        if self.relative is not None:
            scores = scores + tap("attn.pos_bias", self.relative())
        pattern = tap("attn.pattern", tap("attn.attn_scores", scores).softmax(-1))
        return F.dropout(pattern, self.dropout, self.training)

    def forward(self, x: Tensor, mask: Tensor, tap: Tap) -> Tensor:
        n, t, _ = x.shape
        shape = (n * self.n_heads, t, self.d_head)
        q, k, v = (part.transpose(1, 2).reshape(shape) for part in self.project_qkv(x, tap))
        pattern = self.attend(q, k, mask, tap)
        z = torch.bmm(pattern.reshape(-1, t, t), v).view(n, self.n_heads, t, self.d_head)
        z = tap("attn.z", z.transpose(1, 2))
        out = self.out(z.flatten(2))

        if wants(tap, "attn.result"):
            result = torch.einsum("bthf,hfd->bthd", z, self.head_weights().o)
            written = tap("attn.result", result)
            if written is not result:
                out = out + (written - result).sum(2)
        return out

    def read(self, x: Tensor, token: int, mask: Tensor) -> Tensor:
        """What the heads write to one token, (B, d), of normed tokens (B, T, d); untapped.

        The query goes back through W_K and the mixed tokens on through W_V: no other token's value
        is formed, nor key unless it turns. A bias of keys that do not turn changes no pattern.
        """
        n, _, d = x.shape
        shape = (self.n_heads, self.d_head, d)
        weight_q, weight_k, weight_v = self.qkv.weight.chunk(3)
        bias_q, bias_k, bias_v = [None] * 3 if self.qkv.bias is None else self.qkv.bias.chunk(3)

        query = F.linear(x[:, token], weight_q, bias_q) / math.sqrt(self.d_head)
        query = query.view(n, self.n_heads, self.d_head)
        if self.rotation is None:
            reads = torch.bmm(query.transpose(0, 1), weight_k.view(shape)).transpose(0, 1)
            scores = torch.baddbmm(mask, reads, x.mT)
        else:
            keys = F.linear(x, weight_k, bias_k).unflatten(-1, (self.n_heads, -1))
            scores = mask + self.rotation.score(query, keys, token)
        if self.relative is not None:
            scores = scores + self.relative()[:, token]
        pattern = F.dropout(scores.softmax(-1), self.dropout, self.training)

        mixed = torch.bmm(pattern, x).transpose(0, 1)
        z = torch.bmm(mixed, weight_v.view(shape).mT).transpose(0, 1).reshape(n, d)
        if bias_v is not None:
            z = z + pattern.sum(-1).repeat_interleave(self.d_head, 1) * bias_v
        return self.out(z)


class MLP(nn.Module):
    """Two matrices with an activation between them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_mlp, bias=config.bias)
        self.down = nn.Linear(config.d_mlp, config.d_model, bias=config.bias)
        self.activation = options.ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        pre = tap("mlp.pre", self.up(x))
        return self.down(tap("mlp.post", self.activation(pre)))


class Block(nn.Module):
    """Pre-norm attention, then (where there is one) a pre-norm MLP, each added to the stream."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        norm = options.NORMS[config.norm]
        self.dropout = config.dropout
        self.ln1 = norm(config.d_model, config.norm_epsilon)
        self.attn = Attention(config)
        if config.d_mlp:
            self.ln2 = norm(config.d_model, config.norm_epsilon)
            self.mlp = MLP(config)

    def forward(self, x: Tensor, mask: Tensor, tap: Tap) -> Tensor:
        x = tap("resid_pre", x)
        added = self.attn(self.ln1(x, norm_within("ln1.", tap)), mask, tap)
        added = F.dropout(added, self.dropout, self.training)
        return self.continue_after_attention(x + tap("attn_out", added), tap)

    def read(self, x: Tensor, token: int, mask: Tensor) -> Tensor:
        """One token of what `forward` gives, (B, d), and only what it needs; untapped."""
        added = self.attn.read(self.ln1(x, untouched), token, mask)
        added = F.dropout(added, self.dropout, self.training)
        return self.continue_after_attention(x[:, token] + added, untouched)

    def continue_after_attention(self, x: Tensor, tap: Tap) -> Tensor:
        """The stream that attention has written to, taken through the rest of the block."""
        if hasattr(self, "mlp"):
            x = tap("resid_mid", x)
            added = self.mlp(self.ln2(x, norm_within("ln2.", tap)), tap)
            x = x + tap("mlp_out", F.dropout(added, self.dropout, self.training))

        return tap("resid_post", x)


class ViT(TransformerLensViews):
    """A vision transformer with a named tap at every intermediate.

    `config` must state the image and the classes; `seed` decides the weights it starts with.
    BadInput for an option, or a tap at a site, that is not there.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> model(torch.zeros(5, 1, 8, 8)).shape
    torch.Size([5, 3])
    """

    mask: Tensor
    positions: Tensor | None
    ln_pre: Norm

    @pin_torch()
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
        if config.embed_norm:
            self.ln_pre = options.NORMS[config.norm](config.d_model, config.norm_epsilon)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.ln_final = options.NORMS[config.norm](config.d_model, config.norm_epsilon)
        self.head = nn.Linear(config.d_model, options.count_outputs(config), bias=config.bias)
        self.register_buffer("mask", options.build_mask(config), persistent=False)
        self.initialize(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """All weights normal with mean 0; biases 0 (by offset: of `relative_scale`), gains 1.

        | weights                | standard deviation                 |
        |------------------------|------------------------------------|
        | learned positions      | position_scale                     |
        | CLS, registers         | 0.02                               |
        | head                   | 0.02, so that step 0 scores ln(C)  |
        | patch embedding        | patch_scale / sqrt(3 inputs)       |
        | every other matrix     | 1 / sqrt(3 inputs)                 |
        """
        for name, weight in self.named_parameters():
            if name.endswith("relative.bias") and self.config.relative_scale:
                weight.normal_(0, self.config.relative_scale, generator=generator)
            elif name.endswith("bias"):
                weight.zero_()
            elif name.endswith("gain"):
                weight.fill_(1)
            else:
                scale = options.scale_start(self.config, name, weight.shape[-1])
                weight.normal_(0, scale, generator=generator)

    @property
    def layers(self) -> list[Block]:
        """The blocks, in order."""
        return cast(list[Block], list(self.blocks))

    def sites(self) -> dict[str, Site]:
        """Every site of this model, by full name, in the order of the forward pass."""
        return list_sites(self.config)

    def forward(self, images: Images, tap: Tap = untouched) -> Logits:
        """Logits; `tap(site, value) -> value` sees, and may replace, every intermediate."""
        self.check_tap(tap)
        return self.unembed(self.run_blocks(self.embed(images, tap), 0, tap), tap)

    def answer(self, images: Images) -> Logits:
        """The logits of `forward` to rounding, by what the head reads: the `read` path.

        Where the head reads one token, the last block forms that token alone; elsewhere this is
        `forward`. No tap is asked: sites that no token of the last block needs have no value.
        """
        return self.answer_from(self.embed(images), 0)

    def answer_from(self, x: Residual, first: int) -> Logits:
        """`answer` from the stream that enters block `first`, or leaves the last one."""
        token = options.READ_TOKENS.get(self.config.readout)
        if token is None:
            return self.unembed(self.run_blocks(x, first))

        *earlier, last = self.layers
        if first == len(self.layers):
            return self.unembed_tokens(x[:, token])
        x = self.run_blocks(x, first, stop=len(earlier))
        return self.unembed_tokens(last.read(x, token, self.mask[..., token, :]))

    def unembed_tokens(
        self, x: Float[Tensor, "image *token model"]
    ) -> Float[Tensor, "image *token label"]:
        """The last residual stream to logits at some tokens, each by itself; untapped."""
        return self.head(self.ln_final(x, untouched))

    def embed(self, images: Tensor, tap: Tap = untouched) -> Residual:
        """Pictures to the residual stream that enters the first block."""
        tap = settling(tap)
        self.check_images(images)
        patches = cut_patches(images, self.config.stated("patch_size"))
        if wants(tap, "patches"):
            patches = patches.clone()  # of a picture that is one patch they are the caller's own
        patches = tap("patches", patches)

        x = tap("embed", self.patch(patches))
        if self.positions is not None:
            # What a tap is handed may be written to.
            positions = self.positions.clone() if wants(tap, "pos_embed") else self.positions
            x = x + tap("pos_embed", positions)
        if self.config.n_prefix:
            x = torch.cat([self.prefix.expand(len(x), -1, -1), x], 1)
        if self.config.embed_norm:
            x = self.ln_pre(x, norm_within("ln_pre.", tap))
        return F.dropout(x, self.config.dropout, self.training)

    def run_blocks(
        self, x: Tensor, first: int = 0, tap: Tap = untouched, stop: int | None = None
    ) -> Residual:
        """The stream entering block `first`, taken through it and the later ones before `stop`."""
        tap = settling(tap)
        mask = self.mask.expand(len(x) * self.config.n_heads, -1, -1)
        for layer, block in enumerate(self.layers[first:stop], first):
            x = block(x, mask, within(f"blocks.{layer}.", tap))
        return x

    def unembed(self, x: Tensor, tap: Tap = untouched) -> Logits:
        """The last residual stream to logits."""
        tap = settling(tap)
        x = self.norm_last(x, norm_within("ln_final.", tap))
        x = tap("readout", options.READOUTS[self.config.readout](x, self.config.n_prefix))
        return tap("logits", self.head(x))

    def norm_last(self, x: Residual, tap: Tap = untouched) -> Residual:
        """The final norm of the last stream; of the mean of the patches where that is read."""
        return self.ln_final(options.pool(self.config, x), tap)

    def check_images(self, images: Tensor) -> None:
        """BadInput for pictures of another shape than the model's."""
        expected = (self.config.n_channels, *self.config.stated("image_size"))
        if tuple(images.shape[1:]) != expected:
            wanted = f"(image, channel, height, width) with {expected}"
            raise BadInput(f"pictures are {wanted} here, got {tuple(images.shape)}")

    def check_tap(self, tap: Tap) -> None:
        """BadInput for a tap that names a site which this model does not have."""
        check_tapped(tap, self.sites())
