"""Probes: planted features, shuffled labels, invariances, scikit-learn's answers."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import one_hot

from tests.analyses.planted import model_for, traced
from toyvit import stats
from toyvit.analyses import probes
from toyvit.analyses.analysis import Tagged


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int, below: int, seed: int = 1) -> Tensor:
    return torch.randint(below, (n,), generator=torch.Generator().manual_seed(seed))


def fit_probe(features: Tensor, factors: dict[str, Tensor]) -> dict[str, float]:
    """One probe: its accuracies as numbers."""
    scores = probes.fit_probes(features[None], factors)
    return {name: score.item() for name, score in scores.items()}


def test_many_probes_are_one_after_another():
    x, y = draw(3, 60, 7), labels(60, 3)
    together = probes.fit_probes(x, {"factor": y})["factor"].tolist()
    assert together == [fit_probe(features, {"factor": y})["factor"] for features in x]
    assert len(set(together)) > 1


@pytest.mark.parametrize("n_classes", [2, 5, 10])
def test_a_planted_linear_feature_scores_1_and_shuffled_labels_chance(n_classes):
    factor = labels(2000, n_classes)
    features = one_hot(factor, n_classes).double() @ draw(n_classes, 16, seed=3) + 0.05 * draw(
        2000, 16
    )
    shuffled = factor[torch.randperm(2000, generator=torch.Generator().manual_seed(5))]
    found = fit_probe(features, {"planted": factor, "shuffled": shuffled})
    assert found["planted"] == 1
    assert abs(found["shuffled"] - 1 / n_classes) < 4 * math.sqrt(1 / n_classes / 1000)
    alone = {
        name: fit_probe(features, {name: one})[name]
        for name, one in {"planted": factor, "shuffled": shuffled}.items()
    }
    assert alone == found


@pytest.mark.parametrize("width", [6, 80])
def test_what_does_not_matter_to_a_probe(width):
    """Scale, shift, sign and order of features, constant features, the numbering of classes."""
    x, y = draw(60, width), labels(60, 3)
    fit, test = slice(0, 40), slice(40, None)
    target = one_hot(y, 3).double()
    expected = stats.predict_ridge(x, target, fit, test, 0.1)
    order = torch.randperm(width, generator=torch.Generator().manual_seed(2))
    signs = torch.where(draw(width, seed=4) > 0, 1.0, -1.0)
    for same in (
        1000 * x,
        x + 7,
        x * signs,
        x[:, order],
        x * (1 + torch.arange(width)),
        torch.cat([x, torch.full((60, 2), 3.0)], 1),
    ):
        assert torch.allclose(
            stats.predict_ridge(same, target, fit, test, 0.1), expected, atol=1e-8
        )
    turned = stats.predict_ridge(x, target[:, [2, 0, 1]], fit, test, 0.1)
    assert torch.allclose(turned, expected[:, [2, 0, 1]], atol=1e-10)
    assert torch.allclose(expected.sum(1), torch.ones(20).double())


def test_without_a_penalty_a_rotation_does_not_matter():
    x, target = draw(80, 10), draw(80, 2, seed=1)
    rotation = torch.linalg.qr(draw(10, 10, seed=2)).Q
    one, other = (
        stats.predict_ridge(rows, target, slice(0, 60), slice(60, None), 1e-12)
        for rows in (x, x @ rotation)
    )
    assert torch.allclose(one, other, atol=1e-7)


@pytest.mark.parametrize("width", [7, 40, 120])
@pytest.mark.parametrize("penalty", [0.01, 0.1, 3.0])
def test_ridge_is_scikit_learn_s(width, penalty):
    """Both closed forms: predictions to 1e-8, and the classes of RidgeClassifier."""
    x, y = draw(100, width, seed=3) * 3 + 1, labels(100, 4)
    fit, test = slice(0, 50), slice(50, None)
    target = torch.cat([one_hot(y, 4).double(), draw(100, 2, seed=6)], 1)
    found = stats.predict_ridge(x, target, fit, test, penalty)
    scaler = StandardScaler().fit(x[fit].numpy())
    rows, others = (scaler.transform(x[part].numpy()) for part in (fit, test))
    expected = Ridge(alpha=50 * penalty).fit(rows, target[fit].numpy()).predict(others)
    assert (found - torch.from_numpy(expected)).abs().max() < 1e-8
    classes = RidgeClassifier(alpha=50 * penalty).fit(rows, y[fit].numpy()).predict(others)
    assert torch.equal(found[:, :4].argmax(1), torch.from_numpy(classes))
    score = fit_probe(x, {"factor": y})["factor"]
    expected_score = (
        RidgeClassifier(alpha=50 * probes.PENALTY)
        .fit(rows, y[fit].numpy())
        .score(others, y[test].numpy())
    )
    assert score == pytest.approx(expected_score)


def test_the_scoring_half_is_never_fitted_on():
    """A feature that names the image memorises its half and scores chance on the other."""
    x = torch.eye(200).double()
    assert fit_probe(x, {"factor": labels(200, 2)})["factor"] == pytest.approx(0.5, abs=0.15)
    x, y = draw(200, 5), labels(200, 2)
    changed = x.clone()
    changed[150] = 99
    one, other = (
        stats.predict_ridge(rows, one_hot(y, 2).double(), slice(0, 100), slice(100, None), 0.1)
        for rows in (x, changed)
    )
    saved = torch.arange(100) != 50
    assert torch.equal(one[saved], other[saved])


def test_standardize_and_entropy():
    x = torch.cat([draw(30, 4) * 5 + 2, torch.full((30, 1), 0.1).double()], 1)
    found = stats.standardize(x, slice(0, 20))
    assert torch.allclose(found[:20].mean(0), torch.zeros(5).double(), atol=1e-12)
    assert torch.allclose(found[:20].std(0, correction=0), torch.tensor([1.0, 1, 1, 1, 0]).double())
    assert stats.entropy(torch.eye(5)).abs().max() == 0
    assert torch.allclose(stats.entropy(torch.full((5,), 0.2)), torch.tensor(math.log(5)))


@pytest.mark.parametrize("options", [{"cls_token": False}, {"n_registers": 2}, {}])
def test_the_analysis_reads_each_group_of_tokens_at_each_layer(options):
    """A factor planted in one group at one layer is found there, and nowhere else."""
    model, batch = model_for("classify", n=200, **options)
    seen, n, cls = traced(model, batch), model.config.n_prefix, int(model.config.cls_token)
    groups = {
        "cls": slice(0, cls),
        "registers": slice(cls, n),
        "patches": slice(n, None),
        "last": slice(-1, None),
    }
    here = [
        group for group in groups if (group != "cls" or cls) and (group != "registers" or n > cls)
    ]
    sites = ["blocks.0.resid_pre", "blocks.1.resid_pre", "blocks.1.resid_post"]
    blank = {site: torch.zeros_like(seen[site]) for site in sites}
    code = one_hot(batch.factors["class"], 16).float()
    for layer, site in enumerate(sites):
        for group in set(here) - {"last"}:
            planted = blank[site].clone()
            planted[:, groups[group]] = code[:, None]
            found = probes.measure_probes(model, batch, blank | {site: planted})
            for other in here:
                scores = found[Tagged("accuracy", factor="class", group=other)]
                holds = other == group or (group == "patches" and other == "last")
                assert (scores[layer] == 1) == holds and len(scores) == 3
                assert all(scores[place] < 0.3 for place in range(3) if place != layer)
                assert found[Tagged("accuracy_shuffled", factor="class", group=other)].max() < 0.3
            assert found[Tagged("accuracy_pixels", factor="class")] > 0.6
