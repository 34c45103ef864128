"""Baselines score what is known of them; MNIST's files are found, or their absence is told."""

import os

import numpy as np
import pytest

from toyvit.config import InductionConfig
from toyvit.data.task import build_task
from toyvit.data.worlds.mnist.world import Mnist
from toyvit.errors import BadInput


@pytest.mark.parametrize(
    ("rows", "n_labels", "accuracy", "loss"),
    [(5, 32, 0.174, 2.261), (5, 16, 0.215, 2.064), (4, 16, 0.272, 1.702), (3, 16, 0.337, 1.260)],
)
def test_bag_of_labels(rows, n_labels, accuracy, loss):
    made = build_task(InductionConfig(rows=rows, columns=rows, n_labels=n_labels))
    found = made.baselines(made.eval_batch("test", 10000, 0))
    assert found["accuracy.bag_of_labels"] == pytest.approx(accuracy, abs=0.004)
    assert found["loss.bag_of_labels"] == pytest.approx(loss, abs=0.01)


@pytest.mark.skipif("TOYVIT_DATA" not in os.environ, reason="MNIST is looked for under TOYVIT_DATA")
def test_mnist_is_found_and_damage_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = Mnist()
    assert world.sizes == {"train": 55000, "validation": 5000, "test": 10000}
    assert np.bincount(world.known["class"][world.splits["test"]]).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    file = tmp_path / "datasets/mnist/MNIST/raw/t10k-labels-idx1-ubyte"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadInput, match="is damaged"):
        Mnist()


def test_mnist_absent_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOYVIT_DATA", raising=False)
    with pytest.raises(BadInput, match=r"train-images-idx3-ubyte.gz"):
        Mnist()
