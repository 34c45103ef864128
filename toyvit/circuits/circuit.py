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

from toyvit.circuits.contrasts import METRICS, Contrast
from toyvit.circuits.discovery import BASES, connected, stand_in, strongest
from toyvit.circuits.forward import resume
from toyvit.circuits.graph import Heard, Kept, graph, hear, rewired
from toyvit.config import ModelConfig
from toyvit.errors import BadInput, choose
from toyvit.model import ViT


def architecture(config: ModelConfig) -> str:
    """A digest of the shape of a model: circuits of another shape do not fit."""
    return hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Edges that are kept, everything else ablated by `base`; how they were found, and in which checkpoint."""

    edges: tuple[str, ...]
    metric: str
    base: str
    found: str  # such as "eap-ig, 8 edges"
    checkpoint: str  # run and step, with the checkpoint's SHA-256
    architecture: str

    def save(self, path: Path | str) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=1) + "\n")

    def kept(self, model: ViT) -> Kept:
        """The matrix (receiver sender) for this model; BadInput for a model of another shape."""
        if self.architecture != architecture(model.config):
            known = graph(model.config)
            raise BadInput(
                f"this circuit is of {self.checkpoint}, a model of another architecture ({self.architecture}): this one "
                f"({architecture(model.config)}) has the nodes {', '.join(known.senders)}"
            )
        return graph(model.config).kept(self.edges)


def load(path: Path | str) -> Circuit:
    """A saved circuit; BadInput for a file that holds none."""
    try:
        plain = json.loads(Path(path).read_text())
        found = Circuit(**{**plain, "edges": tuple(plain["edges"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{path} holds no circuit: {error}") from error
    if not isinstance(plain["edges"], list) or not all(isinstance(edge, str) for edge in plain["edges"]):
        raise BadInput(f"{path} holds no circuit: its edges are {plain['edges']!r}, not a list of names")
    for value, allowed, what in ((found.metric, METRICS, "metric"), (found.base, BASES, "ablation")):
        choose(str(value), allowed, f"{what} in {path}")
    return found


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Scores circuits of one model on one set of pairs: the metric's mean where all else is ablated, between nothing and all.

    0 is the model with every edge cut, 1 the whole model. With `corrupt` as the base, `pairs.swapped()` gives the other
    direction.
    """

    model: ViT
    pairs: Contrast
    metric: str = "logit_difference"
    base: str = "corrupt"

    def score(self, kept: Kept) -> float:
        """The metric's mean, in its own units."""
        return self.scores(kept).mean().item()

    def scores(self, kept: Kept) -> Float[Tensor, " image"]:
        """The metric, pair by pair."""
        judge = METRICS[choose(self.metric, METRICS, "metric")]
        return judge(rewired(self.model, self.heard, kept, self.instead), self.pairs, self.reference)

    @cached_property
    def moved(self) -> tuple[float, float]:
        """What cutting every edge takes off the metric, a mean over pairs, and its standard error: what there is to explain."""
        taken = self.scores(self.every) - self.scores(torch.zeros_like(self.every))
        return taken.mean().item(), (taken.std() / len(taken) ** 0.5).item()

    def faithfulness(self, kept: Kept) -> float:
        """(m(C) - m(nothing)) / (m(model) - m(nothing)): 1 where the circuit does what the model does, 0 for no edges."""
        nothing, whole = self.ends
        return (self.score(kept) - nothing) / (whole - nothing)

    @cached_property
    def heard(self) -> Heard:
        """The model's forward pass on the clean pictures."""
        return hear(self.model, self.pairs.clean)

    @cached_property
    def reference(self) -> Tensor:
        """The model's logits on the clean pictures."""
        return resume(self.model, self.heard.streams[-1], self.model.config.n_layers)

    @cached_property
    def instead(self) -> Tensor:
        """What cut edges carry."""
        return stand_in(self.model, self.pairs, self.base, self.heard)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The metric with every edge cut, and with none."""
        return self.score(torch.zeros_like(self.every)), self.score(self.every)

    def completeness(self, kept: Kept) -> float:
        """Faithfulness of the rest, when the circuit is cut out of the model: near 0 where it held all that matters."""
        return self.faithfulness(self.every - kept)

    def minimality(self, kept: Kept) -> Float[Tensor, "receiver sender"]:
        """What cutting each one edge of the circuit takes off its faithfulness; NaN where there is no edge."""
        lost, whole = torch.full_like(kept, torch.nan), self.faithfulness(kept)
        for receiver, sender in kept.nonzero().tolist():
            without = kept.clone()
            without[receiver, sender] = 0
            lost[receiver, sender] = whole - self.faithfulness(without)
        return lost

    @property
    def every(self) -> Kept:
        return graph(self.model.config).allowed.float()


def random_circuits(model: ViT, n_edges: int, n: int, seed: int = 0) -> Iterator[Kept]:
    """n random circuits of that many edges, each edge on a path from input to logits: the null of a faithfulness.

    Edges are added in random order until so many are connected; one that overshoots loses edges in random order, and is
    drawn again where it cannot be brought to the size.
    """
    allowed, generator = graph(model.config).allowed, torch.Generator().manual_seed(seed)
    if not 0 <= n_edges <= int(allowed.sum()):
        raise BadInput(f"a circuit of this model has 0 to {int(allowed.sum())} edges, got {n_edges}")
    found = 0
    while found < n:
        kept = _trimmed(model, _grown(model, n_edges, generator), n_edges, generator)
        if kept.sum() == n_edges:
            found += 1
            yield kept


def _shuffled(edges: Tensor, generator: torch.Generator) -> list[list[int]]:
    places = edges.nonzero()
    return places[torch.randperm(len(places), generator=generator)].tolist()


def _grown(model: ViT, n_edges: int, generator: torch.Generator) -> Kept:
    """Random edges until at least so many are connected."""
    allowed = graph(model.config).allowed
    kept = torch.zeros(allowed.shape)
    for receiver, sender in _shuffled(allowed, generator):
        kept[receiver, sender] = 1
        if (whole := connected(model, kept)).sum() >= n_edges:
            return whole
    raise AssertionError


def _trimmed(model: ViT, kept: Kept, n_edges: int, generator: torch.Generator) -> Kept:
    """Random edges taken away while at least so many stay connected."""
    for receiver, sender in _shuffled(kept, generator):
        fewer = kept.clone()
        fewer[receiver, sender] = 0
        if (fewer := connected(model, fewer)).sum() >= n_edges:
            kept = fewer
    return kept


def smallest(judge: Judge, scores: Tensor, faithful: float = 0.9) -> Kept:
    """A small circuit of at least this faithfulness: the strongest edges until it is reached, then every edge off that can go.

    Edges are taken off from the weakest up; none of those left can go alone. Other circuits of the size or smaller may exist.
    """
    if not 0 < faithful < 1:
        raise BadInput(f"the faithfulness to reach is between 0 and 1, got {faithful}")
    kept = next(
        (
            kept
            for n in range(1, scores.numel() + 1)
            if judge.faithfulness(kept := strongest(judge.model, scores, n)) >= faithful
        ),
        judge.every,
    )
    while True:
        places = sorted(kept.nonzero().tolist(), key=lambda place: abs(scores[tuple(place)].item()))
        for place in places:
            fewer = kept.clone()
            fewer[tuple(place)] = 0
            if judge.faithfulness(fewer) >= faithful:
                kept = connected(judge.model, fewer)
                break
        else:
            return kept
