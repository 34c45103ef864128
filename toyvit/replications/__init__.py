"""Published results, each run again: what is compared, how, and when it agrees. One literal table.

To add one, write a file with `run_seed(seed, folder) -> Outcome` and its ROW, and name it here. The
bounds of a check stand there; set them before the seeds that are shown are run, or have the page
say otherwise. Nothing is tuned for a seed.
"""

from __future__ import annotations

from toyvit.replications import (
    belief_geometry,
    double_descent,
    fewshot,
    llc,
    markov,
    omnigrok,
    quanta,
    rank_one,
    repeats,
    sums,
    superposition,
)
from toyvit.replications.record import Replication

REPLICATIONS: dict[str, Replication] = {
    module.ROW.name: module.ROW
    for module in (
        markov,
        fewshot,
        superposition,
        rank_one,
        llc,
        repeats,
        sums,
        omnigrok,
        quanta,
        double_descent,
        belief_geometry,
    )
}
