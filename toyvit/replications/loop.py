"""Replications x seeds -> records: what is finished is not done again.

Each seed is written when it is done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tqdm import tqdm

from toyvit.errors import BadInput
from toyvit.replications.record import Record, Replication, load_records, write_record
from toyvit.surroundings import pin_torch

logger = logging.getLogger(__name__)


def replicate(
    selected: Sequence[Replication],
    seeds: Sequence[int],
    folder: Path,
    *,
    leave_out: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run every seed of every replication that has no record in `folder` yet; the new records.

    In order. Runs of the lab's recipes go on where they were stopped; a toy's seed starts again.
    One that misses its data is BadInput before anything is run, or with `leave_out` is named and
    left out.
    """
    ready = [replication for replication in selected if _check_ready(replication, leave_out)]
    done = set()
    for replication in ready:
        done |= {(replication.name, record.seed) for record in load_records(folder, replication)}
    work = [
        (replication, seed)
        for seed, replication in product(seeds, ready)
        if (replication.name, seed) not in done
    ]

    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be kept nothing is run
    records = []
    bar = tqdm(work, desc="replicate", unit="seed", disable=not progress or not work or None)
    with pin_torch():
        for replication, seed in bar:
            bar.set_postfix_str(f"{replication.name}, seed {seed}")
            records.append(_run_and_write(replication, seed, folder))
    return records


def _check_ready(replication: Replication, leave_out: bool) -> bool:
    try:
        replication.ready()
    except BadInput as error:
        if not leave_out:
            raise
        logger.warning("%s is left out: %s", replication.name, error)
        return False
    return True


def _run_and_write(replication: Replication, seed: int, folder: Path) -> Record:
    place = folder / replication.name / f"seed-{seed}"
    is_fresh = not place.exists()
    start = time.process_time()
    outcome = replication.run(seed, place)
    minutes = (time.process_time() - start) / 60

    record = Record(
        name=replication.name,
        version=replication.version,
        seed=seed,
        minutes=minutes if is_fresh else None,
        numbers=outcome.numbers,
        panels=outcome.panels,
    )
    write_record(folder, record)
    return record
