"""A whole Lightning run against a plain loop that does the same updates, evaluations and writes.

Both leave equal files.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from bench.timing import Result, interleave
from toyvit.config import RunConfig, learning_rate, plan_checkpoints, plan_states
from toyvit.data.task import Batch, accuracy, build_task, loss, resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.train import fit
from toyvit.train.optimizers import build_optimizer
from toyvit.train.states import TrainingState, save_state
from toyvit.train.stream import BatchStream

BAR = 1.08
STEPS = 600
CHECKPOINTS = 100


def update(
    model: ViT, adam: torch.optim.Optimizer, batch: tuple[torch.Tensor, torch.Tensor], clip: float
) -> dict[str, float]:
    """One clipped update; its loss and gradient norm."""
    adam.zero_grad()
    value = loss(model.answer(batch[0]), batch[1])
    value.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    adam.step()
    return {"loss": value.item(), "gradient_norm": norm.item()}


class Bare:
    """Training as a plain loop, with the project's own model, data, optimiser and files."""

    def __init__(self, run: RunConfig, path: Path) -> None:
        self.run = run
        self.folder = RunFolder(path)
        self.folder.create(run)
        self.model = ViT(run.model, seed=run.seeds.init)
        self.adam = build_optimizer(self.model, run.train)

        task = build_task(run.task)
        self.stream = BatchStream(task, run)
        n = run.train.n_validation
        self.validation: Batch = task.eval_batch("validation", n, run.seeds.measure)
        self.state_steps = plan_states(run.train.steps)
        self.lines: list[str] = []

    def train(self) -> None:
        config = self.run.train
        checkpoints = set(plan_checkpoints(config))
        self.keep(0)
        for step, batch in enumerate(self.stream, 1):
            for group in self.adam.param_groups:
                group["lr"] = learning_rate(config, step)
            line = {"step": step, **update(self.model, self.adam, batch, config.clip)}
            line["learning_rate"] = learning_rate(config, step)
            self.lines.append(format_line(line, self.folder.hash_run()))
            if step in checkpoints:
                self.keep(step)

    @torch.no_grad()
    def keep(self, step: int) -> None:
        """Score the validation batch; write the checkpoint, the metrics, and a due state."""
        logits = self.model.eval().answer(self.validation.images)
        target = self.validation.target
        scores = {"loss": loss(logits, target).item(), "accuracy": accuracy(logits, target).item()}
        self.model.train()
        self.folder.write_checkpoint(
            step, step * self.run.train.batch_size, self.model.state_dict(), scores
        )
        with self.folder.metrics.open("a") as file:
            file.write("".join(self.lines))
        self.lines.clear()
        if step in self.state_steps:
            state = TrainingState(step, self.model.state_dict(), self.adam.state_dict())
            save_state(self.folder, state, keep=True)


def check_same(first: Path, second: Path) -> None:
    """Both runs wrote the same checkpoints, to the bit, and the same metrics."""
    for name in ("manifest.jsonl", "metrics.jsonl"):
        is_same = (first / name).read_text() == (second / name).read_text()
        assert is_same, f"{name} differs between {first} and {second}"


def results(repeats: int | None) -> Iterator[Result]:
    recipe = RECIPES["induction"]()
    spaced = tuple(range(0, STEPS + 1, STEPS // CHECKPOINTS))
    training = replace(recipe.train, steps=STEPS, checkpoints=spaced, path="read")
    run = resolve_config(replace(recipe, train=training))
    with tempfile.TemporaryDirectory() as place:
        ours = count()
        plain = count()
        jobs = {
            "lightning": lambda: fit(run, Path(place) / f"lightning-{next(ours)}", progress=False),
            "bare": lambda: Bare(run, Path(place) / f"bare-{next(plain)}").train(),
        }
        times = interleave("lightning", jobs, repeats or 9, warm=1)
        check_same(Path(place) / "lightning-0", Path(place) / "bare-0")
    yield Result(
        name=f"induction {STEPS} steps {len(spaced)} checkpoints",
        ours=times["lightning"],
        peer=times["bare"],
        peer_name="plain loop",
        bar=BAR,
        paired=True,
    )
