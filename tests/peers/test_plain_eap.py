"""Edge attribution patching against a plain re-implementation: one forward pass, autograd, no taps.

Each receiver is given the stream plus zeros of its own; what the metric's gradient by these zeros
is, times what each sender writes otherwise on the corrupt pictures, is the score. Equal to 1e-5 of
the largest score.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from tests.laws.models import BASE, build, noise, pictures
from toyvit.circuits.edges import eap
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import PatchingPairs
from toyvit.config import ModelConfig

TOLERANCE = 1e-5
CASES = {
    "attention and MLP": BASE,
    "attention alone, causal": ModelConfig(
        **{**vars(BASE), "d_mlp": 0, "mask": "causal", "cls_token": False, "readout": "last"}
    ),
}


def normalize(x, norm):
    return F.layer_norm(x, norm.gain.shape, norm.gain, norm.bias, norm.epsilon)


class Plain:
    """A forward pass that notes what each sender writes and lets each receiver be nudged."""

    def __init__(self, model, images):
        self.model = model
        self.written = {}
        self.nudges = {}
        x = model.embed(images).detach()
        self.written["input"] = x
        for layer, block in enumerate(model.layers):
            x = x + self.attend(layer, block.attn, block.ln1, x)
            if model.config.d_mlp:
                read = normalize(self.nudge(f"m{layer}", x), block.ln2)
                x = x + self.note(
                    f"m{layer}", block.mlp.down(block.mlp.activation(block.mlp.up(read)))
                )
        x = normalize(self.nudge("logits", x), model.ln_final)
        read = -1 if model.config.readout == "last" else 0
        self.logits = model.head(x[:, read])

    def nudge(self, receiver, x):
        self.nudges[receiver] = torch.zeros_like(x, requires_grad=True)
        return x + self.nudges[receiver]

    def note(self, sender, value):
        self.written[sender] = value.detach()
        return value

    def attend(self, layer, attention, norm, x):
        total = 0 if attention.out.bias is None else attention.out.bias
        for head in range(attention.n_heads):
            total = total + self.run_head(f"a{layer}.h{head}", head, attention, norm, x)
        return total

    def run_head(self, name, head, attention, norm, x):
        width = attention.d_head
        parts = []
        for part, letter in enumerate("qkv"):
            read = normalize(self.nudge(f"{name}<{letter}>", x), norm)
            start = part * x.shape[-1] + head * width
            rows = slice(start, start + width)
            bias = None if attention.qkv.bias is None else attention.qkv.bias[rows]
            parts.append(F.linear(read, attention.qkv.weight[rows], bias))
        q, k, v = parts
        scores = q @ k.transpose(1, 2) / math.sqrt(width) + self.model.mask
        columns = slice(head * width, (head + 1) * width)
        written = scores.softmax(-1) @ v @ attention.out.weight[:, columns].T
        return self.note(name, written)


def score_plainly(model, pairs, shares):
    """Scores by (sender, receiver), gradients averaged over these shares of the way to corrupt."""
    rows = torch.arange(len(pairs.clean))
    clean = Plain(model, pairs.clean).written
    corrupt = Plain(model, pairs.corrupt).written
    scores = {}
    for share in shares:
        plain = Plain(model, pairs.clean + share * (pairs.corrupt - pairs.clean))
        difference = plain.logits[rows, pairs.answer] - plain.logits[rows, pairs.foil]
        gradients = torch.autograd.grad(
            difference.mean(), list(plain.nudges.values()), allow_unused=True
        )
        for receiver, gradient in zip(plain.nudges, gradients, strict=True):
            for sender in clean:
                change = corrupt[sender] - clean[sender]
                part = 0.0 if gradient is None else (change * gradient).sum().item()
                total = scores.get((sender, receiver), 0.0)
                scores[sender, receiver] = total + part / len(shares)
    return scores


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("points", "end", "shares"),
    [
        (1, "clean", [0]),
        (4, "clean", [0, 1 / 4, 2 / 4, 3 / 4]),
        (4, "corrupt", [1 / 4, 2 / 4, 3 / 4, 1]),
        (2, "middle", [1 / 4, 3 / 4]),
    ],
)
def test_every_edge_has_the_score_of_the_plain_implementation(case, points, end, shares):
    config = CASES[case]
    model = build(config)
    images = pictures(config, 6)
    answer = torch.arange(6) % config.n_classes
    pairs = PatchingPairs(images, noise(images), answer, (answer + 1) % config.n_classes)

    scores = eap(model, pairs, points=points, end=end)
    plain = score_plainly(model, pairs, shares)
    graph = build_graph(config)
    largest = scores.abs().max().item()
    assert largest > 0
    for receiver, sender in graph.allowed.nonzero().tolist():
        name = graph.senders[sender], graph.receivers[receiver]
        assert abs(scores[receiver, sender].item() - plain[name]) < TOLERANCE * largest, name
