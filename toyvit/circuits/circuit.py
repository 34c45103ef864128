"""A circuit as a record: which edges of which checkpoint, found how; it saves, loads, runs, and is judged against chance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.edges import (
    ABLATIONS,
    compute_ablated_outputs,
    keep_connected,
    select_strongest,
)
from toyvit.circuits.graph import EdgeMask, NodeCache, build_graph, cache_nodes, run_edges
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.config import ModelConfig
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.forward import run_from

OLD_FIELDS = {"base": "ablation", "found": "method"}  # of circuits that version 0.1 saved


def hash_architecture(config: ModelConfig) -> str:
    """A digest of the shape of a model: circuits of another shape do not fit."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Edges that are kept, everything else ablated by `base`; how they were found, and in which checkpoint."""

    edges: tuple[str, ...]
    metric: str
    ablation: str
    method: str  # such as "eap-ig, 8 edges"
    checkpoint: str  # run and step, with the checkpoint's SHA-256
    architecture: str

    def save(self, path: Path | str) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n")

    def edge_mask(self, model: ViT) -> EdgeMask:
        """The matrix (receiver sender) for this model; BadInput for a model of another shape."""
        if self.architecture != hash_architecture(model.config):
            known = build_graph(model.config)
            raise BadInput(
                f"this circuit is of {self.checkpoint}, a model of another architecture ({self.architecture}): this one "
                f"({hash_architecture(model.config)}) has the nodes {', '.join(known.senders)}"
            )
        return build_graph(model.config).mask_edges(self.edges)


def load_circuit(path: Path | str) -> Circuit:
    """A saved circuit, of version 0.1 too; BadInput for a file that holds none."""
    try:
        plain = json.loads(Path(path).read_text())
        plain = {OLD_FIELDS.get(name, name): value for name, value in dict(plain).items()}
        found = Circuit(**{**plain, "edges": tuple(plain["edges"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} holds no circuit: {error}") from error
    if not isinstance(plain["edges"], list) or not all(
        isinstance(edge, str) for edge in plain["edges"]
    ):
        raise BadInput(
            f"{path} holds no circuit: its edges are {plain['edges']!r}, not a list of names"
        )
    for value, allowed, what in (
        (found.metric, METRICS, "metric"),
        (found.ablation, ABLATIONS, "ablation"),
    ):
        choose(str(value), allowed, f"{what} in {path}")
    return found


@dataclass(frozen=True, kw_only=True)
class CircuitEvaluator:
    """Scores circuits of one model on one set of pairs: the metric's mean where all else is ablated, between nothing and all.

    0 is the model with every edge cut, 1 the whole model. With `corrupt` as the base, `pairs.swap()` gives the other
    direction.
    """

    model: ViT
    pairs: PatchingPairs
    metric: str = "logit_difference"
    ablation: str = "corrupt"

    def score(self, edge_mask: EdgeMask) -> float:
        """The metric's mean, in its own units."""
        return self.score_each(edge_mask).mean().item()

    def score_each(self, edge_mask: EdgeMask) -> Float[Tensor, " image"]:
        """The metric, pair by pair."""
        compute_metric = METRICS[choose(self.metric, METRICS, "metric")]
        return compute_metric(
            run_edges(self.model, self.cache, edge_mask, self.ablated_outputs),
            self.pairs,
            self.reference,
        )

    @cached_property
    def total_effect(self) -> tuple[float, float]:
        """What cutting every edge takes off the metric, a mean over pairs, and its standard error: what there is to explain."""
        taken = self.score_each(self.full_mask) - self.score_each(torch.zeros_like(self.full_mask))
        return taken.mean().item(), (taken.std() / len(taken) ** 0.5).item()

    def faithfulness(self, edge_mask: EdgeMask) -> float:
        """(m(C) - m(nothing)) / (m(model) - m(nothing)): 1 where the circuit does what the model does, 0 for no edges."""
        nothing, whole = self.empty_and_full
        return (self.score(edge_mask) - nothing) / (whole - nothing)

    @cached_property
    def cache(self) -> NodeCache:
        """The model's forward pass on the clean pictures."""
        return cache_nodes(self.model, self.pairs.clean)

    @cached_property
    def reference(self) -> Tensor:
        """The model's logits on the clean pictures."""
        return run_from(self.model, self.cache.streams[-1], self.model.config.n_layers)

    @cached_property
    def ablated_outputs(self) -> Tensor:
        """What cut edges carry."""
        return compute_ablated_outputs(self.model, self.pairs, self.ablation, self.cache)

    @cached_property
    def empty_and_full(self) -> tuple[float, float]:
        """The metric with every edge cut, and with none."""
        return self.score(torch.zeros_like(self.full_mask)), self.score(self.full_mask)

    def completeness(self, edge_mask: EdgeMask) -> float:
        """Faithfulness of the rest, when the circuit is cut out of the model: near 0 where it held all that matters."""
        return self.faithfulness(self.full_mask - edge_mask)

    def minimality(self, edge_mask: EdgeMask) -> Float[Tensor, "receiver sender"]:
        """What cutting each one edge of the circuit takes off its faithfulness; NaN where there is no edge."""
        lost, whole = torch.full_like(edge_mask, torch.nan), self.faithfulness(edge_mask)
        for receiver, sender in edge_mask.nonzero().tolist():
            without = edge_mask.clone()
            without[receiver, sender] = 0
            lost[receiver, sender] = whole - self.faithfulness(without)
        return lost

    @property
    def full_mask(self) -> EdgeMask:
        return build_graph(self.model.config).allowed.float()


def draw_random_circuits(model: ViT, n_edges: int, n: int, seed: int = 0) -> Iterator[EdgeMask]:
    """n random circuits of that many edges, each edge on a path from input to logits: the null of a faithfulness.

    Edges are added in random order until so many are connected; one that overshoots loses edges in random order, and is
    drawn again where it cannot be brought to the size.
    """
    allowed, generator = build_graph(model.config).allowed, torch.Generator().manual_seed(seed)
    if not 0 <= n_edges <= int(allowed.sum()):
        raise BadInput(
            f"a circuit of this model has 0 to {int(allowed.sum())} edges, got {n_edges}"
        )
    found = 0
    while found < n:
        edge_mask = _trimmed(model, _grown(model, n_edges, generator), n_edges, generator)
        if edge_mask.sum() == n_edges:
            found += 1
            yield edge_mask


def _shuffled(edges: Tensor, generator: torch.Generator) -> list[list[int]]:
    places = edges.nonzero()
    return places[torch.randperm(len(places), generator=generator)].tolist()


def _grown(model: ViT, n_edges: int, generator: torch.Generator) -> EdgeMask:
    """Random edges until at least so many are connected."""
    allowed = build_graph(model.config).allowed
    edge_mask = torch.zeros(allowed.shape)
    for receiver, sender in _shuffled(allowed, generator):
        edge_mask[receiver, sender] = 1
        if (whole := keep_connected(model, edge_mask)).sum() >= n_edges:
            return whole
    raise AssertionError


def _trimmed(model: ViT, edge_mask: EdgeMask, n_edges: int, generator: torch.Generator) -> EdgeMask:
    """Random edges taken away while at least so many stay connected."""
    for receiver, sender in _shuffled(edge_mask, generator):
        fewer = edge_mask.clone()
        fewer[receiver, sender] = 0
        if (fewer := keep_connected(model, fewer)).sum() >= n_edges:
            edge_mask = fewer
    return edge_mask


def find_smallest(evaluator: CircuitEvaluator, scores: Tensor, faithful: float = 0.9) -> EdgeMask:
    """A small circuit of at least this faithfulness: the strongest edges until it is reached, then every edge off that can go.

    Edges are taken off from the weakest up; none of those left can go alone. Other circuits of the size or smaller may exist.
    """
    if not 0 < faithful < 1:
        raise BadInput(f"the faithfulness to reach is between 0 and 1, got {faithful}")
    edge_mask = next(
        (
            edge_mask
            for n in range(1, scores.numel() + 1)
            if evaluator.faithfulness(edge_mask := select_strongest(evaluator.model, scores, n))
            >= faithful
        ),
        evaluator.full_mask,
    )
    while True:
        places = sorted(
            edge_mask.nonzero().tolist(), key=lambda place: abs(scores[tuple(place)].item())
        )
        for place in places:
            fewer = edge_mask.clone()
            fewer[tuple(place)] = 0
            if evaluator.faithfulness(fewer) >= faithful:
                edge_mask = keep_connected(evaluator.model, fewer)
                break
        else:
            return edge_mask
