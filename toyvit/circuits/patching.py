"""Activation patching over every site, and attention knock-outs.

What the answer owes to one value, or to one connection. A patched forward pass starts at the first
thing that changes: what comes before is read from a trace.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.circuits.patched_places import PATCHABLE, iterate_patched
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.forward import run_from, run_model
from toyvit.model.shapes import Logits
from toyvit.model.taps import editing
from toyvit.surroundings import pin_torch

DIRECTIONS = ("denoise", "noise")


@pin_torch()
def patch_activations(
    model: ViT,
    pairs: PatchingPairs,
    site: str,
    metric: str = "logit_difference",
    direction: str = "denoise",
) -> Float[Tensor, " layer *place"]:
    """(m_patched - m_recipient) / (m_donor - m_recipient) at every place of a site.

    m is a mean over pairs; axes: `PATCHABLE[site]`. Denoising runs the corrupt pictures (the
    recipients) with one value from the clean ones (the donors); noising the other way round
    (Heimersheim & Nanda 2024). 0: the value does nothing; 1: it alone does all that the pictures
    do; NaN where the two pictures of every pair have the same metric. BadInput for a site, metric
    or direction that is not there.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> patch_activations(model, pairs, "resid_post")[1].round(decimals=3).abs()
    tensor([1., 0., 0., 0., 0.])
    """
    choose(site, PATCHABLE, "site to patch")
    choose(direction, DIRECTIONS, "direction")
    if not model.config.d_mlp and site in ("resid_mid", "mlp_out"):
        raise BadInput(f"site {site!r} needs an MLP (--model.d_mlp): this model is attention-only")

    compute_metric = METRICS[choose(metric, METRICS, "metric")]
    reference = run_model(model, pairs.clean)
    images = pairs if direction == "denoise" else pairs.swap()  # recipient: corrupt, donor: clean
    low = compute_metric(run_model(model, images.corrupt), pairs, reference).mean()
    high = compute_metric(run_model(model, images.clean), pairs, reference).mean()

    scores = torch.empty(_shape_of_result(model, site))
    for indices, logits in iterate_patched(model, images.corrupt, images.clean, site):
        scores[indices] = compute_metric(logits, pairs, reference).mean()
    return (scores - low) / (high - low)


def _shape_of_result(model: ViT, site: str) -> list[int]:
    config = model.config
    sizes = {"layer": config.n_layers, "head": config.n_heads, "token": config.n_tokens}
    return [sizes[axis] for axis in PATCHABLE[site].split()]


def select_tokens(model: ViT, name: str) -> Bool[Tensor, "1 token"]:
    """Which tokens a word names, True at those.

    Words: cls, registers, patches, all, last (where it is read); BadInput for one that the model
    does not have.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(4, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> select_tokens(model, "patches")
    tensor([[False,  True,  True]])
    """
    config = model.config
    groups = {"patches": slice(config.n_prefix, None), "all": slice(None)}
    if config.readout == "last":
        groups = {"last": slice(-1, None)} | groups
    if config.n_registers:
        groups = {"registers": slice(int(config.cls_token), config.n_prefix)} | groups
    if config.cls_token:
        groups = {"cls": slice(0, 1)} | groups

    tokens = torch.zeros(1, config.n_tokens, dtype=torch.bool)
    tokens[:, groups[choose(name, groups, "group of tokens")]] = True
    return tokens


def connect_tokens(
    queries: Bool[Tensor, "_ token"], keys: Bool[Tensor, "_ token"]
) -> Bool[Tensor, "_ token token"]:
    """All connections from a group of queries to a group of keys, (image query key).

    >>> everyone = torch.ones(1, 3, dtype=torch.bool)
    >>> connect_tokens(everyone, everyone).sum()
    tensor(9)
    """
    return queries[:, :, None] & keys[:, None]


def connect_objects(
    objects: Int[Tensor, "image patch"], n_prefix: int
) -> dict[str, Bool[Tensor, "image token token"]]:
    """Connections from patches that show an object to others, by what those show.

    `objects` numbers the object that a patch shows, 0 for the background. Keys: `itself`, the same
    object; `other`, another one; `background`.

    >>> edges = connect_objects(torch.tensor([[1, 1, 2, 0]]), n_prefix=1)
    >>> {name: int(edge.sum()) for name, edge in edges.items()}
    {'itself': 5, 'other': 4, 'background': 3}
    """
    numbers = F.pad(objects, (n_prefix, 0), value=-1)
    query = numbers[:, :, None]
    key = numbers[:, None]
    return {
        "itself": (query > 0) & (key == query),
        "other": (query > 0) & (key > 0) & (key != query),
        "background": (query > 0) & (key == 0),
    }


def forbid_edges(
    pattern: Float[Tensor, "image head query key"], cut: Bool[Tensor, "_ head query key"]
) -> Float[Tensor, "image head query key"]:
    """A pattern without some connections, what is left of each query's scaled to sum to 1.

    >>> forbid_edges(torch.full((1, 1, 1, 4), 0.25), torch.tensor([[[[True, True, False, False]]]]))
    tensor([[[[0.0000, 0.0000, 0.5000, 0.5000]]]])
    """
    left = pattern.masked_fill(cut, 0)
    rescaled = left / left.sum(-1, keepdim=True).clamp(min=1e-30)
    return torch.where(cut.any(-1, keepdim=True), rescaled, pattern)


@pin_torch()
def run_attention_knockout(
    model: ViT,
    residual: Mapping[str, Tensor],
    edges: Bool[Tensor, "_ token token"],
    layers: Collection[int],
    heads: Collection[int] | None = None,
) -> Logits:
    """Logits where queries cannot attend to keys in some layers (Geva 2023, section 4).

    `edges` (query key) are the cut connections, for each image or for all; see `select_tokens`,
    `connect_tokens` and `connect_objects`. The rest of a query's attention is scaled to sum to 1
    again, which is what a score of minus infinity does; a query with no key left reads nothing.
    Heads are all or some. `residual` is a trace with `blocks.*.resid_pre`; the forward pass starts
    at the first of the layers. BadInput for layers or heads that are not there.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model.forward import trace
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> cls, patches = (select_tokens(model, name) for name in ("cls", "patches"))
    >>> cache = trace(model, torch.ones(6, 1, 8, 8))
    >>> run_attention_knockout(model, cache, connect_tokens(cls, patches), layers=[0, 1]).shape
    torch.Size([6, 3])
    """
    _check_indices("layer", layers, model.config.n_layers)
    _check_indices("head", heads or (), model.config.n_heads)
    if not layers:
        raise BadInput(
            "attention is blocked in one layer or more of 0 to"
            f" {model.config.n_layers - 1}, got none"
        )
    site = f"blocks.{min(layers)}.resid_pre"
    if site not in residual:
        raise BadInput(
            f"the trace lacks {site}, where the pass resumes: it has {', '.join(residual)}"
        )

    is_cut_head = torch.zeros(model.config.n_heads, 1, 1, dtype=torch.bool)
    is_cut_head[slice(None) if heads is None else list(heads)] = True
    cut = edges[:, None] & is_cut_head

    block = partial(forbid_edges, cut=cut)
    tap = editing({f"blocks.{layer}.attn.pattern": block for layer in layers})
    return run_from(model, residual[site], min(layers), tap)


def _check_indices(what: str, indices: Collection[int], n: int) -> None:
    """BadInput for a layer or a head that is not there."""
    absent = sorted(set(indices) - set(range(n)))
    if absent:
        raise BadInput(f"no {what} {absent[0]}: this model has {what}s 0 to {n - 1}")
