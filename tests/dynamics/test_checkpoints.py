"""What takes several checkpoints, on runs whose checkpoints are made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from tests.analyses.test_fourier import chosen, trigonometric
from toyvit.config import AdditionConfig
from toyvit.data.task import build_task, loss, resolve_config
from toyvit.dynamics import checkpoints
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run
from toyvit.train import fit


@pytest.fixture(scope="module")
def addition(tmp_path_factory):
    """Twenty steps on the sums modulo 7."""
    config = RECIPES["addition"]()
    model = replace(config.model, d_model=16, n_heads=2, d_mlp=16)
    short = {"steps": 20, "batch_size": 16, "n_validation": 4, "checkpoints": (0, 1, 5, 20)}
    training = replace(config.train, **short)
    config = replace(config, task=AdditionConfig(modulus=7), model=model, train=training)
    return Run(fit(config, tmp_path_factory.mktemp("runs") / "addition", progress=False))


class Planted(Run):
    """A run whose checkpoints are functions of the step, of a model with random weights."""

    def __init__(self, recipe, steps, plant, **options):
        config = RECIPES[recipe]()
        model = replace(config.model, d_model=16, n_heads=2, **options)
        self.config = resolve_config(replace(config, model=model))
        self.entries = dict.fromkeys(steps)
        self.plant = plant

    def check_step(self, step):
        return step

    def weights(self, step):
        model = ViT(self.config.model, seed=3)
        with torch.no_grad():
            self.plant(model, step)
        return model.state_dict()


def measure_distance(run, step, other):
    """How far the weights of the head are apart at two steps."""
    first, second = (run.bare_model(at).head.weight.detach().double() for at in (step, other))
    return (second - first).norm().item()


def test_updates_of_planted_moves():
    """One module moves by a known vector, another grows by a factor, all others stay."""

    def plant(model, step):
        model.patch.weight[0, 0] += step
        model.head.weight *= 1 + step

    moves = checkpoints.measure_updates(Planted("induction-smoke", (0, 1, 3), plant))
    moves = moves.set_index(["step", "module"])
    assert set(moves.index.get_level_values("step")) == {1, 3}
    assert (moves.loc[3]["steps"] == 2).all()
    assert moves.loc[(1, "patch.weight"), "distance"] == pytest.approx(1, rel=1e-5)
    assert moves.loc[(3, "patch.weight"), "distance"] == pytest.approx(2, rel=1e-5)
    assert moves.loc[(1, "head.weight"), "relative"] == pytest.approx(1)
    assert moves.loc[(3, "head.weight"), "relative"] == pytest.approx(1)

    still = moves.drop(index=["patch.weight", "head.weight", "all"], level="module")
    assert len(still)
    assert (still["distance"] == 0).all()
    parts = moves.drop(index="all", level="module")["distance"]
    whole = parts.pow(2).groupby("step").sum().pow(0.5)
    assert moves.xs("all", level="module")["distance"].to_numpy() == pytest.approx(whole.to_numpy())


def test_updates_of_a_run(addition):
    moves = checkpoints.measure_updates(addition)
    row = moves[(moves["step"] == 5) & (moves["module"] == "head.weight")].iloc[0]
    assert row["distance"] == pytest.approx(measure_distance(addition, 1, 5))
    assert row["steps"] == 4
    pd.testing.assert_frame_equal(checkpoints.measure_updates(addition.path), moves)


def test_updates_between_some_checkpoints(addition):
    moves = checkpoints.measure_updates(addition, [0, 20])
    assert set(moves["step"]) == set(moves["steps"]) == {20}
    distance = moves.set_index("module").loc["head.weight", "distance"]
    assert distance == pytest.approx(measure_distance(addition, 0, 20))


def draw_normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plant_likeness(model, step):
    """At step 1 what enters is scaled and turned, at step 2 it is another representation."""
    if step == 2:
        model.initialize(torch.Generator().manual_seed(9))
        model.patch.weight *= draw_normal(2, 64) ** 2
    if step == 1:
        turn = torch.linalg.qr(draw_normal(1, 16, 16)).Q
        model.patch.weight.copy_(3 * turn @ model.patch.weight)
    model.positions *= 0
    model.prefix.copy_(draw_normal(3, *model.prefix.shape))


OPTIONS = (
    {},
    {"cls_token": True},
    {"n_registers": 2, "mask": "bidirectional"},
    {"d_mlp": 12},
    {"norm": "none"},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_similarity_of_planted_checkpoints(options):
    """Truth: the stream that enters is scaled and turned: 1. Null: other weights: well below 1."""
    run = Planted("induction-smoke", (0, 1, 2), plant_likeness, **options)
    batch = build_task(run.config.task).eval_batch("test", 40, 0)
    likeness = checkpoints.compare_checkpoints(run, batch)
    assert set(likeness) == {"patches"} | ({"cls"} if options.get("cls_token") else set())

    patches = likeness["patches"]
    assert patches.shape == (3, 3, 3)
    assert patches.diagonal(dim1=1, dim2=2) == pytest.approx(torch.ones(3, 3), abs=1e-5)
    assert patches[0, 0, 1] == pytest.approx(1, abs=1e-4)
    assert patches[0, 0, 2] < 0.95
    assert torch.allclose(patches, patches.mT)
    assert patches[2, 0, 1] < 0.999
    if "cls" in likeness:
        assert likeness["cls"].shape == (3, 3, 3)
        assert likeness["cls"][0].isnan().all(), "CLS is the same in every image when it enters"
        assert likeness["cls"][1:].isfinite().all()
    alone = checkpoints.compare_checkpoints(run, batch, [2])
    assert alone["patches"].shape == (3, 1, 1)


def test_similarity_sees_a_run_under_clamps_as_it_was_trained():
    """The same weights throughout; a clamp from step 2 on changes what comes after block 0 there.

    And nowhere before.
    """
    run = Planted("induction-smoke", (0, 1, 2, 3), lambda model, step: None)
    batch = build_task(run.config.task).eval_batch("test", 40, 0)
    free = checkpoints.compare_checkpoints(run, batch)["patches"]
    run.config = replace(run.config, train=replace(run.config.train, clamps=("0:identity@2",)))
    clamped = checkpoints.compare_checkpoints(run, batch)["patches"]
    ones = torch.ones(4, 4, dtype=clamped.dtype)
    assert torch.allclose(free, ones.expand_as(free))
    assert torch.allclose(clamped[0], ones)
    assert clamped[1, 0, 1] == pytest.approx(1)
    assert clamped[1, 2, 3] == pytest.approx(1)
    assert clamped[1, 1, 2] < 0.999


def test_progress_uses_the_frequencies_of_the_best_checkpoint(addition, monkeypatch):
    """Checkpoints that answer trigonometric logits: the keys are those of the lowest test loss."""
    waves = {0: ([2], 1.0), 1: ([1, 2], 1.0), 5: ([1, 3], 6.0), 20: ([2], 3.0)}
    steps = iter(waves)

    def answer(model, images, only):
        frequencies, size = waves[next(steps)]
        logits = trigonometric(7, frequencies, [size] * len(frequencies))
        return {"logits": logits, "embed": torch.randn(49, 3, 4)}

    monkeypatch.setattr(checkpoints, "trace", answer)
    progress = checkpoints.measure_progress(addition.path)
    assert progress["test_loss"].idxmin() == 5
    assert torch.equal(chosen(7, [1, 3]), torch.tensor([True, False, True]))
    assert progress["key_share"].to_numpy() == pytest.approx([0, 0.5, 1, 0], abs=1e-9)
    assert progress["restricted"][[0, 20]].to_numpy() == pytest.approx(math.log(7))
    assert progress["excluded"][5] == pytest.approx(math.log(7))
    assert progress["restricted"][5] == pytest.approx(progress["test_loss"][5])
    trained = progress["train_loss"][[0, 20]].to_numpy()
    assert progress["excluded"][[0, 20]].to_numpy() == pytest.approx(trained)


def test_progress_of_a_run(addition):
    progress = checkpoints.measure_progress(addition)
    assert list(progress.index) == [0, 1, 5, 20]
    assert progress.notna().all().all()
    assert progress["train_loss"].iloc[0] == pytest.approx(math.log(7), abs=0.1)
    batch = addition.batch("train", 999)
    right = addition.bare_model(20)(batch.images).argmax(1) == batch.target
    assert progress["train_accuracy"][20] == pytest.approx(right.double().mean().item())


def test_progress_of_an_open_run_is_computed_once(addition, monkeypatch):
    """For the checkpoints that it has; what a reader does to the frame stays with the reader."""
    run = Run(addition.path)
    first = checkpoints.measure_progress(run)
    traced = []
    own = checkpoints.trace
    monkeypatch.setattr(checkpoints, "trace", lambda *asked: traced.append(1) or own(*asked))
    expected = first.copy()
    first["test_loss"] = 0.0
    pd.testing.assert_frame_equal(checkpoints.measure_progress(run), expected)
    assert not traced
    del run.entries[20]
    assert list(checkpoints.measure_progress(run).index) == [0, 1, 5] and len(traced) == 3


def test_progress_of_another_task_is_refused(tmp_path):
    config = RECIPES["induction-smoke"]()
    config = replace(config, train=replace(config.train, steps=1, batch_size=4, n_validation=4))
    fit(config, tmp_path / "other", progress=False)
    with pytest.raises(BadInput, match="its task is induction, not addition"):
        checkpoints.measure_progress(tmp_path / "other")


@pytest.mark.parametrize("recipe", ["induction-smoke", "digits"])
def test_the_mean_over_pictures_is_the_loss(recipe):
    run = Planted(recipe, (0, 2), lambda model, step: model.head.weight.mul_(1 + step))
    batch = build_task(run.config.task).eval_batch("test", 12, 0)
    curves = checkpoints.record_example_losses(run, batch)
    assert curves.shape == (2, 12)
    assert list(curves.index) == [0, 2]
    for step in (0, 2):
        logits = run_model(run.bare_model(step), batch.images)
        assert curves.loc[step].mean() == pytest.approx(loss(logits, batch.target).item(), rel=1e-5)


def test_curves_that_fall_together_are_a_cluster_and_noise_is_none():
    """Truth: three groups that fall at steps of their own, of any size.

    Null: independent noise agrees with no grouping.
    """
    generator = np.random.default_rng(0)
    steps = np.arange(100)[:, None]
    groups = np.repeat([0, 1, 2], 20)
    sizes = generator.uniform(0.5, 2, 60)
    falls = np.where(steps < np.array([20, 50, 80])[groups], 1.0, 0.1) * sizes
    clusters = checkpoints.cluster_curves(pd.DataFrame(falls), 3)
    assert adjusted_rand_score(groups, clusters) == 1

    noise = pd.DataFrame(generator.normal(size=(100, 60)))
    assert abs(adjusted_rand_score(groups, checkpoints.cluster_curves(noise, 3))) < 0.1
    with pytest.raises(BadInput, match="60 curves make 1 to 60 clusters, got 61"):
        checkpoints.cluster_curves(noise, 61)


@pytest.mark.parametrize("sign", [1, -1])
def test_half_of_the_way_of_planted_curves(sign):
    """An S around step 500, on its way from a detour the other way at step 100.

    With spikes of one and two checkpoints.
    """
    steps = np.arange(0, 1001, 10)
    curve = 1 / (1 + np.exp(-(steps - 500) / 20)) - 0.3 * np.exp(-(((steps - 100) / 50) ** 2))
    curve[[20, 21, 70, 95]] += (5, 5, -5, -5)
    series = pd.Series(sign * curve + 3, steps)
    assert checkpoints.find_reached(series) in (490, 500)
    assert checkpoints.find_reached(series, 0.9) in (530, 540)


def test_order_of_planted_curves():
    """One curve 100 to 150 steps before the reference in every run; one at random around it.

    The interval of that (null) holds 0.
    """
    steps = np.arange(0, 1001, 10)

    def fall(at):
        return pd.Series(1 / (1 + np.exp((steps - at) / 20)), steps)

    runs = []
    for place, at in enumerate((400, 500, 600, 550, 450, 520)):
        early = fall(at - 100 - 10 * place)
        other = -fall(at + 60 * (-1) ** place)
        runs.append(pd.DataFrame({"test_loss": fall(at), "early": early, "other": other}))
    order = checkpoints.order_by_reaching(runs)
    assert order.index[0] == "early"
    assert order.loc["early", "lag"] == pytest.approx(-125, abs=10)
    assert -150 <= order.loc["early", "low"] <= order.loc["early", "high"] <= -100
    assert order.loc["other", "low"] < 0 < order.loc["other", "high"]
    assert order.loc["test_loss", "lag"] == 0


def test_a_curve_that_never_moves_is_not_reached_and_bad_ones_are_refused():
    flat = pd.Series(1.0, index=range(20))
    assert math.isnan(checkpoints.find_reached(flat))
    assert math.isnan(checkpoints.find_reached(flat.mask(flat.index == 12, 5.0)))
    for curve, share in ((flat.mask(flat.index < 3), 0.5), (flat, 2.0)):
        with pytest.raises(BadInput, match="finite values and a share between 0 and 1"):
            checkpoints.find_reached(curve, share)
    with pytest.raises(BadInput, match="needs the reference 'test_loss' among its curves"):
        checkpoints.order_by_reaching([pd.DataFrame({"a": flat})])
