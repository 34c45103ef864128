"""The hidden states of a sweep's seeds: `python -m toyvit.dynamics.rival_runs FOLDER`.

Beside them the onset that the detector gives each seed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from toyvit.dynamics.hidden_states import TrainingMap, fit_states
from toyvit.dynamics.judgement import read_seed
from toyvit.dynamics.rival import date_jumps
from toyvit.dynamics.transitions import Curves, detect_in_curve
from toyvit.errors import BadInput
from toyvit.runs.finding import find_runs
from toyvit.runs.handle import Run


def compare_runs(runs: Sequence[Run]) -> tuple[TrainingMap, pd.DataFrame]:
    """The map of runs of several seeds, and a row a run: its states in order, and both onsets.

    From the loss, the accuracy and the order parameter of the recipe; BadInput where a run lacks
    one of them.

    order           states that the run visits
    jump, step      as in `rival.compare_families`
    detected        the detector's onset of the order parameter
    """
    states = fit_states([_collect_curves(run) for run in runs])
    table = date_jumps(states)
    changes = [detect_in_curve(_collect_curves(run)["order"], run.config.train) for run in runs]
    table.insert(0, "run", [run.name for run in runs])
    table["order"] = [" ".join(map(str, order)) for order in states.list_orders()]
    table["detected"] = [change.onset if change else np.nan for change in changes]
    return states, table


def _collect_curves(run: Run) -> Curves:
    """The measures of a run by which its states are told apart."""
    seed = read_seed(run)
    if seed is None:
        raise BadInput(f"{run.path} has no order parameter, or it was not measured")
    return {
        "loss": seed.loss,
        "order": seed.order,
        "accuracy": run.curve("performance", "accuracy"),
    }


def _print_runs(folder: Path) -> None:
    states, table = compare_runs([Run(place) for place in find_runs(folder)])
    print(states.bic.round(0).rename_axis("states").to_string(), end="\n\n")
    print(states.centres.round(3).rename_axis("state").to_string(), end="\n\n")
    print(table.round(2).to_string(index=False), end="\n\n")
    print("detours:", states.list_detours() or "none")


if __name__ == "__main__":
    _print_runs(Path(sys.argv[1]))
