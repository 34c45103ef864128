"""A circuit as a graph, beside what random circuits of its size reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from toyvit.circuits.circuit import Circuit, load_circuit
from toyvit.circuits.graph import build_graph
from toyvit.circuits.search import CircuitReport
from toyvit.config import ModelConfig
from toyvit.model import ViT
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    Edge,
    FigureData,
    GraphPanel,
    Level,
    Mark,
    Node,
)
from toyvit.report.style import call_head
from toyvit.runs.handle import Run

PORTS = {
    "q": ("blue", "into queries"),
    "k": ("orange", "into keys"),
    "v": ("green", "into values"),
    "": ("pink", "into an MLP or the logits"),
}
BINS = 20  # of the histogram of random circuits
LONGEST = 12  # digits of a step that a record may say


GRAPH_CAPTION = Caption(
    see="The edges of the circuit: the wider, the larger the score.",
    otherwise="a path that joins the input to the logits by no head, or every edge there is.",
)
SAVED_CAPTION = Caption(
    see=(
        "The edges that circuits of this run have; the wider, the more of them have it. An edge "
        "that carries nothing of what the corrupt pictures change is in none, however much the "
        "model needs it."
    ),
    otherwise="edges that one circuit has and the next has not, none wide.",
)


def draw_circuit_graph(
    config: ModelConfig, edge_mask: Tensor, scores: Tensor | None = None, title: str = ""
) -> FigureData:
    """A circuit from the input (below) to the logits: colours say what an edge runs into, widths
    its score.

    Nodes that the circuit does not use are pale. `edge_mask` and `scores` are (receiver sender)
    matrices.
    """
    panel = build_graph_panel(config, edge_mask, scores)
    return FigureData(
        name="circuit",
        title=title,
        caption=GRAPH_CAPTION,
        blocks=(_graph_block(panel),),
    )


def draw_saved_circuits(run: Run) -> FigureData | None:
    """How many of the circuits that were found of a run, and saved in its `figures/`, have each
    edge; None where there are none. BadInput for a record that is damaged.
    """
    files = sorted(run.folder.figures.glob("*.json"))
    if not files:
        return None
    model = ViT(run.config.model)
    circuits = [load_circuit(file) for file in files]
    masks = [circuit.edge_mask(model) for circuit in circuits]
    shares = torch.stack(masks).mean(0)
    panel = build_graph_panel(run.config.model, (shares > 0).float(), shares)
    methods = "; ".join(dict.fromkeys(map(_describe_search, circuits)))
    number = "one circuit" if len(files) == 1 else f"{len(files)} circuits"

    return FigureData(
        name="circuits",
        title=f"{run.name}: edges of {number} ({methods})",
        caption=SAVED_CAPTION,
        steps=_list_steps(circuits),
        blocks=(_graph_block(panel),),
    )


def _list_steps(circuits: Sequence[Circuit]) -> tuple[int, ...]:
    """The steps that records say, where that is a number."""
    texts = map(_find_step, circuits)
    return tuple(sorted({int(text) for text in texts if text.isdecimal() and len(text) <= LONGEST}))


def _graph_block(panel: GraphPanel) -> Block:
    right = max(node.x for node in panel.nodes)
    top = max(node.y for node in panel.nodes)
    return Block(panels=((panel,),), cell=(max(3.6, 1.5 * right + 2.2), 1.25 * top + 1.2))


CIRCUIT_CAPTION = Caption(
    see=(
        "The edges that an answer depends on; the wider, the larger the EAP-IG score. Beside "
        "it: the circuit stands far to the right of random ones of its size."
    ),
    otherwise="random circuits of the size are as faithful as this one.",
)


def draw_circuit_report(report: CircuitReport, config: ModelConfig) -> FigureData:
    """A circuit that was searched for: its graph, beside random circuits of its size."""
    circuit = report.circuit
    where = circuit.checkpoint.split(",")[0].replace(" at ", ", step ")
    size = f"{len(circuit.edges)} of {report.n_edges} edges"
    blocks = [_graph_block(build_graph_panel(config, report.edge_mask, report.scores))]
    if len(report.null):
        panel = build_null_panel(report)
        height = blocks[0].cell[1]
        blocks.append(Block(panels=((panel,),), cell=(3.6, min(height, 3.6)), margin=(0.6, 0.3)))

    return FigureData(
        name="circuit",
        title=(
            f"{circuit.method}, {where}: {size}, faithfulness {report.tested.faithfulness:.2f}"
            f" ({report.searched.faithfulness:.2f} on the pairs it was searched on)\n"
            f"{circuit.metric.replace('_', ' ')}, cut edges carry: {circuit.ablation}"
        ),
        caption=CIRCUIT_CAPTION,
        blocks=tuple(blocks),
        across=len(blocks),
    )


def _describe_search(circuit: Circuit) -> str:
    """How a circuit was searched for, and in which checkpoint."""
    return f"{circuit.method} changed, at step {_find_step(circuit)}"


def _find_step(circuit: Circuit) -> str:
    """The step that a circuit's record says that it is of."""
    return circuit.checkpoint.split(",")[0].rpartition(" at ")[2]


def build_null_panel(report: CircuitReport) -> CurvePanel:
    """A histogram of the faithfulness of random circuits, and the circuit's own."""
    null = report.null.numpy().astype(float)
    ends = (min(0.0, null.min()), max(1.0, null.max(), report.tested.faithfulness))
    counts, edges = np.histogram(null, BINS, ends)
    outline = Curve(
        x=np.repeat(edges, 2),
        y=np.concatenate([[0], np.repeat(counts, 2), [0]]).astype(float),
        label=f"{len(null)} random circuits of its size",
        colour="grey",
    )

    own = Mark(
        place=report.tested.faithfulness,
        label=f"this circuit, {report.tested.faithfulness:.2f}",
        colour="blue",
        style="solid",
    )
    most = float(np.quantile(null, 0.95))
    below = Mark(place=most, label="95 % of them are below", colour="grey", style="dashed")

    return CurvePanel(
        x=Axis(label="faithfulness (share of the total effect)"),
        y=Axis(label="random circuits (number)", low=0),
        title="against chance",
        curves=(outline,),
        levels=(Level(value=0, kind="reference"),),
        marks=(own, below),
        legend="inside",
    )


def build_graph_panel(
    config: ModelConfig, edge_mask: Tensor, scores: Tensor | None = None
) -> GraphPanel:
    """Nodes, and edges with port and weight, of a circuit."""
    graph = build_graph(config)
    largest = 1.0
    if scores is not None and edge_mask.any():
        largest = scores.abs()[edge_mask > 0].max().item()
    edges = []
    for row, column in edge_mask.nonzero().tolist():
        receiver, _, port = graph.receivers[row].partition("<")
        score = None if scores is None else scores[row, column].item()
        edge = Edge(
            sender=graph.senders[column],
            receiver=receiver,
            port=port.rstrip(">"),
            weight=1.0 if score is None else abs(score) / largest,
            score=score,
        )
        edges.append(edge)
    used = {edge.sender for edge in edges} | {edge.receiver for edge in edges}
    ports = dict.fromkeys(edge.port for edge in edges)

    return GraphPanel(
        nodes=tuple(_place_nodes(config, used)),
        edges=tuple(edges),
        ports={port: PORTS[port] for port in ports},
    )


def _place_nodes(config: ModelConfig, used: set[str]) -> list[Node]:
    """Where nodes stand: heads side by side, an MLP to their right and above, layers upward."""
    rise = 1.5 if config.d_mlp else 1.0
    middle = (config.n_heads - 1) / 2
    places = [("input", "input", middle, 0.0)]
    for layer in range(config.n_layers):
        height = 1 + rise * layer
        for head in range(config.n_heads):
            label = call_head(layer, head).replace(", ", ",\n")
            places.append((f"a{layer}.h{head}", label, float(head), height))
        if config.d_mlp:
            label = f"layer {layer},\nMLP"
            places.append((f"m{layer}", label, config.n_heads - 0.2, height + 0.6))
    places.append(("logits", "logits", middle, 1 + rise * config.n_layers))

    return [
        Node(name=name, label=label, x=x, y=y, used=name in used) for name, label, x, y in places
    ]
