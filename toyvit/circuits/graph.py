"""The computational graph: who writes to the residual stream, who reads it, and a tap that acts on single edges.

Senders are `input` (the embedded picture with its positions), heads `a0.h1` and MLPs `m0`. Receivers are the queries, keys and
values of heads `a1.h0<k>`, MLPs `m0`, and `logits`. An edge is `sender->receiver`. Each receiver reads the sum of all
senders before it, through its norm (after Wang 2022; Conmy 2023, section 2). Output biases of attention belong to no sender.
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
from toyvit.model.forward import run_from
from toyvit.model.taps import untouched

Outputs = Float[Tensor, "sender image token model"]
EdgeMask = Float[Tensor, "receiver sender"]


@dataclass(frozen=True)
class Graph:
    """Names of senders and receivers in the order of the forward pass, how many senders come before each receiver."""

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    before: tuple[int, ...]
    receivers_per_block: int  # receivers

    @property
    def allowed(self) -> Bool[Tensor, "receiver sender"]:
        """Which pairs are edges."""
        return torch.arange(len(self.senders)) < torch.tensor(self.before)[:, None]

    @property
    def edges(self) -> tuple[str, ...]:
        return self.name_edges(self.allowed)

    def name_edges(self, edge_mask: Tensor) -> tuple[str, ...]:
        """Names of the edges at which a matrix (receiver sender) is not 0."""
        return tuple(
            f"{self.senders[sender]}->{self.receivers[receiver]}"
            for receiver, sender in edge_mask.nonzero().tolist()
        )

    def mask_edges(self, edges: Iterable[str]) -> EdgeMask:
        """The matrix with 1 at these edges and 0 elsewhere; BadInput for an edge that is not there."""
        known, edge_mask = self.edges, torch.zeros(len(self.receivers), len(self.senders))
        for edge in edges:
            if edge not in known:
                raise BadInput(
                    f"this model has no edge {edge!r}: it has {len(known)}, such as {known[0]}{suggest_nearest(edge, known)}"
                )
            sender, receiver = edge.split("->")
            edge_mask[self.receivers.index(receiver), self.senders.index(sender)] = 1
        return edge_mask

    def find_sender(self, name: str) -> int:
        if name not in self.senders:
            raise BadInput(
                f"no sender {name!r}: this model has {', '.join(self.senders)}{suggest_nearest(name, self.senders)}"
            )
        return self.senders.index(name)


@lru_cache
def build_graph(config: ModelConfig) -> Graph:
    """The graph of every model with this config."""
    senders, receivers, before = ["input"], [], []
    for layer in range(config.n_layers):
        heads = [f"a{layer}.h{head}" for head in range(config.n_heads)]
        receivers += [f"{head}<{part}>" for part in "qkv" for head in heads]
        before += [len(senders)] * (3 * config.n_heads)
        senders += heads
        if config.d_mlp:
            receivers, before = [*receivers, f"m{layer}"], [*before, len(senders)]
            senders.append(f"m{layer}")
    return Graph(
        tuple(senders),
        (*receivers, "logits"),
        (*before, len(senders)),
        len(receivers) // config.n_layers,
    )


@dataclass(frozen=True)
class NodeCache:
    """One forward pass: what every sender wrote, and the streams that enter each block and, last, the read-out."""

    outputs: Outputs
    streams: tuple[Float[Tensor, "image token model"], ...]


class EdgeTap:
    """A tap under which receivers may hear something else than the residual stream.

    `change(receivers, sent)` gives what is added to the stream as it is heard by a slice of receivers (receiver image token
    model), or None for nothing; `sent` is all that was sent so far. Afterwards `sent` holds what every sender wrote, and
    `streams` what entered each block and the read-out. For a pass that resumes at a block, `heard` is the whole one.
    """

    def __init__(
        self,
        model: ViT,
        change: Callable[[slice, Outputs], Tensor | None] = lambda receivers, outputs: None,
        cache: NodeCache | None = None,
        block: int = 0,
    ) -> None:
        self.model, self.change = model, change
        self.parts, self.streams = list[Tensor](), list[Tensor]()
        if cache:
            wires = build_graph(model.config)
            self.receiver = block * wires.receivers_per_block
            self.parts, self.stream = (
                [cache.outputs[: wires.before[self.receiver]]],
                cache.streams[block],
            )
        inputs = ["resid_pre", "q_input", "k_input", "v_input", "attn.result", "resid_post"]
        inputs += ["resid_mid", "ln2.normalized", "mlp_out"] if model.config.d_mlp else []
        layers = range(model.config.n_layers)
        self.sites = frozenset(f"blocks.{layer}.{name}" for layer in layers for name in inputs) | {
            "ln_final.normalized"
        }

    @property
    def outputs(self) -> Outputs:
        return torch.cat(self.parts)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in self.sites:
            return value
        _, layer, place = (
            ("", "-1", "logits") if site.startswith("ln_final") else site.split(".", 2)
        )
        if place in ("resid_pre", "resid_mid", "resid_post"):
            self.stream = value
            if place == "resid_pre":
                self.streams.append(value)
                if layer == "0":
                    self.parts, self.receiver = [value[None]], 0
        elif place == "attn.result":
            self.parts.append(rearrange(value, "image token head model -> head image token model"))
        elif place == "mlp_out":
            self.parts.append(value[None])
        elif place == "logits":
            self.streams.append(self.stream)
            return self.read(value, 1, self.model.ln_final)
        elif place == "ln2.normalized":
            return self.read(value, 1, self.model.blocks[int(layer)].ln2)  # type: ignore[arg-type]
        elif place.endswith("_input"):
            return self.read(value, self.model.config.n_heads, self.model.blocks[int(layer)].ln1)  # type: ignore[arg-type]
        return value

    def read(self, value: Tensor, n: int, norm: Callable[..., Tensor]) -> Tensor:
        """What the next n receivers read: `value` where nothing changes."""
        change = self.change(slice(self.receiver, self.receiver + n), self.outputs)
        self.receiver += n
        if change is None:
            return value
        stream = self.stream[:, :, None] if value.ndim == 4 else self.stream
        per_head = "head image token model -> image token head model"
        return norm(
            stream + (rearrange(change, per_head) if value.ndim == 4 else change[0]), untouched
        )


def cache_nodes(model: ViT, images: Float[Tensor, "image channel height width"]) -> NodeCache:
    """What is written and read in a forward pass."""
    tap = EdgeTap(model)
    with torch.no_grad():
        model(images, tap)
    return NodeCache(tap.outputs, tuple(tap.streams))


def edge_tap(
    model: ViT,
    edge_mask: EdgeMask,
    ablated_outputs: Tensor,
    cache: NodeCache | None = None,
    block: int = 0,
) -> EdgeTap:
    """The tap of `run_edges`, for a whole forward pass or for one that resumes at a block."""

    def change(receivers: slice, outputs: Outputs) -> Tensor | None:
        cut = 1 - edge_mask[receivers, : len(outputs)]
        return (
            torch.einsum("rs,sitm->ritm", cut, ablated_outputs[: len(outputs)] - outputs)
            if cut.any()
            else None
        )

    return EdgeTap(model, change, cache, block)


def run_edges(
    model: ViT,
    cache: NodeCache,
    edge_mask: EdgeMask,
    ablated_outputs: Float[Tensor, "sender _ _ model"],
) -> Float[Tensor, "image *patch label"]:
    """Logits where edges that are not kept (0) carry `instead` of what their sender writes.

    `instead` may be what the senders wrote on other pictures, their means, or zeros, broadcast over images and tokens. With
    all edges kept this is the plain forward pass, bit for bit; a share between 0 and 1 mixes. The forward pass resumes at the
    first block where an edge is cut.
    """
    return _rewired(model, cache, edge_mask, ablated_outputs)[0]


def _rewired(
    model: ViT, cache: NodeCache, edge_mask: EdgeMask, ablated_outputs: Tensor
) -> tuple[Tensor, Outputs]:
    """The logits of `run_edges`, and what every sender wrote on the way to them."""
    wires = build_graph(model.config)
    cut = (wires.allowed & (edge_mask != 1)).any(1)
    block = (
        int(cut.nonzero()[0, 0]) // wires.receivers_per_block
        if cut.any()
        else model.config.n_layers
    )
    tap = edge_tap(model, edge_mask, ablated_outputs, cache, block)
    logits = run_from(model, cache.streams[block], block, tap)
    return logits, tap.outputs


def patch_path(
    model: ViT,
    images: Float[Tensor, "image channel height width"],
    other: Float[Tensor, "_ channel height width"],
    path: Iterable[str],
) -> Float[Tensor, "image *patch label"]:
    """Logits where a path carries what it carries on other pictures (Wang 2022): `["a0.h0", "a1.h0<k>", "logits"]`.

    Only the second node of the path hears the first one's value on the other pictures, only the third hears what becomes of
    the second, and so on: all else hears what it would have heard. What follows the last node runs on as usual. Each hop
    resumes the forward pass at the block that hears something new.
    """
    if isinstance(path, str) or len(nodes := list(path)) < 2:
        raise BadInput(f"a path is a list of two nodes or more, got {path!r}")
    if images.shape != other.shape:
        raise BadInput(f"each picture needs one other, got {len(images)} and {len(other)}")
    wires = build_graph(model.config)
    first, cache = wires.find_sender(nodes[0]), cache_nodes(model, images)
    carried = cache.outputs.clone()
    carried[first] = cache_nodes(model, other).outputs[first]
    for source, target in pairwise(nodes):
        edge_mask = 1 - wires.mask_edges([f"{source.split('<')[0]}->{target}"])
        logits, outputs = _rewired(model, cache, edge_mask, carried)
        if target != nodes[-1]:
            here = wires.find_sender(target.split("<")[0])
            carried[here] = outputs[here]
    return logits
