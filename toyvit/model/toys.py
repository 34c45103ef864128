"""Models that are no vision transformer, behind the same tap.

Superposition, a product of three vectors, an MLP, and sums of two numbers. Each names its
intermediates as the transformer does, `tap(site, value) -> value`, so that reading, replacing and
clamping are the same three lines. `sites` lists the names in the order of the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.model.taps import Tap, untouched


class Superposition(nn.Module):
    """n features through m dimensions and back: ReLU(W^T W x + b), several copies at once.

    W starts as N(0, 1 / m) in every copy, b at 0; the copies are independent. Row i of
    `weight[copy]` is the direction of feature i. Source: Elhage 2022.

    >>> model = Superposition(n_features=5, n_hidden=2, n_copies=3)
    >>> model(torch.rand(4, 3, 5)).shape
    torch.Size([4, 3, 5])
    """

    sites = ("hidden", "pre", "output")

    def __init__(self, n_features: int, n_hidden: int, n_copies: int = 1, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(n_copies, n_features, n_hidden, generator=generator)
        self.weight = nn.Parameter(draws / n_hidden**0.5)
        self.bias = nn.Parameter(torch.zeros(n_copies, n_features))

    def forward(
        self, x: Float[Tensor, "image copy feature"], tap: Tap = untouched
    ) -> Float[Tensor, "image copy feature"]:
        hidden = tap("hidden", torch.einsum("icf,cfh->ich", x, self.weight))
        pre = tap("pre", torch.einsum("ich,cfh->icf", hidden, self.weight) + self.bias)
        return tap("output", pre.relu())


class RankOne(nn.Module):
    """The product a (x) b (x) c of three vectors, learned only as fast as they learn together.

    All three start as N(0, scale^2). A factor is clamped by replacing it:
    `replacing({"c": target})`. Source: Singh 2024.

    >>> RankOne(size=4)().shape
    torch.Size([4, 4, 4])
    """

    sites = ("a", "b", "c", "product")

    def __init__(self, size: int = 20, scale: float = 0.01, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.factors = nn.ParameterDict(
            {name: nn.Parameter(scale * torch.randn(size, generator=generator)) for name in "abc"}
        )

    def forward(self, tap: Tap = untouched) -> Float[Tensor, "size size size"]:
        a, b, c = (tap(name, factor) for name, factor in self.factors.items())
        return tap("product", torch.einsum("i,j,k->ijk", a, b, c))


class MLP(nn.Module):
    """Linear layers with ReLU between them, torch's own initial weights times `scale`.

    At scale 8 it groks MNIST (Liu 2022).

    >>> model = MLP((6, 8, 3), scale=8.0)
    >>> model.sites
    ('input', 'layers.0.pre', 'layers.0.post', 'logits')
    """

    def __init__(self, widths: Sequence[int], scale: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(nn.Linear(*shape) for shape in pairwise(widths))
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(scale)

        hidden: list[str] = []
        for place in range(len(widths) - 2):
            hidden += [f"layers.{place}.pre", f"layers.{place}.post"]
        self.sites = ("input", *hidden, "logits")

    def forward(
        self, x: Float[Tensor, "image feature"], tap: Tap = untouched
    ) -> Float[Tensor, "image label"]:
        x = tap("input", x)
        for place, layer in enumerate(self.layers[:-1]):
            x = tap(f"layers.{place}.pre", layer(x))
            x = tap(f"layers.{place}.post", x.relu())
        return tap("logits", self.layers[-1](x))


class Sums(nn.Module):
    """Two numbers below p, each through a matrix of its own, added, GELU, read out.

    It learns (a + b) mod p.

    >>> Sums(p=7)(torch.tensor([[1, 2], [0, 6]])).shape
    torch.Size([2, 7])
    """

    sites = ("embed", "pre", "post", "logits")

    def __init__(self, p: int, d_embed: int = 12, d_hidden: int = 48, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(p, d_embed)
            self.first = nn.Linear(d_embed, d_hidden)
            self.second = nn.Linear(d_embed, d_hidden)
            self.head = nn.Linear(d_hidden, p, bias=False)

    def forward(
        self, pairs: Int[Tensor, "image 2"], tap: Tap = untouched
    ) -> Float[Tensor, "image label"]:
        a, b = tap("embed", self.embed(pairs)).unbind(1)
        post = tap("post", F.gelu(tap("pre", self.first(a) + self.second(b))))
        return tap("logits", self.head(post))
