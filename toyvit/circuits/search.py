"""From a run to a circuit of one checkpoint, with its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from toyvit.circuits.circuit import Circuit, hash_architecture
from toyvit.circuits.edges import (
    ABLATIONS,
    ENDS,
    Scores,
    acdc,
    eap,
    keep_connected,
    select_strongest,
)
from toyvit.circuits.evaluate import CircuitEvaluator, draw_random_circuits
from toyvit.circuits.graph import EdgeMask, build_graph
from toyvit.circuits.pairs import METRICS, PatchingPairs, class_pairs, counterfactual_pairs
from toyvit.circuits.verdict import CircuitReport
from toyvit.errors import BadInput, choose
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

METHODS = ("eap", "eap-ig", "acdc")
EAP_IG_POINTS = 5


def select_pairs(
    run: Run, change: str | None, classes: Sequence[int] | None, n: int
) -> PatchingPairs:
    """Up to n pairs of test pictures of a run: counterfactual ones, or of two classes.

    BadInput for both a change and classes, and where the run has no such pairs.
    """
    _check_request(change, classes, n)
    if classes:
        pairs = class_pairs(run.batch("test", 40 * n), *classes)
        return PatchingPairs(pairs.clean[:n], pairs.corrupt[:n], pairs.answer[:n], pairs.foil[:n])

    batch = run.batch("test", 2 * n)
    if not batch.counterfactuals:
        raise BadInput(
            f"the world of {run.path} cannot draw counterfactual pairs:"
            " compare two classes, --classes A,B"
        )
    return counterfactual_pairs(batch, change, n)


def _check_request(change: str | None, classes: Sequence[int] | None, n: int) -> None:
    """BadInput for no pair, and for both a change and classes."""
    if n < 1:
        raise BadInput(f"--pairs must be at least 1, got {n}")
    if change and classes:
        raise BadInput(
            f"--change {change} and --classes are two ways to say what differs: give one of them"
        )


@pin_torch()
def find_smallest(evaluator: CircuitEvaluator, scores: Scores, faithful: float = 0.9) -> EdgeMask:
    """A small circuit of at least this faithfulness, between 0 and 1, else BadInput.

    The strongest edges until it is reached, then every edge off that can go, from the weakest up;
    none of those left can go alone. Other circuits of the size or smaller may exist.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model import ViT
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> evaluator = CircuitEvaluator(model=model, pairs=pairs)
    >>> edge_mask = find_smallest(evaluator, eap(model, pairs), 0.9)
    >>> evaluator.faithfulness(edge_mask) >= 0.9
    True
    """
    if not 0 < faithful < 1:
        raise BadInput(f"the faithfulness to reach is between 0 and 1, got {faithful}")

    edge_mask = _select_faithful(evaluator, scores, faithful)
    while True:
        fewer = _drop_weakest(evaluator, edge_mask, scores, faithful)
        if fewer is None:
            return edge_mask
        edge_mask = fewer


def _select_faithful(evaluator: CircuitEvaluator, scores: Scores, faithful: float) -> EdgeMask:
    """The fewest of the strongest edges that reach a faithfulness; else all edges."""
    for n in range(1, scores.numel() + 1):
        edge_mask = select_strongest(evaluator.model, scores, n)
        if evaluator.faithfulness(edge_mask) >= faithful:
            return edge_mask
    return evaluator.full_mask


def _drop_weakest(
    evaluator: CircuitEvaluator, edge_mask: EdgeMask, scores: Scores, faithful: float
) -> EdgeMask | None:
    """The circuit without the weakest edge that it can do without; None where there is none.

    What hangs on that edge alone goes with it, and is missing when the rest is judged: cut edges
    carry something where the ablation is not `corrupt`.
    """
    places = edge_mask.nonzero().tolist()
    for receiver, sender in sorted(places, key=lambda place: abs(scores[tuple(place)].item())):
        fewer = edge_mask.clone()
        fewer[receiver, sender] = 0
        fewer = keep_connected(evaluator.model, fewer)
        if evaluator.faithfulness(fewer) >= faithful:
            return fewer
    return None


@pin_torch()
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
    end: str = "clean",
    n_pairs: int = 64,
    n_null: int = 50,
) -> CircuitReport:
    """A circuit of one checkpoint (default: the last), with its verdict against chance.

    By `eap` or `eap-ig` the smallest that reaches the faithfulness `faithful` (default 0.9); by
    `acdc` what is left at a `threshold` in nats (default 0.01). It is searched on `n_pairs` pairs
    and tested on as many others, half and half where there are fewer: counterfactual ones, of
    `change`, or of two classes. `n_null` random circuits of the size, on the pairs of the test, are
    the null. `end` is which end of the way from clean to corrupt is a point of EAP-IG, see `eap`.
    BadInput for settings that cannot be, and where there is nothing to explain: a total effect
    within two standard errors of 0, on either half.
    """
    choose(method, METHODS, "method")
    choose(metric, METRICS, "metric")
    choose(ablation, ABLATIONS, "ablation")
    _check_end(end, method)
    if n_null < 0:
        raise BadInput(f"--null must be at least 0, got {n_null}")
    limit = _choose_limit(method, faithful, threshold)

    run = Run.open(run)
    at = run.check_unclamped(step)
    model = run.bare_model(at)
    _check_request(change, classes, n_pairs)
    pairs, others = select_pairs(run, change, classes, 2 * n_pairs).split(n_pairs)
    evaluator = CircuitEvaluator(model=model, pairs=pairs, metric=metric, ablation=ablation)
    test = CircuitEvaluator(model=model, pairs=others, metric=metric, ablation=ablation)
    _check_effect(evaluator)
    _check_effect(test)

    scores = eap(model, pairs, metric, points=EAP_IG_POINTS, end=end)
    edge_mask = _search(evaluator, scores, method, limit)
    searched = evaluator.judge(edge_mask)
    tested = test.judge(edge_mask)
    null, n_same = _draw_null(test, edge_mask, n_null)
    what = _name_question(run, change, classes)
    circuit = Circuit(
        edges=build_graph(model.config).name_edges(edge_mask),
        metric=metric,
        ablation=ablation,
        method=f"{_describe_method(method, limit, end)}, {what}",
        checkpoint=f"{run.name} at {at}, {run.entries[at].sha256[:12]}",
        architecture=hash_architecture(model.config),
        searched=searched,
        tested=tested,
    )
    name = f"circuit-{what}-{method}-{limit:g}-{metric}-{ablation}-{len(pairs.clean)}-pairs-{at}"
    return CircuitReport(
        circuit=circuit,
        edge_mask=edge_mask,
        scores=scores,
        n_edges=len(build_graph(model.config).edges),
        n_requested=n_pairs,
        searched=searched,
        tested=tested,
        null=null,
        n_same=n_same,
        name=name if end == "clean" else f"{name}-{end}-end",
    )


def _name_question(run: Run, change: str | None, classes: Sequence[int] | None) -> str:
    """What differs in the pairs: two classes, or a change of the task's, the first by default."""
    if classes:
        return f"{classes[0]}-{classes[1]}"
    return change or next(iter(run.task.counterfactuals), "")


def _describe_method(method: str, limit: float, end: str) -> str:
    how = f"acdc at {limit:g} nats" if method == "acdc" else f"{method} to {limit:g}"
    return how if end == "clean" else f"{how} with the {end} end"


def _choose_limit(method: str, faithful: float | None, threshold: float | None) -> float:
    """The faithfulness to reach, or the threshold of ACDC; BadInput for the one not of use."""
    if method != "acdc":
        if threshold is not None:
            raise BadInput(
                f"--threshold {threshold:g} is of no use to {method}: it takes --faithful"
            )
        return 0.9 if faithful is None else faithful

    if faithful is not None:
        raise BadInput(f"--faithful {faithful:g} is of no use to acdc: it takes --threshold")
    if threshold is not None and not threshold >= 0:
        raise BadInput(f"--threshold must be at least 0 nats, got {threshold:g}")
    return 0.01 if threshold is None else threshold


def _check_end(end: str, method: str) -> None:
    """BadInput for an unknown end, and for one that the method has no use for."""
    choose(end, ENDS, "end")
    if end != "clean" and method != "eap-ig":
        raise BadInput(f"--end {end} is of no use to {method}: it is for eap-ig")


def _check_effect(evaluator: CircuitEvaluator) -> None:
    """BadInput where the total effect is within two standard errors of 0.

    Of one pair there is no standard error (NaN), and nothing can be told from 0.
    """
    effect, error = evaluator.total_effect
    if not abs(effect) > 2 * error:
        raise BadInput(
            f"there is nothing to explain: cutting every edge moves {evaluator.metric} by"
            f" {effect:.3g}, with a standard error of {error:.2g} over"
            f" {len(evaluator.pairs.clean)} pairs"
        )


def _search(evaluator: CircuitEvaluator, scores: Scores, method: str, limit: float) -> EdgeMask:
    """The circuit by a method; `scores` are EAP-IG's."""
    if method == "acdc":
        return acdc(evaluator.model, evaluator.pairs, limit, evaluator.ablation)
    if method == "eap":
        scores = eap(evaluator.model, evaluator.pairs, evaluator.metric)
    return find_smallest(evaluator, scores, limit)


def _draw_null(
    evaluator: CircuitEvaluator, edge_mask: EdgeMask, n: int
) -> tuple[Float[Tensor, " circuit"], int]:
    """Faithfulness of n random circuits of a circuit's size, and how many are that very one."""
    size = int(edge_mask.sum())
    if not size or not n:
        return torch.tensor([]), 0

    null = []
    n_same = 0
    circuits = draw_random_circuits(evaluator.model, size, n)
    for other in tqdm(circuits, "random circuits", n, leave=False, disable=None):
        null.append(evaluator.faithfulness(other))
        n_same += torch.equal(other, edge_mask)
    return torch.tensor(null), n_same
