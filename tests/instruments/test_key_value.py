"""Key-value memories: planted pairs are found, edits reach their key and spare the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from tests.analyses.planted import model_for
from tests.handmade import GAIN, empty, look, with_norm
from tests.laws.models import mark_slow
from toyvit.analyses import ANALYSES
from toyvit.config import InductionConfig
from toyvit.data.task import Batch, accuracy, build_task
from toyvit.errors import BadInput
from toyvit.instruments.key_value import (
    average_by_class,
    edit_mlp,
    edit_randomly,
    evaluate_edit,
    get_down_weight,
    optimize_value,
    read_values,
    record_keys,
    second_moment,
    select_readout,
    update_rank_one,
)
from toyvit.instruments.weight_circuits import fold_unembedding
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace

CONFIG = InductionConfig(
    rows=1, columns=3, n_items=8, n_labels=8, noise=0
)  # item, label, the same item again
few = settings(max_examples=30)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def look_up_table(images: int = 64, norm: str = "none", **options: object) -> tuple[ViT, Batch]:
    """One layer that names the item in the last cell through its MLP.

    Neuron i fires on item i and adds logit i. The picture's cells go one-hot to `content`;
    attention writes nothing; `answer` is empty until the MLP writes to it. Eight more neurons fire
    on labels, which the last cell never shows, and two are not connected.
    """
    task = build_task(CONFIG)
    shape = {"readout": "last", "cls_token": False, "d_mlp": 18, "activation": "relu", **options}
    model = empty(task, 24, 1, 1, 1, **shape)
    look(model, 16, slice(0, 16))
    mlp = model.blocks[0].mlp
    mlp.up.weight[:16, :16] = torch.eye(16)
    mlp.down.weight[16:24, :8] = torch.eye(8)
    model.head.weight[:, 16:24] = GAIN * torch.eye(8)
    batch = task.eval_batch("test", images, 0)
    return with_norm(model, norm), replace(batch, target=batch.content[:, -1], counterfactuals=None)


def measure_memories(model: ViT, batch: Batch) -> dict[str, Tensor]:
    cache = trace(model, batch.images, ["blocks.*.mlp.post"])
    return ANALYSES["memories"].measure(model, batch, cache)


@pytest.mark.parametrize(
    "options", [{}, {"cls_token": True, "n_registers": 1}, {"mask": "causal", "norm": "layer"}]
)
def test_planted_key_value_pairs_are_found(options):
    model, batch = look_up_table(512, **options)
    assert accuracy(run_model(model, batch.images), batch.target) == 1
    scores = measure_memories(model, batch)
    assert torch.equal(scores["promoted"][0, :8], torch.arange(8))
    assert (scores["agreement"][0, :8] == 1).all()
    assert torch.allclose(scores["correlation"][0, :8], torch.ones(8), atol=1e-5)
    assert scores["correlation"][0, 16:].isnan().all()  # not connected
    shares = torch.bincount(batch.target, minlength=8) / len(batch.target)
    chance = shares[scores["promoted"][0]].mean().item()
    assert scores["agreement_chance"][0] == pytest.approx(chance)
    wrong = replace(batch, target=(batch.target + 1) % 8)
    assert (measure_memories(model, wrong)["agreement"][0, :8] == 0).all()


def test_shuffled_classes_agree_as_chance_says():
    model, batch = look_up_table(512)
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    scores = measure_memories(model, replace(batch, target=batch.target[order]))
    assert scores["agreement"][0, :8].mean() == pytest.approx(1 / 8, abs=0.09)
    assert scores["correlation"][0, :8].abs().mean() < 0.5
    assert scores["agreement_chance"] == pytest.approx(1 / 8, abs=0.05)


def test_random_weights_agree_as_chance_has_it():
    model, batch = model_for("classify", n=60, d_mlp=200, readout="cls")
    scores = measure_memories(model, batch)
    assert (scores["agreement_mean"] - scores["agreement_chance"]).abs().max() < 0.06
    assert scores["correlation_mean"].abs().max() < 0.1


@pytest.mark.parametrize("readout", ["cls", "mean", "last"])
@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
def test_values_are_the_logits_that_a_neuron_adds(readout, norm):
    """In the last layer: a silent neuron takes away its value times its activation.

    With the final norm's scale as it is.
    """
    model, batch = model_for("classify", n=3, d_mlp=12, norm=norm, readout=readout)
    cache = trace(model, batch.images)
    post = cache["blocks.1.mlp.post"]
    silent_post = post.clone()
    silent_post[..., 5] = 0
    with torch.no_grad():
        silent = cache["blocks.1.resid_mid"] + model.blocks[1].mlp.down(silent_post)

    scale = cache.get("ln_final.scale", torch.ones(()))
    before = (cache["blocks.1.resid_post"] / scale) @ fold_unembedding(model)
    after = (silent / scale) @ fold_unembedding(model)
    change = select_readout(before - after, model)
    expected = select_readout(post[..., 5:6] / scale, model) * read_values(model, 1)[5]
    assert torch.allclose(change - change.mean(-1, keepdim=True), expected, atol=1e-5)


def test_means_by_class():
    means = average_by_class(torch.tensor([[1.0], [3.0], [10.0]]), torch.tensor([0, 0, 2]), 3)
    assert means[0] == 2 and means[2] == 10 and means[1].isnan()


@few
@given(st.integers(1, 8), st.integers(2, 10), st.integers(0, 99))
def test_the_edited_key_goes_to_its_value_and_orthogonal_keys_stay(d, n, seed):
    weight = draw(d, n, seed=seed).double()
    key = draw(n, seed=seed + 1).double()
    value = draw(d, seed=seed + 2).double()
    moment = second_moment(draw(40, n, seed=seed + 3))
    new = update_rank_one(weight, key, value, moment)
    assert torch.allclose(new @ key, value, atol=1e-9)
    along = torch.linalg.solve(moment, key)
    other = draw(n, seed=seed + 4).double()
    other -= along * (other @ along) / (along @ along)
    assert torch.allclose(new @ other, weight @ other, atol=1e-9)
    assert torch.linalg.matrix_rank(new - weight) <= 1
    unchanged = update_rank_one(weight, key, weight @ key, moment)
    assert torch.allclose(unchanged, weight)


@few
@given(st.integers(0, 99))
def test_no_other_change_that_reaches_the_key_moves_the_other_keys_less(seed):
    weight = draw(4, 6, seed=seed).double()
    key = draw(6, seed=seed + 1).double()
    value = draw(4, seed=seed + 2).double()
    moment = second_moment(draw(50, 6, seed=seed + 3))
    change = update_rank_one(weight, key, value, moment) - weight

    def disturb(matrix: Tensor) -> Tensor:
        return (matrix @ moment @ matrix.T).trace()

    sideways = draw(4, 6, seed=seed + 4).double()
    sideways -= torch.outer(sideways @ key, key) / (key @ key)  # leaves the key where it is
    assert disturb(change + 0.1 * sideways) > disturb(change)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_one_association_of_the_look_up_table_is_changed_and_no_other(norm):
    """Item 3 gets the answer 5: every picture of it, none of another; the model stays as it was."""
    model, batch = look_up_table(norm=norm)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    of_three = batch.images[batch.target == 3]
    post = record_keys(model, 0, batch.images)
    of_five = batch.images[batch.target == 5]
    key = select_readout(record_keys(model, 0, of_three[:1]), model)[0]
    key_of_five = select_readout(record_keys(model, 0, of_five), model)[0]
    weight = model.blocks[0].mlp.down.weight
    edited = edit_mlp(model, 0, key, weight @ key_of_five, second_moment(post))
    pictures = {
        "edited": of_three[:1],
        "alike": of_three[1:],
        "others": batch.images[batch.target != 3],
    }
    scores = evaluate_edit(model, edited, 5, pictures)
    assert scores == {"efficacy": 1, "generalisation": 1, "specificity": 1}
    assert evaluate_edit(model, edited, 5, pictures | {"others": of_three})["specificity"] == 0
    unedited = evaluate_edit(model, model, 5, pictures)
    assert unedited == {"efficacy": 0, "generalisation": 0, "specificity": 1}
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    others = [run_model(either, pictures["others"]) for either in (edited, model)]
    assert torch.allclose(*others, atol=1e-3)


def test_random_edits_of_the_same_size_do_not_have_that_effect():
    model, batch = look_up_table()
    of_three = batch.images[batch.target == 3]
    pictures = {"edited": of_three, "alike": of_three, "others": batch.images[batch.target != 3]}
    size = 2**0.5  # of the edit above: row 3 loses a 1 and gains a 1
    edited = [edit_randomly(model, 0, size, seed) for seed in range(20)]
    scores = [evaluate_edit(model, each, 5, pictures) for each in edited]
    assert sum(score["efficacy"] for score in scores) / 20 < 0.2
    change = get_down_weight(edited[0], 0) - get_down_weight(model, 0)
    assert change.norm().item() == pytest.approx(size, rel=1e-5)
    assert torch.linalg.matrix_rank(change) == 1


@pytest.mark.parametrize("readout", mark_slow(["cls", "mean", "last"], ["cls"]))
@pytest.mark.parametrize("layer", [0, 1])
def test_a_value_is_found_that_changes_the_answer_of_one_picture(readout, layer):
    model, batch = model_for("classify", n=40, d_mlp=24, norm="rms", readout=readout)
    image = batch.images[:1]
    wanted = int((run_model(model, image).argmax() + 1) % model.config.n_classes)
    key = select_readout(record_keys(model, layer, image), model)[0]
    value = optimize_value(model, layer, image, wanted, decay=0.001)
    moment = second_moment(record_keys(model, layer, batch.images))
    edited = edit_mlp(model, layer, key, value, moment)
    assert torch.allclose(edited.blocks[layer].mlp.down.weight @ key, value, atol=1e-4)
    if readout != "mean":  # one key for all patches is not each patch's own
        assert run_model(edited, image).argmax() == wanted
    assert all(weight.grad is None for weight in model.parameters())


def test_what_cannot_be_edited_is_refused():
    model, batch = model_for("classify", n=4, d_mlp=8)
    bare, _ = model_for("classify", n=4)
    with pytest.raises(BadInput, match="no MLP to edit"):
        record_keys(bare, 0, batch.images)
    with pytest.raises(BadInput, match="layer 2 is not there: the layers are 0 to 1"):
        read_values(model, 2)
    for wanted in (-1, 10):
        with pytest.raises(BadInput, match=f"class {wanted} is not there: .* 0 to 9"):
            optimize_value(model, 0, batch.images, wanted)
    for wanted in (0, 9):
        assert optimize_value(model, 0, batch.images, wanted, steps=1).isfinite().all()
    with pytest.raises(BadInput, match="no neuron fires"):
        update_rank_one(torch.ones(2, 3), torch.zeros(3), torch.ones(2), torch.eye(3))
