"""Patching: everything is 1, nothing is 0, and starting in the middle changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.laws.models import BASE, CASES, PATCH_READOUTS, build, configs, noise, pictures
from toyvit.circuits import patched_places
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.circuits.patched_places import PATCHABLE, iterate_patched
from toyvit.circuits.patching import (
    connect_tokens,
    patch_activations,
    run_attention_knockout,
    select_tokens,
)
from toyvit.clamps.patterns import apply_clamps
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing

ONE_ANSWER = {
    name: config for name, config in CASES.items() if config.readout not in PATCH_READOUTS
}
# On fewer patches where every place is tried: 2 x 3, or one.
FEW_PATCHES = {
    name: replace(config, image_size=min(config.stated("image_size"), (4, 6)))
    for name, config in CASES.items()
}
RESUMED = (
    "norm=layer",
    "norm=none",
    "mask=causal",
    "registers",
    "bare",
    "attention biases",
    "readout=mean",
)


def pair_sites(cases):
    """Each case with every other site: the next case has those that this one leaves out."""
    return [
        pytest.param(case, site, marks=[pytest.mark.slow] * (case not in ("registers", "bare")))
        for place, case in enumerate(cases)
        for site in list(PATCHABLE)[place % 2 :: 2]
        if site in sites_of(CASES[case])
    ]


def sites_of(config):
    return [site for site in PATCHABLE if config.d_mlp or site not in ("resid_mid", "mlp_out")]


def pairs_for(config, n=4):
    images = pictures(config, n)
    answer = torch.arange(n) % config.n_classes
    return PatchingPairs(images, noise(images), answer, (answer + 1) % config.n_classes)


def check_resumes(config, site, clamps=()):
    """Each place, from the middle, is the whole forward pass with that place edited."""
    model, images = apply_clamps(build(config), clamps, 0, None), pictures(config)
    other = noise(images)
    there = trace(model, other, [f"blocks.*.{site}"])
    for (layer, *head, token), logits in iterate_patched(model, images, other, site):
        name = f"blocks.{layer}.{site}"
        place = (*head, token) if site == "attn.pattern" else (token, *head)

        def put(value, name=name, place=(slice(None), *place)):
            new = value.clone()
            new[place] = there[name][place]
            return new

        whole = run_model(model, images, editing({name: put}))
        assert torch.allclose(logits, whole, atol=1e-5), (layer, head, token)


@pytest.mark.parametrize(("case", "site"), pair_sites(RESUMED))
def test_starting_at_the_change_is_the_whole_forward_pass(case, site):
    check_resumes(FEW_PATCHES[case], site)


@pytest.mark.parametrize("site", ["resid_pre", "attn.v", "attn.z"])
def test_clamps_hold_behind_what_is_patched(site):
    check_resumes(FEW_PATCHES["norm=layer"], site, ["0.1:previous", "1.0:uniform"])


@pytest.mark.parametrize("site", ["resid_pre", "attn.k", "attn.z"])
def test_no_more_pictures_run_together_than_the_stack_holds(site, monkeypatch):
    """And as many where there are so many; pictures whose value is the same do not run."""
    config = FEW_PATCHES["norm=layer"]
    model, images = build(config), pictures(config, 4)
    other = noise(images)
    other[1:3] = images[1:3]
    expected = torch.stack([logits for _, logits in iterate_patched(model, images, other, site)])

    sizes = []
    answer_from = model.answer_from
    monkeypatch.setattr(
        model, "answer_from", lambda x, first: sizes.append(len(x)) or answer_from(x, first)
    )
    monkeypatch.setattr(patched_places, "STACK", 5)
    few = torch.stack([logits for _, logits in iterate_patched(model, images, other, site)])
    assert torch.allclose(few, expected, atol=1e-6)
    assert max(sizes) == 5 and sum(sizes) <= 2 * len(few)


@pytest.mark.slow
@settings(max_examples=25)
@given(configs(), st.sampled_from(list(PATCHABLE)))
def test_the_same_for_any_model(config, site):
    if site in sites_of(config):
        check_resumes(config, site)


@pytest.mark.parametrize(("case", "site"), pair_sites(CASES))
def test_a_run_patched_with_itself_is_the_same_bits(case, site):
    config = FEW_PATCHES[case]
    model, images = build(config), pictures(config)
    plain = run_model(model, images)
    patched = [logits for _, logits in iterate_patched(model, images, images, site)]
    assert all(torch.equal(logits, plain) for logits in patched)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_the_read_out_s_last_stream_is_everything_and_other_tokens_are_nothing(metric, direction):
    """Truth: all of the clean answer is in the stream that the head reads, 1; elsewhere 0."""
    for case in ("norm=layer", "bare", "registers"):
        config = CASES[case]
        pairs = pairs_for(config)
        scores = patch_activations(build(config), pairs, "resid_post", metric, direction)
        assert scores.shape == (config.n_layers, config.n_tokens)
        read = 0 if config.readout == "cls" else -1
        assert scores[-1, read].item() == pytest.approx(1, abs=1e-5)
        scores[-1, read] = 0
        assert scores[-1].abs().max() < 1e-6


@pytest.mark.parametrize(
    ("direction", "recipients", "donors"),
    [("denoise", "corrupt", "clean"), ("noise", "clean", "corrupt")],
)
def test_a_direction_says_which_pictures_are_run_and_which_give(direction, recipients, donors):
    """By hand: the whole forward pass on the recipients with one value from the donors."""
    config = CASES["norm=layer"]
    model, pairs = build(config), pairs_for(config)
    run, given = getattr(pairs, recipients), getattr(pairs, donors)

    def score(images, tap=None):
        logits = run_model(model, images, tap) if tap else run_model(model, images)
        rows = torch.arange(len(images))
        return (logits[rows, pairs.answer] - logits[rows, pairs.foil]).mean()

    scores = patch_activations(model, pairs, "resid_pre", direction=direction)
    for layer in range(config.n_layers):
        name = f"blocks.{layer}.resid_pre"
        values = trace(model, given, [name])[name]
        for token in range(config.n_tokens):

            def put(stream, values=values, token=token):
                stream = stream.clone()
                stream[:, token] = values[:, token]
                return stream

            moved = score(run, editing({name: put})) - score(run)
            share = moved / (score(given) - score(run))
            assert scores[layer, token].item() == pytest.approx(share.item(), abs=1e-4)


def test_both_directions_and_metrics_agree_on_what_a_linear_path_carries():
    """Without a norm the last layer's heads add up: denoising and noising give the same share."""
    config = replace(BASE, norm="none", d_mlp=0)
    model, pairs = build(config), pairs_for(config)
    denoised = patch_activations(model, pairs, "attn.z", direction="denoise")
    noised = patch_activations(model, pairs, "attn.z", direction="noise")
    assert denoised.shape == (2, 2, config.n_tokens)
    assert torch.allclose(denoised[1], noised[1], atol=1e-4)
    assert patch_activations(model, pairs, "resid_pre").isfinite().all()

    with_itself = PatchingPairs(pairs.clean, pairs.clean, pairs.answer, pairs.foil)
    nothing_to_explain = patch_activations(model, with_itself, "attn.z")  # 0 of 0
    assert nothing_to_explain.isnan().all()


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
def test_a_blocked_cls_gives_every_picture_the_same_answer(case):
    """Truth: with all edges into CLS blocked logits are constant; null: edges nobody reads from."""
    config = CASES[case]
    model, images = build(config), pictures(config, 4)
    plain = run_model(model, images)
    cache = trace(model, images)
    layers = range(config.n_layers)
    everyone = select_tokens(model, "all")
    cls = select_tokens(model, "cls")
    logits = run_attention_knockout(model, cache, connect_tokens(cls, everyone & ~cls), layers)
    assert torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6)
    assert not torch.allclose(plain[1:], plain[:1], atol=1e-2)

    nothing = connect_tokens(torch.zeros_like(cls), everyone)
    assert torch.equal(run_attention_knockout(model, cache, nothing, layers), plain)
    patches = connect_tokens(select_tokens(model, "patches"), everyone)
    last = run_attention_knockout(model, cache, patches, layers[-1:])
    assert torch.equal(last, plain)  # after the last layer only CLS is read


@pytest.mark.parametrize("layers", [[0, 1], [0], [1]])
def test_blocking_is_a_score_of_minus_infinity(layers):
    """Also where the forward pass resumes at a later layer."""
    config = CASES["mask=causal"]
    model, images = build(config), pictures(config, 3)
    keys = torch.rand(3, config.n_tokens, generator=torch.Generator().manual_seed(0)) < 0.4
    keys[:, config.n_prefix] = False  # the first patch sees only itself: it keeps a key
    edges = connect_tokens(select_tokens(model, "patches"), keys)

    def mask(scores):
        return scores.masked_fill(edges[:, None], -torch.inf)

    tap = editing({f"blocks.{layer}.attn.attn_scores": mask for layer in layers})
    expected = run_model(model, images, tap)
    logits = run_attention_knockout(model, trace(model, images), edges, layers)
    assert torch.allclose(logits, expected, atol=1e-5)


def test_only_the_heads_and_layers_asked_for_are_blocked():
    config = CASES["registers"]
    model, images = build(config), pictures(config, 3)
    everyone = select_tokens(model, "all")
    edges = connect_tokens(everyone, everyone)
    logits = run_attention_knockout(model, trace(model, images), edges, [0], [1])

    def silence(z):
        return z * torch.tensor([1.0, 0.0])[:, None]

    expected = run_model(model, images, editing({"blocks.0.attn.z": silence}))
    assert torch.allclose(logits, expected, atol=1e-6)


def test_regions_and_layers_that_are_not_there_are_refused():
    model = build(CASES["bare"])
    with pytest.raises(BadInput, match="unknown group of tokens 'cls'"):
        select_tokens(model, "cls")
    edges = connect_tokens(select_tokens(model, "all"), select_tokens(model, "all"))
    cache = trace(model, pictures(CASES["bare"]))
    with pytest.raises(BadInput, match="no layer 2: this model has layers 0 to 1"):
        run_attention_knockout(model, cache, edges, [2])
    with pytest.raises(BadInput, match="no head 2: this model has heads 0 to 1"):
        run_attention_knockout(model, cache, edges, [1], [2])
    with pytest.raises(BadInput, match="one layer or more of 0 to 1, got none"):
        run_attention_knockout(model, cache, edges, [])
    del cache["blocks.1.resid_pre"]
    with pytest.raises(BadInput, match=r"the trace lacks blocks\.1\.resid_pre"):
        run_attention_knockout(model, cache, edges, [1])
