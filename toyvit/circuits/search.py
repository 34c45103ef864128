"""From a run folder to what is found in one checkpoint: a circuit with its verdict against chance, and a tuned lens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from toyvit.circuits.circuit import (
    Circuit,
    CircuitEvaluator,
    draw_random_circuits,
    find_smallest,
    hash_architecture,
)
from toyvit.circuits.edges import ABLATIONS, acdc, eap
from toyvit.circuits.graph import EdgeMask, build_graph
from toyvit.circuits.pairs import METRICS, PatchingPairs, class_pairs, counterfactual_pairs
from toyvit.clamps.patterns import PATTERNS, active_clamps
from toyvit.errors import BadInput, choose
from toyvit.instruments.lenses import (
    RESIDUALS,
    TunedLens,
    apply_logit_lens,
    fit_lens,
    kl_to_final,
    stack_residuals,
)
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.runs.handle import Run
from toyvit.threads import use_one_thread

METHODS = ("eap", "eap-ig", "acdc")


@dataclass(frozen=True, kw_only=True)
class CircuitReport:
    """A circuit with what it was judged by; `scores` are EAP-IG's, whatever the method, to draw it with."""

    circuit: Circuit
    edge_mask: EdgeMask
    scores: Tensor
    n_edges: int  # of the whole model
    n_pairs: int
    n_asked: int  # pairs that were asked for
    empty_and_full: tuple[float, float]  # the metric with all edges cut, and with none
    total_effect: tuple[float, float]  # their difference and its standard error
    faithfulness: float
    completeness: float
    null: Tensor  # faithfulness of random circuits of the size
    n_same: int  # random circuits that are this very one
    name: str

    def format(self) -> str:
        """A few lines for the terminal."""
        fewer = (
            f" (there are no more; {self.n_asked} were asked for)"
            if self.n_pairs < self.n_asked
            else ""
        )
        lines = [
            (
                "circuit",
                f"{len(self.circuit.edges)} of {self.n_edges} edges, by {self.circuit.method}, of {self.circuit.checkpoint}",
            ),
            (
                f"{self.circuit.metric}, {self.n_pairs} pairs",
                f"{self.empty_and_full[1]:.3f} whole, {self.empty_and_full[0]:.3f} with all cut: {self.total_effect[0]:.3f} +- {self.total_effect[1]:.3f}{fewer}",
            ),
            ("faithfulness", f"{self.faithfulness:.3f} (cut edges carry: {self.circuit.ablation})"),
            ("of the rest without it", f"{self.completeness:.3f}"),
            *self._null_line(),
            (
                "edges",
                "score by EAP-IG: about what the metric changes by when the edge alone is cut",
            ),
            *((f"  {edge}", f"{score:+.3f}") for edge, score in self._scored()),
        ]
        return "\n".join(f"{name:28} {value}" for name, value in lines)

    def _null_line(self) -> list[tuple[str, str]]:
        if not len(self.null):
            return []
        half, most = self.null.quantile(torch.tensor([0.5, 0.95])).tolist()
        same = f"; {self.n_same} of them are this very circuit" if self.n_same else ""
        return [
            (f"{len(self.null)} random circuits", f"median {half:.3f}, 95 % below {most:.3f}{same}")
        ]

    def _scored(self) -> list[tuple[str, float]]:
        return list(zip(self.circuit.edges, self.scores[self.edge_mask > 0].tolist(), strict=True))


def open_checkpoint(run: Run, step: int | None) -> tuple[int, ViT]:
    """A step (default: the last) and its model; BadInput where patterns are held: the bare model is not what was trained."""
    at = run.check_step(step)
    active = active_clamps(run.config.train.clamps, at)
    if held := [str(clamp) for clamp in active if clamp.what in PATTERNS]:
        raise BadInput(
            f"{run.path} is held at step {at} by {', '.join(held)}: its bare model is not what was trained"
        )
    return at, run.bare_model(at)


def select_pairs(
    run: Run, change: str | None, classes: Sequence[int] | None, n: int
) -> PatchingPairs:
    """Pairs of test pictures of a run: counterfactual ones, or of two classes."""
    if n < 1:
        raise BadInput(f"--pairs must be at least 1, got {n}")
    if change and classes:
        raise BadInput(
            f"--change {change} and --classes are two ways to say what differs: give one of them"
        )
    if not classes:
        batch = run.batch("test", 2 * n)
        if not batch.counterfactuals:
            raise BadInput(
                f"the world of {run.path} cannot draw counterfactual pairs: compare two classes, --classes A,B"
            )
        return counterfactual_pairs(batch, change, n)
    pairs = class_pairs(run.batch("test", 40 * n), *classes)
    return PatchingPairs(pairs.clean[:n], pairs.corrupt[:n], pairs.answer[:n], pairs.foil[:n])


@use_one_thread()
def find_circuit(
    run: Run | Path | str,
    *,
    step: int | None = None,
    change: str | None = None,
    classes: Sequence[int] | None = None,
    method: str = "eap-ig",
    faithful: float | None = None,
    threshold: float | None = None,
    metric: str = "logit_difference",
    ablation: str = "corrupt",
    n_pairs: int = 64,
    n_null: int = 50,
) -> CircuitReport:
    """The smallest circuit that reaches a faithfulness (eap, eap-ig), or what acdc leaves at a threshold, of one checkpoint."""
    for value, allowed, what in (
        (method, METHODS, "method"),
        (metric, METRICS, "metric"),
        (ablation, ABLATIONS, "ablation"),
    ):
        choose(value, allowed, what)
    if n_null < 0:
        raise BadInput(f"--null must be at least 0, got {n_null}")
    limit = _limit(method, faithful, threshold)
    run = Run.open(run)
    at, model = open_checkpoint(run, step)
    pairs = select_pairs(run, change, classes, n_pairs)
    evaluator = CircuitEvaluator(model=model, pairs=pairs, metric=metric, ablation=ablation)
    if abs(evaluator.total_effect[0]) <= 2 * evaluator.total_effect[1]:
        raise BadInput(
            f"there is nothing to explain: cutting every edge moves {metric} by {evaluator.total_effect[0]:.3g}, "
            f"with a standard error of {evaluator.total_effect[1]:.2g} over {len(pairs.clean)} pairs"
        )
    scores = eap(model, pairs, metric, points=5)
    if method == "acdc":
        edge_mask, found = acdc(model, pairs, limit, ablation), f"acdc at {limit:g} nats"
    else:
        ranked = eap(model, pairs, metric) if method == "eap" else scores
        edge_mask, found = find_smallest(evaluator, ranked, limit), f"{method} to {limit:g}"
    size = int(edge_mask.sum())
    drawn = draw_random_circuits(model, size, n_null) if size else iter(())
    null, n_same = [], 0
    for other in tqdm(
        drawn, desc="random circuits", total=n_null, leave=False, disable=not size or not n_null
    ):
        null.append(evaluator.faithfulness(other))
        n_same += torch.equal(other, edge_mask)
    what = (
        f"{classes[0]}-{classes[1]}" if classes else change or next(iter(run.task.counterfactuals))
    )
    return CircuitReport(
        circuit=Circuit(
            edges=build_graph(model.config).name_edges(edge_mask),
            metric=metric,
            ablation=ablation,
            method=f"{found}, {what}",
            checkpoint=f"{run.name} at {at}, {run.entries[at].sha256[:12]}",
            architecture=hash_architecture(model.config),
        ),
        edge_mask=edge_mask,
        scores=scores,
        n_edges=len(build_graph(model.config).edges),
        n_pairs=len(pairs.clean),
        n_asked=n_pairs,
        empty_and_full=evaluator.empty_and_full,
        total_effect=evaluator.total_effect,
        faithfulness=evaluator.faithfulness(edge_mask),
        completeness=evaluator.completeness(edge_mask),
        null=torch.tensor(null),
        n_same=n_same,
        name=f"circuit-{what}-{method}-{limit:g}-{metric}-{ablation}-{len(pairs.clean)}-pairs-{at}",
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


@use_one_thread()
def fit_tuned_lens(
    run: Run | Path | str, step: int | None = None, images: int = 512, n_steps: int = 300
) -> tuple[TunedLens, Tensor]:
    """A tuned lens of one checkpoint, fitted on training pictures; and KL(final, lens) in nats, (split lens layer).

    Splits are train, on which no layer is worse than the logit lens, and test; lenses are the logit lens and the tuned one. The
    last layer is the answer itself: 0.
    """
    if images < 1:
        raise BadInput(f"--images must be at least 1, got {images}")
    run = Run.open(run)
    at, model = open_checkpoint(run, step)
    streams = [
        stack_residuals(
            model, trace(model, run.task.eval_batch(split, images, seed).images, RESIDUALS)
        )
        for seed, split in ((run.config.seeds.data, "train"), (run.config.seeds.measure, "test"))
    ]
    lens = fit_lens(model, streams[0], at, n_steps)
    said = [[apply_logit_lens(model, stream), lens(model, stream)] for stream in streams]
    return lens, torch.stack(
        [torch.stack([kl_to_final(one).mean((1, 2)) for one in both]) for both in said]
    )
