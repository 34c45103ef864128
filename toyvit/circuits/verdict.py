"""What a search for a circuit came to: the circuit with all that it is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from toyvit.circuits.circuit import Circuit
from toyvit.circuits.graph import EdgeMask

SCORES_LINE = "score by EAP-IG: about what the metric changes by when the edge alone is cut"


@dataclass(frozen=True, kw_only=True)
class CircuitReport:
    """A circuit of one checkpoint, its faithfulness, and the null it stands against.

    `scores` are EAP-IG's, whatever the method, to draw the circuit with; `n_edges` is of the whole
    model; `n_requested` pairs were asked for, `n_pairs` are there; `empty_and_full` is the metric
    with all edges cut and with none, `total_effect` their difference and its standard error; `null`
    is the faithfulness of random circuits of the same size, `n_same` of which are this very one.
    """

    circuit: Circuit
    edge_mask: EdgeMask
    scores: Tensor
    n_edges: int
    n_pairs: int
    n_requested: int
    empty_and_full: tuple[float, float]
    total_effect: tuple[float, float]
    faithfulness: float
    completeness: float
    null: Tensor
    n_same: int
    name: str

    def format(self) -> str:
        """A few lines for the terminal: a name, then a value."""
        circuit = self.circuit
        size = f"{len(circuit.edges)} of {self.n_edges} edges"
        scores = zip(circuit.edges, self.scores[self.edge_mask > 0].tolist(), strict=True)
        rows = [
            ("circuit", f"{size}, by {circuit.method}, of {circuit.checkpoint}"),
            (f"{circuit.metric}, {self.n_pairs} pairs", self._format_effect()),
            ("faithfulness", f"{self.faithfulness:.3f} (cut edges carry: {circuit.ablation})"),
            ("of the rest without it", f"{self.completeness:.3f}"),
            *self._format_null(),
            ("edges", SCORES_LINE),
            *((f"  {edge}", f"{score:+.3f}") for edge, score in scores),
        ]
        return "\n".join(f"{name:28} {value}" for name, value in rows)

    def _format_effect(self) -> str:
        empty, full = self.empty_and_full
        effect, error = self.total_effect
        text = f"{full:.3f} whole, {empty:.3f} with all cut: {effect:.3f} +- {error:.3f}"
        if self.n_pairs < self.n_requested:
            text += f" (there are no more; {self.n_requested} were asked for)"
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
