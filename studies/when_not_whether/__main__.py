"""`python -m studies.when_not_whether`: train what is missing, and write the page and its figures.

Records of finished runs lie beside this file and are not made again. Without them everything takes
about four CPU hours; it goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from studies.when_not_whether.crosses import Table, train_cross
from studies.when_not_whether.figures import draw_crosses, draw_shares, draw_transplants
from studies.when_not_whether.page import (
    CLAIM,
    format_page,
    format_predictions,
    format_shares,
    format_transplants,
    list_fresh_seeds,
    read_claim,
)
from studies.when_not_whether.prediction import predict
from studies.when_not_whether.subjects import FOLDER, SUBJECTS
from studies.when_not_whether.transplants import Transplant, transplant_all
from toyvit.config.whole_files import write_atomically
from toyvit.dynamics.crosses import Cross, split_variance

CROSSES = FOLDER / "crosses"
PAGE = FOLDER / "README.md"
TRANSPLANTED = ("induction-smoke", "two-pairs", "pointers-2hop")


def train_all(kind: str, inits: Iterable[int], streams: Iterable[int], jobs: int) -> list[Table]:
    """The cross of every recipe on these seeds, as many as it takes."""
    tables = []
    for subject in SUBJECTS:
        file = CROSSES / f"{subject.recipe}-{kind}.json"
        own = list(inits)[: subject.n_inits]
        tables.append(train_cross(subject, own, list(streams)[: subject.n_streams], file, jobs))
    return tables


def split_all(tables: Iterable[Table]) -> dict[str, Cross]:
    """Shares of the variance of log half-way steps, by recipe."""
    crosses = {}
    for subject, table in zip(SUBJECTS, tables, strict=True):
        last = subject.build_config(0, 0).train.steps
        crosses[subject.recipe] = split_variance(table.take_logs(last))
    return crosses


def put_parts_all(tables: Iterable[Table], jobs: int) -> dict[str, list[Transplant]]:
    """Transplants of the recipes that are cheap enough."""
    parts = {}
    for subject, table in zip(SUBJECTS, tables, strict=True):
        if subject.recipe in TRANSPLANTED:
            file = FOLDER / "transplants" / f"{subject.recipe}.json"
            file.parent.mkdir(exist_ok=True)
            parts[subject.recipe] = transplant_all(subject, table, file, jobs)
    return parts


def predict_all(explored: Iterable[Table], confirmed: Iterable[Table]) -> str:
    """What step 0 tells of each recipe, as a table."""
    rows = [
        predict(subject, *tables)
        for subject, *tables in zip(SUBJECTS, explored, confirmed, strict=True)
    ]
    return format_predictions(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m studies.when_not_whether")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    jobs = parser.parse_args().jobs

    inits = range(max(subject.n_inits for subject in SUBJECTS))
    streams = range(max(subject.n_streams for subject in SUBJECTS))
    explored = train_all("explored", inits, streams, jobs)
    if not CLAIM.exists():
        print(format_shares(*_name(explored), None))
        print(f"no claim yet: write {CLAIM.name} and commit it, then run this again")
        return 0

    claim, _ = read_claim()
    confirmed = train_all("confirmed", *list_fresh_seeds(), jobs)
    transplants = put_parts_all(explored, jobs)
    figures = FOLDER / "figures"
    figures.mkdir(exist_ok=True)
    draw_crosses(confirmed, figures / "crosses.png")
    bound = float(claim["bound"])
    draw_shares(split_all(explored), split_all(confirmed), bound, figures / "shares.png")
    draw_transplants(transplants, figures / "transplants.png")
    parts = {
        "explored": format_shares(*_name(explored), None),
        "confirmed": format_shares(*_name(confirmed), bound),
        "transplants": format_transplants(transplants),
        "prediction": predict_all(explored, confirmed),
    }
    write_atomically(PAGE, format_page(parts).encode())
    print(f"page: {Path(os.path.relpath(PAGE))}")
    return 0


def _name(tables: Iterable[Table]) -> tuple[dict[str, Table], dict[str, Cross]]:
    listed = list(tables)
    return {table.recipe: table for table in listed}, split_all(listed)


if __name__ == "__main__":
    sys.exit(main())
