"""What takes several checkpoints of one run: how far weights moved, what stayed alike, which pictures were learned together.

An analysis sees one checkpoint; these see the run. They stand beside `measure`, which owns the table of single
checkpoints, read checkpoints only, and return frames and tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor

from toyvit.analyses import fourier, geometry
from toyvit.analyses.analysis import Tagged
from toyvit.data.tasks import Batch, OperandTable, accuracy, loss
from toyvit.errors import BadInput
from toyvit.instruments.lenses import stack_residuals
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.runs.handle import Run
from toyvit.stats import centre_gram, cka


def measure_updates(run: Run, steps: Sequence[int] | None = None) -> pd.DataFrame:
    """How far each parameter moved between neighbouring checkpoints, all or some: one row a step (but the first) and module.

    step       of the later checkpoint
    steps      between the two: distances over stretches of unlike length are not comparable as they are
    distance   Euclidean norm of the difference
    relative   the same over the norm before; NaN where that was 0
    Module `all` is the whole of the weights.
    """
    rows, model = [], ViT(run.config.model)
    wanted = run.steps if steps is None else steps
    before = _weights(run, model, wanted[0])
    for earlier, step in pairwise(wanted):
        now = _weights(run, model, step)
        for name, weight in now.items():
            distance, size = (weight - before[name]).norm().item(), before[name].norm().item()
            relative = distance / size if size else float("nan")
            rows.append(
                {
                    "step": step,
                    "steps": step - earlier,
                    "module": name,
                    "distance": distance,
                    "relative": relative,
                }
            )
        before = now
    return pd.DataFrame(rows, columns=["step", "steps", "module", "distance", "relative"])


def _weights(run: Run, model: ViT, step: int) -> dict[str, Tensor]:
    """Copies in float64, and `all` of them in one row."""
    parameters = run.bare_model(step, into=model).named_parameters()
    found = {
        name: weight.detach().double().clone() for name, weight in parameters if weight.numel()
    }
    return found | {"all": torch.cat([weight.flatten() for weight in found.values()])}


def compare_checkpoints(
    run: Run, batch: Batch, steps: Sequence[int] | None = None
) -> dict[str, Float[Tensor, "layer step to_step"]]:
    """Unbiased CKA between checkpoints, layer by layer, for CLS (where there is one) and for patches, on a batch's pictures.

    1 with itself; 0 in the mean for unrelated representations; below 1 between two checkpoints where the layer changed other
    than by rotation and scale. Of a run under clamps, the model as it was trained. Layers and samples are those of the analysis
    `geometry`. Memory: one number for every checkpoint and pair of pictures.
    """
    model, sites = ViT(run.config.model), ["blocks.*.resid_pre", "blocks.*.resid_post"]
    grams: dict[str, list[list[Tensor]]] = {}  # group: layer: step
    for step in run.steps if steps is None else steps:
        shown = run.model(step, batch, into=model)
        seen = trace(shown, batch.images, sites)
        for layer, residual in enumerate(stack_residuals(model, seen)):
            for group, tokens in geometry.select_groups(residual, model.config).items():
                by_layer = grams.setdefault(group, [[] for _ in range(model.config.n_layers + 1)])
                by_layer[layer].append(centre_gram(geometry.centre_samples(tokens)))
    return {
        group: torch.stack([cka(torch.stack(found)) for found in by_layer])
        for group, by_layer in grams.items()
    }


def record_example_losses(run: Run, batch: Batch) -> pd.DataFrame:
    """The loss of every picture of a batch (column) at every checkpoint (index, the step), in the units of the task's loss.

    A mean over pictures that ask equally much is the loss of the batch. Groups of pictures by factor: the analysis `by_factor`.
    """
    model, rows = ViT(run.config.model), {}
    for step in run.steps:
        logits = run_model(
            run.model(step, batch, into=model),
            batch.images,
        )
        pairs = zip(logits.split(1), batch.target.split(1), strict=True)
        rows[step] = [loss(said, target).item() for said, target in pairs]
    return pd.DataFrame(rows).T.rename_axis(index="step", columns="image")


def cluster_curves(curves: pd.DataFrame, n: int) -> pd.Series:
    """Which of n clusters each curve (column) belongs to, by the angle between curves: alike are those that fall together.

    Michaud 2023 clusters samples by the angle between their gradients; loss curves take no gradients. Average linkage.
    n clusters are found in anything: compare with groups that are known (`sklearn.metrics.adjusted_rand_score`, 0 by chance).
    """
    if not 1 <= n <= curves.shape[1]:
        raise BadInput(f"{curves.shape[1]} curves make 1 to {curves.shape[1]} clusters, got {n}")
    found = AgglomerativeClustering(n, linkage="average", metric="cosine").fit_predict(
        curves.to_numpy().T
    )
    return pd.Series(found, curves.columns, name="cluster")


def measure_progress(run: Run) -> pd.DataFrame:
    """Progress measures of modular addition with the key frequencies of the finished network (Nanda 2023, section 5).

    Indexed by step: loss and accuracy on the pairs trained on and on all others, `restricted` (only key frequencies are kept,
    pairs not trained on), `restricted_alone` (the same without what trained pairs lend them, see `fourier.restricted_alone`)
    and `excluded` (they are taken out, pairs trained on), all losses in nats; `key_share` of the logits' variance; `gini` of
    the embedding. The finished network is the checkpoint with the lowest loss on pairs not trained on, not the last: full-batch
    training has spikes. BadInput for a run of another task.
    """
    operand_table = run.task.eval_batch("test", 1, 0).operand_table
    if operand_table is None:
        raise BadInput(
            f"{run.folder.path} has no progress measures: its task is {run.config.task.name}, not addition"
        )
    model, tables, ginis = ViT(run.config.model), {}, {}
    for step in run.steps:
        seen = trace(run.model(step, into=model), operand_table.images, ["logits", "embed"])
        tables[step] = seen["logits"].double()
        ginis[step] = fourier.gini(
            fourier.spectrum(fourier.average_embedding(seen["embed"]))
        ).item()
    tested = {
        step: loss(
            logits[~operand_table.trained], operand_table.target[~operand_table.trained]
        ).item()
        for step, logits in tables.items()
    }
    keys = fourier.find_key_frequencies(tables[min(tested, key=tested.__getitem__)])
    rows = {
        step: _progress(logits, operand_table, keys) | {"gini": ginis[step]}
        for step, logits in tables.items()
    }
    return pd.DataFrame(rows).T.rename_axis("step")


def _progress(
    logits: Float[Tensor, "pair label"],
    operand_table: OperandTable,
    keys: Bool[Tensor, " frequency"],
) -> dict[str, float]:
    found = fourier.score_losses(logits, operand_table, keys)
    plain = {
        f"{side}_{name}": score(logits[rows], operand_table.target[rows])
        for side, rows in (("train", operand_table.trained), ("test", ~operand_table.trained))
        for name, score in (("loss", loss), ("accuracy", accuracy))
    }
    chosen = {
        "restricted": found[Tagged("restricted_loss", pairs="test")],
        "restricted_alone": found["restricted_alone"],
        "excluded": found[Tagged("excluded_loss", pairs="train")],
    }
    share = fourier.wave_power(logits)[keys].sum()
    return {name: value.item() for name, value in (plain | chosen | {"key_share": share}).items()}


def find_reached(curve: pd.Series, share: float = 0.5) -> float:
    """The first step past a share of the way from a curve's far end to where it ends.

    The curve is first smoothed by a running median of five checkpoints, so that a spike is no event. It ends at the median of
    its last ten; its far end is its extreme on the other side of that, the highest of a curve that falls. NaN for
    one that never moves. For curves with spikes and stairs, in which `transitions.detect` sees no single abrupt change; it does
    not say whether there is one.
    """
    if not 0 < share < 1 or not np.isfinite(curve).all():
        raise BadInput(
            f"a curve of finite values and a share between 0 and 1 are needed, got {curve.to_numpy()} and {share}"
        )
    if curve.nunique() < 2:
        return float("nan")
    smooth = curve.rolling(5, center=True, min_periods=1).median().to_numpy()
    last = np.median(smooth[-10:])
    far = int(smooth.argmax() if smooth.max() - last > last - smooth.min() else smooth.argmin())
    way = (smooth[far:] - smooth[far]) / (last - smooth[far])
    return float(curve.index[far + int((way >= share).argmax())])


def order_by_reaching(
    runs: Sequence[pd.DataFrame], share: float = 0.5, reference: str = "test_loss"
) -> pd.DataFrame:
    """Which curve reaches a share of its way first: a row a column of the runs (seeds), by lag behind the reference.

    reached     median over runs, steps
    lag         median over runs of the steps by which it comes after the reference in the same run; negative: before
    low, high   95 % bootstrap interval of the lag over runs (2,000 draws); with five runs it is near their whole range
    """
    if not runs or any(reference not in run for run in runs):
        raise BadInput(
            f"every run needs the reference {reference!r} among its curves, got {[list(run) for run in runs]}"
        )
    steps = pd.DataFrame(
        [{name: find_reached(curve, share) for name, curve in run.items()} for run in runs]
    )
    lags = steps.sub(steps[reference], axis=0)
    picks = np.random.default_rng(0).integers(0, len(lags), (2000, len(lags)))
    low, high = np.percentile(np.median(lags.to_numpy()[picks], axis=1), (2.5, 97.5), axis=0)
    columns = {
        "runs": len(lags),
        "reached": steps.median(),
        "lag": lags.median(),
        "low": low,
        "high": high,
    }
    return (
        pd.DataFrame(columns, lags.columns).sort_values("lag", kind="stable").rename_axis("measure")
    )
