"""A circuit as a record: which edges of which checkpoint, and how they were selected."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from toyvit.circuits.edges import ABLATIONS
from toyvit.circuits.evaluate import PairScores
from toyvit.circuits.graph import EdgeMask, build_graph
from toyvit.circuits.pairs import METRICS
from toyvit.config import ModelConfig
from toyvit.config.whole_files import write_atomically
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.runs.disk import add_digest
from toyvit.runs.records import check_home, parse_checkpoint, read_checked

# Fields of records that were written under another name.
RENAMED = {"base": "ablation", "found": "method"}


def hash_architecture(config: ModelConfig) -> str:
    """16 digits of the SHA-256 of a model's shape: circuits of another shape do not fit.

    >>> hash_architecture(ModelConfig(n_layers=1)) == hash_architecture(ModelConfig(n_layers=2))
    False
    """
    plain = json.dumps(config.list_values(), sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """Edges that stay as they are while all others are ablated.

    `metric` and `ablation` are what it was selected by, `method` how, such as "eap-ig, 8 edges";
    `checkpoint` is the run, the step and the checkpoint's SHA-256, `architecture` the hash of the
    model's shape. `searched` is how good it is on the pairs that it was selected on, `tested` on
    others; None where that was not measured, as in records of before.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> circuit = Circuit(edges=("input->logits",), metric="kl", ablation="zero", method="by hand",
    ...     checkpoint="none", architecture=hash_architecture(config))
    >>> circuit.edge_mask(ViT(config)).sum()
    tensor(1.)
    """

    edges: tuple[str, ...]
    metric: str
    ablation: str
    method: str
    checkpoint: str
    architecture: str
    searched: PairScores | None = None
    tested: PairScores | None = None

    def save(self, path: Path | str) -> None:
        """Write it as JSON, which `load_circuit` reads."""
        text = json.dumps(add_digest(asdict(self)), indent=1) + "\n"
        write_atomically(Path(path), text.encode())

    def edge_mask(self, model: ViT) -> EdgeMask:
        """1 at the circuit's edges, 0 elsewhere; BadInput for a model of another shape."""
        graph = build_graph(model.config)
        here = hash_architecture(model.config)
        if self.architecture != here:
            raise BadInput(
                f"this circuit is of {self.checkpoint}, a model of another architecture"
                f" ({self.architecture}): this one ({here}) has the nodes"
                f" {', '.join(graph.senders)}"
            )
        return graph.mask_edges(self.edges)


def load_circuit(path: Path | str) -> Circuit:
    """A saved circuit; BadInput for a file that holds none, or not what was written.

    One in a run's `figures/` must be of a checkpoint of that run. Records without a digest, of
    versions 0.1 and 0.2, are read, which is said; those of 0.1 with the fields `base` and `found`.
    """
    try:
        record = read_checked(Path(path))
        fields = {RENAMED.get(name, name): value for name, value in record.items()}
        edges = fields.pop("edges")
        for name in ("searched", "tested"):
            fields[name] = _read_scores(fields.get(name))
        circuit = Circuit(edges=tuple(edges), **fields)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(f"{path} holds no circuit: {error}") from error

    if not isinstance(edges, list) or not all(isinstance(edge, str) for edge in edges):
        raise BadInput(f"{path} holds no circuit: its edges are {edges!r}, not a list of names")
    choose(str(circuit.metric), METRICS, f"metric in {path}")
    choose(str(circuit.ablation), ABLATIONS, f"ablation in {path}")
    if checkpoint := parse_checkpoint(str(circuit.checkpoint)):
        check_home(Path(path), *checkpoint)
    return circuit


def _read_scores(record: object) -> PairScores | None:
    """Scores of a record; TypeError where they are no numbers, or not those."""
    if record is None:
        return None
    if not isinstance(record, dict):
        raise TypeError(f"the scores are {record!r}")

    scores = PairScores(**record)
    for name, value in asdict(scores).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} is {value!r}, not a number")
    return scores
