"""A forward pass under cut edges, node by node: another cut recomputes only what it reaches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from toyvit.circuits.gradients import form_outputs, record_pass
from toyvit.circuits.graph import EdgeMask, Graph, build_graph
from toyvit.clamps.patterns import ClampedViT
from toyvit.model import ViT
from toyvit.model.options import READ_TOKENS
from toyvit.model.shapes import Images, Logits
from toyvit.model.taps import untouched, wants

ALL = slice(None)


@dataclass(frozen=True, kw_only=True)
class CircuitPass:
    """What every node reads and writes where edges outside a mask carry `ablated_outputs`.

    `reads` holds the stream as each receiver reads it, `projected` the queries, keys and values of
    heads by receiver, `outputs` what each sender writes. Of the last layer only the token that the
    head reads is held, where it reads one: all but keys and values.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> whole = start_pass(model, torch.ones(6, 1, 8, 8), torch.zeros(3, 1, 1, 64))
    >>> whole.change_edges(whole.edge_mask.clone()).logits is whole.logits
    True
    """

    model: ViT
    ablated_outputs: Float[Tensor, "sender _ _ model"]
    edge_mask: EdgeMask
    reads: list[Tensor]
    projected: dict[int, Tensor]
    outputs: list[Tensor]
    logits: Logits

    @property
    def graph(self) -> Graph:
        return build_graph(self.model.config)

    def cut(self, receiver: int, sender: int) -> CircuitPass:
        """The pass with one more edge cut."""
        edge_mask = self.edge_mask.clone()
        edge_mask[receiver, sender] = 0
        return self.change_edges(edge_mask)

    @torch.no_grad()
    def change_edges(self, edge_mask: EdgeMask) -> CircuitPass:
        """The pass with another mask; a share between 0 and 1 mixes."""
        edge_mask = edge_mask * self.graph.allowed
        changed = (edge_mask != self.edge_mask).any(1).nonzero()
        if not len(changed):
            return self
        first = int(changed[0, 0]) // self.graph.receivers_per_block
        return _Change(self, edge_mask).run(first)


class _Change:
    """A pass on its way from one mask to another; `moved` is what senders write on top so far."""

    def __init__(self, old: CircuitPass, edge_mask: EdgeMask) -> None:
        self.model = old.model
        self.old = old
        self.edge_mask = edge_mask
        self.cut = old.edge_mask - edge_mask
        self.reads = [*old.reads]
        self.projected = dict(old.projected)
        self.outputs = [*old.outputs]
        self.moved: dict[int, Tensor] = {}

    def run(self, first: int) -> CircuitPass:
        """The new pass; layers before `first` are as they were."""
        config = self.model.config
        for layer in range(first, config.n_layers):
            self.attend(layer)
            if config.d_mlp:
                self.run_mlp(layer)

        last = len(self.reads) - 1
        logits = self.old.logits
        if self.reread([last], read_rows(self.model)):
            logits = self.model.unembed(self.reads[last])
        return replace(
            self.old,
            edge_mask=self.edge_mask,
            reads=self.reads,
            projected=self.projected,
            outputs=self.outputs,
            logits=logits,
        )

    def attend(self, layer: int) -> None:
        """The heads of a layer of which a query, a key or a value changes."""
        n_heads = self.model.config.n_heads
        start = layer * self.old.graph.receivers_per_block
        receivers = range(start, start + 3 * n_heads)
        rows = rows_of(self.model, layer)
        changed = self.reread(receivers[:n_heads], rows) + self.reread(receivers[n_heads:], ALL)

        for receiver in changed:
            self.project(layer, receiver, receiver - start)

        attention = self.model.layers[layer].attn
        mask = self.model.mask[..., rows, :]
        sender = self.old.graph.before[start]
        out = attention.head_weights().o
        for head in sorted({(receiver - start) % n_heads for receiver in changed}):
            q, k, v = (self.projected[receiver] for receiver in receivers[head::n_heads])
            scale = 1 / math.sqrt(attention.d_head)
            if attention.rotation is not None:
                q = attention.rotation(q, rows)
                k = attention.rotation(k)
            scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale)
            if attention.relative is not None:
                scores = scores + attention.relative()[head, rows]
            pattern = self._clamp(layer, head, rows, scores.softmax(-1))
            self.write(sender + head, torch.bmm(pattern, v) @ out[head])

    def project(self, layer: int, receiver: int, place: int) -> None:
        """A head's queries, keys or values, at their place in the packed matrix."""
        block = self.model.layers[layer]
        width = block.attn.d_head
        columns = slice(place * width, (place + 1) * width)
        bias = None if block.attn.qkv.bias is None else block.attn.qkv.bias[columns]
        normed = block.ln1(self.reads[receiver], untouched)
        self.projected[receiver] = F.linear(normed, block.attn.qkv.weight[columns], bias)

    def _clamp(self, layer: int, head: int, rows: slice, pattern: Tensor) -> Tensor:
        """A head's pattern as the model's clamps leave it, where there are any."""
        site = f"blocks.{layer}.attn.pattern"
        if not isinstance(self.model, ClampedViT) or not wants(self.model.clamp_tap, site):
            return pattern
        whole = pattern.new_zeros(len(pattern), self.model.config.n_heads, *pattern.shape[-1:] * 2)
        whole[:, head, rows] = pattern
        return self.model.clamp_tap(site, whole)[:, head, rows]

    def run_mlp(self, layer: int) -> None:
        """The MLP of a layer, where it reads something else."""
        receiver = (layer + 1) * self.old.graph.receivers_per_block - 1
        if self.reread([receiver], rows_of(self.model, layer)):
            block = self.model.layers[layer]
            normed = block.ln2(self.reads[receiver], untouched)
            self.write(self.old.graph.before[receiver], block.mlp(normed, untouched))

    def write(self, sender: int, output: Tensor) -> None:
        """Take note of what a sender writes now."""
        self.moved[sender] = output - self.outputs[sender]
        self.outputs[sender] = output

    def reread(self, receivers: Iterable[int], rows: slice) -> list[int]:
        """Those of some receivers that read something else, and `reads` of these brought up."""
        receivers = list(receivers)
        cut = self.cut[receivers]
        senders = cut.any(0).nonzero().flatten().tolist()
        changes = [self._ablate(sender, rows) for sender in senders]
        changes += [change[:, rows] for change in self.moved.values()]
        if not changes:
            return []

        uncut = self.edge_mask[receivers][:, list(self.moved)]
        shares = torch.cat([cut[:, senders], uncut], 1)
        places = shares.any(1).nonzero().flatten().tolist()
        if not places:
            return []
        added = torch.einsum("rs,sitm->ritm", shares[places], torch.stack(changes))
        changed = [receivers[place] for place in places]
        for receiver, change in zip(changed, added, strict=True):
            self.reads[receiver] = self.reads[receiver] + change
        return changed

    def _ablate(self, sender: int, rows: slice) -> Tensor:
        """What comes on top of a sender's own output where its edge is cut."""
        own = self.old.outputs[sender]
        return self.old.ablated_outputs[sender][:, rows] - own[:, rows]


def read_rows(model: ViT) -> slice:
    """The tokens of the last stream that reach the logits: the one that the head reads, or all."""
    token = READ_TOKENS.get(model.config.readout)
    if token is None:
        return ALL
    return slice(token, token + 1 or None)


def rows_of(model: ViT, layer: int) -> slice:
    """The tokens of which a layer's queries and outputs are needed."""
    return read_rows(model) if layer == model.config.n_layers - 1 else ALL


@torch.no_grad()
def start_pass(
    model: ViT, images: Images, ablated_outputs: Float[Tensor, "sender _ _ model"]
) -> CircuitPass:
    """The plain forward pass, with no edge cut.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> whole = start_pass(model, torch.ones(6, 1, 8, 8), torch.zeros(3, 1, 1, 64))
    >>> whole.cut(receiver=6, sender=0).edge_mask.sum()
    tensor(11.)
    """
    config = model.config
    values = record_pass(model, images)
    reads: list[Tensor] = []
    projected: dict[int, Tensor] = {}
    for layer in range(config.n_layers):
        rows = rows_of(model, layer)
        stream = values[f"blocks.{layer}.resid_pre"]
        for part in "qkv":
            tokens = rows if part == "q" else ALL
            for value in values[f"blocks.{layer}.attn.{part}"].unbind(2):
                projected[len(reads)] = value[:, tokens]
                reads.append(stream[:, tokens])
        if config.d_mlp:
            reads.append(values[f"blocks.{layer}.resid_mid"][:, rows])

    reads.append(values[f"blocks.{config.n_layers - 1}.resid_post"][:, read_rows(model)])
    outputs = form_outputs(model, values)
    n_late = config.n_heads + bool(config.d_mlp)
    return CircuitPass(
        model=model,
        ablated_outputs=ablated_outputs,
        edge_mask=build_graph(config).allowed.float(),
        reads=reads,
        projected=projected,
        outputs=[*outputs[:-n_late], *outputs[-n_late:, :, read_rows(model)]],
        logits=values["logits"],
    )
