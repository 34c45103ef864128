"""Circuits read off the weights: what each head compares (QK) and what it writes (OV).

Row vectors: a query x and a key y score (x W_QK) y^T / sqrt(h), and a token y that is attended to
adds y W_OV. A norm's gain (and LayerNorm's subtraction of the mean) is folded into what reads; its
scale, one positive number a token, is left out. Shapes: H heads, d width, h = d / H.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Complex, Float
from torch import Tensor, nn

from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.normalization import LayerNorm, Norm
from toyvit.model.patches import cut_patches
from toyvit.model.shapes import HeadWeights, Images, Residual
from toyvit.model.taps import recording
from toyvit.surroundings import pin_torch

Square = Float[Tensor, "head model to_model"]
Scores = Float[Tensor, "image head query key"]


@pin_torch()
def fold_norms(model: ViT) -> ViT:
    """An equivalent model whose norms are left with their scale alone.

    The gain, the constant and LayerNorm's subtraction of the mean are in the matrices and biases of
    what reads (Elhage 2021): the same logits, to rounding. Every measure of weights reads this one.
    It has all biases, without gradients; without norms it is a copy.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> images = torch.ones(1, 1, 8, 8)
    >>> torch.allclose(fold_norms(model)(images), model(images), atol=1e-6)
    True
    """
    folded = copy.deepcopy(model).requires_grad_(False)
    folded.config = replace(model.config, attention_bias=True, bias=True)
    for linear in folded.modules():
        if isinstance(linear, nn.Linear) and linear.bias is None:
            linear.bias = nn.Parameter(torch.zeros(linear.out_features), requires_grad=False)

    for block in folded.layers:
        _fold_into(block.ln1, block.attn.qkv)
        if folded.config.d_mlp:
            _fold_into(block.ln2, block.mlp.up)
    _fold_into(folded.ln_final, folded.head)
    return folded


def _fold_into(norm: Norm, reader: nn.Linear) -> None:
    """Move all but the scale of a norm into what reads it, in place."""
    weight, bias = fold_norm(norm, reader)
    reader.weight.copy_(weight)
    reader.bias.copy_(bias)
    if isinstance(norm, LayerNorm):
        norm.gain.fill_(1)
        norm.bias.zero_()


@pin_torch()
def fold_norm(
    norm: Norm, reader: nn.Linear
) -> tuple[Float[Tensor, "out model"], Float[Tensor, " out"]]:
    """Matrix and bias of what reads a norm, with all but the norm's scale in them.

    Without gradients; the bias is 0 where there is none.

    >>> from toyvit.model.normalization import RMSNorm
    >>> weight, bias = fold_norm(RMSNorm(4, 1e-5), nn.Linear(4, 3, bias=False))
    >>> weight.shape, bias
    (torch.Size([3, 4]), tensor([0., 0., 0.]))
    """
    weight = reader.weight.detach()
    bias = weight.new_zeros(len(weight)) if reader.bias is None else reader.bias.detach()
    if not isinstance(norm, LayerNorm):
        return weight, bias
    before = norm.fold(torch.eye(reader.in_features)).detach()
    return weight @ before.mT, bias + weight @ norm.bias.detach()


@pin_torch()
def fold_head_weights(model: ViT, layer: int) -> HeadWeights:
    """W_Q, W_K, W_V (each H, d, h) with the norm before them folded in, and W_O (H, h, d).

    BadInput for a layer that the model does not have.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(n_heads=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> fold_head_weights(ViT(config), layer=1).o.shape
    torch.Size([4, 16, 64])
    """
    if not 0 <= layer < model.config.n_layers:
        raise BadInput(f"no layer {layer}: this model has layers 0 to {model.config.n_layers - 1}")
    block = model.layers[layer]
    weight, _ = fold_norm(block.ln1, block.attn.qkv)
    return HeadWeights(*(part.detach() for part in block.attn.head_weights(weight)))


@pin_torch()
def fold_unembedding(model: ViT) -> Float[Tensor, "model label"]:
    """The head's matrix with the final norm folded in.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> fold_unembedding(ViT(config)).shape
    torch.Size([64, 3])
    """
    weight, _ = fold_norm(model.ln_final, model.head)
    return weight.T


@pin_torch()
def fold_embedding(model: ViT) -> Float[Tensor, "pixel model"]:
    """What each pixel adds to the stream that enters the first block.

    Where the embeddings are normed, over the scale of that norm.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> fold_embedding(ViT(config)).shape
    torch.Size([16, 64])
    """
    weight = model.patch.weight.detach().T
    return model.ln_pre.fold(weight).detach() if model.config.embed_norm else weight


@pin_torch()
def qk_circuit(model: ViT, layer: int) -> Square:
    """W_Q W_K^T of each head, of rank h at most: what a query looks for, in the stream.

    Relative positions come on top of what it says. BadInput for rotary ones: queries and keys are
    compared after a turn, and no one matrix says how.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(n_heads=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> qk_circuit(ViT(config), layer=0).shape
    torch.Size([4, 64, 64])
    """
    if model.config.is_rotary:
        raise BadInput("rotary positions turn queries and keys: there is no one QK circuit")
    weights = fold_head_weights(model, layer)
    return weights.q @ weights.k.transpose(1, 2)


@pin_torch()
def ov_circuit(model: ViT, layer: int) -> Square:
    """W_V W_O of each head, of rank h at most: what a token adds to one that attends to it.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(n_heads=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> ov_circuit(ViT(config), layer=0).shape
    torch.Size([4, 64, 64])
    """
    weights = fold_head_weights(model, layer)
    return weights.v @ weights.o


def product_eigenvalues(
    left: Float[Tensor, "*heads model feature"], right: Float[Tensor, "*heads feature to_model"]
) -> Complex[Tensor, "*heads feature"]:
    """Eigenvalues of left @ right that can be other than 0, in double precision.

    They are those of right @ left, h x h. For OV: `product_eigenvalues(weights.v, weights.o)`.

    >>> product_eigenvalues(torch.ones(4, 1), torch.ones(1, 4))
    tensor([4.+0.j], dtype=torch.complex128)
    """
    return torch.linalg.eigvals(right.double() @ left.double())


class SingularDirections(NamedTuple):
    """W = sum over i of size_i read_i^T written_i, the largest size first.

    Rows of `read` and `written` have length 1; for QK `written` is the key's direction.
    """

    read: Float[Tensor, "*heads feature model"]
    size: Float[Tensor, "*heads feature"]
    written: Float[Tensor, "*heads feature to_model"]


@pin_torch()
def find_singular_directions(
    left: Float[Tensor, "*heads model feature"], right: Float[Tensor, "*heads feature to_model"]
) -> SingularDirections:
    """Singular directions of left @ right.

    Through two thin QR decompositions and an h x h one of singular values, never forming d x d.

    >>> directions = find_singular_directions(torch.eye(4)[:, :1], 3 * torch.eye(4)[:1])
    >>> directions.size, directions.read.shape
    (tensor([3.]), torch.Size([1, 4]))
    """
    q_left, r_left = torch.linalg.qr(left.double())
    q_right, r_right = torch.linalg.qr(right.mT.double())
    u, size, v = torch.linalg.svd(r_left @ r_right.mT)
    return SingularDirections((q_left @ u).mT.float(), size.float(), (v @ q_right.mT).float())


@pin_torch()
def project_to_pixels(
    model: ViT, directions: Float[Tensor, "*axes model"]
) -> Float[Tensor, "*axes channel height width"]:
    """Pictures of stream directions through the patch embedding: pixel p holds direction . W_E[p].

    W_E is that of `fold_embedding`.

    The sum over pixels of picture times patch is how far the patch's embedding goes along the
    direction. Exact for the first layer; for later ones the path from the picture that passes no
    other head.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> project_to_pixels(ViT(config), torch.ones(7, 64)).shape
    torch.Size([7, 1, 4, 4])
    """
    size = model.config.stated("patch_size")
    pattern = "... (channel height width) -> ... channel height width"
    pixels = directions @ fold_embedding(model).T
    return rearrange(pixels, pattern, height=size, width=size)


@pin_torch()
def compose_virtual_heads(
    model: ViT, early: int, late: int
) -> Float[Tensor, "head to_head model to_model"]:
    """W_OV^a W_OV^b for every head a of an earlier layer and b of a later one (Elhage 2021).

    What a token adds to one that b, through a, attends to: the virtual head's pattern is A^b A^a.
    BadInput where `early` is not before `late`.
    """
    if not early < late:
        raise BadInput(
            f"a virtual head is of an earlier layer and a later one, got {early} and {late}"
        )
    return torch.einsum("amn,bnk->abmk", ov_circuit(model, early), ov_circuit(model, late))


@pin_torch()
def split_scores(
    model: ViT, images: Images, stream: Residual | None = None
) -> dict[tuple[str, str], Scores]:
    """The first layer's scores as the sum of four: query and key, each read by position or content.

    Keys are (what the query is read for, what the key is read for), of `position` and `content`.
    Content is the patch's pixels through the patch embedding; position is all else: positions (also
    those added to scores), CLS and registers, biases. Rotary positions turn both parts alike. With
    a norm its scale stays what it is, for both parts. Without the mask; scaled by 1 / sqrt(h), as
    the scores are. `stream` is what the images give the first block,
    where it is there already.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> parts = split_scores(ViT(config), torch.ones(6, 1, 8, 8))
    >>> parts["content", "position"].shape
    torch.Size([6, 1, 5, 5])
    """
    attention = model.layers[0].attn
    weights = attention.head_weights()
    read = _split_reading(model, images, stream)
    queries = {name: torch.einsum("itd,hdf->ihtf", part, weights.q) for name, part in read.items()}
    keys = {name: torch.einsum("itd,hdf->ihtf", part, weights.k) for name, part in read.items()}

    if model.config.attention_bias:
        pattern = "(part head feature) -> part head 1 feature"
        bias_q, bias_k, _ = rearrange(
            attention.qkv.bias, pattern, part=3, head=model.config.n_heads
        )
        queries["position"] = queries["position"] + bias_q
        keys["position"] = keys["position"] + bias_k

    if attention.rotation is not None:
        queries = {name: attention.rotation(part) for name, part in queries.items()}
        keys = {name: attention.rotation(part) for name, part in keys.items()}

    scale = model.config.d_head**0.5
    scores = {
        (query, key): (queries[query] @ keys[key].mT / scale).detach()
        for query, key in product(("position", "content"), repeat=2)
    }
    if attention.relative is not None:
        scores["position", "position"] = (
            scores["position", "position"] + attention.relative().detach()
        )
    return scores


@torch.no_grad()
def _split_reading(model: ViT, images: Images, stream: Residual | None) -> dict[str, Residual]:
    """What the first layer's heads read, after the norm, as position and content."""
    norm = model.layers[0].ln1
    stream = model.embed(images) if stream is None else stream
    scale = norm.scale(stream)
    content = torch.zeros_like(stream)
    patches = cut_patches(images, model.config.stated("patch_size"))
    content[:, model.config.n_prefix :] = patches @ fold_embedding(model)
    if model.config.embed_norm:
        tap = recording(["ln_pre.scale"])
        model.embed(images, tap)
        content = content / tap.values["ln_pre.scale"]
    position = norm.fold(stream - content) / scale
    if isinstance(norm, LayerNorm):
        position = position + norm.bias
    return {"position": position, "content": norm.fold(content) / scale}


def centre_scores(scores: Scores, allowed: Bool[Tensor, "query key"]) -> Scores:
    """Scores less their row's mean over the keys that the mask allows; 0 where it forbids.

    The softmax over the allowed keys is still the pattern.

    >>> allowed = torch.tensor([[True, True, False]])
    >>> centre_scores(torch.tensor([[[[3.0, 1.0, -torch.inf]]]]), allowed).abs().tolist()
    [[[[1.0, 1.0, 0.0]]]]
    """
    if allowed.all():
        return scores - scores.mean(-1, keepdim=True)

    # Products with 0 and 1 take a third of the time of filling under a mask.
    share = allowed.to(scores.dtype)
    values = scores.clamp(min=torch.finfo(scores.dtype).min) * share
    mean = values.sum(-1, keepdim=True) / share.sum(-1, keepdim=True)
    return (values - mean) * share
