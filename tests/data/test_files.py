"""Baselines score what is known of them; MNIST's files are found, or their absence is told."""

import shutil

import numpy as np
import pytest

from tests import standins
from toyvit.config import InductionConfig
from toyvit.data.files import MNIST_FILES
from toyvit.data.task import build_task
from toyvit.data.worlds.digits.world import Digits
from toyvit.data.worlds.mnist.world import Mnist, load_mnist
from toyvit.errors import BadInput
from toyvit.torchvision_guard import torchvision


@pytest.mark.parametrize(
    ("rows", "n_labels", "accuracy", "loss"),
    [
        (3, 16, 0.337, 1.260),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((5, 32, 0.174, 2.261), (5, 16, 0.215, 2.064), (4, 16, 0.272, 1.702))
        ),
    ],
)
def test_bag_of_labels(rows, n_labels, accuracy, loss):
    made = build_task(InductionConfig(rows=rows, columns=rows, n_labels=n_labels))
    found = made.baselines(made.eval_batch("test", 10000, 0))
    assert found["accuracy.bag_of_labels"] == pytest.approx(accuracy, abs=0.004)
    assert found["loss.bag_of_labels"] == pytest.approx(loss, abs=0.01)


@pytest.mark.data
def test_mnist_is_the_genuine_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = Mnist().known["class"][-10_000:]
    assert np.bincount(digits).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.parametrize(("load", "full"), [(load_mnist, 255), (Digits, 16)])
def test_collected_pictures_are_shown_from_minus_1_to_1(load, full):
    """Blank is -1 and full ink is +1, and what is between lies between in proportion."""
    world = load()
    factors = world.sample(0, "train", np.arange(200))
    ink = world.images[factors["row"]]
    pixels = world.render(factors).permute(0, 2, 3, 1).numpy()
    assert (pixels.min(), pixels.max()) == (-1, 1)
    assert np.allclose(pixels, 2 * (ink / full) - 1, atol=1e-6)


@pytest.mark.slow
def test_mnist_is_found_unpacked_and_damage_is_refused(tmp_path, monkeypatch):
    given = tmp_path / "given/MNIST/raw"
    given.mkdir(parents=True)
    for archive in (standins.FOLDER / "MNIST/raw").glob("*.gz"):
        shutil.copyfile(archive, given / archive.name)
    archives = [(f"{name}.gz", packed) for name, (_, packed) in MNIST_FILES.items()]
    monkeypatch.setattr(
        torchvision.datasets.MNIST, "resources", archives
    )  # it has checksums of its own
    monkeypatch.setenv("TOYVIT_DATA", str(tmp_path / "given"))
    monkeypatch.chdir(tmp_path)

    world = Mnist()
    assert world.sizes == {"train": 55000, "validation": 5000, "test": 10000}
    images, labels = standins.digits(np.random.default_rng(0))
    assert np.array_equal(world.images[..., 0], images) and np.array_equal(
        world.known["class"], labels
    )

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
