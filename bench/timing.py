"""Interleaved timings, and what is read off them.

Medians, ratios with their quartiles, bars reached or not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from toyvit.cli.output import align_rows

Times = dict[str, list[float]]


def interleave(
    name: str,
    jobs: Mapping[str, Callable[[], object]],
    rounds: int,
    calls: int = 1,
    clock: Callable[[], float] = time.process_time,
    warm: int = 2,
    turning: bool = True,
) -> Times:
    """Milliseconds a call of each job in every round (default: CPU time).

    With `turning` every other round runs backwards.
    """
    times: Times = {job: [] for job in jobs}
    turns = range(-warm, rounds)
    bar = tqdm(turns, desc=name, unit="round", leave=False, dynamic_ncols=True, disable=None)
    for turn in bar:
        for job, call in list(jobs.items())[:: -1 if turning and turn % 2 else 1]:
            start = clock()
            for _ in range(calls):
                call()
            if turn >= 0:
                times[job].append(1e3 * (clock() - start) / calls)
    return times


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table: milliseconds of ours and of a peer, round by round, and a bar.

    `barred` says which number is to meet it: the ratio ours / peer, or the median of ours in
    milliseconds, or in another `unit` where no time is measured. `paired`: the ratio is the median
    within rounds (for long rounds, which drift), not that of the medians.
    """

    name: str
    ours: list[float]
    peer: list[float]
    peer_name: str
    floor: list[float] = field(default_factory=list)  # the least that any implementation needs
    bar: float | None = None
    barred: str = "ratio"
    unit: str = "ms"
    paired: bool = False
    details: Times = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        if self.paired:
            return self.quartiles[1]
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Of the ratio within each round."""
        low, middle, high = statistics.quantiles(
            [a / b for a, b in zip(self.ours, self.peer, strict=True)], n=4
        )
        return low, middle, high

    @property
    def reached(self) -> bool | None:
        measured = self.ratio if self.barred == "ratio" else statistics.median(self.ours)
        return None if self.bar is None else measured <= self.bar

    def to_json(self) -> dict[str, Any]:
        verdict = {"ratio": self.ratio, "ratio_quartiles": self.quartiles, "reached": self.reached}
        times = {"ours": self.ours, "peer": self.peer, "floor": self.floor}
        medians = {
            f"{name}_median": statistics.median(values) for name, values in times.items() if values
        }
        return asdict(self) | verdict | medians


HEADER = ("name", "ours ms", "peer ms", "peer", "floor ms", "ratio (quartiles)", "bar", "reached")


def format_cells(result: Result) -> tuple[str, ...]:
    """One row of the table."""
    low, _, high = result.quartiles
    unit = "" if result.barred == "ratio" else f" {result.unit}"
    return (
        result.name,
        f"{statistics.median(result.ours):.2f}",
        f"{statistics.median(result.peer):.2f}",
        result.peer_name,
        f"{statistics.median(result.floor):.2f}" if result.floor else "-",
        f"{result.ratio:.3f} ({low:.3f} to {high:.3f})",
        "-" if result.bar is None else f"<= {result.bar:.2f}{unit}",
        {None: "-", True: "yes", False: "no"}[result.reached],
    )


def format_table(results: list[Result]) -> str:
    """All results, aligned."""
    return align_rows([HEADER, *map(format_cells, results)])
