"""MLPs as key-value memories (Geva 2021), and changing one by a rank-one update (Meng 2022).

A neuron's key is what fires it; its value is the row that it adds to the stream, times how much it
fires. All keys of a token together are one vector k (the neurons' activations); W k + b is what the
MLP adds. W is `down.weight`, d x n.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.errors import BadInput
from toyvit.instruments.attribution import weigh_tokens
from toyvit.instruments.weight_circuits import fold_unembedding
from toyvit.model import ViT, options
from toyvit.model.forward import run_model, trace
from toyvit.model.shapes import Images
from toyvit.model.taps import editing
from toyvit.surroundings import pin_torch

RIDGE = 1e-3  # of the mean square activation, added to C: some neurons never fire


def get_down_weight(model: ViT, layer: int) -> Float[Tensor, "model neuron"]:
    """The matrix W of a layer's MLP; BadInput where there is no such layer or no MLP.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(d_mlp=9, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> get_down_weight(ViT(config), layer=0).shape
    torch.Size([64, 9])
    """
    if not model.config.d_mlp:
        raise BadInput("this model has no MLP to edit: it needs d_mlp above 0")
    if not 0 <= layer < model.config.n_layers:
        raise BadInput(
            f"layer {layer} is not there: the layers are 0 to {model.config.n_layers - 1}"
        )
    return model.layers[layer].mlp.down.weight


@pin_torch()
def read_values(model: ViT, layer: int) -> Float[Tensor, "neuron label"]:
    """Logits, less their mean over labels, that each neuron adds where it fires 1.

    Where the head reads it, and over the final norm's scale. Exact in the last layer; in earlier
    ones the part that no later block changes.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(d_mlp=9, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> read_values(ViT(config), layer=1).shape
    torch.Size([9, 3])
    """
    logits = get_down_weight(model, layer).detach().T @ fold_unembedding(model)
    return logits - logits.mean(-1, keepdim=True)


def select_readout(
    activations: Float[Tensor, "image token neuron"], model: ViT
) -> Float[Tensor, "image neuron"]:
    """Activations at the token, or the mean of the tokens, that the head reads.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> select_readout(torch.ones(6, 5, 9), ViT(config)).shape
    torch.Size([6, 9])
    """
    return options.READOUTS[model.config.readout](activations, model.config.n_prefix)


@pin_torch()
def record_keys(model: ViT, layer: int, images: Images) -> Float[Tensor, "image token neuron"]:
    """Every token's activations in one MLP; BadInput where there is none.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(d_mlp=9, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> record_keys(ViT(config), 0, torch.ones(6, 1, 8, 8)).shape
    torch.Size([6, 5, 9])
    """
    get_down_weight(model, layer)
    site = f"blocks.{layer}.mlp.post"
    return trace(model, images, [site])[site]


def second_moment(keys: Float[Tensor, "*tokens neuron"]) -> Float[Tensor, "neuron to_neuron"]:
    """C = mean of k k^T over tokens, in double precision: the keys that an edit is to spare.

    A thousandth of its mean diagonal is added to the diagonal.

    >>> second_moment(torch.eye(2)).diagonal()
    tensor([0.5005, 0.5005], dtype=torch.float64)
    """
    flat = keys.double().flatten(0, -2)
    moment = flat.T @ flat / len(flat)
    return moment + RIDGE * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)


def update_rank_one(
    weight: Float[Tensor, "model neuron"],
    key: Float[Tensor, " neuron"],
    value: Float[Tensor, " model"],
    moment: Float[Tensor, "neuron to_neuron"],
) -> Float[Tensor, "model neuron"]:
    """W + (v* - W k*) (C^-1 k*)^T / (k*^T C^-1 k*) (Meng 2022, equation 2).

    Of all W with W k* = v* the one that moves other keys least. k* goes to v* exactly, and a key
    with k C^-1 k* = 0 stays where it was. BadInput for a key of 0.

    >>> key = torch.tensor([1.0, 0.0])
    >>> update_rank_one(torch.zeros(1, 2), key, torch.ones(1), torch.eye(2))
    tensor([[1., 0.]])
    """
    w = weight.double()
    k = key.double()
    along = torch.linalg.solve(moment.double(), k)
    if not (k @ along) > 0:
        raise BadInput("the key to edit is 0: no neuron fires, so no change of W can reach it")
    return (w + torch.outer(value.double() - w @ k, along) / (k @ along)).to(weight.dtype)


@pin_torch()
def edit_mlp(
    model: ViT,
    layer: int,
    key: Float[Tensor, " neuron"],
    value: Float[Tensor, " model"],
    moment: Float[Tensor, "neuron to_neuron"],
) -> ViT:
    """A copy of the model in which one layer's MLP adds `value`, before its bias, for `key`.

    `moment` is the `second_moment` of keys to spare. The model itself stays as it is.
    """
    changed = update_rank_one(get_down_weight(model, layer).detach(), key, value, moment)
    edited = copy.deepcopy(model)
    with torch.no_grad():
        get_down_weight(edited, layer).copy_(changed)
    return edited


@pin_torch()
def edit_randomly(model: ViT, layer: int, size: float, seed: int) -> ViT:
    """A copy with a random rank-one change of W of a given Frobenius norm.

    The null of an edit: what a change of that size does by itself.
    """
    generator = torch.Generator().manual_seed(seed)
    edited = copy.deepcopy(model)
    weight = get_down_weight(edited, layer)
    change = torch.outer(*(torch.randn(n, generator=generator) for n in weight.shape))
    with torch.no_grad():
        weight.add_(change * (size / change.norm()))
    return edited


@pin_torch()
def optimize_value(
    model: ViT,
    layer: int,
    images: Images,
    wanted: int,
    steps: int = 100,
    rate: float = 0.1,
    decay: float = 0.01,
) -> Float[Tensor, " model"]:
    """A value v* for which these pictures get the wanted class (Meng 2022, section 3.1).

    W k* plus a change found by gradient descent on the loss; `decay` times the squared change is
    added to the loss, in nats. k* is the pictures' mean key at the tokens that the head reads.
    BadInput for a class that is not there.
    """
    n_classes = model.config.stated("n_classes")
    if not 0 <= wanted < n_classes:
        raise BadInput(f"class {wanted} is not there: the classes are 0 to {n_classes - 1}")

    key = select_readout(record_keys(model, layer, images), model).mean(0)
    value = get_down_weight(model, layer).detach() @ key
    change = torch.zeros_like(value, requires_grad=True)
    is_read = weigh_tokens(model.config).any(0)[:, None].to(value.dtype)  # token, 1
    tap = editing({f"blocks.{layer}.mlp_out": lambda x: x + is_read * change})
    target = torch.full((len(images),), wanted)

    optimizer = torch.optim.Adam([change], lr=rate)
    for _ in range(steps):
        loss = F.cross_entropy(model(images, tap), target) + decay * change.square().sum()
        (change.grad,) = torch.autograd.grad(loss, [change])
        optimizer.step()
    return value + change.detach()


@pin_torch()
def evaluate_edit(
    model: ViT, edited: ViT, wanted: int, pictures: Mapping[str, Images]
) -> dict[str, float]:
    """What an edit did, each 0 to 1, for the sets of pictures `edited`, `alike` and `others`.

    Efficacy: the share of the edited pictures that now get the wanted class. Generalisation: the
    same for pictures like them. Specificity: the share of the others whose answer is what it was.
    Without an edit: about 0, about 0, and 1.
    """
    before = run_model(model, pictures["others"]).argmax(-1)
    after = {name: run_model(edited, images).argmax(-1) for name, images in pictures.items()}
    return {
        "efficacy": (after["edited"] == wanted).double().mean().item(),
        "generalisation": (after["alike"] == wanted).double().mean().item(),
        "specificity": (after["others"] == before).double().mean().item(),
    }


def average_by_class(
    activations: Float[Tensor, "image neuron"], target: Int[Tensor, " image"], n_classes: int
) -> Float[Tensor, "label neuron"]:
    """Mean activation over the pictures of each class; NaN for a class without pictures.

    >>> average_by_class(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 0]), 2).flatten()
    tensor([2., nan])
    """
    codes = F.one_hot(target, n_classes).to(activations.dtype)
    return (codes.T @ activations) / codes.sum(0)[:, None]
