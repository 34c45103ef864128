"""What takes several checkpoints of one run: how far weights moved, what stayed alike.

And which pictures were learned together. An analysis sees one checkpoint; these see the run. They
stand beside `measure`, which owns the table of single checkpoints, read checkpoints only, and
return frames and tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from toyvit.analyses import fourier, geometry
from toyvit.analyses.analysis import Tagged
from toyvit.data.task import Batch, OperandTable, accuracy, loss
from toyvit.dynamics.order import median_interval
from toyvit.errors import BadInput
from toyvit.instruments.lenses import stack_residuals
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.runs.handle import Run
from toyvit.runs.manifest import ManifestEntry
from toyvit.stats import centre_gram, cka
from toyvit.surroundings import pin_torch

# Of runs that are open: the checkpoints that there were, and their progress measures.
_PROGRESS: WeakKeyDictionary[Run, tuple[tuple[ManifestEntry, ...], pd.DataFrame]] = (
    WeakKeyDictionary()
)


def measure_updates(run: Run | Path | str, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """How far each parameter moved between neighbouring checkpoints, all or some.

    One row a step (but the first) and module:

    step       of the later checkpoint
    steps      between the two: distances over stretches of unlike length are not comparable as they
               are
    distance   Euclidean norm of the difference
    relative   the same over the norm before; NaN where that was 0

    Module `all` is the whole of the weights.
    """
    run = Run.open(run)
    model = ViT(run.config.model)
    wanted = run.steps if steps is None else steps

    rows = []
    before = _copy_weights(run, model, wanted[0])
    for earlier, step in pairwise(wanted):
        now = _copy_weights(run, model, step)
        for name, weight in now.items():
            distance = (weight - before[name]).norm().item()
            size = before[name].norm().item()
            relative = distance / size if size else float("nan")
            rows.append((step, step - earlier, name, distance, relative))
        before = now
    return pd.DataFrame(rows, columns=["step", "steps", "module", "distance", "relative"])


def _copy_weights(run: Run, model: ViT, step: int) -> dict[str, Tensor]:
    """Copies in float64, and `all` of them in one row."""
    parameters = run.bare_model(step, into=model).named_parameters()
    weights = {
        name: weight.detach().double().clone() for name, weight in parameters if weight.numel()
    }
    return weights | {"all": torch.cat([weight.flatten() for weight in weights.values()])}


@pin_torch()
def compare_checkpoints(
    run: Run | Path | str, batch: Batch, steps: Sequence[int] | None = None
) -> dict[str, Float[Tensor, "layer step to_step"]]:
    """Unbiased CKA between checkpoints, layer by layer, on a batch's pictures.

    For CLS (where there is one) and for patches. 1 with itself; 0 in the mean for unrelated
    representations; below 1 between two checkpoints where the layer changed other than by rotation
    and scale. Of a run under clamps, the model as it was trained. Layers and samples are those of
    the analysis `geometry`. Memory: one number for every checkpoint and pair of pictures.
    """
    run = Run.open(run)
    model = ViT(run.config.model)
    n_layers = model.config.n_layers
    sites = ["blocks.*.resid_pre", "blocks.*.resid_post"]
    grams: dict[str, list[list[Tensor]]] = {}  # group: layer: step
    for step in run.steps if steps is None else steps:
        cache = trace(run.model(step, batch, into=model), batch.images, sites)
        for layer, residual in enumerate(stack_residuals(model, cache)):
            for group, tokens in geometry.select_groups(residual, model.config).items():
                by_layer = grams.setdefault(group, [[] for _ in range(n_layers + 1)])
                by_layer[layer].append(centre_gram(geometry.centre_samples(tokens)))

    return {group: torch.stack(list(map(_compare_grams, grams[group]))) for group in grams}


def _compare_grams(by_step: list[Tensor]) -> Float[Tensor, "step to_step"]:
    return cka(torch.stack(by_step))


@pin_torch()
def record_example_losses(run: Run | Path | str, batch: Batch) -> pd.DataFrame:
    """The loss of every picture of a batch (column) at every checkpoint (index, the step).

    In the units of the task's loss. A mean over pictures that ask equally much is the loss of the
    batch. Groups of pictures by factor: the analysis `by_factor`.
    """
    run = Run.open(run)
    model = ViT(run.config.model)
    targets = batch.target.split(1)
    rows = {}
    for step in run.steps:
        logits = run_model(run.model(step, batch, into=model), batch.images)
        pairs = zip(logits.split(1), targets, strict=True)
        rows[step] = [loss(answer, target).item() for answer, target in pairs]
    return pd.DataFrame(rows).T.rename_axis(index="step", columns="image")


def cluster_curves(curves: pd.DataFrame, n: int) -> pd.Series:
    """Which of n clusters each curve (column) belongs to, by the angle between curves.

    Alike are those that fall together. Michaud 2023 clusters samples by the angle between their
    gradients; loss curves take no gradients. Average linkage. n clusters are found in anything:
    compare with groups that are known (`sklearn.metrics.adjusted_rand_score`, 0 by chance).
    """
    from sklearn.cluster import AgglomerativeClustering  # slow to import, and seldom asked for

    n_curves = curves.shape[1]
    if not 1 <= n <= n_curves:
        raise BadInput(f"{n_curves} curves make 1 to {n_curves} clusters, got {n}")
    clustering = AgglomerativeClustering(n, linkage="average", metric="cosine")
    clusters = clustering.fit_predict(curves.to_numpy().T)
    return pd.Series(clusters, curves.columns, name="cluster")


def measure_progress(run: Run | Path | str) -> pd.DataFrame:
    """Progress measures of modular addition (Nanda 2023, section 5), indexed by step.

    train_, test_       loss (nats) and accuracy on the pairs trained on and on all others
    restricted          loss where only key frequencies are kept, pairs not trained on
    restricted_alone    the same without what trained pairs lend them, see
                        `fourier.score_restricted_alone`
    excluded            loss where key frequencies are taken out, pairs trained on
    key_share           of the logits' variance
    gini                of the embedding

    Key frequencies are those of the finished network: of the checkpoint with the lowest loss on
    pairs not trained on, not of the last, for full-batch training has spikes. Of an open run they
    are computed once for the checkpoints that it has. BadInput for a run of another task.
    """
    run = Run.open(run)
    operand_table = run.task.eval_batch("test", 1, 0).operand_table
    if operand_table is None:
        task = f"its task is {run.config.task.name}, not addition"
        raise BadInput(f"{run.path} has no progress measures: {task}")
    entries = tuple(run.entries.values())
    if run not in _PROGRESS or _PROGRESS[run][0] != entries:
        _PROGRESS[run] = entries, _measure_all(run, operand_table)
    return _PROGRESS[run][1].copy()


def _measure_all(run: Run, operand_table: OperandTable) -> pd.DataFrame:
    """The progress measures of every checkpoint."""
    model = ViT(run.config.model)
    tables: dict[int, Tensor] = {}
    ginis: dict[int, float] = {}
    for step in run.steps:
        cache = trace(run.model(step, into=model), operand_table.images, ["logits", "embed"])
        tables[step] = cache["logits"].double()
        spectrum = fourier.spectrum(fourier.average_embedding(cache["embed"]))
        ginis[step] = fourier.gini(spectrum).item()

    keys = fourier.find_key_frequencies(_select_finished(tables, operand_table))
    rows = {
        step: _measure_step(logits, operand_table, keys) | {"gini": ginis[step]}
        for step, logits in tables.items()
    }
    return pd.DataFrame(rows).T.rename_axis("step")


def _select_finished(tables: dict[int, Tensor], operand_table: OperandTable) -> Tensor:
    """The logits with the lowest loss on pairs not trained on."""
    untrained = ~operand_table.trained
    target = operand_table.target[untrained]
    losses = {step: loss(logits[untrained], target).item() for step, logits in tables.items()}
    return tables[min(losses, key=losses.__getitem__)]


def _measure_step(
    logits: Float[Tensor, "pair label"],
    operand_table: OperandTable,
    keys: Bool[Tensor, " frequency"],
) -> dict[str, float]:
    """The progress measures of one checkpoint but `gini`."""
    values = {}
    for side, rows in (("train", operand_table.trained), ("test", ~operand_table.trained)):
        values[f"{side}_loss"] = loss(logits[rows], operand_table.target[rows])
        values[f"{side}_accuracy"] = accuracy(logits[rows], operand_table.target[rows])

    losses = fourier.score_losses(logits, operand_table, keys)
    values["restricted"] = losses[Tagged("restricted_loss", pairs="test")]
    values["restricted_alone"] = losses["restricted_alone"]
    values["excluded"] = losses[Tagged("excluded_loss", pairs="train")]
    values["key_share"] = fourier.wave_power(logits)[keys].sum()
    return {name: value.item() for name, value in values.items()}


def find_reached(curve: pd.Series, share: float = 0.5) -> float:
    """The first step past a share of the way from a curve's far end to where it ends.

    The curve is first smoothed by a running median of five checkpoints, so that a spike is no
    event. It ends at the median of its last ten; its far end is its extreme on the other side of
    that, the highest of a curve that falls. NaN for one that never moves but in spikes. For curves
    with spikes and stairs, in which `transitions.detect` sees no single abrupt change; it does not
    say whether there is one.

    >>> find_reached(pd.Series([3.0] * 20 + [1.0] * 20, index=range(0, 400, 10)))
    200.0
    """
    if not 0 < share < 1 or not np.isfinite(curve).all():
        wanted = "a curve of finite values and a share between 0 and 1 are needed"
        raise BadInput(f"{wanted}, got {curve.to_numpy()} and {share}")

    smooth = curve.rolling(5, center=True, min_periods=1).median().to_numpy()
    if np.ptp(smooth) == 0:
        return float("nan")
    last = np.median(smooth[-10:])
    far = int(smooth.argmax() if smooth.max() - last > last - smooth.min() else smooth.argmin())
    way = (smooth[far:] - smooth[far]) / (last - smooth[far])
    return float(curve.index[far + int((way >= share).argmax())])


def order_by_reaching(
    runs: Sequence[pd.DataFrame], share: float = 0.5, reference: str = "test_loss"
) -> pd.DataFrame:
    """Which curve reaches a share of its way first: a row a column of the runs (seeds).

    By lag behind the reference:

    reached     median over runs, steps
    lag         median over runs of the steps by which it comes after the reference in the same run;
                negative: before
    low, high   95 % bootstrap interval of the lag over runs (2,000 draws); with five runs it is
                near their whole range
    """
    if not runs or any(reference not in run for run in runs):
        names = [list(run) for run in runs]
        raise BadInput(f"every run needs the reference {reference!r} among its curves, got {names}")

    steps = pd.DataFrame([run.apply(find_reached, share=share) for run in runs])
    lags = steps.sub(steps[reference], axis=0)
    low, high = zip(*(median_interval(lags[name]) for name in lags), strict=True)

    columns = {
        "runs": len(lags),
        "reached": steps.median(),
        "lag": lags.median(),
        "low": low,
        "high": high,
    }
    frame = pd.DataFrame(columns, lags.columns)
    return frame.sort_values("lag", kind="stable").rename_axis("measure")
