"""`python -m bench.paths`: when the default recipe learns, trained on the old path and on the new.

The paths give other last bits, so that single runs part; what must not part is when the transition
comes. The same seeds are trained on both, and their onsets (of the accuracy on the validation
pictures) compared pair by pair.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
from scipy.stats import binom
from tqdm import tqdm

from toyvit.config import PATHS, plan_checkpoints, replace_seed
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.recipes import RECIPES
from toyvit.train import fit


def find_onset(seed: int, path: str, folder: Path) -> float:
    """The step at which the accuracy of a run begins to rise; NaN where it has no transition."""
    run = replace_seed(RECIPES["induction"](), seed)
    run = replace(run, train=replace(run.train, path=path))
    entries = fit(run, folder, progress=False).read_manifest()
    accuracy = pd.Series({entry.step: entry.accuracy for entry in entries})
    change = detect_in_curve(accuracy, run.train)
    return change.onset if change else float("nan")


def bound_median(differences: list[float], level: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median at least this often, from order statistics.

    >>> bound_median([float(n) for n in range(1, 21)])
    (6.0, 15.0)
    """
    ordered = sorted(differences)
    rank = max(1, int(binom.ppf((1 - level) / 2, len(ordered), 0.5)))
    return ordered[rank - 1], ordered[-rank]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, metavar="N")
    arguments = parser.parse_args()
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        for seed in tqdm(range(arguments.seeds), unit="seed"):
            onsets = [find_onset(seed, path, Path(place) / f"{path}-{seed}") for path in PATHS]
            pairs.append(onsets)
            print(seed, *onsets, flush=True)

    differences = [new - old for old, new in pairs]
    low, high = bound_median(differences)
    spacing = find_spacing(statistics.median(old for old, _ in pairs))
    print(
        f"median difference ({' to '.join(PATHS)}) {statistics.median(differences):g} steps,"
        f" 95 % interval {low:g} to {high:g}; checkpoints there are {spacing} steps apart"
    )
    return 0


def find_spacing(onset: float) -> int:
    """Steps between the checkpoints of the default recipe around a step."""
    steps = plan_checkpoints(RECIPES["induction"]().train)
    later = next(place for place, step in enumerate(steps) if step > onset)
    return steps[later] - steps[later - 1]


if __name__ == "__main__":
    sys.exit(main())
