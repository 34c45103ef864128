"""Activation patching over every site, and attention knock-outs: what the answer owes to one value, or to one connection.

A patched forward pass starts at the first thing that changes: what comes before is read from a trace.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.errors import BadInput, choose
from toyvit.instruments.attribution import readout_weights
from toyvit.model import ViT
from toyvit.model.forward import run_from, run_model, trace
from toyvit.model.taps import editing, untouched

# Sites that can be patched: the axes of the result.
PATCHABLE = {
    "resid_pre": "layer token",
    "attn.q": "layer head token",
    "attn.k": "layer head token",
    "attn.v": "layer head token",
    "attn.pattern": "layer head token",  # one query's row
    "attn.z": "layer head token",
    "attn_out": "layer token",
    "resid_mid": "layer token",
    "mlp_out": "layer token",
    "resid_post": "layer token",
}
WRITTEN = (
    "attn.z",
    "attn_out",
    "resid_mid",
    "mlp_out",
    "resid_post",
)  # what changes its own token only, within a layer
DIRECTIONS = ("denoise", "noise")


def patch_activations(
    model: ViT,
    pairs: PatchingPairs,
    site: str,
    metric: str = "logit_difference",
    direction: str = "denoise",
) -> Float[Tensor, layer * place]:
    """(m_patched - m_base) / (m_other - m_base) at every layer, head and token of a site, m a mean over pairs.

    Denoising runs the corrupt pictures (base) with one value from the clean ones (other); noising the other way round
    (Heimersheim & Nanda 2024). 0: the value does nothing; 1: it alone does all that the pictures do. Axes: `PATCHABLE[site]`.
    """
    axes = PATCHABLE[choose(site, PATCHABLE, "site to patch")]
    choose(direction, DIRECTIONS, "direction")
    config = model.config
    if not config.d_mlp and site in ("resid_mid", "mlp_out"):
        raise BadInput(f"site {site!r} needs an MLP (--model.d_mlp): this model is attention-only")
    compute_metric = METRICS[choose(metric, METRICS, "metric")]
    recipient, donor = (
        (pairs.corrupt, pairs.clean) if direction == "denoise" else (pairs.clean, pairs.corrupt)
    )
    reference = run_model(model, pairs.clean)
    low, high = (
        compute_metric(run_model(model, images), pairs, reference).mean()
        for images in (recipient, donor)
    )
    sizes = [config.n_layers, *((config.n_heads,) if "head" in axes else ()), config.n_tokens]
    scores = torch.empty(sizes)
    for place, logits in iterate_patched(model, recipient, donor, site):
        scores[place] = compute_metric(logits, pairs, reference).mean()
    return (scores - low) / (high - low)


def iterate_patched(
    model: ViT, recipient: Tensor, donor: Tensor, site: str
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Logits on `base` with the site's value from `other` at one (layer, head, token) or (layer, token) after another."""
    layers, tokens = range(model.config.n_layers), range(model.config.n_tokens)
    streams = (
        ["resid_pre", "resid_mid", "resid_post"]
        if model.config.d_mlp
        else ["resid_pre", "resid_post"]
    )
    here = trace(model, recipient, [f"blocks.*.{name}" for name in {site, "attn_out", *streams}])
    there = trace(model, donor, [f"blocks.*.{site}"])
    heads = [(head,) for head in range(model.config.n_heads)] if "head" in PATCHABLE[site] else [()]
    read, last = readout_weights(model).any(0), layers[-1]
    plain = run_from(model, here[f"blocks.{last}.resid_post"], last + 1)
    for layer, head, token in product(layers, heads, tokens):
        name = f"blocks.{layer}.{site}"
        if layer == last and site in WRITTEN and not read[token]:
            yield (layer, *head, token), plain  # nobody reads what the last layer writes there
            continue
        with torch.no_grad():
            yield (
                (layer, *head, token),
                _resumed(model, here, name, _put(here[name], there[name], site, head, token)),
            )


def _put(here: Tensor, there: Tensor, site: str, head: tuple[int, ...], token: int) -> Tensor:
    """A value with one place of it from the other."""
    new = here.clone()
    place: Any = (
        (slice(None), *head, token) if site == "attn.pattern" else (slice(None), token, *head)
    )
    new[place] = there[place]
    return new


def _resumed(model: ViT, here: Mapping[str, Tensor], name: str, new: Tensor) -> Tensor:
    """Logits with a new value at one site, from the first thing that changes."""
    _, number, site = name.split(".", 2)
    layer, block = int(number), model.blocks[int(number)]
    if site == "resid_pre":
        return run_from(model, new, layer)
    if site in ("resid_post", "mlp_out"):
        after = (
            here[f"blocks.{layer}.resid_post"] + (new - here[name]) if site == "mlp_out" else new
        )
        return run_from(model, after, layer + 1)
    if site in ("attn.z", "attn_out", "resid_mid"):
        written = (
            (new - here[name]).flatten(2) @ block.attn.out.weight.T
            if site == "attn.z"
            else new - here[name]
        )  # type: ignore[union-attr, operator]
        stream = (
            here[f"blocks.{layer}.resid_pre"] + here[f"blocks.{layer}.attn_out"]
            if site != "resid_mid"
            else here[name]
        )
        return run_from(
            model, block.continue_after_attention(stream + written, untouched), layer + 1
        )  # type: ignore[operator]
    return run_from(
        model, here[f"blocks.{layer}.resid_pre"], layer, editing({name: lambda value: new})
    )


def select_tokens(model: ViT, name: str) -> Bool[Tensor, "one token"]:
    """Which tokens a word names: cls, registers, patches, all, last (where it is read); BadInput for one that is not there."""
    config, tokens = model.config, torch.zeros(1, model.config.n_tokens, dtype=torch.bool)
    places = {
        **({"cls": slice(0, 1)} if config.cls_token else {}),
        **(
            {"registers": slice(int(config.cls_token), config.n_prefix)}
            if config.n_registers
            else {}
        ),
        **({"last": slice(-1, None)} if config.readout == "last" else {}),
        **{"patches": slice(config.n_prefix, None), "all": slice(None)},
    }
    tokens[:, places[choose(name, places, "group of tokens")]] = True
    return tokens


def connect_tokens(
    queries: Bool[Tensor, "_ token"], keys: Bool[Tensor, "_ token"]
) -> Bool[Tensor, "_ token token"]:
    """All connections from a group of queries to a group of keys."""
    return queries[:, :, None] & keys[:, None]


def connect_objects(
    objects: Int[Tensor, "image patch"], n_prefix: int
) -> dict[str, Bool[Tensor, "image token token"]]:
    """Connections from patches that show an object (not 0) to patches of the same one, of other objects, of the background."""
    shown = F.pad(objects, (n_prefix, 0), value=-1)
    asks, answers = shown[:, :, None], shown[:, None]
    return {
        "itself": (asks > 0) & (answers == asks),
        "other": (asks > 0) & (answers > 0) & (answers != asks),
        "background": (asks > 0) & (answers == 0),
    }


def run_attention_knockout(
    model: ViT,
    residual: Mapping[str, Tensor],
    edges: Bool[Tensor, "_ token token"],
    layers: Collection[int],
    heads: Collection[int] | None = None,
) -> Float[Tensor, "image *patch label"]:
    """Logits where queries cannot attend to keys (attention knock-out; Geva 2023, section 4) in some layers.

    `edges` (query key) are the cut connections, for each image or for all; see `select_tokens`, `connect_tokens` and `connect_objects`. The
    rest of a query's attention is scaled to sum to 1 again, which is what a score of minus infinity does; a query with no key
    left reads nothing. Heads are all or some. `residual` is a trace with `blocks.*.resid_pre`; the forward pass resumes at the
    first of the layers.
    """
    known = range(model.config.n_layers), range(model.config.n_heads)
    for what, asked, there in (("layer", layers, known[0]), ("head", heads or (), known[1])):
        if bad := sorted(set(asked) - set(there)):
            raise BadInput(f"no {what} {bad[0]}: this model has {what}s 0 to {len(there) - 1}")
    chosen = torch.zeros(model.config.n_heads, 1, 1, dtype=torch.bool)
    chosen[list(known[1] if heads is None else heads)] = True
    cut = edges[:, None] & chosen

    def block(pattern: Tensor) -> Tensor:
        left = pattern.masked_fill(cut, 0)
        return torch.where(
            cut.any(-1, keepdim=True), left / left.sum(-1, keepdim=True).clamp(min=1e-30), pattern
        )

    if not layers:
        raise BadInput(
            f"attention is blocked in one layer or more of 0 to {model.config.n_layers - 1}, got none"
        )
    first = min(layers)
    if f"blocks.{first}.resid_pre" not in residual:
        raise BadInput(
            f"the trace lacks blocks.{first}.resid_pre, where the pass resumes: it has {', '.join(residual)}"
        )
    tap = editing({f"blocks.{layer}.attn.pattern": block for layer in layers})
    return run_from(model, residual[f"blocks.{first}.resid_pre"], first, tap)
