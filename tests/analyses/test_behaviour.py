"""Performance, strategies, context and ablation, on heads and answers that are planted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.analyses.planted import OPTIONS, model_for, traced
from tests.laws.models import BASE
from tests.laws.worlds import CONFIGS, MADE
from toyvit.analyses import ANALYSES, behaviour, head_ablation
from toyvit.analyses.analysis import Tagged
from toyvit.data.task import accuracy, loss
from toyvit.model import ViT
from toyvit.model.forward import ablate_heads, run_model
from toyvit.model.taps import editing, replacing

ANY = ViT(BASE)  # what reads only logits takes any model
every_shape = pytest.mark.parametrize("options", OPTIONS)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CONFIGS
        if not MADE[name].eval_batch("test", 2, 0).target.is_floating_point()
    ],
)
def test_performance_of_right_and_of_empty_answers(name):
    made = MADE[name]
    batch = made.eval_batch("test", 30, 0)
    if not batch.is_answered:
        assert behaviour.PERFORMANCE.list_missing(ANY, batch) == ["pictures whose answer is known"]
        return
    right = 60 * torch.nn.functional.one_hot(batch.target.clamp(min=0), made.n_classes).float()
    found = behaviour.measure_performance(ANY, batch, {"logits": right})
    assert found["loss"] < 1e-6 and found["accuracy"] == 1
    empty = behaviour.measure_performance(ANY, batch, {"logits": torch.zeros_like(right)})
    assert empty["loss"].item() == pytest.approx(math.log(made.n_classes), rel=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CONFIGS
        if not ANALYSES["by_factor"].list_missing(ANY, MADE[name].eval_batch("test", 60, 0))
    ],
)
def test_scores_by_value_average_to_the_score(name):
    """Truth: a model that is right for one value of a factor and wrong for the others.

    Null: the mean is the score of all.
    """
    made = MADE[name]
    batch = made.eval_batch("test", 60, 0)
    logits = torch.randn(
        len(batch.target), made.n_classes, generator=torch.Generator().manual_seed(0)
    )
    found = behaviour.measure_by_factor(ANY, batch, {"logits": logits})
    assert {key["factor"] for key in found} == set(batch.groups)
    for factor, values in batch.groups.items():
        counts = torch.bincount(values).double()
        for quantity, whole in (
            ("loss", loss(logits, batch.target)),
            ("accuracy", accuracy(logits, batch.target)),
        ):
            by_value = found[Tagged(f"{quantity}_of_value", factor=factor)]
            assert torch.equal(by_value.isnan(), counts == 0)
            assert (by_value.nan_to_num() * counts).sum() / counts.sum() == pytest.approx(
                whole.item(), abs=1e-5
            )
        chosen = values == values[0]
        answers = torch.where(chosen, batch.target, (batch.target + 1) % made.n_classes)
        planted = 9.0 * torch.nn.functional.one_hot(answers, made.n_classes)
        seen = behaviour.measure_by_factor(ANY, batch, {"logits": planted})[
            Tagged("accuracy_of_value", factor=factor)
        ]
        assert seen[values[0]] == 1 and seen.nansum() == 1


@pytest.mark.parametrize("name", [name for name in CONFIGS if MADE[name].strategies])
def test_strategies(name):
    """A model that says what a strategy says is at distance 0 from it.

    One that says nothing at ln(k) minus its entropy.
    """
    batch = MADE[name].eval_batch("test", 30, 0)
    for strategy, words in batch.strategies.items():
        logits = words.nan_to_num(1.0).clamp(min=1e-30).log() + 3.0  # logits may be shifted
        found = behaviour.measure_strategies(ANY, batch, {"logits": logits})
        assert found[Tagged("kl", strategy=strategy)].abs() < 1e-5
        assert all(distance > -1e-6 for distance in found.values())
        rows = words[~words.isnan().any(-1)]
        empty = behaviour.compute_divergence(torch.zeros_like(words), words)
        expected = math.log(rows.shape[-1]) + torch.xlogy(rows, rows).sum(-1).mean()
        assert torch.allclose(empty, expected, atol=1e-5)


@every_shape
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_head_that_writes_nothing_is_not_missed(options, ablation):
    """W_O = 0: not one bit of the logits changes."""
    model, batch = model_for("induction 4x4", n=6, **OPTIONS[options])
    width = model.config.d_head
    for layer, block in enumerate(model.blocks):
        for head in range(model.config.n_heads):
            saved = block.attn.out.weight.detach().clone()
            with torch.no_grad():
                block.attn.out.weight[:, head * width : (head + 1) * width] = 0
            seen = traced(model, batch)
            assert torch.equal(ablate_heads(model, [(layer, head)], seen, ablation), seen["logits"])
            other = [(layer, 1 - head)]
            assert not torch.equal(ablate_heads(model, other, seen, ablation), seen["logits"])
            with torch.no_grad():
                block.attn.out.weight.copy_(saved)


@every_shape
def test_all_heads_of_a_layer_by_zero_leave_the_bias_path(options):
    model, batch = model_for("induction 4x4", n=6, **OPTIONS[options])
    seen = traced(model, batch)
    for layer, block in enumerate(model.blocks):
        site = f"blocks.{layer}.attn_out"
        bias = (
            torch.zeros(model.config.d_model)
            if block.attn.out.bias is None
            else block.attn.out.bias.detach()
        )
        expected = run_model(
            model, batch.images, replacing({site: bias.expand_as(seen[site]).clone()})
        )
        found = ablate_heads(model, [(layer, head) for head in range(model.config.n_heads)], seen)
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, seen["logits"], atol=1e-4)


@every_shape
def test_a_head_that_never_varies_is_not_missed_by_its_mean(options):
    """W_V = 0 leaves z the same for all images.

    Mean ablation changes nothing, and zero ablation takes its constant away.
    """
    model, batch = model_for("induction 4x4", n=6, **OPTIONS[options])
    with torch.no_grad():
        model.blocks[0].attn.qkv.weight.unflatten(0, (3, 2, -1))[2, 1] = 0
    seen = traced(model, batch)
    assert torch.allclose(ablate_heads(model, [(0, 1)], seen, "mean"), seen["logits"], atol=1e-5)
    constant = (
        model.config.attention_bias
        and model.blocks[0].attn.qkv.bias.unflatten(0, (3, 2, -1))[2, 1].abs().max() > 0
    )
    assert torch.allclose(
        ablate_heads(model, [(0, 1)], seen, "zero"), seen["logits"], atol=1e-5
    ) != bool(constant)
    assert torch.equal(ablate_heads(model, [], seen), seen["logits"])


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_knocking_out_is_the_edit_of_one_site(ablation):
    """Resuming at the first layer that changes gives what a whole forward pass gives."""
    model, batch = model_for("induction 4x4", n=6, **OPTIONS["CLS and registers"])
    seen = traced(model, batch)

    def silence(head, layer):
        def edit(result):
            result = result.clone()
            mean = seen[f"blocks.{layer}.attn.result"].mean(0)
            result[:, :, head] = 0 if ablation == "zero" else mean[:, head]
            return result

        return edit

    by_hand = editing(
        {"blocks.0.attn.result": silence(1, 0), "blocks.1.attn.result": silence(0, 1)}
    )
    found = ablate_heads(model, [(0, 1), (1, 0)], seen, ablation)
    assert torch.allclose(found, run_model(model, batch.images, by_hand), atol=1e-5)
    assert torch.equal(found, ablate_heads(model, [(1, 0), (0, 1)], seen, ablation))


@pytest.mark.parametrize("name", ["induction 4x4", "markov grid", "classify"])
def test_the_analysis_agrees_with_its_parts(name):
    model, batch = model_for(name, n=12, n_heads=4)
    seen = traced(model, batch)
    found = head_ablation.measure_head_ablation(model, batch, seen)
    for ablation in ("zero", "mean"):
        losses = found[Tagged("loss", ablation=ablation)]
        for layer in range(2):
            for head in range(4):
                logits = ablate_heads(model, [(layer, head)], seen, ablation)
                assert torch.allclose(losses[layer, head], loss(logits, batch.target), atol=1e-6)
                assert torch.allclose(
                    found[Tagged("accuracy", ablation=ablation)][layer, head],
                    accuracy(logits, batch.target),
                    atol=1e-5,
                )
        together = found[Tagged("cumulative_loss", ablation=ablation)]
        assert together[0] == loss(seen["logits"], batch.target) and together[1] == losses[-1].max()
        everything = ablate_heads(model, [(1, head) for head in range(4)], seen, ablation)
        assert torch.allclose(together[-1], loss(everything, batch.target), atol=1e-6)
        assert len(together) == 5
        assert torch.allclose(
            found[Tagged("cumulative_accuracy", ablation=ablation)][-1],
            accuracy(everything, batch.target),
            atol=1e-5,
        )


@every_shape
def test_a_model_that_sees_only_the_query_has_no_use_for_the_context(options):
    """No attention, read at the last patch, which is the query: 0, to rounding.

    With attention the pictures matter.
    """
    model, batch = model_for("induction 4x4", n=20, **{**OPTIONS[options], "readout": "last"})
    assert batch.retrieval is not None and (batch.retrieval.query == 15).all()
    assert (
        behaviour.measure_in_context(model, batch, traced(model, batch))[
            Tagged("score", by="context")
        ]
        != 0
    )
    with torch.no_grad():
        for block in model.blocks:
            block.attn.out.weight.zero_()
    nothing = behaviour.measure_in_context(model, batch, traced(model, batch))
    assert nothing[Tagged("score", by="context")].abs() < 1e-6


def split_cells(images: Tensor) -> Tensor:
    """The cells of 8 x 8 pixels (image cell pixel)."""
    return images.unfold(2, 8, 8).unfold(3, 8, 8).flatten(2, 3)[:, 0].flatten(2)


def swap_cells(images: Tensor, queries: Tensor) -> Tensor:
    """Pictures whose cells but the query are those of the picture before, cell by cell."""
    swapped = images.roll(1, 0)
    for image, query in enumerate(queries.tolist()):
        row, column = 8 * (query // 4), 8 * (query % 4)
        swapped[image, :, row : row + 8, column : column + 8] = images[
            image, :, row : row + 8, column : column + 8
        ]
    return swapped


@pytest.mark.parametrize("queries", ["last", "mixed"])
@every_shape
def test_answers_to_pictures_out_of_context_are_those_of_whole_passes(options, queries):
    """Also where only the last token asks and the rest is read from the pass that has been."""
    model, batch = model_for("induction 4x4", n=5, **OPTIONS[options])
    query = torch.tensor([0, 5, 15, 15, 6] if queries == "mixed" else [15] * 5)
    answers = behaviour.answer_swapped(model, query, traced(model, batch))
    whole = run_model(model, swap_cells(batch.images, query))
    assert torch.allclose(answers, whole, atol=1e-5)
    assert not torch.allclose(answers, run_model(model, batch.images), atol=1e-3)


@pytest.mark.parametrize("mask", ["causal", "bidirectional"])
def test_only_a_last_query_that_no_token_sees_is_followed_alone(mask, monkeypatch):
    options = {"mask": mask, "cls_token": False, "readout": "last"}
    model, batch = model_for("induction 4x4", n=5, **options)
    whole = torch.full((5, 16), 7.0)
    monkeypatch.setattr(type(model), "answer_from", lambda self, x, first: whole)
    answers = behaviour.answer_swapped(model, batch.retrieval.query, traced(model, batch))
    assert torch.equal(answers, whole) == (mask == "bidirectional")


@pytest.mark.parametrize("name", ["markov", "repeats"])
def test_in_context_score_by_position(name):
    """Who counts in the context gains by it; who says the same everywhere has 0.

    The reverse order has the opposite sign.
    """
    batch = MADE[name].eval_batch("test", 400, 0)
    model = ViT(replace(BASE, mask="causal", readout="every"))
    flat = torch.zeros(*batch.target.shape, MADE[name].n_classes)
    assert (
        behaviour.measure_in_context(model, batch, {"logits": flat})[
            Tagged("score", by="position")
        ].abs()
        < 1e-6
    )
    late = torch.arange(batch.target.shape[1]) >= batch.target.shape[1] / 2
    right = torch.nn.functional.one_hot(batch.target.clamp(min=0), flat.shape[-1]) * 3.0
    for sign, when in ((1, late), (-1, ~late)):
        found = behaviour.measure_in_context(model, batch, {"logits": right * when[:, None]})[
            Tagged("score", by="position")
        ]
        gain = math.log(flat.shape[-1]) - loss(right, batch.target)
        assert found == pytest.approx(sign * gain.item(), rel=1e-4)
    for strategy, words in (batch.strategies or {}).items():
        found = behaviour.measure_in_context(
            model, batch, {"logits": words.nan_to_num(1.0).clamp(min=1e-30).log()}
        )
        assert (
            strategy not in ("bigram", "unigram") or found[Tagged("score", by="position")] > 0.01
        ), strategy
