"""Laws of the tap, at every site of every model: reading changes nothing, writing is never lost."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, given, settings

from tests.laws.models import (
    BASE,
    CASES,
    PATCH_READOUTS,
    build,
    configs,
    every_case,
    noise,
    pictures,
)
from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.forward import run_from, run_model, trace
from toyvit.model.options import READOUTS, count_outputs
from toyvit.model.sites import AXES, SITES
from toyvit.model.taps import editing, nudging, recording, replacing, settling, then, untouched

ROOT = Path(__file__).parents[2]
any_config = given(configs())
few = settings(
    deadline=None, derandomize=True, max_examples=10, phases=[Phase.generate, Phase.shrink]
)


def sizes(config: ModelConfig, n_images: int) -> dict[str, int]:
    return {
        "image": n_images,
        "patch": config.n_patches,
        "token": config.n_tokens,
        "query": config.n_tokens,
        "key": config.n_tokens,
        "one": 1,
        "head": config.n_heads,
        "model": config.d_model,
        "feature": config.d_head,
        "neuron": config.d_mlp,
        "pixel": config.d_patch,
        "label": count_outputs(config),
    }


def provably_nil(site: str, config: ModelConfig) -> bool:
    """A single token attends to itself whatever its score."""
    queries_and_keys = (
        "q_input",
        "k_input",
        "attn.q",
        "attn.k",
        "attn_scores",
        "rot_q",
        "rot_k",
        "pos_bias",
    )
    return config.n_tokens == 1 and site.endswith(queries_and_keys)


def displaced(value: torch.Tensor) -> torch.Tensor:
    """The same numbers in plain order, one number away from where memory is aligned."""
    return torch.empty(value.numel() + 1)[1:].view(value.shape).copy_(value)


def check_laws(config: ModelConfig, n_images: int = 2) -> None:
    """All laws of one model."""
    model, images = build(config), pictures(config, n_images)
    plain = model(images)
    tap = recording(model.sites())
    assert torch.equal(model(images, untouched), plain) and torch.equal(model(images, tap), plain)
    assert set(tap.values) == set(model.sites())
    for name, site in model.sites().items():
        value = tap.values[name]
        axes = site.axes.split()
        if config.readout in PATCH_READOUTS and name in ("readout", "logits"):
            axes.insert(1, "patch")
        assert value.shape == tuple(sizes(config, len(images))[axis] for axis in axes), name
        for copy in (value.clone(), displaced(value)):
            assert torch.equal(model(images, replacing({name: copy})), plain), name
        edited = model(images, editing({name: lambda x: x + noise(x)}))
        assert edited.isfinite().all() and edited.shape == plain.shape, name
        assert provably_nil(name, config) or (edited - plain).abs().max() > 1e-6, name
    everything = {name: value.clone() for name, value in tap.values.items()}
    assert torch.equal(model(images, replacing(everything)), plain)


@every_case
def test_every_site_of_every_table_entry(config):
    check_laws(config)


@pytest.mark.slow
@few
@any_config
def test_every_site_of_any_model(config):
    check_laws(config)


SLICED = [
    replace(
        BASE,
        n_layers=1,
        d_model=width,
        n_heads=heads,
        image_size=(4, 4),
        readout=readout,
        cls_token=readout == "cls",
    )
    for width, heads in ((9, 1), (9, 3), (15, 3), (21, 1))
    for readout in READOUTS
]


def check_sliced() -> None:
    """Models whose head and heads read slices that do not begin where memory is aligned."""
    for config in SLICED:
        check_laws(config, n_images=1)


@pytest.mark.slow
def test_values_that_are_slices_can_be_replaced_by_copies():
    """As on an older processor: there MKL rounds by how a value lies in memory."""
    older = {
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-c", "from tests.laws.test_taps import check_sliced; check_sliced()"]
    subprocess.run(words, check=True, cwd=ROOT, env=os.environ | older, timeout=300)


def test_a_replacement_lies_as_what_it_replaces_and_carries_its_gradient():
    tokens = torch.randn(2, 5, 9)
    slices = {
        "cls": tokens[:, 0],
        "last": tokens[:, -1],
        "turned": tokens.transpose(0, 2),
        "strided": tokens[:, 1::2, 2:7],
    }
    for name, value in slices.items():
        new = displaced(value).requires_grad_()
        laid = settling(replacing({name: new}))(name, value)
        assert torch.equal(laid, value) and laid.stride() == value.stride(), name
        assert laid.data_ptr() % 64 == value.data_ptr() % 64, name
        (slope,) = torch.autograd.grad((laid * value).sum(), new)
        assert torch.equal(slope, value), name

    repeated = tokens[:, :, None].expand(-1, -1, 3, -1)
    copy = repeated.clone()
    assert settling(replacing({"q_input": copy}))("q_input", repeated) is copy
    assert settling(untouched)("last", slices["last"]) is slices["last"]


@pytest.mark.slow
def test_one_token_alone():
    check_laws(
        ModelConfig(**{**vars(BASE), "image_size": (2, 2), "cls_token": False, "readout": "last"})
    )


def test_sites_come_in_the_order_of_the_forward_pass():
    offered: list[str] = []

    def note(site, value):
        offered.append(site)
        return value

    for config in CASES.values():
        offered.clear()
        model = build(config)
        model(pictures(config), note)
        assert offered == list(model.sites())


@every_case
def test_an_edit_changes_nothing_before_it(config):
    model, images = build(config), pictures(config)
    before = recording(model.sites())
    model(images, before)
    for layer in range(config.n_layers):
        cut = f"blocks.{layer}.attn_out"
        after: dict[str, torch.Tensor] = {}

        def note(site, value, cut=cut, after=after):
            after[site] = value
            return value + noise(value) if site == cut else value

        model(images, note)
        names = list(after)
        for name in names[: names.index(cut) + 1]:
            assert torch.equal(after[name], before.values[name]), name
        assert not torch.equal(after["logits"], before.values["logits"])


@every_case
def test_a_whole_cut_taken_from_other_pictures_gives_their_logits(config):
    """Patch everything: 1."""
    model, images, others = build(config), pictures(config), pictures(config, seed=9)
    tap = recording(model.sites())
    expected = model(others, tap)
    streams = ("patches", "embed", "resid_pre", "resid_mid", "resid_post")
    cuts = [name for name in model.sites() if name.split(".")[-1] in streams]
    for name in [*cuts, "ln_final.after_gain", "readout", "logits"]:
        assert torch.equal(model(images, replacing({name: tap.values[name]})), expected), name


def test_what_nobody_reads_changes_nothing():
    """Masked scores, and the last layer's heads at tokens that the read-out leaves alone."""
    config = CASES["mask=no-cls-read"]
    model, images = build(config), pictures(config)
    plain = model(images)
    hidden = model.mask == -torch.inf
    assert hidden.any()
    masked = editing({"blocks.0.attn.attn_scores": lambda x: x + noise(x) * hidden})
    assert torch.equal(model(images, masked), plain)

    def elsewhere(pattern):
        return torch.cat([pattern[:, :, :1], noise(pattern[:, :, 1:])], 2)

    assert torch.equal(model(images, editing({"blocks.1.attn.pattern": elsewhere})), plain)
    assert not torch.equal(model(images, editing({"blocks.0.attn.pattern": elsewhere})), plain)


def test_the_glossary_has_every_axis_and_no_site_is_listed_twice():
    assert {axis for site in SITES for axis in site.axes.split()} <= set(AXES)
    assert len({site.name for site in SITES}) == len(SITES)


def test_what_a_tap_hands_out_may_be_written_to():
    """The model, the caller's pictures and other recordings stay as they are."""
    for case in ("norm=layer", "one patch", "registers"):
        model = build(CASES[case])
        images = pictures(CASES[case], 3)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        untouched_images = images.clone()
        whole = trace(model, images)
        for site, value in trace(model, images).items():
            value.zero_()
            assert torch.equal(images, untouched_images), site
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(torch.equal(value, whole[site]) for site, value in trace(model, images).items())


def test_a_recording_does_not_change_when_a_later_site_is_edited_in_place():
    model = build(BASE)
    images = pictures(BASE, 3)
    whole = trace(model, images)
    tap = recording(["blocks.0.resid_post", "pos_embed", "blocks.0.attn.q"])
    edits = ("blocks.1.resid_pre", "blocks.0.attn.k", "embed")
    run_model(model, images, then(tap, editing(dict.fromkeys(edits[:1], torch.zero_))))
    for site, value in tap.values.items():
        assert torch.equal(value, whole[site]), site


def test_an_edit_of_another_shape_is_refused_and_a_lone_string_is_a_name():
    model = build(BASE)
    images = pictures(BASE, 3)
    for change in (lambda x: x[:, :1], lambda x: x.sum(-1), lambda x: x[None]):
        with pytest.raises(ValueError, match="attn_out holds"):
            run_model(model, images, editing({"blocks.0.attn_out": change}))
    assert list(trace(model, images, "logits")) == ["logits"]
    assert recording("logits").sites == nudging("logits").sites == {"logits"}


def test_an_edit_that_would_never_be_asked_is_refused():
    model = build(BASE)
    images = pictures(BASE, 3)
    residual = trace(model, images, "blocks.1.resid_pre")["blocks.1.resid_pre"]
    for site in ("embed", "pos_embed", "blocks.0.attn.z"):
        with pytest.raises(BadInput, match=f"{site} lies before layer 1"):
            run_from(model, residual, 1, editing({site: torch.zeros_like}))
    for site in ("blocks.1.attn.z", "ln_final.scale", "logits"):
        run_from(model, residual, 1, recording(site))
