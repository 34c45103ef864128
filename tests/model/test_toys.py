"""The toy models: hand-built weights give known answers, every site matters, seeds decide all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.model.taps import editing, recording, replacing
from toyvit.model.toys import MLP, RankOne, Sums, Superposition

TOYS = {
    "superposition": (lambda seed: Superposition(5, 2, 3, seed), (torch.rand(4, 3, 5) + 0.1,)),
    "rank one": (lambda seed: RankOne(4, 1.0, seed), ()),
    "mlp": (lambda seed: MLP((6, 8, 8, 3), 2.0, seed), (torch.randn(4, 6),)),
    "sums": (lambda seed: Sums(7, 4, 9, seed), (torch.tensor([[1, 2], [0, 6]]),)),
}
every_toy = pytest.mark.parametrize(("build", "inputs"), TOYS.values(), ids=TOYS)


@every_toy
def test_a_tap_reads_every_site_and_what_it_returns_matters(build, inputs):
    model = build(0)
    tap, plain = recording(model.sites), model(*inputs)
    assert torch.equal(model(*inputs, tap), plain) and list(tap.values) == list(model.sites)
    for site, value in tap.values.items():
        edited = model(*inputs, editing({site: lambda x: x + 0.5 * torch.rand_like(x) + 0.5}))
        assert not torch.equal(edited, plain), site
        assert torch.equal(model(*inputs, replacing({site: value})), plain)


@every_toy
def test_a_seed_decides_the_weights_and_nothing_else_changes(build, inputs):
    before = torch.get_rng_state()
    outputs = [build(seed)(*inputs) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_superposition_by_hand():
    """Two features on a line, opposite ways: each comes back alone, both leave their difference."""
    model = Superposition(2, 1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[[1.0], [-1.0]], [[1.0], [0.0]]]))
    x = torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.7, 0.2]])
    output = model(x[:, None].expand(-1, 2, -1))
    assert torch.allclose(output[:, 0], torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.5, 0.0]]))
    assert torch.allclose(output[:, 1], x * torch.tensor([1.0, 0.0]))


def test_rank_one_is_the_product_and_a_clamp_takes_the_gradient_away():
    model = RankOne(3, 1.0)
    a, b, c = model.factors.values()
    assert torch.allclose(model()[1, 2, 0], a[1] * b[2] * c[0])
    fixed = torch.tensor([1.0, 2.0, 3.0])
    model(replacing({"c": fixed})).sum().backward()
    assert c.grad is None and torch.allclose(a.grad, (b.sum() * fixed.sum()).expand(3))


def test_mlp_is_torch_s_and_scales_every_weight():
    model = MLP((4, 5, 2), 1.0, 3)
    larger = MLP((4, 5, 2), 8.0, 3)
    x = torch.randn(6, 4)
    first, last = model.layers
    hidden = F.linear(x, first.weight, first.bias).relu()
    assert torch.allclose(model(x), F.linear(hidden, last.weight, last.bias))
    for weight, large in zip(model.parameters(), larger.parameters(), strict=True):
        assert torch.allclose(8 * weight, large)


def test_sums_by_hand():
    """Embeddings 10 to 80: their sum is what GELU passes on, and the head reads it."""
    model = Sums(4, 1, 1)
    identity = torch.ones(1, 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.embed.weight.copy_(torch.tensor([[10.0], [20.0], [40.0], [80.0]]))
        model.first.weight.copy_(identity)
        model.second.weight.copy_(identity)
        model.head.weight.copy_(torch.tensor([[1.0], [0.0], [-1.0], [2.0]]))
    tap = recording(["pre"])
    logits: Tensor = model(torch.tensor([[0, 3], [3, 0], [1, 2]]), tap)
    assert tap.values["pre"].flatten().tolist() == [90, 90, 60]
    assert torch.allclose(logits[:, 0], torch.tensor([90.0, 90.0, 60.0]))
    assert torch.allclose(logits[:, 3], 2 * logits[:, 0])
