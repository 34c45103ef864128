"""Draws by counter: pure, prefix-stable, and distributed as they say.

Seeds are fixed, bounds are four standard deviations.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.special import ndtri

from toyvit.data.random import (
    _quantiles,
    draw_bits,
    draw_integers,
    draw_normals,
    draw_subsets,
    draw_uniforms,
    make_sample_keys,
    order_epochs,
)

KEYS = make_sample_keys(0, "train", np.arange(4000))
DRAWS = {
    "bits": draw_bits,
    "integers": lambda keys, stream, n: draw_integers(keys, stream, n, 11),
    "normals": draw_normals,
    "uniforms": draw_uniforms,
}
few = settings(max_examples=40)


@few
@given(
    st.sampled_from(list(DRAWS)),
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=6),
    st.integers(1, 9),
    st.integers(0, 9),
)
def test_a_draw_does_not_depend_on_its_company(name, seed, indices, n, more):
    draw = DRAWS[name]
    together = draw(make_sample_keys(seed, "test", np.array(indices)), "stream", n + more)
    for place, index in enumerate(indices):
        alone = draw(make_sample_keys(seed, "test", np.array([index])), "stream", n)
        assert np.array_equal(alone[0], together[place, :n])


@few
@given(
    st.integers(1, 70),
    st.integers(0, 2**40),
    st.integers(0, 6),
    st.sampled_from(["train", "other"]),
)
def test_every_epoch_is_a_permutation_of_its_own(size, seed, epoch, split):
    orders = [
        order_epochs(seed, split, np.arange(size) + size * (epoch + step), size) for step in (0, 1)
    ]
    assert all(np.array_equal(np.sort(order), np.arange(size)) for order in orders)
    if size > 8:
        assert not np.array_equal(*orders)
        assert not np.array_equal(
            orders[0], order_epochs(seed + 1, split, np.arange(size) + size * epoch, size)
        )
    scattered = np.random.default_rng(0).permutation(2 * size) + size * epoch
    assert np.array_equal(
        order_epochs(seed, split, scattered, size), np.concatenate(orders)[scattered - size * epoch]
    )


@pytest.mark.parametrize("below", [2, 3, 10, 37, 256])
def test_whole_numbers_are_uniform(below):
    """Chi-square within four standard deviations of its mean, over all draws and draw by draw."""
    found = draw_integers(KEYS, "some", 8, below)
    assert found.min() >= 0 and found.max() < below and found.dtype == np.int64
    for values in (found, *found.T):
        expected = values.size / below
        chi = ((np.bincount(values.ravel(), minlength=below) - expected) ** 2 / expected).sum()
        assert abs(chi - (below - 1)) < 4 * (2 * (below - 1)) ** 0.5 + 4


def test_normals_are_standard():
    found = draw_normals(KEYS, "some", 50).astype(float)
    n = found.size
    for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((found**power).mean() - moment) < 4 * (spread / n) ** 0.5 + 1e-3, power
    assert 3.5 < np.abs(found).max() < 4.4
    assert np.isfinite(found).all()


def test_uniforms_lie_in_the_open_interval():
    found = draw_uniforms(KEYS, "some", 50)
    assert found.min() > 0 and found.max() < 1
    assert abs(found.mean() - 0.5) < 4 * (1 / 12 / found.size) ** 0.5
    counts = np.histogram(found, 20, (0, 1))[0]
    assert ((counts - found.size / 20) ** 2 / (found.size / 20)).sum() < 19 + 4 * 38**0.5


@pytest.mark.parametrize(("n", "below"), [(1, 1), (3, 5), (12, 64), (20, 20)])
def test_subsets_hold_nothing_twice_and_every_order_is_as_likely(n, below):
    found = draw_subsets(KEYS, "some", n, below)
    assert found.shape == (len(KEYS), n) and found.min() >= 0 and found.max() < below
    assert (np.diff(np.sort(found, 1), axis=1) > 0).all()
    if below > 1:
        for place in found.T:
            expected = len(KEYS) / below
            chi = ((np.bincount(place, minlength=below) - expected) ** 2 / expected).sum()
            assert abs(chi - (below - 1)) < 4 * (2 * (below - 1)) ** 0.5 + 4
    if n > 1:
        assert abs((found[:, 0] < found[:, 1]).mean() - 0.5) < 4 * 0.5 / len(KEYS) ** 0.5


def pearson(a, b):
    return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_streams_splits_seeds_samples_and_draws_are_independent():
    reference = draw_uniforms(KEYS, "some", 20)
    bound = 4 / reference.size**0.5
    assert pearson(reference, draw_uniforms(KEYS, "other", 20)) < bound
    assert (
        pearson(reference, draw_uniforms(make_sample_keys(1, "train", np.arange(4000)), "some", 20))
        < bound
    )
    assert (
        pearson(reference, draw_uniforms(make_sample_keys(0, "test", np.arange(4000)), "some", 20))
        < bound
    )
    assert pearson(reference[:, 1:], reference[:, :-1]) < 1.1 * bound
    assert pearson(reference[1:], reference[:-1]) < 1.1 * bound


def test_keys_of_different_seeds_splits_and_samples_never_meet():
    keys = [
        make_sample_keys(seed, split, np.arange(20000))
        for seed in (0, 1, 2**63)
        for split in ("train", "validation", "test")
    ]
    assert len(np.unique(np.concatenate(keys))) == 9 * 20000


@pytest.mark.parametrize("scale", [1.0, 0.37])
def test_normals_are_the_quantiles_of_the_normal_to_the_bit(scale):
    """As scipy has them, with which the first runs were drawn; it is not needed to draw."""
    middles = (np.arange(65536) + 0.5) / 65536
    expected = np.float32(scale) * ndtri(middles).astype(np.float32)
    assert _quantiles(scale).tobytes() == expected.tobytes()
