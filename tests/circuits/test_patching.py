"""Patching: everything is 1, nothing is 0, a run with itself is the same bits; starting in the middle changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.models import BASE, CASES, EVERY, build, configs, noise, pictures
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.circuits.patching import (
    PATCHABLE,
    connect_tokens,
    iterate_patched,
    patch_activations,
    run_attention_knockout,
    select_tokens,
)
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing

ONE_ANSWER = {name: config for name, config in CASES.items() if config.readout not in EVERY}


def pairs_for(config, n=4):
    images = pictures(config, n)
    answer = torch.arange(n) % config.n_classes
    return PatchingPairs(images, noise(images), answer, (answer + 1) % config.n_classes)


def sites_of(config):
    return [site for site in PATCHABLE if config.d_mlp or site not in ("resid_mid", "mlp_out")]


def check_resumes(config, site):
    """One place after another, from the middle, is the whole forward pass with that place edited."""
    model, images = build(config), pictures(config)
    other = noise(images)
    there = trace(model, other, [f"blocks.*.{site}"])
    for (layer, *head, token), logits in iterate_patched(model, images, other, site):
        name = f"blocks.{layer}.{site}"

        def put(value, name=name, head=head, token=token):
            new = value.clone()
            place = (
                (slice(None), *head, token)
                if site == "attn.pattern"
                else (slice(None), token, *head)
            )
            new[place] = there[name][place]
            return new

        assert torch.allclose(logits, run_model(model, images, editing({name: put})), atol=1e-5), (
            layer,
            head,
            token,
        )


@pytest.mark.parametrize(
    "case",
    [
        "norm=layer",
        "norm=none",
        "mask=causal",
        "registers",
        "bare",
        "attention biases",
        "readout=mean",
    ],
)
@pytest.mark.parametrize("site", PATCHABLE)
def test_starting_at_the_change_is_the_whole_forward_pass(case, site):
    if site in sites_of(CASES[case]):
        check_resumes(CASES[case], site)


@pytest.mark.slow
@settings(max_examples=25)
@given(configs(), st.sampled_from(list(PATCHABLE)))
def test_the_same_for_any_model(config, site):
    if site in sites_of(config):
        check_resumes(config, site)


@pytest.mark.parametrize("case", CASES)
def test_a_run_patched_with_itself_is_the_same_bits(case):
    config = CASES[case]
    model, images = build(config), pictures(config)
    plain = run_model(model, images)
    for site in sites_of(config):
        assert all(
            torch.equal(logits, plain) for _, logits in iterate_patched(model, images, images, site)
        ), site


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_read_out_s_last_stream_is_everything_and_other_tokens_are_nothing(metric, direction):
    """Truth: all of the clean answer is in the stream that the head reads, 1; tokens that nobody reads have 0."""
    for case in ("norm=layer", "bare", "registers"):
        config = CASES[case]
        found = patch_activations(build(config), pairs_for(config), "resid_post", metric, direction)
        assert found.shape == (config.n_layers, config.n_tokens)
        read = 0 if config.readout == "cls" else -1
        assert found[-1, read].item() == pytest.approx(1, abs=1e-5)
        found[-1, read] = 0
        assert found[-1].abs().max() < 1e-6


def test_both_directions_and_metrics_agree_on_what_a_linear_path_carries():
    """Without norm and later layers the last layer's heads add up: denoising and noising the same head are the same share."""
    config = replace(BASE, norm="none", d_mlp=0)
    model, pairs = build(config), pairs_for(config)
    one, two = (
        patch_activations(model, pairs, "attn.z", direction=direction)
        for direction in ("denoise", "noise")
    )
    assert torch.allclose(one[1], two[1], atol=1e-4)
    rest = patch_activations(model, pairs, "resid_pre")[
        1, 0
    ]  # what CLS held before reaches the head directly and through attention
    assert one.shape == (2, 2, config.n_tokens) and rest.isfinite()
    with_itself = PatchingPairs(pairs.clean, pairs.clean, pairs.answer, pairs.foil)
    assert (
        patch_activations(model, with_itself, "attn.z").isnan().all()
    )  # nothing to explain: 0 of 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"site": "mlp_out"}, "needs an MLP"),
        ({"site": "attn.x"}, "unknown site to patch 'attn.x'.*did you mean 'attn"),
        ({"metric": "logit_diff"}, "unknown metric 'logit_diff'.*did you mean 'logit_difference'"),
        ({"direction": "denoising"}, "did you mean 'denoise'"),
    ],
)
def test_what_cannot_be_patched_is_refused(words, message):
    config = CASES["attention only"]
    with pytest.raises(BadInput, match=message):
        patch_activations(build(config), pairs_for(config), **{"site": "attn.z", **words})


@pytest.mark.parametrize("case", ["norm=layer", "registers", "mask=no-cls-read", "attention only"])
def test_a_blocked_cls_says_the_same_of_every_picture(case):
    """Truth: with all edges into CLS blocked in every layer the logits are constant; null: blocking edges nobody reads from."""
    config = CASES[case]
    model, images = build(config), pictures(config, 4)
    everyone, cls = select_tokens(model, "all"), select_tokens(model, "cls")
    logits = run_attention_knockout(
        model, trace(model, images), connect_tokens(cls, everyone & ~cls), range(config.n_layers)
    )
    assert torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6)
    assert not torch.allclose(run_model(model, images)[1:], run_model(model, images)[:1], atol=1e-2)
    nobody = torch.zeros_like(cls)
    seen = trace(model, images)
    assert torch.equal(
        run_attention_knockout(
            model, seen, connect_tokens(nobody, everyone), range(config.n_layers)
        ),
        run_model(model, images),
    )
    last = run_attention_knockout(
        model,
        seen,
        connect_tokens(select_tokens(model, "patches"), everyone),
        [config.n_layers - 1],
    )
    assert torch.equal(last, run_model(model, images))  # after the last layer only CLS is read


@pytest.mark.parametrize("layers", [[0, 1], [0], [1]])
def test_blocking_is_a_score_of_minus_infinity(layers):
    """Also where the forward pass resumes at a later layer."""
    config = CASES["mask=causal"]
    model, images = build(config), pictures(config, 3)
    queries, keys = (
        select_tokens(model, "patches"),
        torch.rand(3, config.n_tokens, generator=torch.Generator().manual_seed(0)) < 0.4,
    )
    keys[:, config.n_prefix] = False  # the first patch sees only itself: it keeps a key
    edges = connect_tokens(queries, keys)
    tap = editing(
        {
            f"blocks.{layer}.attn.attn_scores": lambda s: s.masked_fill(edges[:, None], -torch.inf)
            for layer in layers
        }
    )
    assert torch.allclose(
        run_attention_knockout(model, trace(model, images), edges, layers),
        run_model(model, images, tap),
        atol=1e-5,
    )


def test_only_the_heads_and_layers_asked_for_are_blocked():
    config = CASES["registers"]
    model, images = build(config), pictures(config, 3)
    everyone = select_tokens(model, "all")
    z = run_attention_knockout(
        model, trace(model, images), connect_tokens(everyone, everyone), [0], [1]
    )
    silent = run_model(
        model, images, editing({"blocks.0.attn.z": lambda z: z * torch.tensor([1.0, 0.0])[:, None]})
    )
    assert torch.allclose(z, silent, atol=1e-6)


def test_regions_and_layers_that_are_not_there_are_refused():
    model = build(CASES["bare"])
    with pytest.raises(BadInput, match="unknown group of tokens 'cls'"):
        select_tokens(model, "cls")
    everyone, seen = (
        connect_tokens(select_tokens(model, "all"), select_tokens(model, "all")),
        trace(model, pictures(CASES["bare"])),
    )
    with pytest.raises(BadInput, match="no layer 2: this model has layers 0 to 1"):
        run_attention_knockout(model, seen, everyone, [2])
    with pytest.raises(BadInput, match="no head 2: this model has heads 0 to 1"):
        run_attention_knockout(model, seen, everyone, [1], [2])
    with pytest.raises(BadInput, match="one layer or more of 0 to 1, got none"):
        run_attention_knockout(model, seen, everyone, [])
    with pytest.raises(BadInput, match=r"the trace lacks blocks\.1\.resid_pre"):
        run_attention_knockout(
            model, trace(model, pictures(CASES["bare"]), ["blocks.0.resid_pre"]), everyone, [1]
        )
