"""Many sparse parities, unequally often: each is learned abruptly, the frequent ones first (Michaud 2023), reduced."""

from __future__ import annotations

import math
from math import inf
from pathlib import Path

import pandas as pd
import torch
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn import functional as F

from toyvit.dynamics.checkpoints import cluster_curves
from toyvit.model.toys import MLP
from toyvit.replications.record import PLOT, TEXT, Check, Outcome, Panel, Replication, build_lines
from toyvit.replications.training import descend, find_first

TASKS, BITS, ASKED, POWER = 16, 32, 3, 1.4
WIDTH, BATCH, RATE, STEPS, LOOKS = 256, 2000, 1e-3, 12_000, 150
TESTED = 50  # pictures of each task


def draw_parities(
    tasks: Tensor, subsets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs (image, control and bits) and answers: the parity of the bits that the task, named one-hot, asks about."""
    bits = torch.randint(2, (len(tasks), BITS), generator=generator)
    answers = bits.gather(1, subsets[tasks]).sum(1) % 2
    return torch.cat([F.one_hot(tasks, TASKS), bits], 1).float(), answers


def run_seed(seed: int, folder: Path, steps: int = STEPS) -> Outcome:
    generator = torch.Generator().manual_seed(2**20 + seed)
    subsets = torch.stack([torch.randperm(BITS, generator=generator)[:ASKED] for _ in range(TASKS)])
    shares = torch.arange(1, TASKS + 1) ** -POWER
    model = MLP((TASKS + BITS, WIDTH, 2), 1.0, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=True)
    tested = draw_parities(torch.arange(TASKS).repeat_interleave(TESTED), subsets, generator)
    when, nats = sorted({round(k * steps / LOOKS) for k in range(LOOKS + 1)}), []

    def loss(step: int) -> Tensor:
        x, y = draw_parities(
            torch.multinomial(shares, BATCH, True, generator=generator), subsets, generator
        )
        return F.cross_entropy(model(x), y)

    def look(step: int) -> None:
        nats.append(F.cross_entropy(model(tested[0]), tested[1], reduction="none"))

    descend(model, optimizer, loss, steps, look, when)
    examples = torch.stack(nats)  # (step, picture)
    tasks = examples.unflatten(1, (TASKS, TESTED)).mean(2).T
    whole = (shares / shares.sum()) @ tasks
    return Outcome(_numbers(when, tasks, whole, examples), [_panel(when, tasks, whole)])


def _numbers(
    when: list[int], tasks: Tensor, whole: Tensor, examples: Tensor
) -> dict[str, float | None]:
    middles = [find_first(when, curve.tolist(), under=math.log(2) / 2) for curve in tasks]
    done = [k for k, curve in enumerate(tasks) if curve[-1] < 0.1 * math.log(2)]
    widths = sorted(width for k in done if (width := _width(when, tasks[k])) is not None)
    return {
        "learned": len(done) / TASKS,
        "order": float(spearmanr(done, [middles[k] for k in done]).statistic)
        if len(done) > 2
        else None,
        "width": widths[len(widths) // 2] if widths else None,
        "whole_width": _width(when, whole),
        "clusters": _clusters(examples, done) if len(done) > 1 else None,
    }


def _width(when: list[int], nats: Tensor) -> float | None:
    """Steps from 10 % to 90 % of a curve's whole fall, over the step of the 10 % point: small where the fall is abrupt."""
    top, fall = nats[0].item(), (nats[0] - nats[-1]).item()
    start, end = (find_first(when, nats.tolist(), under=top - share * fall) for share in (0.1, 0.9))
    return (end - start) / start if start and end else None


def _clusters(examples: Tensor, clear: list[int]) -> float:
    """How well clusters of pictures' loss curves are tasks, of those learned: adjusted Rand index, 0 by chance, at most 1."""
    curves = examples.unflatten(1, (TASKS, TESTED))[:, clear].flatten(1)
    found = cluster_curves(pd.DataFrame(curves.numpy()), len(clear))
    return float(
        adjusted_rand_score(torch.arange(len(clear)).repeat_interleave(TESTED).numpy(), found)
    )


def _panel(when: list[int], tasks: Tensor, whole: Tensor) -> Panel:
    shown = {f"task {k + 1}": (when, tasks[k].tolist()) for k in (0, 1, 2, 4, 7, 11, 15)} | {
        "all, by frequency": (when, whole.tolist())
    }
    return build_lines(
        f"{TASKS} parities", "step", "loss (nats)", shown, levels={"guessing": math.log(2)}
    )


ROW = Replication(
    name="quanta",
    title="Sparse parities: quanta of learning, reduced",
    source="Michaud 2023, The Quantization Model of Neural Scaling",
    compared=(
        "Loss of each of 16 parities of 3 bits out of 32, named by a one-hot code, task k drawn in proportion to k^-1.4; "
        "an MLP of 256 units, batches of 2,000, Adam at 1e-3, 12,000 steps. Theirs: 500 tasks, 100 bits. A width is the "
        "steps from 10 % to 90 % of a curve's fall, over the steps before. Clusters of single pictures' loss curves are "
        "compared with tasks (adjusted Rand index: 0 by chance)."
    ),
    run=run_seed,
    checks=(
        Check(
            "order",
            "rank correlation of a task's rarity and the step of its drop",
            "in order of frequency",
            PLOT,
            0.8,
            1,
            must=True,
        ),
        Check("width", "width of a task's drop, median over tasks learned", "abrupt", PLOT, 0, 2),
        Check("whole_width", "width of the mean loss", "smooth", PLOT, 5, inf),
        Check(
            "clusters",
            "clusters of curves against tasks, adjusted Rand index",
            "clusters are tasks",
            TEXT,
            0.5,
            1,
        ),
    ),
    minutes=0.6,
    remark="A width of 1 or more is slow by this lab's detector: a task's drop is abrupt beside the mean loss, not by itself.",
)
