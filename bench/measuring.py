"""Measuring one checkpoint: every analysis from one pass, beside plain forward passes.

The battery is what `toyvit measure` runs by default, without the ablations of heads, whose work is
counted: the products that they make, and the fewest that give their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from torch.utils.flop_counter import FlopCounterMode

from bench.timing import Result, interleave
from toyvit.analyses import ANALYSES, select_analyses
from toyvit.config import ModelConfig
from toyvit.data.task import Batch, build_task, resolve_config
from toyvit.measuring import run_analyses
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.model.options import READ_TOKENS
from toyvit.recipes import RECIPES

IMAGES = 512
# (layers, heads) of the default recipe -> the forward passes that its battery may take
BARS = {(2, 1): 5.0, (4, 4): 6.0, (12, 4): 7.0}
MOST_FLOPS = 1.1


def build_case(n_layers: int, n_heads: int, recipe: str = "induction") -> tuple[ViT, Batch]:
    """A recipe's model with so many layers and heads, and its evaluation pictures."""
    run = RECIPES[recipe]()
    run = replace(run, model=replace(run.model, n_layers=n_layers, n_heads=n_heads))
    run = resolve_config(run)
    batch = build_task(run.task).eval_batch("test", IMAGES, run.seeds.measure)
    return ViT(run.model), batch


def time_battery(n_layers: int, n_heads: int, rounds: int) -> Result:
    model, batch = build_case(n_layers, n_heads)
    analyses = select_analyses(None, batch, model)
    quick = [analysis for analysis in analyses if analysis.name != "head_ablation"]
    jobs = {
        "battery": partial(run_analyses, model, batch, quick),
        "forward": partial(run_model, model, batch.images),
    }
    # Several in a row, as `measure` runs them: the first of them is handed fresh memory.
    times = interleave(f"battery {n_layers}L H{n_heads}", jobs, rounds, calls=4)
    return Result(
        name=f"battery of {len(quick)}, {n_layers}L H{n_heads}, {IMAGES} images",
        ours=times["battery"],
        peer=times["forward"],
        peer_name="a forward pass",
        bar=BARS[n_layers, n_heads],
    )


def time_one_by_one(recipe: str, rounds: int) -> Result:
    """All analyses from one pass against a pass for each."""
    run = resolve_config(RECIPES[recipe]())
    model, batch = build_case(run.model.n_layers, run.model.n_heads, recipe)
    analyses = select_analyses(None, batch, model)
    jobs = {"together": partial(run_analyses, model, batch, analyses)}
    for analysis in analyses:
        jobs[analysis.name] = partial(run_analyses, model, batch, [analysis])
    times = interleave(f"measuring {recipe}", jobs, rounds)
    together = times.pop("together")
    return Result(
        name=f"measure {recipe}, {len(analyses)} analyses, {IMAGES} images",
        ours=together,
        peer=[sum(alone) for alone in zip(*times.values(), strict=True)],
        peer_name="one by one",
        details=times,
    )


def count_ablations(n_layers: int, n_heads: int) -> Result:
    """Products of `head_ablation`, in millions of floating-point operations."""
    model, batch = build_case(n_layers, n_heads)
    analysis = ANALYSES["head_ablation"]
    cache = trace(model, batch.images, analysis.sites)
    with FlopCounterMode(display=False) as counter:
        analysis.measure(model, batch, cache)

    counted = counter.get_total_flops() / 1e6
    fewest = count_fewest(model.config, IMAGES) / 1e6
    return Result(
        name=f"head ablations {n_layers}L H{n_heads}, MFLOP",
        ours=[counted] * 2,
        peer=[fewest] * 2,
        peer_name="the fewest",
        bar=MOST_FLOPS,
    )


def count_fewest(config: ModelConfig, n: int) -> int:
    """Operations of the fewest products that give the numbers of `head_ablation`, on n pictures.

    What a head writes, once for both ablations (of a single head it is known); after that, for each
    head and ablation, the rest of its layer, the later layers, the last at the token that is read.
    """
    assert config.readout in READ_TOKENS
    d = config.d_model
    tokens = n * config.n_tokens
    per_token = 2 * d * config.d_mlp * 2  # the two matrices of an MLP
    head_of_model = 2 * n * d * config.stated("n_classes")
    whole_block = tokens * (2 * 4 * d * d + 2 * 2 * config.n_tokens * d + per_token)
    reading = n * (2 * 4 * d * d + 2 * 2 * config.n_heads * config.n_tokens * d + per_token)

    total = 0
    for layer in range(config.n_layers):
        is_last = layer == config.n_layers - 1
        n_tokens = n if is_last else tokens
        n_writing = 0 if config.n_heads == 1 else config.n_heads
        total += n_writing * n_tokens * 2 * config.d_head * d
        later = config.n_layers - 2 - layer
        follow = n_tokens * per_token + head_of_model
        follow += 0 if is_last else later * whole_block + reading
        n_runs = 2 * config.n_heads + (2 * (config.n_heads - 1) if is_last else 0)
        total += n_runs * follow
    return total


def results(repeats: int | None) -> Iterator[Result]:
    for n_layers, n_heads in BARS:
        yield time_battery(n_layers, n_heads, repeats or 21)
    for recipe in ("induction", "digits"):
        yield time_one_by_one(recipe, repeats or 11)
    for n_layers, n_heads in BARS:
        yield count_ablations(n_layers, n_heads)
