"""The shared pass: nothing is written into it; devices and pictures that cannot be had."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import product

import pytest
import torch

from tests.analyses.planted import model_for
from toyvit.analyses import explain_skipped, passes, select_analyses
from toyvit.analyses.analysis import Tagged
from toyvit.analyses.head_ablation import HEAD_ABLATION
from toyvit.clamps.patterns import apply_clamps
from toyvit.data.task import loss
from toyvit.errors import BadInput
from toyvit.measuring import run_analyses
from toyvit.model.forward import ablate_heads, trace

SITES = ["blocks.*.attn.pattern", "blocks.*.resid_pre", "logits"]


def test_a_pass_has_the_values_of_a_trace():
    model, batch = model_for("induction 4x4", n=5)
    values = passes.run_pass(model, batch.images, SITES)
    expected = trace(model, batch.images, SITES)
    assert values.keys() == expected.keys()
    assert all(torch.equal(values[site], expected[site]) for site in expected)


def test_a_pass_ends_behind_the_last_site_that_is_wanted(monkeypatch):
    model, batch = model_for("induction 4x4", n=5)
    expected = trace(model, batch.images)
    monkeypatch.setattr(type(model), "unembed", None)
    monkeypatch.setattr(model.layers[1].attn.out, "forward", None)
    values = passes.run_pass(model, batch.images, ["embed", "blocks.1.attn.pattern"])
    assert list(values) == ["embed", "blocks.1.attn.pattern"]
    assert all(torch.equal(value, expected[site]) for site, value in values.items())


def test_a_pass_elsewhere_leaves_the_model_where_it_is(monkeypatch):
    """Any other name takes the way of an accelerator: a copy of the model, values brought back."""
    model, batch = model_for("induction 4x4", n=5)
    moved = []
    to = type(model).to

    def move(self, device):
        moved.append(self is model)
        return to(self, "cpu")

    monkeypatch.setattr(type(model), "to", move)
    values = passes.run_pass(model, batch.images, SITES, device="cpu:0")
    assert moved == [False]
    assert torch.equal(values["logits"], trace(model, batch.images, SITES)["logits"])


@pytest.mark.parametrize("name", ["induction 4x4", "objects", "markov"])
def test_analyses_write_nothing_into_the_pass_that_they_share(name, monkeypatch):
    model, batch = model_for(name, n=40)
    shared = []
    run = passes.run_pass

    def keep(*arguments):
        values = run(*arguments)
        shared.append((values, {site: value.clone() for site, value in values.items()}))
        return values

    monkeypatch.setattr("toyvit.measuring.run_pass", keep)
    run_analyses(model, batch, select_analyses(None, batch, model))
    values, before = shared[0]
    assert len(values) > 5 and values.keys() == before.keys()
    for site, value in before.items():
        torch.testing.assert_close(values[site], value, rtol=0, atol=0, equal_nan=True)


def test_what_a_batch_has_computed_is_neither_copied_nor_sent():
    _, batch = model_for("induction 4x4", n=5)
    calls = []

    def count(batch, option):
        calls.append(option)
        return len(calls)

    assert [batch.compute_once(count, option) for option in (1, 2, 1)] == [1, 2, 1]
    assert pickle.loads(pickle.dumps(batch))._memo._answers == {}
    assert replace(batch).compute_once(count, 1) == 3 and calls == [1, 2, 1]


def test_heads_are_ablated_above_four_layers_only_when_it_is_asked_for():
    small, batch = model_for("induction 4x4", n=5, n_layers=4)
    large, _ = model_for("induction 4x4", n=5, n_layers=5)
    names = [
        {analysis.name for analysis in select_analyses(None, batch, model)}
        for model in (small, large)
    ]
    assert names[0] - names[1] == {"head_ablation"} and not names[1] - names[0]
    assert "head_ablation" not in explain_skipped(batch, small)
    assert "more than 4 layers" in explain_skipped(batch, large)["head_ablation"]
    assert select_analyses(["head_ablation"], batch, large)[0].name == "head_ablation"


@pytest.mark.parametrize("clamp", ["0.0:previous", "1.1:uniform"])
def test_heads_of_a_clamped_model_are_ablated_under_its_clamps(clamp):
    model, batch = model_for("induction 4x4", n=12, readout="last")
    clamped = apply_clamps(model, [clamp], 1, batch.retrieval)
    cache = trace(clamped, batch.images, HEAD_ABLATION.sites)
    measures = HEAD_ABLATION.measure(clamped, batch, cache)
    for ablation in ("zero", "mean"):
        losses = measures[Tagged("loss", ablation=ablation)]
        for layer, head in product(range(2), range(2)):
            expected = loss(ablate_heads(clamped, [(layer, head)], cache, ablation), batch.target)
            assert torch.allclose(losses[layer, head], expected, atol=1e-5)
    bare = HEAD_ABLATION.measure(model, batch, trace(model, batch.images, HEAD_ABLATION.sites))
    key = Tagged("loss", ablation="zero")
    assert not torch.allclose(bare[key], measures[key], atol=1e-3)


@pytest.mark.parametrize(
    ("device", "jobs", "words"),
    [
        ("cuda", 1, ["--device cuda is not on this machine: allowed are cpu"]),
        ("cdua", 1, ["--device", "'cdua'", "cuda"]),
        ("mps", 2, ["--jobs 2 is for --device cpu"]),
    ],
)
def test_devices_that_cannot_be_used_are_refused(device, jobs, words, monkeypatch):
    here = ["cpu", "mps"] if jobs > 1 else ["cpu"]
    monkeypatch.setattr(passes, "list_devices", lambda: here)
    with pytest.raises(BadInput) as refusal:
        passes.check_device(device, jobs)
    assert all(word in str(refusal.value) for word in words)
    passes.check_device("cpu", 2)


def test_pictures_that_do_not_fit_are_refused_with_how_many_do(monkeypatch):
    model, _ = model_for("induction 4x4", n=2)
    monkeypatch.setattr(passes, "read_free_memory", lambda: 100_000_000)
    passes.check_room(model.config, 512, 2)
    with pytest.raises(BadInput, match=r"--images 1,000,000 would need .* GB are free: about"):
        passes.check_room(model.config, 1_000_000, 2)
