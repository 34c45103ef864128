"""What scores of edges are made of: what senders write otherwise, and gradients by what is read.

Senders and receivers are those of `toyvit.circuits.graph`, and in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.graph import Outputs
from toyvit.model import ViT
from toyvit.model.shapes import Images
from toyvit.model.taps import Tap, recording, untouched

Gradients = Float[Tensor, "receiver image token model"]
Values = Mapping[str, Tensor]
Read = Callable[[Tensor, Tap], Tensor]  # what a norm makes of a stream

# Where receivers part: what their own weights give. The read-out's is behind the last norm.
PARTED = ("attn.q", "attn.k", "attn.v", "mlp.pre")
STREAMS = ("resid_pre", "resid_mid", "resid_post")
WRITTEN = ("attn.z", "mlp_out")


def record_pass(model: ViT, images: Images) -> dict[str, Tensor]:
    """Values of a forward pass by site, with the graph of their gradients where those are on.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> record_pass(model, torch.ones(6, 1, 8, 8))["logits"].shape
    torch.Size([6, 3])
    """
    names = (*PARTED, *STREAMS, *WRITTEN)
    sites = {f"blocks.{layer}.{name}" for layer in range(model.config.n_layers) for name in names}
    sites &= model.sites().keys()
    tap = recording(sites | {"ln_final.after_gain", "logits"}, detach=False)
    model(images.clone().requires_grad_(torch.is_grad_enabled()), tap)
    return tap.values


def form_outputs(model: ViT, values: Values) -> Outputs:
    """What every sender writes, of the values of a forward pass; linear in these.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> form_outputs(model, record_pass(model, torch.ones(6, 1, 8, 8))).shape
    torch.Size([3, 6, 5, 64])
    """
    outputs = [values["blocks.0.resid_pre"][None]]
    for layer, block in enumerate(model.layers):
        z = values[f"blocks.{layer}.attn.z"]
        outputs.append(torch.einsum("ithf,hfm->hitm", z, block.attn.head_weights().o))
        if model.config.d_mlp:
            outputs.append(values[f"blocks.{layer}.mlp_out"][None])
    return torch.cat(outputs)


def differentiate_reads(
    model: ViT, values: Values, total: Float[Tensor, ""]
) -> Iterator[tuple[slice, Gradients]]:
    """Gradients of a number by the stream as each receiver alone reads it, some at a time.

    `values` are those of `record_pass` that the number comes from. Autograd stops behind the
    receivers' own weights: one stream is enough for all of them. Each one's gradient is taken from
    there through its weights and its norm.
    """
    sites = [site for site in values if site.endswith((*PARTED, "ln_final.after_gain"))]
    gradients = torch.autograd.grad(total, [values[site] for site in sites])
    reads = _list_reads(model, values, dict(zip(sites, gradients, strict=True)))

    start = 0
    for stream, norm, gradient in reads:
        receivers = slice(start, start + len(gradient))
        start = receivers.stop
        yield receivers, _take_back(norm, stream, gradient)


@torch.no_grad()
def _list_reads(
    model: ViT, values: Values, gradients: Values
) -> list[tuple[Tensor, Read, Gradients]]:
    """Each stream that is read, its norm, and the gradients by what its receivers' norms give."""
    reads = []
    for layer, block in enumerate(model.layers):
        weights = block.attn.head_weights()
        parts = [
            torch.einsum("ithf,hmf->hitm", gradients[f"blocks.{layer}.attn.{part}"], weight)
            for part, weight in zip("qkv", weights[:3], strict=True)
        ]
        reads.append((values[f"blocks.{layer}.resid_pre"], block.ln1, torch.cat(parts)))
        if model.config.d_mlp:
            gradient = gradients[f"blocks.{layer}.mlp.pre"] @ block.mlp.up.weight
            reads.append((values[f"blocks.{layer}.resid_mid"], block.ln2, gradient[None]))
    last = values[f"blocks.{model.config.n_layers - 1}.resid_post"]
    return [*reads, (last, model.norm_last, gradients["ln_final.after_gain"][None])]


def _take_back(norm: Read, stream: Tensor, gradients: Gradients) -> Gradients:
    """Gradients by what a norm gives, taken back to the stream, one receiver after another."""
    stream = stream.detach().requires_grad_()
    normed = norm(stream, untouched)
    parts = [torch.autograd.grad(normed, stream, part, retain_graph=True)[0] for part in gradients]
    return torch.stack(parts)


def contract(gradients: Gradients, changes: Outputs) -> Float[Tensor, "image receiver sender"]:
    """Sums over tokens and width of every product of the two, image by image.

    Matrices as long as all images together take four times as long.

    >>> contract(torch.ones(2, 6, 5, 4), torch.ones(3, 6, 5, 4)).shape
    torch.Size([6, 2, 3])
    """
    return torch.bmm(gradients.flatten(2).transpose(0, 1), changes.flatten(2).permute(1, 2, 0))
