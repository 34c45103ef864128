"""Circuits against plain forward passes: scores of edges, pruning, patching, and each analysis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch

from bench.timing import Result, interleave
from toyvit.analyses import ANALYSES
from toyvit.circuits.edges import acdc, eap
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import PatchingPairs, counterfactual_pairs
from toyvit.circuits.patched_places import iterate_patched
from toyvit.config import ModelConfig
from toyvit.data.task import build_task, resolve_config
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.recipes import RECIPES

PAIRS = 64
CHECKPOINTS = 101
CORES = 2
MODEL = ModelConfig(  # 26 tokens: CLS and 5 x 5 patches
    n_layers=2, n_heads=4, d_model=64, image_size=(40, 40), patch_size=8, n_channels=1, n_classes=32
)
DEPTHS = (2, 4, 8)  # EAP; the bar is at 4 layers
EAP_BAR = 7.0
ACDC_BAR = 350.0
# In nats: at the first about half of the edges are left, at the second nearly all.
ACDC_THRESHOLDS = (1e-2, 1e-4)


def build_model(n_layers: int) -> ViT:
    """A model whose edges matter: its first weights are too small for that."""
    generator = torch.Generator().manual_seed(0)
    model = ViT(replace(MODEL, n_layers=n_layers))
    with torch.no_grad():
        model.head.weight.normal_(0, 0.3, generator=generator)
        for block in model.layers:
            block.attn.qkv.weight.mul_(2)
            block.attn.out.weight.mul_(2)
    return model


def draw_pairs() -> PatchingPairs:
    """Pictures of noise, for any model of this shape."""
    generator = torch.Generator().manual_seed(0)
    clean, corrupt = torch.randn(2, PAIRS, 1, 40, 40, generator=generator)
    answer = torch.arange(PAIRS) % 32
    return PatchingPairs(clean, corrupt, answer, (answer + 1) % 32)


def time_eap(
    name: str, model: ViT, pairs: PatchingPairs, rounds: int, bar: float | None = None
) -> Iterator[Result]:
    """EAP at the clean pictures, and EAP-IG with 5 points."""
    jobs = {
        "forward": partial(run_model, model, pairs.clean),
        "EAP": partial(eap, model, pairs),
        "EAP-IG, 5 points": partial(eap, model, pairs, points=5),
    }
    times = interleave(name, jobs, rounds, calls=3)
    forward = times.pop("forward")
    for method, taken in times.items():
        yield Result(
            name=f"{method}, {name}, {len(pairs.clean)} pairs",
            ours=taken,
            peer=forward,
            peer_name="a forward pass",
            bar=bar if method == "EAP" else None,
        )


def time_eap_of_recipe(rounds: int) -> Iterator[Result]:
    """The default recipe's own model and counterfactual pairs."""
    run = resolve_config(RECIPES["induction"]())
    batch = build_task(run.task).eval_batch("test", 2 * PAIRS, run.seeds.measure)
    pairs = counterfactual_pairs(batch, n=PAIRS)
    yield from time_eap("induction", ViT(run.model), pairs, rounds, EAP_BAR)


def time_acdc(rounds: int) -> Iterator[Result]:
    """Pruning of 4 layers of 4 heads, in forward passes."""
    model = build_model(4)
    pairs = draw_pairs()
    n_edges = len(build_graph(model.config).edges)
    jobs: dict[str, Callable[[], object]] = {"forward": partial(run_model, model, pairs.clean)}
    for threshold in ACDC_THRESHOLDS:
        jobs[f"{threshold:g} nats"] = partial(acdc, model, pairs, threshold)

    times = interleave("ACDC", jobs, rounds, warm=1)
    forward = times.pop("forward")
    for limit, taken in times.items():
        yield Result(
            name=f"ACDC, 4 layers, 4 heads, {n_edges} edges, {limit}",
            ours=taken,
            peer=forward,
            peer_name="a forward pass",
            bar=ACDC_BAR,
        )


def time_patching(rounds: int) -> Result:
    """All 208 places (layer, head, token) on 64 pairs: the aim is 8 in a forward pass's time."""
    model = build_model(MODEL.n_layers)
    pairs = draw_pairs()
    n_places = MODEL.n_layers * MODEL.n_heads * MODEL.n_tokens

    def patch_all() -> None:
        for _ in iterate_patched(model, pairs.clean, pairs.corrupt, "attn.z"):
            pass

    jobs: dict[str, Callable[[], object]] = {
        "patching": patch_all,
        "forward": partial(run_model, model, pairs.clean),
    }
    times = interleave("patching", jobs, rounds, calls=3)
    return Result(
        name=f"patch {n_places} places, {PAIRS} pairs (aim)",
        ours=times["patching"],
        peer=[n_places * milliseconds for milliseconds in times["forward"]],
        peer_name="as many forward passes",
        bar=1 / 8,
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
    yield from time_eap_of_recipe(repeats or 15)
    for n_layers in DEPTHS:
        bar = EAP_BAR if n_layers == 4 else None
        name = f"{n_layers} layers, 4 heads"
        yield from time_eap(name, build_model(n_layers), draw_pairs(), repeats or 15, bar)
    yield from time_acdc(repeats or 5)
    yield time_patching(repeats or 7)
    yield from time_analyses(repeats or 3)
