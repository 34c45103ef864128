"""The computational graph: who writes to the residual stream, who reads it, and taps on its edges.

Senders are `input` (the embedded picture with its positions), heads `a0.h1` and MLPs `m0`.
Receivers are the queries, keys and values of heads `a1.h0<k>`, MLPs `m0`, and `logits`. An edge is
`sender->receiver`. Each receiver reads the sum of all senders before it, through its norm (after
Wang 2022; Conmy 2023, section 2). Output biases of attention belong to no sender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, suggest_nearest
from toyvit.model import ViT
from toyvit.model.forward import run_from, run_model
from toyvit.model.shapes import Images, Logits, Residual
from toyvit.model.taps import Tap, untouched
from toyvit.surroundings import pin_torch

Outputs = Float[Tensor, "sender image token model"]
EdgeMask = Float[Tensor, "receiver sender"]
Change = Callable[[slice, Outputs], Tensor | None]


@dataclass(frozen=True)
class Graph:
    """Names of senders and receivers in the order of the forward pass.

    `before` is the number of senders that come before each receiver, `receivers_per_block` the
    number of receivers in each block.

    >>> graph = build_graph(ModelConfig(n_layers=1))
    >>> graph.senders, graph.receivers
    (('input', 'a0.h0'), ('a0.h0<q>', 'a0.h0<k>', 'a0.h0<v>', 'logits'))
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    before: tuple[int, ...]
    receivers_per_block: int

    @property
    def allowed(self) -> Bool[Tensor, "receiver sender"]:
        """Which pairs are edges."""
        return torch.arange(len(self.senders)) < torch.tensor(self.before)[:, None]

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of all edges."""
        return self.name_edges(self.allowed)

    def name_edges(self, edge_mask: Tensor) -> tuple[str, ...]:
        """Names of the edges at which a matrix (receiver sender) is not 0."""
        return tuple(
            f"{self.senders[sender]}->{self.receivers[receiver]}"
            for receiver, sender in edge_mask.nonzero().tolist()
        )

    def mask_edges(self, edges: Iterable[str]) -> EdgeMask:
        """1 at these edges and 0 elsewhere; BadInput for an edge that is not there."""
        every_edge = self.edges
        edge_mask = torch.zeros(len(self.receivers), len(self.senders))
        for edge in edges:
            if edge not in every_edge:
                raise BadInput(
                    f"this model has no edge {edge!r}: it has {len(every_edge)},"
                    f" such as {every_edge[0]}{suggest_nearest(edge, every_edge)}"
                )
            sender, receiver = edge.split("->")
            edge_mask[self.receivers.index(receiver), self.senders.index(sender)] = 1
        return edge_mask

    def find_sender(self, name: str) -> int:
        """A sender's index; BadInput for one that is not there."""
        if name not in self.senders:
            raise BadInput(
                f"no sender {name!r}: this model has {', '.join(self.senders)}"
                f"{suggest_nearest(name, self.senders)}"
            )
        return self.senders.index(name)


@lru_cache
@pin_torch()
def build_graph(config: ModelConfig) -> Graph:
    """The graph of every model with this config.

    >>> len(build_graph(ModelConfig(n_layers=2, n_heads=4)).edges)
    81
    """
    senders = ["input"]
    receivers: list[str] = []
    before: list[int] = []
    for layer in range(config.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(config.n_heads)]
        for part in "qkv":
            receivers += [f"{head}<{part}>" for head in heads]
        before += [len(senders)] * (3 * config.n_heads)
        senders += heads

        if config.d_mlp:
            receivers.append(f"m{layer}")
            before.append(len(senders))
            senders.append(f"m{layer}")

    per_block = len(receivers) // config.n_layers
    return Graph(tuple(senders), (*receivers, "logits"), (*before, len(senders)), per_block)


@dataclass(frozen=True)
class NodeCache:
    """One forward pass: what every sender wrote, and the residual streams.

    `streams` are those that enter each block and, last, the read-out.
    """

    outputs: Outputs
    streams: tuple[Residual, ...]


class EdgeTap:
    """A tap under which receivers may read something else than the residual stream.

    `change(receivers, outputs)` gives what is added to the stream as a slice of receivers reads it
    (receiver image token model), or None for nothing; `outputs` is all that was sent so far. It
    only records where there is no `change`. Afterwards `outputs` holds what every sender wrote, and
    `streams` what entered each block and the read-out. For a pass that starts at a later block,
    `cache` is a whole one.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> tap = EdgeTap(model)
    >>> logits = model(torch.ones(6, 1, 8, 8), tap)
    >>> tap.outputs.shape
    torch.Size([3, 6, 5, 64])
    """

    def __init__(
        self,
        model: ViT,
        change: Change | None = None,
        cache: NodeCache | None = None,
        block: int = 0,
    ) -> None:
        self.model = model
        self.change = change
        self.parts = list[Tensor]()
        self.streams = list[Tensor]()
        self.sites = _list_edge_sites(model.config)
        if cache:
            graph = build_graph(model.config)
            self.receiver = block * graph.receivers_per_block
            self.parts = [cache.outputs[: graph.before[self.receiver]]]
            self.stream = cache.streams[block]

    @property
    def outputs(self) -> Outputs:
        """What the senders wrote so far."""
        return torch.cat(self.parts)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in self.sites:
            return value
        if site == "ln_final.after_gain":
            self.streams.append(self.stream)
            return self.read(value, 1, self.model.norm_last)

        _, number, place = site.split(".", 2)
        block = self.model.layers[int(number)]
        if place.endswith("_input"):
            return self.read(value, self.model.config.n_heads, block.ln1)
        if place == "ln2.after_gain":
            return self.read(value, 1, block.ln2)

        self._record(int(number), place, value)
        return value

    def _record(self, layer: int, place: str, value: Tensor) -> None:
        """Take note of the stream, or of what a sender writes to it."""
        if place == "attn.result":
            self.parts.append(rearrange(value, "image token head model -> head image token model"))
        elif place == "mlp_out":
            self.parts.append(value[None])
        else:
            self.stream = value
        if place == "resid_pre":
            self.streams.append(value)
            if layer == 0:
                self.parts = [value[None]]
                self.receiver = 0

    def read(self, value: Tensor, n: int, norm: Callable[[Tensor, Tap], Tensor]) -> Tensor:
        """What the next n receivers read: `value` where nothing changes."""
        receivers = slice(self.receiver, self.receiver + n)
        self.receiver += n
        change = self.change(receivers, self.outputs) if self.change else None
        if change is None:
            return value
        if value.ndim == 3:
            return norm(self.stream + change[0], untouched)

        per_head = rearrange(change, "head image token model -> image token head model")
        return norm(self.stream[:, :, None] + per_head, untouched)


def _list_edge_sites(config: ModelConfig) -> frozenset[str]:
    """The sites at which senders write and receivers read, and the streams between."""
    places = ["resid_pre", "q_input", "k_input", "v_input", "attn.result", "resid_post"]
    places += ["resid_mid", "ln2.after_gain", "mlp_out"] if config.d_mlp else []
    sites = {"ln_final.after_gain"}
    for layer in range(config.n_layers):
        sites |= {f"blocks.{layer}.{place}" for place in places}
    return frozenset(sites)


@pin_torch()
def cache_nodes(model: ViT, images: Images) -> NodeCache:
    """What is written and read in a forward pass, without gradients.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> cache = cache_nodes(ViT(config), torch.ones(6, 1, 8, 8))
    >>> cache.outputs.shape, len(cache.streams)
    (torch.Size([3, 6, 5, 64]), 3)
    """
    tap = EdgeTap(model)
    run_model(model, images, tap)
    return NodeCache(tap.outputs, tuple(tap.streams))


def edge_tap(
    model: ViT,
    edge_mask: EdgeMask,
    ablated_outputs: Float[Tensor, "sender _ _ model"],
    cache: NodeCache | None = None,
    block: int = 0,
) -> EdgeTap:
    """The tap of `run_edges`, for a whole forward pass or for one that starts at a block."""

    def ablate(receivers: slice, outputs: Outputs) -> Tensor | None:
        n = len(outputs)
        cut = 1 - edge_mask[receivers, :n]
        if not cut.any():
            return None
        return torch.einsum("rs,sitm->ritm", cut, ablated_outputs[:n] - outputs)

    return EdgeTap(model, ablate, cache, block)


@pin_torch()
def run_edges(
    model: ViT,
    cache: NodeCache,
    edge_mask: EdgeMask,
    ablated_outputs: Float[Tensor, "sender _ _ model"],
) -> Logits:
    """Logits where edges outside the mask (0) carry `ablated_outputs` and not their sender's own.

    Those may be what the senders wrote on other pictures, their means, or zeros, broadcast over
    images and tokens. With a mask of 1 this is the plain forward pass, bit for bit; a share between
    0 and 1 mixes. The forward pass starts at the first block where an edge is cut.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> cache = cache_nodes(model, torch.ones(6, 1, 8, 8))
    >>> edge_mask = build_graph(config).mask_edges(["input->logits"])
    >>> run_edges(model, cache, edge_mask, torch.zeros(3, 1, 1, 64)).shape
    torch.Size([6, 3])
    """
    logits, _ = _run_edges_and_cache(model, cache, edge_mask, ablated_outputs)
    return logits


def _run_edges_and_cache(
    model: ViT, cache: NodeCache, edge_mask: EdgeMask, ablated_outputs: Tensor
) -> tuple[Logits, Outputs]:
    """The logits of `run_edges`, and what every sender wrote on the way to them."""
    graph = build_graph(model.config)
    cut = (graph.allowed & (edge_mask != 1)).any(1)
    block = model.config.n_layers
    if cut.any():
        block = int(cut.nonzero()[0, 0]) // graph.receivers_per_block

    tap = edge_tap(model, edge_mask, ablated_outputs, cache, block)
    logits = run_from(model, cache.streams[block], block, tap)
    return logits, tap.outputs


@pin_torch()
def patch_path(
    model: ViT,
    images: Images,
    other: Float[Tensor, "_ channel height width"],
    path: Iterable[str],
) -> Logits:
    """Logits where a path carries what it carries on other pictures (Wang 2022).

    `path` is a list such as ["a0.h0", "a1.h0<k>", "logits"]. Only the second node reads the first
    one's value on the other pictures, only the third reads what becomes of the second, and so on:
    all else reads what it would have read. What follows the last node runs on as usual. Each hop
    starts the forward pass at the block that reads something new. BadInput for a path of less than
    two nodes, for an edge that is not there, and for other pictures of another shape.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> images = torch.ones(2, 6, 1, 8, 8)
    >>> patch_path(ViT(config), images[0], images[1], ["a0.h0", "a1.h0<k>", "logits"]).shape
    torch.Size([6, 3])
    """
    if isinstance(path, str) or len(nodes := list(path)) < 2:
        raise BadInput(f"a path is a list of two nodes or more, got {path!r}")
    if images.shape != other.shape:
        raise BadInput(f"each picture needs one other, got {len(images)} and {len(other)}")

    graph = build_graph(model.config)
    first = graph.find_sender(nodes[0])
    cache = cache_nodes(model, images)
    carried = cache.outputs.clone()
    carried[first] = cache_nodes(model, other).outputs[first]
    for source, target in pairwise(nodes):
        edge_mask = 1 - graph.mask_edges([f"{source.split('<')[0]}->{target}"])
        logits, outputs = _run_edges_and_cache(model, cache, edge_mask, carried)
        if target != nodes[-1]:
            here = graph.find_sender(target.split("<")[0])
            carried[here] = outputs[here]
    return logits
