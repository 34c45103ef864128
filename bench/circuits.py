"""Circuits: patching every place from the first change on against whole forward passes; the cost of each analysis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from bench.timing import Result, interleave
from toyvit.analyses import ANALYSES
from toyvit.circuits.patching import iterate_patched
from toyvit.config import ModelConfig
from toyvit.data.task import build_task, resolve_config
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing
from toyvit.recipes import RECIPES

PAIRS = 64
CHECKPOINTS, CORES = 101, 2
MODEL = ModelConfig(  # 26 tokens: CLS and 5 x 5 patches
    n_layers=2, n_heads=4, d_model=64, image_size=(40, 40), patch_size=8, n_channels=1, n_classes=32
)


def patching(rounds: int) -> Result:
    """All 208 places (layer, head, token) on 64 pairs."""
    generator = torch.Generator().manual_seed(0)
    model, (ablation, other) = ViT(MODEL), torch.randn(2, PAIRS, 1, 40, 40, generator=generator)
    there = trace(model, other, ["blocks.*.attn.z"])

    def put(z: Tensor, new: Tensor, head: int, token: int) -> Tensor:
        z = z.clone()
        z[:, token, head] = new[:, token, head]
        return z

    def whole() -> None:
        for layer in range(MODEL.n_layers):
            site = f"blocks.{layer}.attn.z"
            for head in range(MODEL.n_heads):
                for token in range(MODEL.n_tokens):
                    run_model(
                        model,
                        ablation,
                        editing({site: partial(put, new=there[site], head=head, token=token)}),
                    )

    def resumed() -> None:
        for _ in iterate_patched(model, ablation, other, "attn.z"):
            pass

    times = interleave("patching", {"resumed": resumed, "whole": whole}, rounds, warm=1)
    return Result(
        name=f"patch {MODEL.n_layers * MODEL.n_heads * MODEL.n_tokens} places, {PAIRS} pairs",
        ours=times["resumed"],
        peer=times["whole"],
        peer_name="whole forward passes",
        bar=1 / 3,
    )


def analyses(rounds: int) -> Iterator[Result]:
    """Each analysis at one checkpoint of the default recipe, its forward pass included, beside a plain forward pass."""
    run = resolve_config(RECIPES["induction"]())
    batch, model = build_task(run.task).eval_batch("test", 512, run.seeds.measure), ViT(run.model)
    fitting = [analysis for analysis in ANALYSES.values() if not analysis.list_missing(model, batch)]
    plain = {"forward": partial(run_model, model, batch.images)}
    jobs = {analysis.name: partial(run_analyses, model, batch, [analysis]) for analysis in fitting}
    quick = plain | {
        analysis.name: jobs[analysis.name] for analysis in fitting if not analysis.slow
    }  # type: ignore[operator]
    times = interleave("analyses", quick, rounds, warm=1)
    slow = {analysis.name: jobs[analysis.name] for analysis in fitting if analysis.slow}
    times |= interleave("slow analyses", slow, rounds, warm=0)
    forward = times.pop("forward")
    for name, taken in times.items():
        yield Result(
            name=f"{name}, a checkpoint of induction",
            ours=taken,
            peer=forward,
            peer_name="a forward pass",
        )
    both = [milliseconds * CHECKPOINTS / CORES for milliseconds in times["edges"]]
    yield Result(
        name=f"edges, {CHECKPOINTS} checkpoints on {CORES} cores",
        ours=both,
        peer=[milliseconds * CHECKPOINTS / CORES for milliseconds in forward],
        peer_name="forward passes",
        bar=30_000,
        barred="median",
    )


def results(repeats: int | None) -> Iterator[Result]:
    yield patching(repeats or 7)
    yield from analyses(repeats or 3)
