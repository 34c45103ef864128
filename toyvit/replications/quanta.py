"""Many sparse parities, unequally often: each is learned abruptly, the frequent ones first.

Michaud 2023, reduced.
"""

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
from toyvit.dynamics.transitions import find_first_step
from toyvit.model.toys import MLP
from toyvit.replications.record import PLOT, TEXT, Check, Outcome, Panel, Replication, build_lines
from toyvit.replications.training import descend, space_evenly

TASKS = 16
BITS = 32
ASKED = 3
POWER = 1.4
WIDTH = 256
BATCH = 2000
RATE = 1e-3
STEPS = 12_000
LOOKS = 150
TESTED = 50  # pictures of each task


def draw_parities(
    tasks: Tensor, subsets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs (image, control and bits) and answers.

    An answer is the parity of the bits that the task, named one-hot, asks about.
    """
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
    when = space_evenly(steps, LOOKS)
    nats: list[Tensor] = []

    def loss(step: int) -> Tensor:
        tasks = torch.multinomial(shares, BATCH, True, generator=generator)
        x, y = draw_parities(tasks, subsets, generator)
        return F.cross_entropy(model(x), y)

    def look(step: int) -> None:
        nats.append(F.cross_entropy(model(tested[0]), tested[1], reduction="none"))

    descend(model, optimizer, loss, steps, look, when)
    examples = torch.stack(nats)  # (step, picture)
    tasks = examples.unflatten(1, (TASKS, TESTED)).mean(2).T
    whole = (shares / shares.sum()) @ tasks
    numbers = summarize_curves(when, tasks, whole, examples)
    return Outcome(numbers, [_build_panel(when, tasks, whole)])


def summarize_curves(
    when: list[int], tasks: Tensor, whole: Tensor, examples: Tensor
) -> dict[str, float | None]:
    """The numbers of the checks.

    From losses of tasks (task step), of all by frequency (step) and of pictures (step picture).
    """
    middles = [
        find_first_step(pd.Series(curve.tolist(), when) < math.log(2) / 2) for curve in tasks
    ]
    learned = [k for k, curve in enumerate(tasks) if curve[-1] < 0.1 * math.log(2)]
    widths = [measure_width(when, tasks[k]) for k in learned]
    measured = sorted(width for width in widths if width is not None)

    order = None
    if len(learned) > 2:
        order = float(spearmanr(learned, [middles[k] for k in learned]).statistic)
    return {
        "learned": len(learned) / TASKS,
        "order": order,
        "width": measured[len(measured) // 2] if measured else None,
        "whole_width": measure_width(when, whole),
        "clusters": score_clusters(examples, learned) if len(learned) > 1 else None,
    }


def measure_width(when: list[int], nats: Tensor) -> float | None:
    """Steps from 10 % to 90 % of a curve's whole fall, over the step of the 10 % point.

    Small where the fall is abrupt.
    """
    curve = pd.Series(nats.tolist(), when)
    top = nats[0].item()
    fall = (nats[0] - nats[-1]).item()
    start = find_first_step(curve < top - 0.1 * fall)
    end = find_first_step(curve < top - 0.9 * fall)
    return (end - start) / start if start and end else None


def score_clusters(examples: Tensor, learned: list[int]) -> float:
    """How well clusters of pictures' loss curves are tasks, of those learned.

    Adjusted Rand index: 0 by chance, at most 1.
    """
    curves = examples.unflatten(1, (TASKS, TESTED))[:, learned].flatten(1)
    clusters = cluster_curves(pd.DataFrame(curves.numpy()), len(learned))
    tasks = torch.arange(len(learned)).repeat_interleave(TESTED)
    return float(adjusted_rand_score(tasks.numpy(), clusters))


def _build_panel(when: list[int], tasks: Tensor, whole: Tensor) -> Panel:
    curves = {f"task {k + 1}": (when, tasks[k].tolist()) for k in (0, 1, 2, 4, 7, 11, 15)}
    curves["all, by frequency"] = (when, whole.tolist())
    levels = {"guessing": math.log(2)}
    return build_lines(f"{TASKS} parities", "step", "loss (nats)", curves, levels=levels)


ROW = Replication(
    name="quanta",
    title="Sparse parities: quanta of learning, reduced",
    source="Michaud 2023, The Quantization Model of Neural Scaling",
    compared=(
        "Loss of each of 16 parities of 3 bits out of 32, named by a one-hot code, task k drawn in "
        "proportion to k^-1.4; an MLP of 256 units, batches of 2,000, Adam at 1e-3, 12,000 steps. "
        "Theirs: 500 tasks, 100 bits. A width is the steps from 10 % to 90 % of a curve's fall, "
        "over the steps before. Clusters of single pictures' loss curves are compared with tasks "
        "(adjusted Rand index: 0 by chance)."
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
    remark=(
        "A width of 1 or more is slow by this lab's detector: a task's drop is abrupt beside the "
        "mean loss, not by itself."
    ),
)
