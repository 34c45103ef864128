"""What a search for a circuit came to: the circuit with all that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toyvit.circuits.circuit import Circuit
from toyvit.circuits.evaluate import PairScores
from toyvit.circuits.graph import EdgeMask

SCORES_LINE = "score by EAP-IG: about what the metric changes by when the edge alone is cut"


@dataclass(frozen=True, kw_only=True)
class CircuitReport:
    """A circuit of one checkpoint, how good it is, and the null it stands against.

    It was searched on `searched.n_pairs` pairs and is judged by `tested`, on others. `scores` are
    EAP-IG's on the former, whatever the method, to draw the circuit with; `n_edges` is of the whole
    model; of `n_requested` pairs to search on fewer may be there; `null` is the faithfulness, on
    the pairs of the test, of random circuits of the same size, `n_same` of which are this very one.
    """

    circuit: Circuit
    edge_mask: EdgeMask
    scores: Tensor
    n_edges: int
    n_requested: int
    searched: PairScores
    tested: PairScores
    null: Tensor
    n_same: int
    name: str

    def format(self) -> str:
        """A few lines for the terminal: a name, then a value."""
        circuit = self.circuit
        size = f"{len(circuit.edges)} of {self.n_edges} edges"
        scores = zip(circuit.edges, self.scores[self.edge_mask > 0].tolist(), strict=True)
        test = self.tested
        own = self.searched
        there = f"on the {own.n_pairs} pairs it was searched on"
        rows = [
            ("circuit", f"{size}, by {circuit.method}, of {circuit.checkpoint}"),
            (f"{circuit.metric}, {test.n_pairs} pairs", self._format_effect()),
            ("faithfulness", f"{test.faithfulness:.3f}; {own.faithfulness:.3f} {there}"),
            ("of the rest without it", f"{test.completeness:.3f}; {own.completeness:.3f} {there}"),
            ("cut edges carry", circuit.ablation),
            *self._format_null(),
            ("edges", SCORES_LINE),
            *((f"  {edge}", f"{score:+.3f}") for edge, score in scores),
        ]
        return "\n".join(f"{name:28} {value}" for name, value in rows)

    def _format_effect(self) -> str:
        test = self.tested
        text = f"{test.full:.3f} whole, {test.empty:.3f} with all cut:"
        text += f" {test.effect:.3f} +- {test.error:.3f}"
        if self.searched.n_pairs < self.n_requested:
            text += f" (there are no more; {self.n_requested} and as many others were asked for)"
        return text

    def _format_null(self) -> list[tuple[str, str]]:
        """One row; none where no random circuit was drawn."""
        if not len(self.null):
            return []
        half, most = self.null.quantile(torch.tensor([0.5, 0.95])).tolist()
        text = f"median {half:.3f}, 95 % below {most:.3f}"
        if self.n_same:
            text += f"; {self.n_same} of them are this very circuit"
        return [(f"{len(self.null)} random circuits", text)]
