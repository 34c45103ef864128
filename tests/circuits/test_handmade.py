"""The hand-built models do what they say, and have exactly the edges that they name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.handmade import Handmade, half_ignored, induction_head, two_hop_pointer
from tests.laws.models import mark_slow
from toyvit.analyses import ANALYSES
from toyvit.config import InductionConfig, PointersConfig
from toyvit.data.task import accuracy
from toyvit.model import ViT
from toyvit.model.forward import ablate_heads, run_model, trace
from toyvit.model.taps import editing

SHAPES = {
    "bare": {},
    "causal": {"mask": "causal"},
    "CLS and registers": {"cls_token": True, "n_registers": 2},
    "causal, registers, idle heads, MLP": {
        "mask": "causal",
        "n_registers": 1,
        "n_idle": 2,
        "d_mlp": 8,
    },
    "idle head, CLS": {"cls_token": True, "n_idle": 1},
    "layer norm": {"norm": "layer", "cls_token": True},
    "RMS norm, causal, MLP": {"norm": "rms", "mask": "causal", "d_mlp": 8, "n_idle": 1},
}
INDUCTION = {
    name: lambda options=options: induction_head(**options) for name, options in SHAPES.items()
} | {
    "4 x 4, the first cell blank": lambda: induction_head(
        InductionConfig(rows=4, columns=4, n_items=12, n_labels=6, noise=0)
    ),
    "4 x 4, causal": lambda: induction_head(
        InductionConfig(rows=4, columns=4, n_items=12, n_labels=6, noise=0), mask="causal"
    ),
}
POINTERS = {
    "bare": lambda: two_hop_pointer(),
    "causal, registers, idle heads": lambda: two_hop_pointer(
        mask="causal", n_registers=2, n_idle=1
    ),
    "layer norm": lambda: two_hop_pointer(norm="layer", n_registers=1),
    "MLP": lambda: two_hop_pointer(
        PointersConfig(hops=2, n_values=6, rows=3, columns=3, noise=0), d_mlp=8
    ),
}
HALVES = {
    "two layers": lambda: half_ignored(),
    "one layer": lambda: half_ignored(n_layers=1),
    "MLP": lambda: half_ignored(d_mlp=16, n_heads=2),
}
ALL = {
    f"{kind}, {name}": make
    for kind, table in (("induction", INDUCTION), ("pointers", POINTERS), ("half", HALVES))
    for name, make in table.items()
}
every_model = pytest.mark.parametrize("name", ALL)


def nodes(model: ViT) -> dict[str, float]:
    """Senders and where they stand in the forward pass."""
    found = {"input": -1.0}
    for layer in range(model.config.n_layers):
        found |= {f"a{layer}.h{head}": float(layer) for head in range(model.config.n_heads)}
        found |= {f"m{layer}": layer + 0.5} if model.config.d_mlp else {}
    return found


def every_edge(model: ViT) -> list[tuple[str, str, str]]:
    """All (sender, receiver, part) of the graph."""
    edges = [(sender, "logits", "") for sender in nodes(model)]
    for receiver, late in nodes(model).items():
        parts = {"a": "qkv", "m": ["all"], "i": ""}[receiver[0]]
        edges += [
            (sender, receiver, part)
            for sender, early in nodes(model).items()
            if early < late
            for part in parts
        ]
    return edges


def words(model: ViT, images: Tensor) -> dict[str, Tensor]:
    """What each sender adds to the stream, in a run on these pictures."""
    seen = trace(model, images)
    out = {"input": seen["blocks.0.resid_pre"]}
    for layer in range(model.config.n_layers):
        results = seen[f"blocks.{layer}.attn.result"]
        out |= {f"a{layer}.h{head}": results[:, :, head] for head in range(model.config.n_heads)}
        out |= {f"m{layer}": seen[f"blocks.{layer}.mlp_out"]} if model.config.d_mlp else {}
    return out


def without_edge(model: ViT, images: Tensor, receiver: str, part: str, change: Tensor) -> Tensor:
    """Logits when one receiver alone reads `change` more than it does.

    A norm, where there is one, passes sums on.
    """
    if receiver == "logits":
        return run_model(
            model,
            images,
            editing({f"blocks.{model.config.n_layers - 1}.resid_post": lambda x: x + change}),
        )
    layer = int(receiver[1 : receiver.find(".")] if "." in receiver else receiver[1:])
    if receiver[0] == "m":
        return run_model(
            model, images, editing({f"blocks.{layer}.ln2.after_gain": lambda x: x + change})
        )
    mine = torch.zeros(model.config.n_heads)
    mine[int(receiver.split(".h")[1])] = 1
    return run_model(
        model,
        images,
        editing({f"blocks.{layer}.{part}_input": lambda x: x + change[:, :, None] * mine[:, None]}),
    )


def edges_that_matter(made: Handmade, other: Tensor | None) -> set[str]:
    """Edges whose replacement by the other run's value moves a logit by more than 0.001.

    By nothing, where there is no other run.
    """
    model, images = made.model, made.batch.images
    clean, corrupt = words(model, images), words(model, images if other is None else other)
    logits, found = run_model(model, images), set()
    for sender, receiver, part in every_edge(model):
        change = (corrupt[sender] if other is not None else 0) - clean[sender]
        if (without_edge(model, images, receiver, part, change) - logits).abs().max() > 1e-3:
            found.add(f"{sender}->{receiver}" + (f"<{part}>" if part in ("q", "k", "v") else ""))
    return found


@pytest.mark.parametrize(
    "name", mark_slow(ALL, ["induction, bare", "pointers, bare", "half, one layer"])
)
def test_exactly_the_named_edges_matter(name):
    made = ALL[name]()
    other = next(iter(made.batch.counterfactuals.values()))
    assert edges_that_matter(made, made.batch.images.roll(1, 0)) == made.edges
    assert edges_that_matter(made, other.images) == made.pair_edges
    if made.model.config.norm == "none":
        assert edges_that_matter(made, None) == made.zero_edges


@every_model
def test_the_answers_are_right_and_nearly_certain(name):
    model, batch, *_ = ALL[name]()
    logits = run_model(model, batch.images)
    assert accuracy(logits, batch.target) == 1 and len(batch.target) >= 16
    other = next(iter(batch.counterfactuals.values()))
    assert accuracy(run_model(model, other.images), other.target) == 1
    if not name.startswith("half"):
        assert logits.softmax(-1).gather(1, batch.target[:, None]).min() > 0.999
    assert (batch.target != other.target).float().mean() > 0.9


@pytest.mark.parametrize("name", INDUCTION)
def test_the_induction_head_and_the_previous_cell_head_look_where_they_should(name):
    model, batch, *_ = INDUCTION[name]()
    seen = trace(model, batch.images, ["blocks.*.attn.pattern"])
    found = ANALYSES["induction"].measure(model, batch, seen)
    assert found["previous_cell_everywhere"][0, 0] > 0.9999
    assert (
        found["mass"][1, 0] > 0.999
        and found["prefix_matching"][1, 0] > 0.999
        and found["strength"][1, 0] > 0.999
    )
    assert (
        found["mass"][0, 0] < 0.35 and found["previous_cell"][1, 0] < 0.35
    )  # the last cell's previous cell may be the match
    composed = ANALYSES["composition"].measure(model, batch, {})
    assert composed["k_composition"][0, 0, 1, 0] > 0.1
    assert (
        composed["k_composition_z"][0, 0, 1, 0] > 5 or model.config.norm != "none"
    )  # writing means away dilutes it
    for kind in "qv":  # what the norm takes off leaves rounding
        assert composed[f"{kind}_composition"][0, 0, 1, 0] < 1e-6


@pytest.mark.parametrize("name", POINTERS)
def test_cls_follows_the_pointer_hop_by_hop(name):
    model, batch, *_ = POINTERS[name]()
    seen, n = trace(model, batch.images, ["blocks.*.attn.pattern"]), model.config.n_prefix
    pointer = batch.content[:, 0]
    there = batch.content.gather(1, 1 + pointer[:, None])[:, 0]
    for layer, place in enumerate((torch.zeros_like(pointer), 1 + pointer, 1 + there)):
        at_cls = seen[f"blocks.{layer}.attn.pattern"][:, 0, 0]
        assert at_cls.gather(1, n + place[:, None]).min() > 0.999
    composed = ANALYSES["composition"].measure(model, batch, {})
    for late in (1, 2):
        assert composed["q_composition"][late - 1, 0, late, 0] > 0.3
        assert composed["k_composition"][late - 1, 0, late, 0] < 1e-6


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("half")])
def test_knocking_out_a_working_head_breaks_it_and_an_idle_one_does_not(name):
    model, batch, *_ = ALL[name]()
    seen = trace(model, batch.images, ["blocks.*.resid_pre", "blocks.*.attn.z", "logits"])
    for layer in range(model.config.n_layers):
        assert accuracy(ablate_heads(model, [(layer, 0)], seen), batch.target) < 0.6
        for head in range(1, model.config.n_heads):
            assert torch.equal(ablate_heads(model, [(layer, head)], seen), seen["logits"])


def test_half_of_the_edges_of_one_layer_are_true():
    model, _, edges, *_ = half_ignored(n_layers=1)
    heads = [edge for edge in every_edge(model) if edge[:2] != ("input", "logits")]
    assert len(edges - {"input->logits"}) == len(heads) / 2
