"""The hidden Markov model beside the detector: `python -m toyvit.dynamics.rival [curves a family]`.

Both judge the same curves, those of `calibration`. The rival is of many seeds, so that curves of a
family over one schedule of checkpoints are taken for ten seeds of one training, each turned so that
it rises. It is read in three ways, the last the kindest:

any    a state is left for good
two    there are two states, before and after, and the first is left for good
jump   a state is left for good by a jump of z-scores so large that 5 % of the curves without a
       change are called, in the mean over families; the threshold is taken from the very curves
       that it is tried on

Both judge the seeds of a sweep in `rival_runs`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from toyvit.dynamics.calibration import RATE, REPORT, draw_family
from toyvit.dynamics.drawn_curves import CLOCKS, Array
from toyvit.dynamics.hidden_states import TrainingMap, fit_states
from toyvit.dynamics.nulls import NULLS
from toyvit.dynamics.planted import PLANTS
from toyvit.dynamics.transitions import detect

SEEDS = 10  # of a training
WAYS = ["detector", "any", "two", "jump"]
EDGE = 5  # checkpoints by whose median a curve is turned


def compare_families(n: int, stream: int, families: Iterable[str] = ()) -> pd.DataFrame:
    """What both say of n curves of each family (default: all), a row a curve.

    n is rounded up to whole trainings of SEEDS seeds, as many for each schedule of checkpoints.

    planted         how many changes were planted
    n_states        of the training that the curve is a seed of
    jump            largest that leaves a state for good, z-scores; 0 where none does
    step            of that jump, NaN without one
    detected        the detector's onset, NaN where it finds none
    step_error      |step - planted onset| / planted onset of the nearest, and its sign
    detected_error  the same of the detector's onset
    """
    names = list(families) or [*NULLS, *PLANTS]
    groups = -(-n // (SEEDS * len(CLOCKS)))
    work = list(product(names, [stream], range(groups * len(CLOCKS))))
    parallel = Parallel(n_jobs=-1 if len(work) > len(CLOCKS) else 1, return_as="generator")
    tables = parallel(delayed(_compare_group)(*arguments) for arguments in work)
    return pd.concat(tqdm(tables, "trainings", len(work), disable=None), ignore_index=True)


def _compare_group(family: str, stream: int, group: int) -> pd.DataFrame:
    """SEEDS curves of one schedule of checkpoints."""
    n_clocks = len(CLOCKS)
    first = group % n_clocks + SEEDS * n_clocks * (group // n_clocks)
    drawn = [draw_family(family, stream, first + n_clocks * place) for place in range(SEEDS)]
    seeds = [{"value": pd.Series(_turn(values), steps)} for steps, values, _ in drawn]
    table = date_jumps(fit_states(seeds)).assign(family=family)

    changes = [detect(steps, values) for steps, values, _ in drawn]
    table["detected"] = [change.onset if change else np.nan for change in changes]
    table["planted"] = [len(onsets) for *_, onsets in drawn]
    for name in ("step", "detected"):
        pairs = zip(table[name], drawn, strict=True)
        table[f"{name}_error"] = [_measure_error(step, onsets) for step, (*_, onsets) in pairs]
    return table


def date_jumps(states: TrainingMap) -> pd.DataFrame:
    """Of each seed the largest jump that leaves a state for good, and its step; a row a seed."""
    moves = states.list_moves()
    lasting = moves[moves["lasts"]].sort_values("jump", ascending=False)
    largest = lasting.drop_duplicates("seed").set_index("seed")[["jump", "step"]]
    table = largest.reindex(range(len(states.paths))).astype(float)
    return table.fillna({"jump": 0.0}).assign(n_states=states.n_states)


def _turn(values: Array) -> Array:
    """A curve that ends no lower than it begins."""
    rises = np.median(values[-EDGE:]) >= np.median(values[:EDGE])
    return values if rises else -values


def _measure_error(step: float, onsets: Sequence[float]) -> float:
    """Relative distance from the nearest planted onset, with its sign; NaN without either."""
    if not onsets or np.isnan(step):
        return float("nan")
    nearest = min(onsets, key=lambda onset: abs(step - onset))
    return (step - nearest) / nearest


def choose_jump(frame: pd.DataFrame) -> float:
    """The least jump at which the rival calls RATE of the nulls, in the mean over families."""
    nulls = frame[frame["planted"] == 0]
    for jump in np.sort(nulls["jump"].unique()):
        called = (nulls["jump"] > jump).groupby(nulls["family"]).mean()
        if called.mean() <= RATE:
            return float(jump)
    return float("inf")


def measure_comparison(frame: pd.DataFrame) -> pd.DataFrame:
    """Rates of both by family, a row each; of a null they are rates of false positives.

    detector, any, two, jump   share of curves called (see the module)
    n_states                   median over trainings
    detector_20, rival_20      of those called (by `any`), the share within 20 % of the onset
    detector_off, rival_off    and the median of how much later they are than it, a share of it
    """
    threshold = choose_jump(frame)
    lasts = frame["jump"] > 0
    called = frame.assign(
        detector=frame["detected"].notna(),
        any=lasts,
        two=lasts & (frame["n_states"] == 2),
        jump=frame["jump"] > threshold,
    )

    rows = []
    for family, curves in called.groupby("family", sort=False):
        row = {"family": family, **curves[WAYS].mean().to_dict()}
        row["n_states"] = curves["n_states"].median()
        if curves["planted"].iloc[0]:
            for name, column in (("detector", "detected_error"), ("rival", "step_error")):
                errors = curves[column].dropna()
                row[f"{name}_20"] = float((errors.abs() < 0.2).mean())
                row[f"{name}_off"] = float(errors.median())
        rows.append(row)
    return pd.DataFrame(rows)


def _print_families(n: int) -> None:
    frame = compare_families(n, REPORT)
    table = measure_comparison(frame)
    for is_planted in (False, True):
        rows = table[table["family"].isin(PLANTS) == is_planted].dropna(axis=1)
        mean = rows[WAYS].mean().to_dict() | {"family": "mean"}
        rows = pd.concat([rows, pd.DataFrame([mean])])
        print(rows.round(3).to_string(index=False, na_rep=""), end="\n\n")
    print(f"the jump that counts is more than {choose_jump(frame):.2f} standard deviations")


if __name__ == "__main__":
    _print_families(int(sys.argv[1]) if sys.argv[1:] else 40)
