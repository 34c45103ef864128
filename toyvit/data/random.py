"""Random numbers by counter: draw j of sample k is a pure function of (seed, split, k, stream, j).

Numbers come from SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number
generators", figure 14): each sample has a key, each stream of a sample a key of its own, and draw j
hashes key + j * golden ratio. Whole batches are drawn at once, and a sample is the same alone, in a
batch, or in another process.
"""

from __future__ import annotations

from functools import cache, lru_cache
from statistics import NormalDist
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_HALF = np.uint64(32)
_LAST = np.uint64(31)
# At once, so that the wider numbers which numpy makes of them first stay in the cache.
LOOK_UPS = 2**15
SLICES = 2**16  # of the standard normal: a normal draw is a look-up by 16 random bits


def mix_bits(state: Keys) -> Keys:
    """SplitMix64's finaliser: a bijection of 64-bit words that looks random.

    `state` is written over.
    """
    for shift, multiplier in _ROUNDS:
        state ^= state >> shift
        state *= multiplier
    state ^= state >> _LAST
    return state


def make_sample_keys(seed: int, split: str, indices: NDArray[np.int64]) -> Keys:
    """One key a sample, from (seed, split, index)."""
    words = np.asarray(indices).astype(np.uint64)
    words += np.uint64(1)
    words *= GOLDEN
    words += _start(seed, split)
    return mix_bits(words)


@lru_cache
def _start(seed: int, split: str) -> Keys:
    return mix_bits(
        mix_bits(np.array([seed], np.uint64) + GOLDEN) + np.uint64(crc32(split.encode()))
    )


def make_noise_keys(keys: Keys) -> NDArray[np.int64]:
    """The keys as factors, whole numbers below 2^63: what a picture's noise is drawn from."""
    return (keys >> np.uint64(1)).astype(np.int64)


def draw_bits(keys: Keys, stream: str, n: int) -> Keys:
    """(len(keys), n) random 64-bit words of the named stream."""
    return mix_bits(mix_bits(keys ^ _named(stream))[:, None] + _steps(n))


@lru_cache
def _named(stream: str) -> Keys:
    return mix_bits(np.array([crc32(stream.encode())], np.uint64) + GOLDEN)


@lru_cache
def _steps(n: int) -> Keys:
    return np.arange(1, n + 1, dtype=np.uint64) * GOLDEN


def draw_integers(keys: Keys, stream: str, n: int, below: int) -> NDArray[np.int64]:
    """(len(keys), n) whole numbers, uniform on 0 .. below - 1 (to within below / 2^32)."""
    words = draw_bits(keys, stream, n)
    words >>= _HALF
    words *= np.uint64(below)
    words >>= _HALF
    return words.view(np.int64)


def draw_subsets(keys: Keys, stream: str, n: int, below: int) -> NDArray[np.int64]:
    """(len(keys), n) whole numbers from 0 .. below - 1, in random order, none twice in a row.

    The words of a row all differ (`mix_bits` is a bijection, the golden ratio odd), so every sort
    gives the same order.
    """
    return draw_bits(keys, stream, below).argsort(1)[:, :n]


def draw_order(keys: Keys, stream: str, n: int) -> NDArray[np.int64]:
    """(len(keys), n) the numbers 0 to n - 1 in random order."""
    return draw_subsets(keys, stream, n, n)


@lru_cache
def _quantiles(scale: float) -> NDArray[np.float32]:
    return np.float32(scale) * _standard_quantiles()


@cache
def _standard_quantiles() -> NDArray[np.float32]:
    """The normal's quantiles at the middles of equally likely slices."""
    middles = (np.arange(SLICES) + 0.5) / SLICES
    return np.array([*map(NormalDist().inv_cdf, middles.tolist())], np.float32)


def draw_normals(keys: Keys, stream: str, n: int, scale: float = 1.0) -> NDArray[np.float32]:
    """(len(keys), n) standard normals times `scale`.

    Quantised to 65,536 equally likely values within 4.33 of 0.
    """
    words = draw_bits(keys, stream, -(-n // 4)).view(np.uint16)[:, :n]
    table = _quantiles(scale)
    normals = np.empty(words.shape, np.float32)
    rows = -(-LOOK_UPS // n)
    for first in range(0, len(keys), rows):
        table.take(words[first : first + rows], out=normals[first : first + rows], mode="clip")
    return normals


def draw_uniforms(keys: Keys, stream: str, n: int) -> NDArray[np.float64]:
    """(len(keys), n) numbers uniform on the open interval 0 .. 1."""
    return ((draw_bits(keys, stream, n) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53


def order_epochs(seed: int, split: str, indices: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Row of a finite set that sample k shows.

    The set is gone through once an epoch, each epoch in an order of its own.
    """
    rows = np.empty_like(indices)
    for epoch in np.unique(indices // size):
        here = indices // size == epoch
        rows[here] = _order(seed, split, int(epoch), size)[indices[here] % size]
    return rows


@lru_cache(maxsize=4)
def _order(seed: int, split: str, epoch: int, size: int) -> NDArray[np.int64]:
    return draw_order(make_sample_keys(seed, split, np.array([epoch])), "order", size)[0]
