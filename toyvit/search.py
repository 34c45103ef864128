"""From a run folder to what is found in one checkpoint: a circuit with its verdict against chance, and a tuned lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from toyvit.circuits.circuit import Circuit, Judge, architecture, random_circuits, smallest
from toyvit.circuits.clamps import PATTERNS, in_force
from toyvit.circuits.contrasts import METRICS, Contrast, between, contrast
from toyvit.circuits.discovery import BASES, acdc, eap
from toyvit.circuits.forward import trace
from toyvit.circuits.graph import Kept, graph
from toyvit.circuits.lenses import RESIDUALS, TunedLens, distance_to_final, fit_lens, logit_lens, residuals
from toyvit.data.tasks import task
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.threads import one_thread
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
    n_asked: int  # pairs that were asked for
    ends: tuple[float, float]  # the metric with all edges cut, and with none
    moved: tuple[float, float]  # their difference and its standard error
    faithfulness: float
    completeness: float
    null: Tensor  # faithfulness of random circuits of the size
    n_same: int  # random circuits that are this very one
    name: str

    def text(self) -> str:
        """A few lines for the terminal."""
        fewer = f" (there are no more; {self.n_asked} were asked for)" if self.n_pairs < self.n_asked else ""
        lines = [
            (
                "circuit",
                f"{len(self.circuit.edges)} of {self.n_edges} edges, by {self.circuit.found}, of {self.circuit.checkpoint}",
            ),
            (
                f"{self.circuit.metric}, {self.n_pairs} pairs",
                f"{self.ends[1]:.3f} whole, {self.ends[0]:.3f} with all cut: {self.moved[0]:.3f} +- {self.moved[1]:.3f}{fewer}",
            ),
            ("faithfulness", f"{self.faithfulness:.3f} (cut edges carry: {self.circuit.base})"),
            ("of the rest without it", f"{self.completeness:.3f}"),
            *self._null_line(),
            ("edges", "score by EAP-IG: about what the metric changes by when the edge alone is cut"),
            *((f"  {edge}", f"{score:+.3f}") for edge, score in self._scored()),
        ]
        return "\n".join(f"{name:28} {value}" for name, value in lines)

    def _null_line(self) -> list[tuple[str, str]]:
        if not len(self.null):
            return []
        half, most = self.null.quantile(torch.tensor([0.5, 0.95])).tolist()
        same = f"; {self.n_same} of them are this very circuit" if self.n_same else ""
        return [(f"{len(self.null)} random circuits", f"median {half:.3f}, 95 % below {most:.3f}{same}")]

    def _scored(self) -> list[tuple[str, float]]:
        return list(zip(self.circuit.edges, self.scores[self.kept > 0].tolist(), strict=True))


def checkpoint(path: Path, step: int | None) -> tuple[Trajectory, int, ViT]:
    """A run's checkpoint (default: the last); BadInput where patterns are held: its bare model is not what was trained."""
    trajectory = Trajectory(path)
    at = trajectory.kept(trajectory.steps[-1] if step is None else step)
    if held := [str(clamp) for clamp in in_force(trajectory.run.train.clamps, at) if clamp.what in PATTERNS]:
        raise BadInput(f"{path} is held at step {at} by {', '.join(held)}: its bare model is not what was trained")
    return trajectory, at, trajectory[at]


def pairs_of(path: Path, change: str | None, classes: Sequence[int] | None, n: int) -> Contrast:
    """Pairs of test pictures of a run: counterfactual ones, or of two classes."""
    if n < 1:
        raise BadInput(f"--pairs must be at least 1, got {n}")
    run = Trajectory(path).run
    made = task(run.task)
    if change and classes:
        raise BadInput(f"--change {change} and --classes are two ways to say what differs: give one of them")
    if not classes:
        batch = made.frozen(run.seeds.measure, "test", 2 * n)
        if not batch.counterfactuals:
            raise BadInput(f"the world of {path} cannot draw counterfactual pairs: compare two classes, --classes A,B")
        return contrast(batch, change, n)
    found = between(made.frozen(run.seeds.measure, "test", 40 * n), *classes)
    return Contrast(found.clean[:n], found.corrupt[:n], found.answer[:n], found.foil[:n])


@one_thread()
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
    if abs(judge.moved[0]) <= 2 * judge.moved[1]:
        raise BadInput(
            f"there is nothing to explain: cutting every edge moves {metric} by {judge.moved[0]:.3g}, "
            f"with a standard error of {judge.moved[1]:.2g} over {len(pairs.clean)} pairs"
        )
    scores = eap(model, pairs, metric, points=5)
    if method == "acdc":
        kept, found = acdc(model, pairs, limit, base), f"acdc at {limit:g} nats"
    else:
        ranked = eap(model, pairs, metric) if method == "eap" else scores
        kept, found = smallest(judge, ranked, limit), f"{method} to {limit:g}"
    size = int(kept.sum())
    drawn = random_circuits(model, size, n_null) if size else iter(())
    null, n_same = [], 0
    for other in tqdm(drawn, desc="random circuits", total=n_null, leave=False, disable=not size or not n_null):
        null.append(judge.faithfulness(other))
        n_same += torch.equal(other, kept)
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
        n_asked=n_pairs,
        ends=judge.ends,
        moved=judge.moved,
        faithfulness=judge.faithfulness(kept),
        completeness=judge.completeness(kept),
        null=torch.tensor(null),
        n_same=n_same,
        name=f"circuit-{what}-{method}-{limit:g}-{metric}-{base}-{len(pairs.clean)}-pairs-{at}",
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


@one_thread()
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
