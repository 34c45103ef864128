"""Which head of one model plays the part of which head of another, and how alike circuits then are.

Heads have no order: two seeds may learn the same circuit with other heads. They are matched by what
they do on the same pictures, never by the edges that are then compared: that lifts the agreement of
random circuits too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from toyvit.circuits.circuit_pass import rows_of
from toyvit.circuits.evaluate import draw_random_circuits
from toyvit.circuits.graph import build_graph
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import ablate_heads, trace
from toyvit.model.shapes import Images
from toyvit.surroundings import pin_torch

Likeness = Float[Tensor, "layer head to_head"]


@dataclass(frozen=True, kw_only=True)
class HeadBehaviour:
    """What every head of a model does on some pictures.

    `patterns` has a layer's attention, (image head query key), of the queries whose outputs reach
    the answer. `effects` is what a head's output, over its mean over the pictures, adds to the
    logits less their mean over labels.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> heads = observe_heads(model, torch.ones(6, 1, 8, 8))
    >>> len(heads.patterns), heads.patterns[0].shape, heads.effects.shape
    (2, torch.Size([6, 1, 5, 5]), torch.Size([2, 1, 6, 3]))
    """

    patterns: tuple[Float[Tensor, "image head _ key"], ...]
    effects: Float[Tensor, "layer head image *place label"]


@pin_torch()
def observe_heads(model: ViT, images: Images) -> HeadBehaviour:
    """The attention of every head and its effect on the logits, see `HeadBehaviour`."""
    sites = ["blocks.*.resid_pre", "blocks.*.attn.z", "blocks.*.attn.pattern", "logits"]
    values = trace(model, images, sites)
    patterns = []
    effects = []
    for layer in range(model.config.n_layers):
        rows = rows_of(model, layer)
        patterns.append(values[f"blocks.{layer}.attn.pattern"][:, :, rows])

        of_layer = []
        for head in range(model.config.n_heads):
            without = ablate_heads(model, [(layer, head)], values, "mean")
            effect = values["logits"] - without
            of_layer.append(effect - effect.mean(-1, keepdim=True))
        effects.append(torch.stack(of_layer))
    return HeadBehaviour(patterns=tuple(patterns), effects=torch.stack(effects))


def compare_heads(first: HeadBehaviour, second: HeadBehaviour) -> Likeness:
    """How alike each head of a model is to each head of another, within layers: at most 1.

    Half is the overlap of patterns, the sum over keys of the smaller mass, a mean over pictures and
    queries (0 to 1). Half is the concordance of effects, 2 a.b / (a.a + b.b) over pictures and
    labels (-1 to 1): size counts, and 0 and 0 are alike. 1 for the same behaviour, up to rounding.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> heads = observe_heads(model, torch.ones(6, 1, 8, 8))
    >>> compare_heads(heads, heads).flatten().round(decimals=4)
    tensor([1., 1.])
    """
    layers = []
    for layer, (here, there) in enumerate(zip(first.patterns, second.patterns, strict=True)):
        smaller = torch.minimum(here[:, :, None], there[:, None])
        overlap = smaller.sum(-1).mean((0, 3))

        ours = first.effects[layer].flatten(1)
        theirs = second.effects[layer].flatten(1)
        sizes = ours.square().sum(1)[:, None] + theirs.square().sum(1)
        concordance = torch.where(sizes > 0, 2 * ours @ theirs.T / sizes, 1)
        layers.append((overlap + concordance) / 2)
    return torch.stack(layers)


@dataclass(frozen=True, kw_only=True)
class HeadMatching:
    """Which head of a model has the part of each head of another: `names` by the other's name.

    `likeness` is that of the matched heads (layer head), in the order of the other model.

    >>> HeadMatching(names={"a0.h0": "a0.h1"}, likeness=torch.ones(1, 1)).rename(["a0.h0->logits"])
    ('a0.h1->logits',)
    """

    names: Mapping[str, str]
    likeness: Float[Tensor, "layer head"]

    def rename(self, edges: Iterable[str]) -> tuple[str, ...]:
        """The other model's edges in the names of the model that it was matched to."""
        return tuple(
            re.sub(r"a\d+\.h\d+", lambda name: self.names[name[0]], edge) for edge in edges
        )


@pin_torch()
def match_heads(first: ViT, second: ViT, images: Images) -> HeadMatching:
    """The heads of a second model by the names of the first one's, by behaviour alone.

    Within each layer the assignment of largest summed likeness, see `compare_heads`, on the same
    pictures. BadInput for models of two shapes.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(n_heads=2, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> match_heads(ViT(config), ViT(config), torch.randn(6, 1, 8, 8)).names["a1.h0"]
    'a1.h0'
    """
    if first.config != second.config:
        raise BadInput("heads of models of two shapes cannot be matched: their edges differ")

    likeness = compare_heads(observe_heads(first, images), observe_heads(second, images))
    names = {}
    matched = []
    for layer, table in enumerate(likeness):
        heads, others = linear_sum_assignment(table.numpy(), maximize=True)
        for head, other in zip(heads.tolist(), others.tolist(), strict=True):
            names[f"a{layer}.h{other}"] = f"a{layer}.h{head}"
        place = torch.from_numpy(others).argsort()
        matched.append(table[heads, others][place])
    return HeadMatching(names=names, likeness=torch.stack(matched))


def overlap_edges(first: Collection[str], second: Collection[str]) -> float:
    """Edges that two circuits share, of all that either has (Jaccard): 1 for the same, else less.

    >>> overlap_edges(["a->b", "b->c"], ["a->b", "a->c"])
    0.3333333333333333
    """
    shared = set(first) & set(second)
    return len(shared) / max(1, len({*first, *second}))


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two circuits of two models agree, as shares of all their edges (Jaccard), 0 to 1.

    `unmatched` by the names that heads happen to have, `matched` with heads matched by behaviour;
    `null` is `matched` of random connected circuits of the same two sizes, one draw each.
    """

    unmatched: float
    matched: float
    null: Float[Tensor, " draw"]
    matching: HeadMatching


@pin_torch()
def compare_circuits(
    models: tuple[ViT, ViT],
    circuits: tuple[Collection[str], Collection[str]],
    images: Images,
    n_null: int = 200,
) -> Agreement:
    """The agreement of two models' circuits, given as names of edges, before and after matching.

    Heads are matched on the pictures, see `match_heads`. The null goes the same way: random
    connected circuits of the sizes of the two, renamed by the same matching. BadInput for models of
    two shapes, and for an edge that is not there.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(n_heads=2, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> edges = ("input->a0.h0<v>", "a0.h0->logits")
    >>> images = torch.randn(6, 1, 8, 8)
    >>> agreement = compare_circuits((ViT(config), ViT(config)), (edges, edges), images, n_null=9)
    >>> agreement.matched, len(agreement.null)
    (1.0, 9)
    """
    first, second = circuits
    graph = build_graph(models[0].config)
    matching = match_heads(*models, images)
    for edges in circuits:
        graph.mask_edges(edges)

    null = []
    ours = draw_random_circuits(models[0], len(set(first)), n_null, seed=0)
    theirs = draw_random_circuits(models[1], len(set(second)), n_null, seed=1)
    for here, there in zip(ours, theirs, strict=True):
        renamed = matching.rename(graph.name_edges(there))
        null.append(overlap_edges(graph.name_edges(here), renamed))

    return Agreement(
        unmatched=overlap_edges(first, second),
        matched=overlap_edges(first, matching.rename(second)),
        null=torch.tensor(null),
        matching=matching,
    )
