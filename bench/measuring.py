"""Measuring one checkpoint with every analysis from one forward pass, against one for each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.timing import Result, interleave
from toyvit.analyses import select_analyses
from toyvit.data.task import build_task, resolve_config
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.recipes import RECIPES

IMAGES = 256


def time_measuring(recipe: str, rounds: int) -> Result:
    run = resolve_config(RECIPES[recipe]())
    batch = build_task(run.task).eval_batch("test", IMAGES, run.seeds.measure)
    model = ViT(run.model)
    analyses = select_analyses(None, batch, model)
    jobs = {"together": partial(run_analyses, model, batch, analyses)}
    for analysis in analyses:
        jobs[analysis.name] = partial(run_analyses, model, batch, [analysis])
    times = interleave(f"measuring {recipe}", jobs, rounds)
    together = times.pop("together")
    return Result(
        name=f"measure {recipe}, {len(analyses)} analyses, {len(batch.target)} images",
        ours=together,
        peer=[sum(alone) for alone in zip(*times.values(), strict=True)],
        peer_name="one by one",
        details=times,
    )


def results(repeats: int | None) -> Iterator[Result]:
    for recipe in ("induction", "digits"):
        yield time_measuring(recipe, repeats or 21)
