"""Names of heads: a planted pattern gets its own name and no other, a random one none."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

import pytest
import torch
from torch import Tensor

from tests.analyses.planted import OPTIONS, behind, model_for, one_hot, random, uniform
from tests.handmade import induction_head
from tests.laws.models import mark_slow
from toyvit.analyses import heads, places
from toyvit.analyses.analysis import Tagged
from toyvit.analyses.induction import find_prefix_targets
from toyvit.config import InductionConfig
from toyvit.data.task import Batch, build_task
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.options import allowed_keys

OF_WEIGHTS = {"copy", "copy_labels"}  # the patterns are planted, the weights are random
PREFIXES = {
    "bare": {"cls_token": False},
    "CLS and registers": {"n_registers": 2},
    "one register": {"cls_token": False, "n_registers": 1},
}
every_prefix = pytest.mark.parametrize("prefix", PREFIXES)
every_grid = pytest.mark.parametrize(
    "name", mark_slow(["induction", "induction 4x4", "induction 1x7"], ["induction 4x4"])
)


def names(model: ViT, batch: Batch, pattern: Tensor) -> list[list[str]]:
    """What the heads of the first layer are called when this is their pattern."""
    seen = trace(model, batch.images, ["patches", "blocks.*.attn.pattern"])
    shape = seen["blocks.0.attn.pattern"].shape
    seen["blocks.0.attn.pattern"] = pattern.expand(shape).clone()
    found = heads.name_heads(heads.measure_heads(model, batch, seen), model.config.grid)
    return [
        [one for one in found[0, head] if one not in OF_WEIGHTS]
        for head in range(model.config.n_heads)
    ]


def spread(targets: Tensor) -> Tensor:
    """Attention evenly over the targets; over everything where there is none."""
    targets = targets.float()
    none = targets.sum(-1, keepdim=True) == 0
    targets = torch.where(none, torch.ones(()), targets)
    return targets / targets.sum(-1, keepdim=True)


@every_prefix
@every_grid
def test_a_planted_pattern_gets_its_own_name_and_no_other(name, prefix):
    model, batch = model_for(name, n_layers=1, **PREFIXES[prefix])
    grid, n = model.config.grid, model.config.n_prefix
    planted = places.list_static_types(grid)
    regular = [("modulus", targets) for targets in places.list_moduli(grid).values() if grid[0] > 1]
    for kind, targets in [*planted.items(), *regular]:
        if targets.any() and not (
            targets.all() or (kind == "corner" and grid[0] == 1)
        ):  # a single row: edge is everywhere
            assert names(model, batch, behind(spread(targets)[None, None], n)) == [[kind]] * 2, kind


@pytest.mark.parametrize("m", [2, 3, 4])
def test_every_modulus_is_found(m):
    model, batch = model_for("induction")
    pattern = behind(spread(places.list_moduli((5, 5))[m])[None, None], 1)
    assert names(model, batch, pattern) == [["modulus"]] * 2


@every_prefix
@pytest.mark.parametrize("kind", ["same_content", "induction"])
@pytest.mark.parametrize(
    "name", mark_slow(["induction", "induction 4x4", "markov", "repeats"], ["induction 4x4"])
)
def test_a_pattern_that_follows_the_content_gets_its_name(name, kind, prefix):
    model, batch = model_for(name, n=64, n_layers=1, **PREFIXES[prefix])
    patches = model.config.n_patches
    periodic = (
        ["modulus"] if (name, kind) == ("repeats", "same_content") else []
    )  # the same glyph comes again after a period
    targets = find_prefix_targets(
        batch.content, int(kind == "induction"), torch.ones(patches, patches, dtype=torch.bool)
    )
    assert (
        names(model, batch, behind(spread(targets)[:, None], model.config.n_prefix))
        == [[kind, *periodic]] * 2
    )


def test_what_position_alone_gives_is_not_called_induction():
    """In every picture the same cells repeat.

    A pattern that never looks at the content scores 1, and so does its mean.
    """
    model, batch = model_for("induction 4x4", n=40)
    same = replace(
        batch,
        images=batch.images[:1].expand(40, -1, -1, -1),
        content=batch.content[:1].expand(40, -1),
    )
    allowed = torch.ones(16, 16, dtype=torch.bool)
    targets = find_prefix_targets(same.content, 1, allowed)
    assert names(model, same, behind(spread(targets)[:, None], 1)) == [[], []]
    found = types_of(model, same, behind(spread(targets)[:, None], 1))
    for key in (
        Tagged("score", type="induction"),
        Tagged("null", keeps="position", type="induction"),
    ):
        assert found[key][0].min().item() == pytest.approx(1)
    assert found[Tagged("null", keeps="content", type="induction")][0].max() < 0.5


def types_of(model: ViT, batch: Batch, pattern: Tensor) -> dict[str, Tensor]:
    seen = trace(model, batch.images, ["patches", "blocks.*.attn.pattern"])
    seen["blocks.0.attn.pattern"] = pattern.expand(seen["blocks.0.attn.pattern"].shape).clone()
    return heads.measure_heads(model, batch, seen)


def test_what_any_content_gives_is_not_called_same_content():
    """Two contents that alternate at random.

    Looking at every other patch scores no more than with the ids shuffled.
    """
    model, batch = model_for("induction 4x4", n=64)
    generator = torch.Generator().manual_seed(3)
    batch = replace(batch, content=torch.randint(2, batch.content.shape, generator=generator))
    others = spread(~torch.eye(16, dtype=torch.bool))[None, None]
    found = types_of(model, batch, behind(others, 1))
    score, null = (
        found[Tagged("score", type="same_content")][0],
        found[Tagged("null", keeps="content", type="same_content")][0],
    )
    assert torch.allclose(score, null, atol=0.03)
    assert "same_content" not in names(model, batch, behind(others, 1))[0]


@every_prefix
def test_sinks_readers_of_cls_and_uniform_heads(prefix):
    model, batch = model_for("induction 4x4", n_layers=1, **PREFIXES[prefix])
    n, tokens = model.config.n_prefix, model.config.n_tokens
    for token in (
        n,
        n + 5,
        tokens - 1,
        *([1] if n > 1 else []),
    ):  # a corner patch is a sink, not a corner head; a register too
        assert names(model, batch, one_hot([token] * tokens, n=1, heads=1)) == [["sink"]] * 2
    if model.config.cls_token:
        assert names(model, batch, one_hot([0] * tokens, n=1, heads=1)) == [["cls_reader"]] * 2
    assert names(model, batch, uniform(tokens, n=1, heads=1)) == [["uniform"]] * 2


@pytest.mark.parametrize("causal", [False, True])
def test_a_sink_is_what_a_token_gets_above_its_even_share(causal):
    allowed = (
        torch.ones(6, 6, dtype=torch.bool).tril() if causal else torch.ones(6, 6, dtype=torch.bool)
    )
    even = allowed / allowed.sum(-1, keepdim=True)
    assert places.score_sink(even[None, None], allowed).abs().max() < 1e-6
    first = torch.eye(6)[0].expand(6, 6)
    assert places.score_sink(first[None, None], allowed).item() == pytest.approx(1)
    assert places.score_sink(((even + first) / 2)[None, None], allowed).item() == pytest.approx(0.5)


def test_a_head_that_reads_cls_no_more_than_a_register_is_no_reader_of_cls():
    model, batch = model_for("induction 4x4", n_registers=1)
    both = torch.zeros(1, 1, 18, 18)
    both[..., :2] = 0.5
    assert "cls_reader" not in names(model, batch, both)[0]
    both[..., :2] = torch.tensor([0.8, 0.2])
    assert names(model, batch, both)[0] == ["cls_reader"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"), [*zip(cycle(["induction 4x4", "markov"]), OPTIONS, strict=False)]
)
def test_random_patterns_get_no_name_and_uniform_ones_are_uniform(name, options):
    """Drawn for every image, or once for all: rows from Dirichlet(1), and rows of a single key."""
    model, batch = model_for(name, **{**OPTIONS[options], "n_layers": 1})
    config = model.config
    allowed = allowed_keys(config)
    for seed in range(2):
        for n in (1, len(batch.images)):
            rows = random(config.n_tokens, n=n, heads=config.n_heads, seed=seed, mask=allowed)
            assert names(model, batch, rows) == [[]] * config.n_heads, (seed, n)
            assert names(model, batch, one_hot_like(rows)) == [[]] * config.n_heads, (seed, n)
    even = (allowed / allowed.sum(-1, keepdim=True)).expand(1, 1, -1, -1)
    assert names(model, batch, even) == [["uniform"]] * config.n_heads


def one_hot_like(rows: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(rows.argmax(-1), rows.shape[-1]).float()


def test_types_that_others_bring_with_them():
    square, odd = heads.list_implied((4, 4)), heads.list_implied((5, 5))
    assert square["previous_column"] == square["next_column"] == {"same_row", "local"}
    assert odd["previous_row"] == {"same_column", "local"}
    assert square["previous_row"] == {"same_column", "local", "modulus"} and square[
        "same_column"
    ] == {"modulus"}
    assert odd["same_column"] == odd["itself"] == odd["local"] == set()
    assert square["corner"] == {"edge"} and square["cls_reader"] == {"sink"}
    assert heads.name_head({"same_column": 1.0, "previous_row": 0.3}, {}, odd) == ["same_column"]
    assert heads.name_head({"sink": 1.0, "corner": 1.0, "edge": 0.9}, {}, odd) == ["sink"]
    assert heads.name_head({"corner": 0.9, "edge": 1.0}, {}, odd) == ["corner"]
    assert heads.name_head({"edge": 0.9, "local": 0.95}, {"local": 0.8}, odd) == ["edge"]
    assert heads.name_head({"edge": 0.19, "local": float("nan")}, {}, odd) == []


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask": "causal"},
        {"cls_token": True, "n_registers": 2},
        {"n_idle": 1, "d_mlp": 8, "mask": "causal", "norm": "layer"},
    ],
)
def test_the_heads_of_the_hand_built_induction_model_get_their_names(options):
    model, batch, *_ = induction_head(
        InductionConfig(rows=4, columns=4, n_items=12, n_labels=6, noise=0), **options
    )
    seen = trace(model, batch.images, ["patches", "blocks.*.attn.pattern"])
    found = heads.name_heads(heads.measure_heads(model, batch, seen), model.config.grid)
    assert found[0, 0] == ["previous_column"]
    own_label = (
        {"next_column"} if model.config.mask == "bidirectional" else set()
    )  # what followed an item: its own label too
    assert set(found[1, 0]) == {"induction", "copy_labels"} | own_label
    assert all(
        "induction" not in found[layer, head] for layer, head in found if (layer, head) != (1, 0)
    )


def test_copying_heads_are_named_from_their_weights():
    model, batch = model_for("induction 4x4", n_layers=1)
    seen = trace(model, batch.images, ["patches", "blocks.*.attn.pattern"])
    with torch.no_grad():
        w_v = model.blocks[0].attn.qkv.weight.view(3, 2, 8, 16)[2]
        model.blocks[0].attn.out.weight.view(16, 2, 8)[:, 0] = w_v[0].T
    found = heads.name_heads(heads.measure_heads(model, batch, seen), model.config.grid)
    assert "copy" in found[0, 0] and "copy" not in found[0, 1]


def test_pictures_without_content_have_no_types_of_content():
    model, batch = model_for("classify")
    found = heads.measure_heads(
        model, batch, trace(model, batch.images, ["patches", "blocks.*.attn.pattern"])
    )
    kinds = {key["type"] for key in found}
    assert (
        not kinds & {"same_content", "induction", "copy_labels"}
        and {"sink", "uniform", "copy", "corner"} <= kinds
    )
    made = build_task(InductionConfig(rows=4, columns=4, n_labels=16))
    assert made.eval_batch("test", 4, 0).content is not None
