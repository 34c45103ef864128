"""Circuits: patching every place against whole forward passes; the cost of each analysis.

A place is patched from the first change on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import torch
from torch import Tensor

from bench.timing import Result, interleave
from toyvit.analyses import ANALYSES
from toyvit.circuits.places import iterate_patched
from toyvit.config import ModelConfig
from toyvit.data.task import build_task, resolve_config
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing
from toyvit.recipes import RECIPES

PAIRS = 64
CHECKPOINTS = 101
CORES = 2
MODEL = ModelConfig(  # 26 tokens: CLS and 5 x 5 patches
    n_layers=2, n_heads=4, d_model=64, image_size=(40, 40), patch_size=8, n_channels=1, n_classes=32
)


def time_patching(rounds: int) -> Result:
    """All 208 places (layer, head, token) on 64 pairs."""
    generator = torch.Generator().manual_seed(0)
    model = ViT(MODEL)
    clean, corrupt = torch.randn(2, PAIRS, 1, 40, 40, generator=generator)
    cache = trace(model, corrupt, ["blocks.*.attn.z"])

    def put(z: Tensor, new: Tensor, head: int, token: int) -> Tensor:
        z = z.clone()
        z[:, token, head] = new[:, token, head]
        return z

    def run_whole() -> None:
        sizes = (MODEL.n_layers, MODEL.n_heads, MODEL.n_tokens)
        for layer, head, token in product(*map(range, sizes)):
            site = f"blocks.{layer}.attn.z"
            edit = partial(put, new=cache[site], head=head, token=token)
            run_model(model, clean, editing({site: edit}))

    def run_resumed() -> None:
        for _ in iterate_patched(model, clean, corrupt, "attn.z"):
            pass

    times = interleave("patching", {"resumed": run_resumed, "whole": run_whole}, rounds, warm=1)
    return Result(
        name=f"patch {MODEL.n_layers * MODEL.n_heads * MODEL.n_tokens} places, {PAIRS} pairs",
        ours=times["resumed"],
        peer=times["whole"],
        peer_name="whole forward passes",
        bar=1 / 3,
    )


def time_analyses(rounds: int) -> Iterator[Result]:
    """Each analysis at one checkpoint of the default recipe, beside a plain forward pass.

    Its own forward pass included.
    """
    run = resolve_config(RECIPES["induction"]())
    batch = build_task(run.task).eval_batch("test", 512, run.seeds.measure)
    model = ViT(run.model)
    fitting = [
        analysis for analysis in ANALYSES.values() if not analysis.list_missing(model, batch)
    ]
    quick: dict[str, Callable[[], object]] = {"forward": partial(run_model, model, batch.images)}
    slow: dict[str, Callable[[], object]] = {}
    for analysis in fitting:
        jobs = slow if analysis.slow else quick
        jobs[analysis.name] = partial(run_analyses, model, batch, [analysis])
    times = interleave("analyses", quick, rounds, warm=1)
    times |= interleave("slow analyses", slow, rounds, warm=0)
    forward = times.pop("forward")

    for name, taken in times.items():
        yield Result(
            name=f"{name}, a checkpoint of induction",
            ours=taken,
            peer=forward,
            peer_name="a forward pass",
        )
    yield Result(
        name=f"edges, {CHECKPOINTS} checkpoints on {CORES} cores",
        ours=[milliseconds * CHECKPOINTS / CORES for milliseconds in times["edges"]],
        peer=[milliseconds * CHECKPOINTS / CORES for milliseconds in forward],
        peer_name="forward passes",
        bar=30_000,
        barred="median",
    )


def results(repeats: int | None) -> Iterator[Result]:
    yield time_patching(repeats or 7)
    yield from time_analyses(repeats or 3)
