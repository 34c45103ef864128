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
    run = RECIPES["addition"]()
    model = replace(run.model, d_model=16, n_heads=2, d_mlp=16)
    training = replace(
        run.train, steps=20, batch_size=16, n_validation=4, checkpoints=(0, 1, 5, 20)
    )
    path = tmp_path_factory.mktemp("runs") / "addition"
    fit(
        replace(run, task=AdditionConfig(modulus=7), model=model, train=training),
        path,
        progress=False,
    )
    return Run(path)


class Planted(Run):
    """A trajectory whose checkpoints are functions of the step, of a model with random weights."""

    def __init__(self, recipe, steps, planted, **options):
        made = RECIPES[recipe]()
        self.config = resolve_config(
            replace(made, model=replace(made.model, d_model=16, n_heads=2, **options))
        )
        self.entries, self.planted = dict.fromkeys(steps), planted

    def check_step(self, step):
        return step

    def weights(self, step):
        model = ViT(self.config.model, seed=3)
        with torch.no_grad():
            self.planted(model, step)
        return model.state_dict()


def test_updates_of_planted_moves():
    """One module moves by a known vector, another grows by a factor, all others stay."""

    def planted(model, step):
        model.patch.weight[0, 0] += step
        model.head.weight *= 1 + step

    moved = checkpoints.measure_updates(Planted("induction-smoke", (0, 1, 3), planted)).set_index(
        ["step", "module"]
    )
    assert (
        set(moved.index.get_level_values("step")) == {1, 3} and (moved.loc[3]["steps"] == 2).all()
    )
    assert moved.loc[(1, "patch.weight"), "distance"] == pytest.approx(1, rel=1e-5)
    assert moved.loc[(3, "patch.weight"), "distance"] == pytest.approx(2, rel=1e-5)
    assert moved.loc[(1, "head.weight"), "relative"] == pytest.approx(1)
    assert moved.loc[(3, "head.weight"), "relative"] == pytest.approx(1)
    still = moved.drop(index=["patch.weight", "head.weight", "all"], level="module")
    assert len(still) and (still["distance"] == 0).all()
    parts = (
        moved.drop(index="all", level="module")["distance"].pow(2).groupby("step").sum().pow(0.5)
    )
    assert moved.xs("all", level="module")["distance"].to_numpy() == pytest.approx(parts.to_numpy())


def test_updates_of_a_run(addition):
    moved = checkpoints.measure_updates(addition)
    ends = [addition.bare_model(step).head.weight.detach().double() for step in (1, 5)]
    row = moved[(moved["step"] == 5) & (moved["module"] == "head.weight")].iloc[0]
    assert row["distance"] == pytest.approx((ends[1] - ends[0]).norm().item()) and row["steps"] == 4


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cls_token": True},
        {"n_registers": 2, "mask": "bidirectional"},
        {"d_mlp": 12},
        {"norm": "none"},
    ],
    ids=str,
)
def test_similarity_of_planted_checkpoints(options):
    """Truth: the stream that enters is scaled and turned: 1. Null: other weights, another representation: well below 1."""

    def planted(model, step):
        turn = (
            torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1))).Q
            if step == 1
            else torch.eye(16)
        )
        if step == 2:
            model.initialize(torch.Generator().manual_seed(9))
            model.patch.weight *= torch.randn(64, generator=torch.Generator().manual_seed(2)) ** 2
        model.patch.weight.copy_(3 ** (step == 1) * turn @ model.patch.weight)
        model.positions *= 0
        model.prefix.copy_(
            torch.randn(model.prefix.shape, generator=torch.Generator().manual_seed(3))
        )

    run = Planted("induction-smoke", (0, 1, 2), planted, **options)
    found = checkpoints.compare_checkpoints(
        run, build_task(run.config.task).eval_batch("test", 40, 0)
    )
    assert set(found) == {"patches"} | ({"cls"} if options.get("cls_token") else set())
    for name, matrix in found.items():
        assert matrix.shape == (3, 3, 3)
        if name == "patches":
            assert matrix.diagonal(dim1=1, dim2=2) == pytest.approx(torch.ones(3, 3), abs=1e-5)
            assert matrix[0, 0, 1] == pytest.approx(1, abs=1e-4) and matrix[0, 0, 2] < 0.95
            assert torch.allclose(matrix, matrix.mT) and matrix[2, 0, 1] < 0.999
        else:
            assert matrix[0].isnan().all(), "CLS is the same in every image when it enters"
            assert matrix[1:].isfinite().all()
    one = checkpoints.compare_checkpoints(
        run, build_task(run.config.task).eval_batch("test", 40, 0), [2]
    )
    assert one["patches"].shape == (3, 1, 1)


def test_updates_between_some_checkpoints(addition):
    some = checkpoints.measure_updates(addition, [0, 20])
    assert set(some["step"]) == {20} and set(some["steps"]) == {20}
    ends = [addition.bare_model(step).head.weight.detach().double() for step in (0, 20)]
    assert some.set_index("module").loc["head.weight", "distance"] == pytest.approx(
        (ends[1] - ends[0]).norm().item()
    )


def test_similarity_sees_a_run_under_clamps_as_it_was_trained():
    """The same weights throughout: what a clamp from step 2 on changes after block 0 changes there, and nowhere before."""
    run = Planted("induction-smoke", (0, 1, 2, 3), lambda model, step: None)
    batch = build_task(run.config.task).eval_batch("test", 40, 0)
    free = checkpoints.compare_checkpoints(run, batch)["patches"]
    run.config = replace(run.config, train=replace(run.config.train, clamps=("0:identity@2",)))
    found = checkpoints.compare_checkpoints(run, batch)["patches"]
    ones = torch.ones(4, 4, dtype=found.dtype)
    assert torch.allclose(free, ones.expand_as(free)) and torch.allclose(found[0], ones)
    assert found[1, 0, 1] == pytest.approx(1) and found[1, 2, 3] == pytest.approx(1)
    assert found[1, 1, 2] < 0.999


def test_progress_uses_the_frequencies_of_the_best_checkpoint(addition, monkeypatch):
    """Checkpoints that say trigonometric logits of other frequencies: the keys are those of the lowest test loss."""
    said = {0: ([2], 1.0), 1: ([1, 2], 1.0), 5: ([1, 3], 6.0), 20: ([2], 3.0)}
    steps = iter(said)

    def answers(model, images, only):
        frequencies, size = said[next(steps)]
        return {
            "logits": trigonometric(7, frequencies, [size] * len(frequencies)),
            "embed": torch.randn(49, 3, 4),
        }

    monkeypatch.setattr(checkpoints, "trace", answers)
    found = checkpoints.measure_progress(addition)
    assert found["test_loss"].idxmin() == 5 and torch.equal(
        chosen(7, [1, 3]), torch.tensor([True, False, True])
    )
    assert found["key_share"].to_numpy() == pytest.approx([0, 0.5, 1, 0], abs=1e-9)
    assert found["restricted"][[0, 20]].to_numpy() == pytest.approx(math.log(7))
    assert found["excluded"][5] == pytest.approx(math.log(7))
    assert found["restricted"][5] == pytest.approx(found["test_loss"][5])
    assert found["excluded"][[0, 20]].to_numpy() == pytest.approx(
        found["train_loss"][[0, 20]].to_numpy()
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_half_of_the_way_of_planted_curves(sign):
    """An S around step 500, on its way from a detour the other way at step 100, with spikes of one and two checkpoints."""
    steps = np.arange(0, 1001, 10)
    curve = 1 / (1 + np.exp(-(steps - 500) / 20)) - 0.3 * np.exp(-(((steps - 100) / 50) ** 2))
    curve[[20, 21, 70, 95]] += (5, 5, -5, -5)
    assert checkpoints.find_reached(pd.Series(sign * curve + 3, steps)) in (490, 500)
    assert checkpoints.find_reached(pd.Series(sign * curve + 3, steps), 0.9) in (530, 540)


def test_order_of_planted_curves():
    """One curve 100 to 140 steps before the reference in every run, one at random around it (null): its interval holds 0."""
    steps = np.arange(0, 1001, 10)

    def falls(at):
        return pd.Series(1 / (1 + np.exp((steps - at) / 20)), steps)

    runs = [
        pd.DataFrame(
            {
                "test_loss": falls(at),
                "early": falls(at - 100 - 10 * place),
                "other": -falls(at + 60 * (-1) ** place),
            }
        )
        for place, at in enumerate((400, 500, 600, 550, 450))
    ]
    found = checkpoints.order_by_reaching(runs)
    assert found.index[0] == "early" and found.loc["early", "lag"] == pytest.approx(-120, abs=10)
    assert -140 <= found.loc["early", "low"] <= found.loc["early", "high"] <= -100
    assert (
        found.loc["other", "low"] < 0 < found.loc["other", "high"]
        and found.loc["test_loss", "lag"] == 0
    )


def test_progress_of_a_run(addition):
    found = checkpoints.measure_progress(addition)
    assert list(found.index) == [0, 1, 5, 20]
    assert found.notna().all().all() and found["train_loss"].iloc[0] == pytest.approx(
        math.log(7), abs=0.1
    )
    batch = build_task(addition.config.task).eval_batch("train", 999, 0)
    expected = (addition.bare_model(20)(batch.images).argmax(1) == batch.target).double().mean()
    assert found["train_accuracy"][20] == pytest.approx(expected.item())


def test_progress_of_another_task_is_refused(tmp_path):
    run = RECIPES["induction-smoke"]()
    fit(
        replace(run, train=replace(run.train, steps=1, batch_size=4, n_validation=4)),
        tmp_path / "other",
        progress=False,
    )
    with pytest.raises(BadInput, match="its task is induction, not addition"):
        checkpoints.measure_progress(Run(tmp_path / "other"))


@pytest.mark.parametrize("recipe", ["induction-smoke", "digits"])
def test_the_mean_over_pictures_is_the_loss(recipe):
    run = Planted(recipe, (0, 2), lambda model, step: model.head.weight.mul_(1 + step))
    batch = build_task(run.config.task).eval_batch("test", 12, 0)
    curves = checkpoints.record_example_losses(run, batch)
    assert curves.shape == (2, 12) and list(curves.index) == [0, 2]
    for step in (0, 2):
        logits = run_model(run.bare_model(step), batch.images)
        assert curves.loc[step].mean() == pytest.approx(loss(logits, batch.target).item(), rel=1e-5)


def test_curves_that_fall_together_are_a_cluster_and_noise_is_none():
    """Truth: three groups that fall at steps of their own, of any size; null: independent noise agrees with no grouping."""
    generator, steps = np.random.default_rng(0), np.arange(100)
    groups = np.repeat([0, 1, 2], 20)
    falls = np.where(steps[:, None] < np.array([20, 50, 80])[groups], 1.0, 0.1) * generator.uniform(
        0.5, 2, 60
    )
    found = checkpoints.cluster_curves(pd.DataFrame(falls), 3)
    assert adjusted_rand_score(groups, found) == 1
    noise = pd.DataFrame(generator.normal(size=(100, 60)))
    assert abs(adjusted_rand_score(groups, checkpoints.cluster_curves(noise, 3))) < 0.1
    with pytest.raises(BadInput, match="60 curves make 1 to 60 clusters, got 61"):
        checkpoints.cluster_curves(noise, 61)


def test_a_curve_that_never_moves_is_not_reached_and_bad_ones_are_refused():
    flat = pd.Series(1.0, index=range(20))
    assert math.isnan(checkpoints.find_reached(flat))
    for curve, share in ((flat.mask(flat.index < 3), 0.5), (flat, 2.0)):
        with pytest.raises(BadInput, match="finite values and a share between 0 and 1"):
            checkpoints.find_reached(curve, share)
    with pytest.raises(BadInput, match="needs the reference 'test_loss' among its curves"):
        checkpoints.order_by_reaching([pd.DataFrame({"a": flat})])
