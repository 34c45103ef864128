"""Circuits read off the weights: what each head compares (QK) and what it moves (OV), their directions and their parts.

Row vectors: a query x and a key y score (x W_QK) y^T / sqrt(h), and a token y that is attended to adds y W_OV. A norm's gain
(and LayerNorm's subtraction of the mean) is folded into what reads; its scale, one positive number a token, is left out.
Shapes: H heads, d width, h = d / H.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Complex, Float
from torch import Tensor, nn

from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.taps import recording

Heads = tuple[Tensor, Tensor, Tensor, Tensor]
Square = Float[Tensor, "head model to_model"]


def fold_norm(
    norm: nn.Module, kind: str, x: Float[Tensor, "*axes model"]
) -> Float[Tensor, "*axes model"]:
    """The linear part of a norm: minus the mean over the width (LayerNorm), times the gain; x itself without a norm."""
    if kind == "none":
        return x
    return (x - x.mean(-1, keepdim=True) if kind == "layer" else x) * norm.gain  # type: ignore[operator]


def fold_head_weights(model: ViT, layer: int) -> Heads:
    """W_Q, W_K, W_V (each H, d, h) of a layer with the norm before them folded in, and W_O (H, h, d)."""
    if not 0 <= layer < model.config.n_layers:
        raise BadInput(f"no layer {layer}: this model has layers 0 to {model.config.n_layers - 1}")
    block = model.blocks[layer]
    before = fold_norm(block.ln1, model.config.norm, torch.eye(model.config.d_model)).detach()  # type: ignore[arg-type]
    w_q, w_k, w_v, w_o = (part.detach() for part in block.attn.head_weights())  # type: ignore[union-attr, operator]
    return before @ w_q, before @ w_k, before @ w_v, w_o


def fold_unembedding(model: ViT) -> Float[Tensor, "model label"]:
    """The head's matrix with the final norm folded in."""
    before = fold_norm(model.ln_final, model.config.norm, torch.eye(model.config.d_model))
    return (before @ model.head.weight.T).detach()


def qk_circuit(model: ViT, layer: int) -> Square:
    """W_Q W_K^T of each head, d x d, of rank h at most: what a query looks for, in the stream's coordinates."""
    w_q, w_k, _, _ = fold_head_weights(model, layer)
    return w_q @ w_k.transpose(1, 2)


def ov_circuit(model: ViT, layer: int) -> Square:
    """W_V W_O of each head, d x d, of rank h at most: what a token adds to one that attends to it."""
    _, _, w_v, w_o = fold_head_weights(model, layer)
    return w_v @ w_o


def product_eigenvalues(
    left: Float[Tensor, "*heads model feature"], right: Float[Tensor, "*heads feature to_model"]
) -> Complex[Tensor, "*heads feature"]:
    """Eigenvalues of left @ right that can be other than 0: those of right @ left, h x h. For OV: `eigenvalues(w_v, w_o)`."""
    return torch.linalg.eigvals(right.double() @ left.double())


class SingularDirections(NamedTuple):
    """W = sum over i of size_i u_i^T v_i: unit rows `read` (u) and `written` (v, or for QK the key's), largest first."""

    read: Float[Tensor, "*heads feature model"]
    size: Float[Tensor, "*heads feature"]
    written: Float[Tensor, "*heads feature to_model"]


def find_singular_directions(
    left: Float[Tensor, "*heads model feature"], right: Float[Tensor, "*heads feature to_model"]
) -> SingularDirections:
    """Singular directions of left @ right through two thin QR decompositions and an h x h one, never forming d x d."""
    (q_left, r_left), (q_right, r_right) = (
        torch.linalg.qr(left.double()),
        torch.linalg.qr(right.mT.double()),
    )
    u, size, v = torch.linalg.svd(r_left @ r_right.mT)
    return SingularDirections((q_left @ u).mT.float(), size.float(), (v @ q_right.mT).float())


def project_to_pixels(
    model: ViT, along: Float[Tensor, "*axes model"]
) -> Float[Tensor, "*axes channel height width"]:
    """Pictures of stream directions through the patch embedding: pixel p holds direction . W_E[p].

    The sum over pixels of picture times patch is how far the patch's embedding goes along the direction. Exact for the first
    layer; for later ones the path from the picture that passes no other head.
    """
    size = model.config.stated("patch_size")
    return rearrange(
        along @ model.patch.weight.detach(),
        "... (channel height width) -> ... channel height width",
        height=size,
        width=size,
    )


def compose_virtual_heads(
    model: ViT, early: int, late: int
) -> Float[Tensor, "head to_head model to_model"]:
    """W_OV^a W_OV^b for every head a of an earlier layer and b of a later one (Elhage 2021, virtual attention heads).

    What a token adds to one that b, through a, attends to: its pattern is A^b A^a.
    """
    if not early < late:
        raise BadInput(
            f"a virtual head is of an earlier layer and a later one, got {early} and {late}"
        )
    return torch.einsum("amn,bnk->abmk", ov_circuit(model, early), ov_circuit(model, late))


def split_scores(
    model: ViT, images: Float[Tensor, "image channel height width"]
) -> dict[tuple[str, str], Float[Tensor, "image head query key"]]:
    """The first layer's scores as the sum of four: each of query and key read for its `position` or its `content`.

    Content is the patch's pixels through the patch embedding; position is all else: positions, CLS and registers, biases. With
    a norm its scale stays what it is, for both parts. Without the mask; scaled by 1 / sqrt(h), as the scores are.
    """
    config, block, seen = model.config, model.blocks[0], recording({"patches"})
    with torch.no_grad():
        stream = model.embed(images, seen)
        scale = block.ln1.scale(stream) if config.norm != "none" else torch.ones(())  # type: ignore[union-attr, operator]
    content = torch.zeros_like(stream)
    content[:, config.n_prefix :] = seen.values["patches"] @ model.patch.weight.detach().T
    parts = {"position": stream - content, "content": content}
    read = {name: fold_norm(block.ln1, config.norm, part) / scale for name, part in parts.items()}  # type: ignore[arg-type]
    read["position"] = read["position"] + getattr(block.ln1, "bias", torch.zeros(()))
    w_q, w_k, _, _ = block.attn.head_weights()  # type: ignore[union-attr, operator]
    queries = {name: torch.einsum("itd,hdf->ihtf", part, w_q) for name, part in read.items()}
    keys = {name: torch.einsum("itd,hdf->ihtf", part, w_k) for name, part in read.items()}
    if config.attention_bias:
        pattern = "(part head feature) -> part head 1 feature"
        biases: Tensor = block.attn.qkv.bias  # type: ignore[union-attr, assignment]
        bias_q, bias_k, _ = rearrange(biases, pattern, part=3, head=config.n_heads)
        queries["position"], keys["position"] = (
            queries["position"] + bias_q,
            keys["position"] + bias_k,
        )
    return {
        (asks, answers): (queries[asks] @ keys[answers].mT / config.d_head**0.5).detach()
        for asks in ("position", "content")
        for answers in ("position", "content")
    }


def centre_scores(
    scores: Float[Tensor, "image head query key"], allowed: Tensor | None = None
) -> Float[Tensor, "image head query key"]:
    """Scores less their row's mean over the keys that the mask allows; 0 where it forbids. Their softmax is the pattern.

    `allowed` (query key) defaults to where the scores are not -inf.
    """
    there = scores.isfinite() if allowed is None else allowed.expand(scores.shape)
    kept = scores.masked_fill(~there, 0)
    return (kept - kept.sum(-1, keepdim=True) / there.sum(-1, keepdim=True)).masked_fill(~there, 0)
