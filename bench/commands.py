"""Whole commands: what `make train-toy` costs after set-up, its report, and its steps' share."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from bench.lightning import Bare, update
from bench.starting import start
from bench.timing import Result
from bench.workers import read_children
from toyvit.data.task import resolve_config
from toyvit.recipes import RECIPES

TOY = ("induction", "induction-control")
TOY_BAR = 85_000  # milliseconds
REPORT_BAR = 6_000  # without the page
PAGE_BAR = 8_000
SHARE_BAR = 0.25  # of a training's time that is not its steps


def take(clock: Callable[[], float], *words: str) -> float:
    """Milliseconds that a command takes by a clock."""
    begun = clock()
    start("-m", "toyvit", *words)
    return 1e3 * (clock() - begun)


def take_steps() -> float:
    """CPU milliseconds of the default recipe's steps in a plain loop, pictures included."""
    run = resolve_config(RECIPES[TOY[0]]())
    run = replace(run, train=replace(run.train, path="read"))
    with tempfile.TemporaryDirectory() as place:
        bare = Bare(run, Path(place) / "run")
        begun = time.process_time()
        for batch in bare.stream:
            update(bare.model, bare.adam, batch, run.train.clip)
        return 1e3 * (time.process_time() - begun)


def results(repeats: int | None) -> Iterator[Result]:
    torch.set_num_threads(1)
    names = ("train", "both", "measure", "report", "figures")
    times: dict[str, list[float]] = {name: [] for name in names}
    steps = []
    for _ in range(repeats or 2):
        with tempfile.TemporaryDirectory() as place:
            runs = [str(Path(place) / name) for name in TOY]
            command = partial(take, read_children)
            times["train"].append(command("train", TOY[0], "--runs", place))
            times["both"].append(times["train"][-1] + command("train", TOY[1], "--runs", place))
            times["measure"].append(command("measure", *runs, "--jobs", "2"))
            times["report"].append(command("report", runs[0], "--beside", runs[1]))
            times["figures"].append(command("report", runs[0], "--beside", runs[1], "--no-page"))
        steps.append(take_steps())

    others = [whole - part for whole, part in zip(times["train"], steps, strict=True)]
    yield Result(
        name="train induction, all but the steps",
        ours=others,
        peer=times["train"],
        peer_name="the command",
        bar=SHARE_BAR,
        paired=True,
    )
    reports = (("without page", "figures", REPORT_BAR), ("with its page", "report", PAGE_BAR))
    for kind, name, bar in reports:
        yield Result(
            name=f"report of the toy run, {kind}",
            ours=times[name],
            peer=times["measure"],
            peer_name="its measuring",
            bar=bar,
            barred="median",
        )
    parts = zip(times["both"], times["measure"], times["report"], strict=True)
    yield Result(
        name="train-toy after set-up",
        ours=[sum(part) for part in parts],
        peer=times["both"],
        peer_name="its training",
        bar=TOY_BAR,
        barred="median",
        details=times,
    )
