"""What a public function gives does not depend on how its caller has set torch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor

import toyvit
from tests.analyses.planted import iterate_less, model_for
from tests.laws.models import mark_slow
from tests.stories.processes import train_here
from toyvit.analyses import ANALYSES
from toyvit.circuits.edges import eap_with_errors
from toyvit.instruments import key_value, weight_circuits
from toyvit.instruments.lenses import fit_lens
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run
from toyvit.train.replay import replay

WORLDS = (
    "induction",
    "markov",
    "hidden-states",
    "objects",
    "addition",
)  # each analysis is measured on the first
FAST = [name for name, analysis in ANALYSES.items() if analysis.cost < 100]


@contextmanager
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


CALLERS = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode, "float64": in_double}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    iterate_less(monkeypatch)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    words = ("--train.steps", "2", "--train.checkpoints", "none")
    return Run(train_here(tmp_path_factory.mktemp("runs") / "run", *words))


def list_tensors(value: object) -> Iterator[Tensor]:
    """Every tensor in a result, in order; numbers count as tensors."""
    if isinstance(value, torch.nn.Module):
        value = value.state_dict()
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, int | float):
        yield torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, dict):
        for part in value.values():
            yield from list_tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from list_tensors(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from list_tensors(getattr(value, field.name))


@cache
def draw_models(world: str = WORLDS[0]):
    """A model with an MLP and a batch, drawn under the settings of whoever asks first."""
    return model_for(world, n=8, d_mlp=16, n_registers=1)


def allows(name, models) -> bool:
    """Whether an analysis can be measured on a model and a batch."""
    model, batch = models
    return not ANALYSES[name].list_missing(model, batch)


def pairs_of(batch):
    return toyvit.counterfactual_pairs(batch, "label", 4)


# By name: what is called with a model and its batch.
Call = Callable[..., object]
FUNCTIONS: dict[str, Call] = {
    "ViT": lambda model, batch: toyvit.ViT(model.config, seed=3),
    "run_model": lambda model, batch: toyvit.run_model(model, batch.images),
    "trace": lambda model, batch: toyvit.trace(model, batch.images),
    "run_from": lambda model, batch: toyvit.run_from(model, trace_of(model, batch)[RESID], 1),
    "ablate_heads": lambda model, batch: toyvit.ablate_heads(
        model, [(0, 0)], trace_of(model, batch)
    ),
    "eap": lambda model, batch: toyvit.eap(model, pairs_of(batch), points=2),
    "eap_with_errors": lambda model, batch: eap_with_errors(model, pairs_of(batch), points=2),
    "match_heads": lambda model, batch: match_with_another(model, batch),
    "acdc": lambda model, batch: toyvit.acdc(model, pairs_of(batch), 1.0),
    "cache_nodes": lambda model, batch: toyvit.cache_nodes(model, batch.images),
    "run_edges": lambda model, batch: run_every_second_edge(model, batch),
    "patch_path": lambda model, batch: toyvit.patch_path(
        model, batch.images, batch.images.flip(0), ["input", "logits"]
    ),
    "patch_activations": lambda model, batch: toyvit.patch_activations(
        model, pairs_of(batch), "attn.z"
    ),
    "run_attention_knockout": lambda model, batch: toyvit.run_attention_knockout(
        model, trace_of(model, batch), torch.ones(1, *[model.config.n_tokens] * 2).bool(), [0]
    ),
    "CircuitEvaluator": lambda model, batch: evaluate_circuits(model, batch),
    "find_smallest": lambda model, batch: find_small(model, batch),
    "attribute_components": lambda model, batch: toyvit.attribute_components(
        model, trace_of(model, batch)
    ),
    "attribute_sources": lambda model, batch: toyvit.attribute_sources(
        model, trace_of(model, batch), 0
    ),
    "apply_logit_lens": lambda model, batch: toyvit.apply_logit_lens(
        model, toyvit.stack_residuals(model, trace_of(model, batch))
    ),
    "fit_lens": lambda model, batch: fit_lens(
        model, toyvit.stack_residuals(model, trace_of(model, batch)), n_steps=2
    ),
    "fold_norms": lambda model, batch: toyvit.fold_norms(model),
    "qk_circuit": lambda model, batch: weight_circuits.qk_circuit(model, 0),
    "convert_to_timm": lambda model, batch: toyvit.convert_to_timm(toyvit.ViT(OF_TIMM)),
    "convert_from_timm": lambda model, batch: toyvit.convert_from_timm(
        toyvit.convert_to_timm(toyvit.ViT(OF_TIMM)), OF_TIMM
    ),
    "counterfactual_pairs": lambda model, batch: pairs_of(batch),
    "draw_random_circuits": lambda model, batch: list(toyvit.draw_random_circuits(model, 6, 2)),
    "edit_randomly": lambda model, batch: key_value.edit_randomly(model, 0, 1.0, 3),
    "optimize_value": lambda model, batch: key_value.optimize_value(
        model, 0, batch.images, 1, steps=2
    ),
}
OF_TIMM = toyvit.ModelConfig(
    d_model=8,
    d_mlp=8,
    attention_bias=True,
    norm_epsilon=1e-6,
    image_size=(4, 4),
    patch_size=2,
    n_channels=3,
    n_classes=2,
)
RESID = "blocks.1.resid_pre"


def trace_of(model, batch):
    return toyvit.trace(model, batch.images)


def run_every_second_edge(model, batch):
    nodes = toyvit.cache_nodes(model, batch.images)
    other = toyvit.cache_nodes(model, batch.images.flip(0)).outputs
    edge_mask = toyvit.build_graph(model.config).allowed.float()
    edge_mask[::2] = 0
    return toyvit.run_edges(model, nodes, edge_mask, other)


def match_with_another(model, batch):
    return toyvit.match_heads(model, toyvit.ViT(model.config, seed=3), batch.images).likeness


def evaluate_circuits(model, batch):
    evaluator = toyvit.CircuitEvaluator(model=model, pairs=pairs_of(batch))
    circuit = next(toyvit.draw_random_circuits(model, 6, 1))
    return evaluator.faithfulness(circuit)


def find_small(model, batch):
    evaluator = toyvit.CircuitEvaluator(model=model, pairs=pairs_of(batch))
    return toyvit.find_smallest(evaluator, toyvit.eap(model, evaluator.pairs), 0.5)


def check_same(call: Callable[[], object], caller: str) -> None:
    """The same numbers and types; none of them cut off from gradients for good."""
    plain = [tensor.clone() for tensor in list_tensors(call())]
    with CALLERS[caller]():
        other = list(list_tensors(call()))
    assert plain and len(plain) == len(other)
    for mine, theirs in zip(plain, other, strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine.nan_to_num(7), theirs.nan_to_num(7))


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_gives_the_same_whatever_its_caller_has_set(name, caller):
    check_same(lambda: FUNCTIONS[name](*draw_models()), caller)


@pytest.mark.slow
@pytest.mark.parametrize("caller", ["no_grad", "inference_mode"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_and_so_with_a_model_and_pictures_that_the_caller_made_so(name, caller):
    check_same(lambda: FUNCTIONS[name](*draw_models.__wrapped__()), caller)


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", mark_slow(ANALYSES, FAST))
def test_an_analysis_gives_the_same(name, caller):
    model, batch = next(filter(partial(allows, name), map(draw_models, WORLDS)))
    check_same(lambda: ANALYSES[name].measure(model, batch, trace_of(model, batch)), caller)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_run_gives_the_same(run, caller):
    check_same(lambda: Run(run.path).model(), caller)
    check_same(lambda: vars(Run(run.path).batch(n=4)), caller)
    check_same(lambda: run.task.baselines(run.task.eval_batch("test", 8, 0)), caller)
    check_same(lambda: toyvit.fit_tuned_lens(run, images=8, n_steps=2), caller)


def test_what_is_measured_and_replayed_in_double_precision_is_the_same(tmp_path):
    path = train_here(tmp_path / "run", "--train.steps", "4", "--train.checkpoints", "2")

    def use(name: str) -> tuple[str, list[str]]:
        copy = shutil.copytree(path, tmp_path / name / "run")
        measure(copy, analyses=["performance", "norms"], images=8, progress=False)
        assert replay(copy, 2, 4, progress=False) == [3]
        return Run(copy).table.to_csv(), [entry.sha256 for entry in Run(copy).entries.values()]

    plain = use("plain")
    with in_double():
        assert use("other") == plain


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("recipe", ["digits", "dsprites-regress", "reconstruct", "addition"])
def test_data_are_the_same(recipe, caller):
    check_same(
        lambda: vars(toyvit.build_task(RECIPES[recipe]().task).eval_batch("test", 4, 0)), caller
    )


@pytest.mark.parametrize("name", ["eap", "fit_lens", "optimize_value", "hessian"])
def test_gradients_pass_pictures_that_a_caller_made_in_inference_mode(name):
    model, batch = draw_models()
    stream = toyvit.stack_residuals(model, trace_of(model, batch))
    with torch.inference_mode():
        images = batch.images.clone()
        batch = replace(batch, images=images, target=batch.target.clone())
        pairs = toyvit.PatchingPairs(images, images.flip(0), batch.target, batch.target.flip(0))
        calls: dict[str, Callable[[], object]] = {
            "eap": lambda: toyvit.eap(model, pairs),
            "fit_lens": lambda: fit_lens(model, stream.clone(), n_steps=2),
            "optimize_value": lambda: key_value.optimize_value(model, 0, images, 1, steps=2),
            "hessian": lambda: ANALYSES["hessian"].measure(model, batch, {}),
        }
        assert all(tensor.isfinite().all() for tensor in list_tensors(calls[name]()))
