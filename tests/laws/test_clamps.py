"""Laws of clamps: a clamped head has its pattern, does not learn it, and all else is as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, islice, pairwise

import numpy as np
import pytest
import torch

from tests.laws.models import BASE, CASES, CORE, build, every_case, mark_slow, pictures
from toyvit.clamps.patterns import (
    PATTERNS,
    ClampedViT,
    active_clamps,
    apply_clamps,
    build_clamp_tap,
    needs_retrieval,
)
from toyvit.clamps.weight_clamps import check_clamps, hold_weight_clamps, start_weight_clamps
from toyvit.config import Clamp, ModelConfig, TrainConfig
from toyvit.data.task import Retrieval, build_task, resolve_config
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import run_from, trace
from toyvit.model.options import allowed_keys
from toyvit.model.taps import replacing, untouched
from toyvit.recipes import RECIPES
from toyvit.train.module import ViTModule
from toyvit.train.optimizers import build_optimizer
from toyvit.train.stream import BatchStream


def pair_patterns():
    """Every case with two of the patterns, going round."""
    pairs = []
    patterns = cycle(PATTERNS)
    for name, config in CASES.items():
        marks = [pytest.mark.slow] * (name not in CORE)
        for what in islice(patterns, 2):
            pairs.append(pytest.param(config, what, id=f"{name}-{what}", marks=marks))
    return pairs


every_case_and_pattern = pytest.mark.parametrize(("config", "what"), pair_patterns())


def retrieval_of(config: ModelConfig) -> Retrieval:
    """Two pictures whose last cell asks; the matches are the first and the last cell."""
    end = config.n_patches - 1
    return Retrieval(
        query=torch.tensor([end, end]),
        target=torch.tensor([0, end]),
        candidates=torch.tensor([[0, end], [0, end]]),
    )


def gradients(model, images, tap):
    model.zero_grad()
    model(images, tap).square().sum().backward()
    weights = dict(model.named_parameters()).items()
    return {name: weight.grad.clone() for name, weight in weights if weight.grad is not None}


def qkv_rows(config: ModelConfig, head: int, parts: tuple[int, ...]) -> torch.Tensor:
    """Rows of the packed weight that belong to one head's q (0), k (1) or v (2)."""
    here = torch.zeros(3, config.n_heads, config.d_head, dtype=torch.bool)
    here[list(parts), head] = True
    return here.flatten()


@every_case_and_pattern
def test_a_clamped_head_has_the_pattern_and_the_others_their_own(config, what):
    model, images, retrieval = build(config), pictures(config), retrieval_of(config)
    clamped_model = apply_clamps(model, [f"0.1:{what}"], 0, retrieval)
    plain = trace(model, images)["blocks.0.attn.pattern"]
    clamped = trace(clamped_model, images)["blocks.0.attn.pattern"]
    head = plain[:, 1:2]
    expected = PATTERNS[what](head, allowed_keys(config), config.n_prefix, retrieval)
    assert torch.equal(clamped[:, 1:2], expected.broadcast_to(head.shape))
    assert torch.equal(clamped[:, 0], plain[:, 0])
    assert torch.allclose(clamped.sum(-1), torch.ones(()), atol=1e-6) and (clamped >= 0).all()


def test_the_patterns_are_what_they_are_called():
    """3 x 4 patches after CLS: written out by hand."""
    pattern = torch.rand(2, 1, BASE.n_tokens, BASE.n_tokens)
    given = (pattern, allowed_keys(BASE), BASE.n_prefix, retrieval_of(BASE))
    patterns = {what: PATTERNS[what](*given).broadcast_to(pattern.shape)[:, 0] for what in PATTERNS}
    assert patterns["previous"].argmax(-1).tolist() == 2 * [[0, 1, *range(1, 12)]]
    assert torch.equal(patterns["identity"], torch.eye(13).repeat(2, 1, 1))
    assert patterns["match"].argmax(-1).tolist() == [[*range(12), 1], [*range(12), 12]]
    assert torch.equal(patterns["uniform"], torch.full((2, 13, 13), 1 / 13))
    assert torch.equal(patterns["frozen"], pattern[:, 0])
    causal = replace(BASE, mask="causal", cls_token=False, readout="last")
    share = PATTERNS["uniform"](pattern[..., 1:, 1:], allowed_keys(causal), 0, None)
    assert torch.allclose(share, torch.ones(12, 12).tril() / torch.arange(1, 13)[:, None])


@every_case_and_pattern
def test_queries_and_keys_of_a_clamped_head_get_no_gradient(config, what):
    model, images = build(config), pictures(config)
    name = "blocks.0.attn.qkv.weight"
    queries_and_keys = qkv_rows(config, 1, (0, 1))
    values = qkv_rows(config, 1, (2,))
    tap = build_clamp_tap([f"0.1:{what}"], 0, config, retrieval_of(config))
    free = gradients(model, images, untouched)[name]
    clamped = gradients(model, images, tap)[name]
    assert (clamped[queries_and_keys] == 0).all() and (clamped[values] != 0).any()
    assert config.n_tokens == 1 or (free[queries_and_keys] != 0).any()


@every_case
def test_holding_a_head_to_its_own_pattern_changes_no_answer(config):
    """`frozen` by the table, and every head's pattern given back as a tensor."""
    model, images = build(config), pictures(config)
    plain = model(images)
    assert torch.equal(apply_clamps(model, ["0:frozen", "0.1:frozen"], 0, None)(images), plain)
    patterns = trace(model, images, ["blocks.*.attn.pattern"])
    assert torch.equal(model(images, replacing(patterns)), plain)


@every_case_and_pattern
def test_holding_a_head_that_writes_nothing_changes_nothing_for_the_rest(config, what):
    """W_O = 0: the same answers and the same gradients, but for that W_O."""
    model, images = build(config), pictures(config)
    columns = slice(config.d_head, 2 * config.d_head)
    with torch.no_grad():
        model.blocks[0].attn.out.weight[:, columns] = 0
    tap = build_clamp_tap([f"0.1:{what}"], 0, config, retrieval_of(config))
    assert torch.equal(model(images, tap), model(images))
    free = gradients(model, images, untouched)
    clamped = gradients(model, images, tap)
    for grads in (free, clamped):
        grads["blocks.0.attn.out.weight"][:, columns] = 0
    assert all(torch.equal(free[name], clamped[name]) for name in free)


def smoke(clamps: tuple[str, ...] = (), **model: object):
    run = RECIPES["induction-smoke"]()
    shape = replace(run.model, n_heads=2, **model)
    options = {"steps": 8, "batch_size": 8, "warmup": 0, "learning_rate": 1e-2, "path": "full"}
    training = replace(run.train, **options, weight_decay=0.1, clamps=clamps)
    return resolve_config(replace(run, model=shape, train=training))


def copy_weights(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def train(run, prepare=lambda model: None):
    """Weights after each update, without the trainer: gradient, clipping, update."""
    module = ViTModule(run)
    model = module.model
    prepare(model)
    stream = BatchStream(build_task(run.task), run)
    adam = build_optimizer(model, run.train)
    snapshots = [copy_weights(model)]
    for step in range(1, run.train.steps + 1):
        adam.zero_grad()
        module.training_step(next(stream.draw_batches(range(step, step + 1))), 0).backward()
        module.configure_gradient_clipping(adam)
        with hold_weight_clamps(model, run.train.clamps, module.step):
            adam.step()
        module.step += 1
        start_weight_clamps(model, run.train.clamps, module.step)
        snapshots.append(copy_weights(model))
    return snapshots


def same(weights, others):
    return all(torch.equal(weights[name], others[name]) for name in weights)


def compute_ov(run, weights):
    """W_V W_O of every head: (layer, head, d_model, d_model)."""
    model = ViT(run.model)
    model.load_state_dict(weights)
    return (model.W_V @ model.W_O).detach()


@pytest.mark.parametrize("what", mark_slow(PATTERNS, ["frozen"]))
def test_holding_an_unused_head_changes_nothing_in_training(what):
    """W_V = W_O = 0 stay 0 for ever: eight updates end with the same bits."""

    def unused(model):
        with torch.no_grad():
            model.blocks[1].attn.qkv.weight[qkv_rows(model.config, 1, (2,))] = 0
            model.blocks[1].attn.out.weight[:, model.config.d_head :] = 0

    assert same(train(smoke(), unused)[-1], train(smoke((f"1.1:{what}",)), unused)[-1])
    assert not same(train(smoke())[-1], train(smoke((f"1.1:{what}",)))[-1])


def test_a_clamp_begins_at_its_step():
    """Up to there the weights are those of the run without it; the next update differs."""
    clamps = ("0.0:previous@5",)
    steps = zip(train(smoke()), train(smoke(clamps)), strict=True)
    assert [same(free, late) for free, late in steps] == 6 * [True] + 3 * [False]
    assert active_clamps(clamps, 4) == []
    assert active_clamps(clamps, 5) == [Clamp.parse("0.0:previous@5")]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("n_heads", mark_slow([1, 4], [4]))
@pytest.mark.parametrize("start", [0, 3])
def test_copying_is_a_projection_that_does_not_learn(bias, n_heads, start):
    """W_V W_O is symmetric, its own square, of the head's rank; before `start` it learns.

    The identity for a single head.
    """
    run = smoke((f"1.0:copy@{start}",))
    run = replace(run, model=replace(run.model, n_heads=n_heads, attention_bias=bias))
    snapshots = train(run)
    circuits = [compute_ov(run, weights)[1, 0] for weights in snapshots]
    ov = circuits[start]
    assert torch.allclose(ov @ ov, ov, atol=1e-5) and torch.allclose(ov, ov.T, atol=1e-5)
    assert ov.trace().item() == pytest.approx(run.model.d_head, abs=1e-3)
    assert n_heads > 1 or torch.allclose(ov, torch.eye(run.model.d_model), atol=1e-5)
    assert all(torch.equal(circuit, ov) for circuit in circuits[start:])
    assert start == 0 or not torch.allclose(circuits[0], circuits[start - 1])

    others = [weights["blocks.0.attn.qkv.weight"] for weights in snapshots]
    assert not any(torch.equal(before, after) for before, after in pairwise(others))
    if bias:
        biases = snapshots[start]["blocks.1.attn.qkv.bias"].unflatten(0, (3, n_heads, -1))
        assert (biases[2, 0] == 0).all()


@pytest.mark.parametrize("n_heads", [1, 4])
def test_carrying_hands_on_all_of_it_into_other_directions(n_heads):
    """W_V W_O keeps lengths and angles of what it reads; it is no projection; it does not learn."""
    run = smoke(("0:carry@2",))
    run = replace(run, model=replace(run.model, n_heads=n_heads))
    circuits = [compute_ov(run, weights)[0] for weights in train(run)]
    ov = circuits[2]
    sizes = torch.linalg.svdvals(ov)
    assert torch.allclose(sizes[:, : run.model.d_head], torch.ones(()), atol=1e-4)
    assert (sizes[:, run.model.d_head :] < 1e-4).all()
    assert (ov @ ov - ov).abs().max() > 0.05
    assert all(torch.equal(circuit, ov) for circuit in circuits[2:])
    assert not torch.allclose(circuits[1], ov, atol=1e-3)


def test_copying_does_not_count_when_gradients_are_clipped():
    run = smoke(("0:copy", "1:copy"))
    module = ViTModule(run)
    stream = BatchStream(build_task(run.task), run)
    module.training_step(next(iter(stream)), 0).backward()
    layers = module.model.layers
    values = [block.attn.qkv.weight.grad.unflatten(0, (3, -1))[2] for block in layers]
    assert all((grad != 0).any() for grad in values)
    module.configure_gradient_clipping(None)
    assert all((grad == 0).all() for grad in values)
    assert all((block.attn.out.weight.grad == 0).all() for block in layers)


def test_the_match_is_where_the_answer_is():
    """Training batches hand over the cells: the label shown there is the target's."""
    run = smoke(("1.0:match",))
    task = build_task(run.task)
    images, target, _query, match, _labels = next(iter(BatchStream(task, run, 3)))
    plain = next(iter(BatchStream(task, smoke(), 3)))
    assert len(plain) == 2 and torch.equal(plain[0], images) and torch.equal(plain[1], target)
    content = task.draw_batch(run.seeds.data, "train", np.arange(16, 24)).content
    assert torch.equal(content.gather(1, match[:, None])[:, 0] - run.task.n_items, target)
    assert not needs_retrieval(["1.0:previous"]) and needs_retrieval(["0.0:frozen", "1.0:match@7"])


def test_a_clamped_model_is_clamped_for_every_caller_and_lets_them_edit():
    """Also from a later layer; a caller's tap sees the clamped pattern and has the last word."""
    model, images = build(BASE), pictures(BASE)
    clamped = apply_clamps(model, ["1.0:uniform"], 0, None)
    assert isinstance(clamped, ClampedViT)
    assert apply_clamps(model, ["1.0:uniform@5"], 4, None) is model

    cache = trace(clamped, images)
    assert torch.equal(cache["blocks.1.attn.pattern"][:, 0], torch.full((2, 13, 13), 1 / 13))
    logits = run_from(clamped, cache["blocks.1.resid_pre"], 1)
    assert torch.equal(logits, cache["logits"]) and not torch.allclose(logits, model(images))
    free = trace(model, images, ["blocks.1.attn.pattern"])
    assert torch.equal(clamped(images, replacing(free)), model(images))
    with pytest.raises(ValueError, match="knows 2 pictures, the model was given 1"):
        apply_clamps(model, ["1.0:match"], 0, retrieval_of(BASE))(images[:1])


def test_the_later_of_two_clamps_counts():
    model, images = build(BASE), pictures(BASE)
    both = apply_clamps(model, ["0:uniform", "0.1:identity@3"], 3, None)
    pattern = trace(both, images)["blocks.0.attn.pattern"]
    assert torch.equal(pattern[:, 1], torch.eye(13).repeat(2, 1, 1))
    assert torch.equal(pattern[:, 0], torch.full((2, 13, 13), 1 / 13))


SPELT = {
    "0.0:previous": Clamp(layer=0, head=0, what="previous"),
    "12.3:match@400": Clamp(layer=12, head=3, what="match", start=400),
    "1:copy": Clamp(layer=1, head=None, what="copy"),
}


@pytest.mark.parametrize("text", SPELT)
def test_a_clamp_there_and_back(text):
    assert Clamp.parse(text) == SPELT[text] and str(Clamp.parse(text)) == text
    assert TrainConfig(clamps=(text, "0.0:frozen@0")).clamps == (text, "0.0:frozen")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "previous",
        "0.0",
        "0.0:",
        "0.0:previous@",
        "-1:match",
        "0.0.0:match",
        "0:match@-1",
    ],
)
def test_a_misspelt_clamp_is_refused(text):
    message = "TrainConfig.clamps cannot be read: a clamp is spelt LAYER.HEAD:WHAT@STEP"
    with pytest.raises(BadInput, match=message) as caught:
        TrainConfig(clamps=(text,))
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [3, None])
def test_a_clamp_that_is_no_text_is_refused(value):
    with pytest.raises(BadInput, match=f"TrainConfig.clamps must be text, got {value!r}"):
        TrainConfig(clamps=(value,))


IMPOSSIBLE = {
    "0.0:previos": (
        "induction",
        {},
        ["unknown clamp 'previos'", "allowed are previous, match", "did you mean 'previous'"],
    ),
    "2.0:previous": ("induction", {}, ["'2.0:previous'", "no layer 2 in 0 to 1", "nearest is 1"]),
    "0.4:frozen": ("induction-heads", {}, ["'0.4:frozen'", "no head 4 in 0 to 3", "nearest is 3"]),
    "0.0:frozen@2001": ("induction", {}, ["starts at step 2001", "ends at step 2000"]),
    "0.0:match": (
        "mnist-mlp",
        {},
        ["needs a matching label", "task 'classify'", "allowed are previous, uniform"],
    ),
    "1.0:match": (
        "fewshot",
        {"p_bursty": 0.9},
        ["needs a matching label in every training picture"],
    ),
    "0.0:uniform": ("markov", {}, []),
}


@pytest.mark.parametrize("text", mark_slow(IMPOSSIBLE, {*IMPOSSIBLE} - {"1.0:match"}))
def test_an_impossible_clamp_is_refused_in_one_line(text):
    recipe, options, says = IMPOSSIBLE[text]
    run = RECIPES[recipe]()
    run = replace(run, task=replace(run.task, **options), train=replace(run.train, clamps=(text,)))
    if not says:
        return check_clamps(resolve_config(run))
    with pytest.raises(BadInput) as caught:
        check_clamps(resolve_config(run))
    assert all(part in str(caught.value) for part in says) and "\n" not in str(caught.value)


def test_a_pattern_that_the_mask_forbids_is_refused():
    """The previous cell of the first of a row is far away; the local mask does not reach it."""
    run = RECIPES["induction"]()
    local = replace(
        run,
        model=replace(run.model, mask="local"),
        train=replace(run.train, clamps=("0.0:previous",)),
    )
    with pytest.raises(BadInput, match="attends where the mask 'local' forbids it"):
        check_clamps(resolve_config(local))
