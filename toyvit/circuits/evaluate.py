"""How good a circuit is: its faithfulness on pairs of pictures, and that of random circuits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.circuit_pass import CircuitPass, start_pass
from toyvit.circuits.edges import compute_ablated_outputs, keep_connected
from toyvit.circuits.graph import EdgeMask, NodeCache, build_graph, cache_nodes
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.surroundings import pin_torch


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """How good a circuit is on some pairs: faithfulness and completeness, and what they share out.

    `empty` and `full` are the metric with all edges cut and with none, `effect` their difference
    and `error` its standard error over the pairs, in the metric's units.
    """

    n_pairs: int
    empty: float
    full: float
    effect: float
    error: float
    faithfulness: float
    completeness: float


@dataclass(frozen=True, kw_only=True)
class CircuitEvaluator:
    """Scores circuits of one model on one set of pairs, all edges outside the circuit ablated.

    A score is the metric's mean over pairs; faithfulness is 0 for the model with every edge ablated
    and 1 for the whole model. With `corrupt` as the ablation, `pairs.swap()` gives the other
    direction. BadInput for a metric or an ablation that is not there, when it is first needed.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> evaluator = CircuitEvaluator(model=ViT(config), pairs=pairs)
    >>> evaluator.faithfulness(evaluator.full_mask)
    1.0
    """

    model: ViT
    pairs: PatchingPairs
    metric: str = "logit_difference"
    ablation: str = "corrupt"

    def score(self, edge_mask: EdgeMask) -> float:
        """The metric's mean over pairs, in its own units."""
        return self.score_each(edge_mask).mean().item()

    @pin_torch()
    def score_each(self, edge_mask: EdgeMask) -> Float[Tensor, " image"]:
        """The metric, pair by pair."""
        return self._score_pass(self.whole.change_edges(edge_mask))

    def _score_pass(self, circuit: CircuitPass) -> Float[Tensor, " image"]:
        compute_metric = METRICS[choose(self.metric, METRICS, "metric")]
        return compute_metric(circuit.logits, self.pairs, self.reference)

    def faithfulness(self, edge_mask: EdgeMask) -> float:
        """(m(C) - m(nothing)) / (m(model) - m(nothing)).

        1 where the circuit does what the model does, 0 for no edges; it may leave that range.
        """
        nothing, whole = self.empty_and_full
        return (self.score(edge_mask) - nothing) / (whole - nothing)

    def completeness(self, edge_mask: EdgeMask) -> float:
        """Faithfulness of the rest of the model: near 0 where the circuit has all that matters."""
        return self.faithfulness(self.full_mask - edge_mask)

    @pin_torch()
    def minimality(self, edge_mask: EdgeMask) -> Float[Tensor, "receiver sender"]:
        """What ablating each single edge of the circuit takes off its faithfulness.

        NaN where the circuit has no edge.
        """
        nothing, whole = self.empty_and_full
        circuit = self.whole.change_edges(edge_mask)
        score = self._score_pass(circuit).mean()
        lost = torch.full_like(edge_mask, torch.nan)
        for receiver, sender in edge_mask.nonzero().tolist():
            without = self._score_pass(circuit.cut(receiver, sender)).mean()
            lost[receiver, sender] = (score - without) / (whole - nothing)
        return lost

    def judge(self, edge_mask: EdgeMask) -> PairScores:
        """All that is said of a circuit on these pairs."""
        empty, full = self.empty_and_full
        effect, error = self.total_effect
        return PairScores(
            n_pairs=len(self.pairs.clean),
            empty=empty,
            full=full,
            effect=effect,
            error=error,
            faithfulness=self.faithfulness(edge_mask),
            completeness=self.completeness(edge_mask),
        )

    @cached_property
    def total_effect(self) -> tuple[float, float]:
        """What there is to explain, and its standard error over pairs, in the metric's units.

        The mean over pairs of what ablating every edge takes off the metric. One pair has no
        standard error: NaN.
        """
        taken = self.score_each(self.full_mask) - self.score_each(self.empty_mask)
        sd = taken.std().item() if len(taken) > 1 else math.nan
        return taken.mean().item(), sd / len(taken) ** 0.5

    @cached_property
    def empty_and_full(self) -> tuple[float, float]:
        """The metric with every edge ablated, and with none."""
        return self.score(self.empty_mask), self.score(self.full_mask)

    @property
    def full_mask(self) -> EdgeMask:
        """Every edge of the model."""
        return build_graph(self.model.config).allowed.float()

    @property
    def empty_mask(self) -> EdgeMask:
        """No edge."""
        return torch.zeros_like(self.full_mask)

    @cached_property
    def cache(self) -> NodeCache:
        """The model's forward pass on the clean pictures."""
        return cache_nodes(self.model, self.pairs.clean)

    @cached_property
    def whole(self) -> CircuitPass:
        """The model's forward pass on the clean pictures, node by node, with no edge cut."""
        return start_pass(self.model, self.pairs.clean, self.ablated_outputs)

    @property
    def reference(self) -> Float[Tensor, "image label"]:
        """The model's logits on the clean pictures."""
        return self.whole.logits

    @cached_property
    def ablated_outputs(self) -> Tensor:
        """What ablated edges carry, by sender."""
        return compute_ablated_outputs(self.model, self.pairs, self.ablation, self.cache)


def draw_random_circuits(model: ViT, n_edges: int, n: int, seed: int = 0) -> Iterator[EdgeMask]:
    """n random circuits of that many edges, each edge on a path from input to logits.

    The null of a faithfulness. Edges are added in random order until so many are connected; a
    circuit that overshoots loses edges in random order, and is drawn again where it cannot be
    brought to the size. BadInput for more edges than the model has.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> [int(edge_mask.sum()) for edge_mask in draw_random_circuits(ViT(config), 5, n=3)]
    [5, 5, 5]
    """
    allowed = build_graph(model.config).allowed
    most = int(allowed.sum())
    if not 0 <= n_edges <= most:
        raise BadInput(f"a circuit of this model has 0 to {most} edges, got {n_edges}")

    generator = torch.Generator().manual_seed(seed)
    n_drawn = 0
    while n_drawn < n:
        edge_mask = _grow(model, n_edges, generator)
        edge_mask = _trim(model, edge_mask, n_edges, generator)
        if edge_mask.sum() == n_edges:
            n_drawn += 1
            yield edge_mask


def _shuffle(edges: Tensor, generator: torch.Generator) -> list[list[int]]:
    """(receiver, sender) of every edge, in random order."""
    places = edges.nonzero()
    return places[torch.randperm(len(places), generator=generator)].tolist()


@pin_torch()
def _grow(model: ViT, n_edges: int, generator: torch.Generator) -> EdgeMask:
    """Random edges until at least so many are connected."""
    allowed = build_graph(model.config).allowed
    edge_mask = torch.zeros(allowed.shape)
    for receiver, sender in _shuffle(allowed, generator):
        edge_mask[receiver, sender] = 1
        connected = keep_connected(model, edge_mask)
        if connected.sum() >= n_edges:
            return connected
    raise AssertionError("the whole model is connected")


@pin_torch()
def _trim(model: ViT, edge_mask: EdgeMask, n_edges: int, generator: torch.Generator) -> EdgeMask:
    """Random edges taken away while at least so many stay connected."""
    for receiver, sender in _shuffle(edge_mask, generator):
        fewer = edge_mask.clone()
        fewer[receiver, sender] = 0
        fewer = keep_connected(model, fewer)
        if fewer.sum() >= n_edges:
            edge_mask = fewer
    return edge_mask
