"""How sharp a change is in runs of several sizes (`sharpening`).

    python -m toyvit.dynamics.finite_size FOLDER --by model.d_model

reads the runs below a folder twice: the abrupt change of the order parameter that the loss shares
(`judgement`), and the rise of accuracy past the bag of labels, abrupt or not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from toyvit.config import sum_rates
from toyvit.dynamics.judgement import match_changes, read_seed
from toyvit.dynamics.sharpening import Window, compare_sizes
from toyvit.dynamics.transitions import find_window
from toyvit.errors import BadInput, escape_text
from toyvit.runs.finding import find_runs
from toyvit.runs.handle import Run

CEILING = "accuracy.bag_of_labels"


def find_abrupt_change(run: Run) -> Window | None:
    """Of the order parameter, if the loss shares it; BadInput where either was not measured."""
    seed = read_seed(run)
    if seed is None:
        raise BadInput(f"{run.path} has no order parameter, or it was not measured")
    change = match_changes(seed, run.config.train)
    return _tell_time(run, (change.onset, change.end)) if change else None


def find_rise(run: Run) -> Window | None:
    """Of the accuracy past the bag of labels; BadInput for a task without one."""
    if CEILING not in run.baselines:
        raise BadInput(f"{run.path} has no bag of labels to rise above")
    rise = find_window(run.curve("performance", "accuracy"), run.baselines[CEILING])
    return _tell_time(run, rise) if rise else None


def _tell_time(run: Run, window: Window) -> Window:
    """Steps as sums of learning rates."""
    onset, end = np.interp(window, run.steps, sum_rates(run.config.train, run.steps))
    return float(onset), float(end)


def read_size(run: Run, by: str) -> float:
    """The number in a field of a run's config."""
    part, _, name = by.partition(".")
    value = getattr(getattr(run.config, part, None), name, None)
    if not isinstance(value, int | float):
        raise BadInput(f"{run.path} has no number in {by}: a size is a field such as model.d_model")
    return float(value)


def _group_windows(
    runs: Sequence[Run], by: str, find: Callable[[Run], Window | None]
) -> dict[float, list[Window | None]]:
    windows: dict[float, list[Window | None]] = {}
    for run in runs:
        windows.setdefault(read_size(run, by), []).append(find(run))
    return windows


def main() -> int:
    """Tell it of the runs in a folder; exit code 2 for what cannot be read."""
    parser = argparse.ArgumentParser(description="does a change sharpen with size?")
    parser.add_argument("folder", type=Path, help="of runs")
    parser.add_argument("--by", default="model.d_model", help="the field that is the size")
    options = parser.parse_args()
    try:
        runs = list(map(Run, find_runs(options.folder)))
        for what, find in (("abrupt change", find_abrupt_change), ("rise", find_rise)):
            result = compare_sizes(_group_windows(runs, options.by, find))
            table = result.table.round(3).to_string(na_rep="-")
            print(f"{what}\n{table}\n{result}", end="\n\n")
    except BadInput as error:
        print(escape_text(str(error)), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
