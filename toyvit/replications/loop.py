"""Replications x seeds -> records: what is finished is not done again, each seed is written when it is done."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from toyvit.errors import BadInput
from toyvit.replications.record import Record, Replication, load_records, write_record
from toyvit.threads import use_one_thread

logger = logging.getLogger(__name__)


def replicate(
    chosen: Sequence[Replication],
    seeds: Sequence[int],
    folder: Path,
    *,
    leave_out: bool = False,
    progress: bool = True,
) -> list[Record]:
    """Run every seed of every replication that has no record in `folder` yet; the new records, in order.

    Runs of the lab's recipes go on where they were stopped; a toy's seed starts again. One that misses its data is BadInput
    before anything is run, or with `leave_out` is named and left out.
    """
    ready = [one for one in chosen if _ready(one, leave_out)]
    done = {(one.name, record.seed) for one in ready for record in load_records(folder, one)}
    todo = [(one, seed) for seed in seeds for one in ready if (one.name, seed) not in done]
    folder.mkdir(parents=True, exist_ok=True)  # where nothing can be kept nothing is run
    found = []
    bar = tqdm(todo, desc="replicate", unit="seed", disable=not progress or not todo)
    with use_one_thread():
        for one, seed in bar:
            bar.set_postfix_str(f"{one.name}, seed {seed}")
            found.append(_one(one, seed, folder))
    return found


def _ready(replication: Replication, leave_out: bool) -> bool:
    try:
        replication.ready()
    except BadInput as error:
        if not leave_out:
            raise
        logger.warning("%s is left out: %s", replication.name, error)
        return False
    return True


def _one(replication: Replication, seed: int, folder: Path) -> Record:
    place = folder / replication.name / f"seed-{seed}"
    fresh, start = not place.exists(), time.process_time()
    found = replication.run(seed, place)
    minutes = (time.process_time() - start) / 60 if fresh else None
    record = Record(
        name=replication.name,
        version=replication.version,
        seed=seed,
        minutes=minutes,
        numbers=found.numbers,
        panels=found.panels,
    )
    write_record(folder, record)
    return record
