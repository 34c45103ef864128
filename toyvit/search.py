"""From a run folder to what is found in one checkpoint: a circuit with its verdict against chance, and a tuned lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toyvit.circuits.circuit import Circuit, Judge, architecture, random_circuits, smallest
from toyvit.circuits.clamps import in_force
from toyvit.circuits.contrasts import METRICS, Contrast, between, contrast
from toyvit.circuits.discovery import BASES, acdc, eap
from toyvit.circuits.forward import trace
from toyvit.circuits.graph import Kept, graph
from toyvit.circuits.lenses import RESIDUALS, TunedLens, distance_to_final, fit_lens, logit_lens, residuals
from toyvit.data.tasks import task
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.trajectory import Trajectory

METHODS = ("eap", "eap-ig", "acdc")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A circuit with what it was judged by; `scores` are EAP-IG's, whatever the method, to draw it with."""

    circuit: Circuit
    kept: Kept
    scores: Tensor
    n_edges: int  # of the whole model
    n_pairs: int
    ends: tuple[float, float]  # the metric with all edges cut, and with none
    faithfulness: float
    completeness: float
    null: Tensor  # faithfulness of random circuits of the size
    name: str

    def text(self) -> str:
        """A few lines for the terminal."""
        exact = "" if abs(self.ends[1] - self.ends[0]) > 1e-6 else " (the pairs make no difference to this model)"
        lines = [
            (
                "circuit",
                f"{len(self.circuit.edges)} of {self.n_edges} edges, by {self.circuit.found}, of {self.circuit.checkpoint}",
            ),
            (
                f"{self.circuit.metric}, {self.n_pairs} pairs",
                f"{self.ends[1]:.3f} whole, {self.ends[0]:.3f} with all cut{exact}",
            ),
            ("faithfulness", f"{self.faithfulness:.3f} (cut edges carry: {self.circuit.base})"),
            ("of the rest without it", f"{self.completeness:.3f}"),
            *self._null_line(),
            *(("", edge) for edge in self.circuit.edges),
        ]
        return "\n".join(f"{name:28} {value}" for name, value in lines)

    def _null_line(self) -> list[tuple[str, str]]:
        if not len(self.null):
            return []
        half, most = self.null.quantile(torch.tensor([0.5, 0.95])).tolist()
        return [(f"{len(self.null)} random circuits", f"median {half:.3f}, 95 % below {most:.3f}")]


def checkpoint(path: Path, step: int | None) -> tuple[Trajectory, int, ViT]:
    """A run's checkpoint (default: the last); BadInput where clamps are in force: its bare model is not what was trained."""
    trajectory = Trajectory(path)
    at = trajectory.kept(trajectory.steps[-1] if step is None else step)
    if held := in_force(trajectory.run.train.clamps, at):
        raise BadInput(f"{path} is held by {len(held)} clamps at step {at}: circuits and lenses are looked for in runs without")
    return trajectory, at, trajectory[at]


def pairs_of(path: Path, change: str | None, classes: Sequence[int] | None, n: int) -> Contrast:
    """Pairs of test pictures of a run: counterfactual ones, or of two classes."""
    if n < 1:
        raise BadInput(f"--pairs must be at least 1, got {n}")
    run = Trajectory(path).run
    made = task(run.task)
    if not classes:
        return contrast(made.frozen(run.seeds.measure, "test", 2 * n), change, n)
    found = between(made.frozen(run.seeds.measure, "test", 40 * n), *classes)
    return Contrast(found.clean[:n], found.corrupt[:n], found.answer[:n], found.foil[:n])


def search(
    path: Path,
    *,
    step: int | None = None,
    change: str | None = None,
    classes: Sequence[int] | None = None,
    method: str = "eap-ig",
    faithful: float | None = None,
    threshold: float | None = None,
    metric: str = "logit_difference",
    base: str = "corrupt",
    n_pairs: int = 64,
    n_null: int = 50,
) -> Found:
    """The smallest circuit that reaches a faithfulness (eap, eap-ig), or what acdc leaves at a threshold, of one checkpoint."""
    for value, allowed, what in ((method, METHODS, "method"), (metric, METRICS, "metric"), (base, BASES, "ablation")):
        choose(value, allowed, what)
    if n_null < 0:
        raise BadInput(f"--null must be at least 0, got {n_null}")
    limit = _limit(method, faithful, threshold)
    trajectory, at, model = checkpoint(path, step)
    pairs = pairs_of(path, change, classes, n_pairs)
    judge = Judge(model=model, pairs=pairs, metric=metric, base=base)
    scores = eap(model, pairs, metric, points=5)
    if method == "acdc":
        kept, found = acdc(model, pairs, limit, base), f"acdc at {limit:g} nats"
    else:
        ranked = eap(model, pairs, metric) if method == "eap" else scores
        kept, found = smallest(judge, ranked, limit), f"{method} to {limit:g}"
    size = int(kept.sum())
    null = [judge.faithfulness(other) for other in random_circuits(model, size, n_null)] if size else []
    what = f"{classes[0]}-{classes[1]}" if classes else change or next(iter(task(trajectory.run.task).others))
    return Found(
        circuit=Circuit(
            edges=graph(model.config).named(kept),
            metric=metric,
            base=base,
            found=f"{found}, {what}",
            checkpoint=f"{path.name} at {at}, {trajectory.entries[at].sha256[:12]}",
            architecture=architecture(model.config),
        ),
        kept=kept,
        scores=scores,
        n_edges=len(graph(model.config).edges),
        n_pairs=len(pairs.clean),
        ends=judge.ends,
        faithfulness=judge.faithfulness(kept),
        completeness=judge.completeness(kept),
        null=torch.tensor(null),
        name=f"circuit-{what}-{method}-{limit:g}-{base}-{at}",
    )


def _limit(method: str, faithful: float | None, threshold: float | None) -> float:
    """The faithfulness to reach, or the threshold of ACDC; BadInput for the one that a method has no use for."""
    unused, name = (faithful, "--faithful") if method == "acdc" else (threshold, "--threshold")
    if unused is not None:
        raise BadInput(
            f"{name} {unused:g} is of no use to {method}: it takes {'--threshold' if method == 'acdc' else '--faithful'}"
        )
    if method != "acdc":
        return 0.9 if faithful is None else faithful
    if threshold is not None and not threshold >= 0:
        raise BadInput(f"--threshold must be at least 0 nats, got {threshold:g}")
    return 0.01 if threshold is None else threshold


def tuned_lens(path: Path, step: int | None = None, images: int = 512, n_steps: int = 300) -> tuple[TunedLens, Tensor]:
    """A tuned lens of one checkpoint, fitted on training pictures; and KL(final, lens) in nats, (split lens layer).

    Splits are train, on which no layer is worse than the logit lens, and test; lenses are the logit lens and the tuned one. The
    last layer is the answer itself: 0.
    """
    if images < 1:
        raise BadInput(f"--images must be at least 1, got {images}")
    trajectory, at, model = checkpoint(path, step)
    run, made = trajectory.run, task(trajectory.run.task)
    streams = [
        residuals(model, trace(model, made.frozen(seed, split, images).images, RESIDUALS))
        for seed, split in ((run.seeds.data, "train"), (run.seeds.measure, "test"))
    ]
    lens = fit_lens(model, streams[0], at, n_steps)
    said = [[logit_lens(model, stream), lens(model, stream)] for stream in streams]
    return lens, torch.stack([torch.stack([distance_to_final(one).mean((1, 2)) for one in both]) for both in said])
