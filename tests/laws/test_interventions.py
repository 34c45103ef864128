"""Ways to name, combine and differentiate interventions."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.laws.models import BASE, CASES, build, mark_slow, noise, pictures
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import (
    editing,
    list_wanted,
    nudging,
    recording,
    replacing,
    then,
    untouched,
    within,
)

MODEL, IMAGES = build(BASE), pictures(BASE)
SITES = list(MODEL.sites())


def lens_name(site: str) -> str:
    """TransformerLens's spelling: `hook_` before the last part."""
    head, _, tail = site.rpartition(".")
    return f"{head}.hook_{tail}" if head else f"hook_{tail}"


@pytest.mark.parametrize("site", mark_slow(SITES, SITES[::5]))
def test_a_misspelt_site_is_refused_and_the_nearest_named(site):
    wrong = site + "77"
    taps = [
        replacing({wrong: torch.zeros(1)}),
        editing({wrong: lambda x: x}),
        recording([wrong]),
        nudging([wrong]),
        then(untouched, recording([wrong, site])),
    ]
    calls = [
        lambda: trace(MODEL, IMAGES, [wrong]),
        lambda: MODEL.run_with_cache(IMAGES, [wrong]),
        lambda: MODEL.run_with_hooks(IMAGES, [(wrong, lambda value, hook: value)]),
        *(partial(run_model, MODEL, IMAGES, tap) for tap in taps),
    ]
    for call in calls:
        with pytest.raises(BadInput, match="did you mean") as caught:
            call()
        assert f"did you mean {site!r}" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spell", [lens_name, lambda site: site[:-2] + "*"], ids=["hook_", "shell pattern"]
)
def test_no_name_that_a_tap_may_carry_is_silently_ignored(spell):
    """A tap compares names exactly: one spelt in another way is refused, or else it works."""
    ignored = []
    for site in SITES:
        try:
            edited = run_model(MODEL, IMAGES, editing({spell(site): lambda x: x + noise(x)}))
        except BadInput:
            continue
        if torch.equal(edited, MODEL(IMAGES)):
            ignored.append(spell(site))
    assert ignored == []


@pytest.mark.parametrize("collection", [list, tuple, set, frozenset, dict.fromkeys])
def test_a_tap_may_carry_its_sites_in_any_collection(collection):
    def doubled(site, value):
        return 2 * value if site == "logits" else value

    doubled.sites = collection(["logits"])
    assert torch.equal(run_model(MODEL, IMAGES, doubled), 2 * MODEL(IMAGES).detach())


@pytest.mark.parametrize("site", mark_slow(SITES, SITES[::5]))
def test_transformer_lens_names(site):
    plain, cache = MODEL.run_with_cache(IMAGES, [lens_name(site)])
    assert torch.equal(plain, MODEL(IMAGES)) and list(cache) == [site]
    assert torch.equal(cache[lens_name(site)], cache[site])
    called = []

    def add_noise(value, hook):
        called.append(hook)
        return value + noise(value)

    def only_look(value, hook):
        return None

    edited = MODEL.run_with_hooks(IMAGES, [(lens_name(site), add_noise)])
    assert called == [site]
    assert torch.equal(edited, MODEL(IMAGES, editing({site: lambda x: x + noise(x)})))
    assert torch.equal(MODEL.run_with_hooks(IMAGES, [(lens_name(site), only_look)]), plain)


def test_the_cache_answers_to_a_name_and_a_layer():
    _, cache = MODEL.run_with_cache(IMAGES)
    assert list(cache) and set(cache) == set(SITES)
    for layer in range(BASE.n_layers):
        assert cache["pattern", layer] is cache[f"blocks.{layer}.attn.pattern"]
    for absent in ("nothing", ("nothing", 0), ("pattern", 9)):
        with pytest.raises(KeyError):
            cache[absent]


def test_hooks_and_taps_go_one_after_another():
    add = editing({"logits": lambda x: x + 1})
    double = editing({"logits": lambda x: 2 * x})
    plain = MODEL(IMAGES)
    assert torch.equal(MODEL(IMAGES, then(add, double)), 2 * (plain + 1))
    assert torch.equal(MODEL(IMAGES, then(double, add)), 2 * plain + 1)
    hooks = [("logits", lambda x, hook: x + 1), ("hook_logits", lambda x, hook: 2 * x)]
    assert torch.equal(MODEL.run_with_hooks(IMAGES, hooks), 2 * (plain + 1))
    assert torch.equal(MODEL(IMAGES, then(untouched, untouched)), plain)

    before = recording(["logits"])
    after = recording(["logits"])
    left = MODEL(IMAGES, then(then(before, add), after))
    right = MODEL(IMAGES, then(before, then(add, after)))
    assert torch.equal(left, right)
    assert torch.equal(before.values["logits"], plain)
    assert torch.equal(after.values["logits"], plain + 1)

    assert list_wanted(then(add, recording(["embed"]))) == {"logits", "embed"}
    assert list_wanted(then(add, lambda site, value: value)) is None


def test_within_puts_the_prefix_before_the_name():
    offered = []

    def note(site, value):
        offered.append(site)
        return value

    within("ln1.", within("blocks.1.", note))("scale", IMAGES)
    assert offered == ["blocks.1.ln1.scale"]
    tap = recording(["blocks.1.resid_pre", "blocks.0.resid_pre", "embed"])
    assert list_wanted(within("blocks.1.", tap)) == {"resid_pre"}
    assert list_wanted(within("blocks.1.", note)) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", mark_slow(["mask=causal", "norm=rms", "norm=none", "registers"], ["registers"])
)
def test_a_nudge_s_gradient_is_the_derivative(case):
    """Against autograd, and along a random direction against a central difference (float64)."""
    model, images = build(CASES[case]).double(), pictures(CASES[case]).double()
    record = recording(model.sites())
    tap = nudging(model.sites())
    model(images, then(record, tap)).square().sum().backward()
    for site, value in record.values.items():
        gradient = tap.nudges[site].grad

        def score(x, site=site):
            return model(images, replacing({site: x})).square().sum()

        here = value.clone().requires_grad_()
        expected = torch.autograd.grad(score(here), here)[0]
        assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-12), site
        step = noise(value) * 1e-6
        slope = (score(value + step) - score(value - step)) / 2
        assert torch.allclose((gradient * step).sum(), slope.detach(), rtol=1e-4, atol=1e-11), site


def test_a_replacement_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"blocks.0.attn.pattern holds .* the replacement is"):
        run_model(MODEL, IMAGES, replacing({"blocks.0.attn.pattern": torch.zeros(1)}))
