"""The analysis `probes` against scikit-learn's RidgeClassifier, on what a model holds.

Every accuracy is the same to one picture: the two solve the same equations in another order.
"""

from __future__ import annotations

import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.analyses.planted import model_for, traced
from toyvit.analyses import probes, tokens
from toyvit.analyses.analysis import Tagged
from toyvit.instruments.lenses import stack_residuals


def score(features, labels):
    """Accuracy on the second half of a probe that was fitted on the first."""
    half = len(labels) // 2
    x = features.double().numpy()
    y = labels.numpy()
    probe = make_pipeline(StandardScaler(), RidgeClassifier(alpha=half * probes.PENALTY))
    return probe.fit(x[:half], y[:half]).score(x[half:], y[half:])


@pytest.mark.parametrize("options", [{}, {"cls_token": False, "readout": "mean"}])
def test_accuracy_of_every_factor_layer_and_group(options):
    model, batch = model_for("classify", n=400, **options)
    seen = traced(model, batch)
    measures = probes.measure_probes(model, batch, seen)
    layers = [
        tokens.average_groups(residual, model.config) for residual in stack_residuals(model, seen)
    ]
    compared = 0
    one_picture = 1.01 / (len(batch.target) - len(batch.target) // 2)
    for factor, labels in batch.factors.items():
        if labels.unique().numel() < 3:
            continue  # with two values a RidgeClassifier fits one column and not two
        for layer, groups in enumerate(layers):
            for group, features in groups.items():
                ours = measures[Tagged("accuracy", factor=factor, group=group)][layer].item()
                assert ours == pytest.approx(score(features, labels), abs=one_picture)
                compared += 1
        pixels = measures[Tagged("accuracy_pixels", factor=factor)].item()
        expected = score(batch.images.flatten(1), labels)
        assert pixels == pytest.approx(expected, abs=one_picture)
    assert compared >= 3
