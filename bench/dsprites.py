"""Drawing all of dSprites, against numpy loading a compressed npz of the same pictures.

And a batch of 128 out of order.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from itertools import cycle
from pathlib import Path

import numpy as np

from bench.timing import Result, interleave
from toyvit.data.worlds.dsprites import drawing

BAR = 1.0  # drawing everything takes no longer than loading everything
BATCH_BAR = 1.0  # milliseconds
BATCH = 128


def time_whole(place: Path, rounds: int) -> Iterator[Result]:
    """All pictures: packed, as bytes like those that numpy loads, and on disk.

    On disk: what `prepare_images` does once.
    """
    everything = np.arange(drawing.N_IMAGES)
    np.savez_compressed(place / "all.npz", imgs=drawing.draw_images(everything))

    def prepare() -> None:
        (place / "datasets/dsprites/rendered.npy").unlink(missing_ok=True)
        drawing.prepare_images()

    jobs = {
        "packed": lambda: drawing.draw_packed(everything),
        "bytes": lambda: drawing.draw_images(everything),
        "prepare": prepare,
        "reuse": drawing.prepare_images,
        "load": lambda: np.load(place / "all.npz")["imgs"],
    }
    (place / "datasets").mkdir()
    with chdir(place):
        for clock in (time.process_time, time.perf_counter):
            times = interleave(
                f"dsprites, {clock.__name__}", jobs, rounds, clock=clock, warm=1, turning=False
            )
            for job in ("packed", "bytes", "prepare", "reuse"):
                yield Result(
                    name=f"dsprites {job}, {clock.__name__}",
                    ours=times[job],
                    peer=times["load"],
                    peer_name="np.load",
                    bar=BAR if clock is time.process_time else None,
                    paired=True,
                )


def time_batch(rounds: int) -> Result:
    """Against unpacking the same pictures from the packed array in memory."""
    pictures = drawing.draw_packed(np.arange(drawing.N_IMAGES))
    random = np.random.default_rng(0)
    numbers = cycle(random.integers(0, drawing.N_IMAGES, (1000, BATCH)))
    jobs = {
        "draw": lambda: drawing.draw_images(next(numbers)),
        "unpack": lambda: drawing.unpack_bits(pictures[next(numbers)]),
    }
    times = interleave("dsprites batch", jobs, rounds, calls=10, clock=time.perf_counter)
    name = f"dsprites batch of {BATCH}, wall"
    return Result(
        name=name,
        ours=times["draw"],
        peer=times["unpack"],
        peer_name="unpack",
        bar=BATCH_BAR,
        barred="median",
    )


def results(repeats: int | None) -> Iterator[Result]:
    yield time_batch(repeats or 101)
    with tempfile.TemporaryDirectory() as place:
        yield from time_whole(Path(place), repeats or 3)
