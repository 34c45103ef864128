"""MLPs as key-value memories (Geva 2021), and changing one of them by a rank-one update (Meng 2022).

A neuron's key is what fires it; its value is the row that it adds to the stream, times how much it fires. All keys of a token
together are one vector k (the neurons' activations); W k + b is what the MLP adds. W is `down.weight`, d x n.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.errors import BadInput
from toyvit.instruments.weight_circuits import fold_unembedding
from toyvit.model import ViT, options
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing

RIDGE = 1e-3  # of the mean square activation, added to C: some neurons never fire


def get_down_weight(model: ViT, layer: int) -> Tensor:
    """The matrix W (model neuron) of a layer's MLP; BadInput where there is no such layer or no MLP."""
    if not model.config.d_mlp:
        raise BadInput("this model has no MLP to edit: it needs d_mlp above 0")
    if not 0 <= layer < model.config.n_layers:
        raise BadInput(
            f"layer {layer} is not there: the layers are 0 to {model.config.n_layers - 1}"
        )
    return model.blocks[layer].mlp.down.weight  # type: ignore[union-attr, return-value]


def read_values(model: ViT, layer: int) -> Float[Tensor, "neuron label"]:
    """Logits, less their mean, that each neuron adds where it fires 1 and the head reads it, but for the final norm's scale.

    Exact in the last layer; in earlier ones the part that no later block changes.
    """
    logits = get_down_weight(model, layer).detach().T @ fold_unembedding(model)
    return logits - logits.mean(-1, keepdim=True)


def select_readout(
    activations: Float[Tensor, "image token neuron"], model: ViT
) -> Float[Tensor, "image neuron"]:
    """Activations at the token, or the mean of the tokens, that the head reads."""
    return options.READOUTS[model.config.readout](activations, model.config.n_prefix)


def record_keys(model: ViT, layer: int, images: Tensor) -> Float[Tensor, "image token neuron"]:
    """Every token's activations in one MLP."""
    get_down_weight(model, layer)
    return trace(model, images, [f"blocks.{layer}.mlp.post"])[f"blocks.{layer}.mlp.post"]


def second_moment(keys: Float[Tensor, "*tokens neuron"]) -> Float[Tensor, "neuron to_neuron"]:
    """C = mean of k k^T over tokens, in double precision, plus a thousandth of its mean diagonal: what an edit is to spare."""
    flat = keys.double().flatten(0, -2)
    moment = flat.T @ flat / len(flat)
    return moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)


def update_rank_one(
    weight: Float[Tensor, "model neuron"],
    key: Float[Tensor, " neuron"],
    value: Float[Tensor, " model"],
    moment: Float[Tensor, "neuron to_neuron"],
) -> Float[Tensor, "model neuron"]:
    """W + (v* - W k*) (C^-1 k*)^T / (k*^T C^-1 k*): the W with W k* = v* that moves other keys least (Meng 2022, eq. 2).

    k* goes to v* exactly, and a key with k C^-1 k* = 0 stays where it was.
    """
    w, k = weight.double(), key.double()
    along = torch.linalg.solve(moment.double(), k)
    if not (k @ along) > 0:
        raise BadInput("the key to edit is 0: no neuron fires, so no change of W can reach it")
    return (w + torch.outer(value.double() - w @ k, along) / (k @ along)).to(weight.dtype)


def edit_mlp(model: ViT, layer: int, key: Tensor, value: Tensor, moment: Tensor) -> ViT:
    """A copy of the model in which one layer's MLP adds `value` (before its bias) for `key`; the model stays as it is."""
    changed = update_rank_one(get_down_weight(model, layer).detach(), key, value, moment)
    edited = copy.deepcopy(model)
    with torch.no_grad():
        get_down_weight(edited, layer).copy_(changed)
    return edited


def edit_randomly(model: ViT, layer: int, size: float, seed: int) -> ViT:
    """A copy with a random rank-one change of W of a given Frobenius norm: what an edit of that size does by itself."""
    generator = torch.Generator().manual_seed(seed)
    edited = copy.deepcopy(model)
    weight = get_down_weight(edited, layer)
    change = torch.outer(*(torch.randn(n, generator=generator) for n in weight.shape))
    with torch.no_grad():
        weight.add_(change * (size / change.norm()))
    return edited


def optimize_value(
    model: ViT,
    layer: int,
    images: Tensor,
    wanted: int,
    steps: int = 100,
    rate: float = 0.1,
    decay: float = 0.01,
) -> Float[Tensor, " model"]:
    """A value v* for which these pictures get the wanted class: W k* moved by gradient descent on their loss (Meng 2022, 3.1).

    k* is the pictures' mean key at the tokens that the head reads. `decay` times the squared move is added to the loss (nats).
    """
    if not 0 <= wanted < model.config.stated("n_classes"):
        raise BadInput(
            f"class {wanted} is not there: the classes are 0 to {model.config.stated('n_classes') - 1}"
        )
    now = get_down_weight(model, layer).detach() @ select_readout(
        record_keys(model, layer, images), model
    ).mean(0)
    moved = torch.zeros_like(now, requires_grad=True)
    at = torch.zeros(model.config.n_tokens, 1)
    n = model.config.n_prefix
    at[
        {"cls": slice(0, 1), "last": slice(-1, None), "mean": slice(n, None)}[model.config.readout]
    ] = 1
    tap, target = (
        editing({f"blocks.{layer}.mlp_out": lambda x: x + at * moved}),
        torch.full((len(images),), wanted),
    )
    optimizer = torch.optim.Adam([moved], lr=rate)
    for _ in range(steps):
        loss = F.cross_entropy(model(images, tap), target) + decay * moved.square().sum()
        (moved.grad,) = torch.autograd.grad(loss, [moved])
        optimizer.step()
    return now + moved.detach()


def evaluate_edit(
    model: ViT,
    edited: ViT,
    wanted: int,
    pictures: Mapping[str, Float[Tensor, "image channel height width"]],
) -> dict[str, float]:
    """What an edit did, each 0 to 1, for the sets of pictures `edited`, `alike` and `others`.

    Efficacy: the share of the edited pictures that now get the wanted class. Generalisation: the same for pictures like them.
    Specificity: the share of the others whose answer is what it was. Without an edit: about 0, about 0, and 1.
    """
    said = {
        name: (run_model(model, images).argmax(-1), run_model(edited, images).argmax(-1))
        for name, images in pictures.items()
    }
    return {
        "efficacy": (said["edited"][1] == wanted).double().mean().item(),
        "generalisation": (said["alike"][1] == wanted).double().mean().item(),
        "specificity": (said["others"][0] == said["others"][1]).double().mean().item(),
    }


def average_by_class(
    activations: Float[Tensor, "image neuron"], target: Int[Tensor, " image"], n_classes: int
) -> Float[Tensor, "label neuron"]:
    """Mean activation over the pictures of each class; NaN for a class without pictures."""
    codes = F.one_hot(target, n_classes).to(activations.dtype)
    return (codes.T @ activations) / codes.sum(0)[:, None]
