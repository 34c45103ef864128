"""A claim as a replication whose published figures are those of the seeds that were explored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.replications.claim import Filed, Statement
from toyvit.replications.lab import train_and_measure
from toyvit.replications.page import CLAIMS
from toyvit.replications.record import (
    Check,
    Outcome,
    Replication,
    list_record_seeds,
)
from toyvit.replications.takes import AT_LAST, SHARES, take_number
from toyvit.runs.finding import find_runs
from toyvit.runs.handle import Run

MOST_SEEDS = 8  # explored ones that are listed one by one


def build_replication(filed: Filed) -> Replication:
    """The claim as a replication: one check a statement."""
    claim = filed.claim
    checks = [
        Check(
            number=statement.text,
            meaning=statement.text,
            published=statement.explored,
            origin=", ".join(statement.stated) or "here",
            low=statement.margin[0],
            high=statement.margin[1],
            is_share=statement.take in SHARES,
        )
        for statement in filed.statements
    ]
    changed = f" {' '.join(claim.settings)}" if claim.settings else ""
    return Replication(
        name=claim.name,
        title=claim.title,
        source=f"`toyvit train {claim.recipe}{changed}`",
        compared=(
            f"Explored on {describe_seeds(claim.explored)}, confirmed on {claim.seeds} that follow "
            f"from the record's SHA-256, {filed.sha256[:12]}."
        ),
        run=partial(run_seed, filed),
        checks=tuple(checks),
        minutes=claim.minutes,
        remark=claim.remark,
        seeds=tuple(filed.list_seeds()),
    )


def run_seed(filed: Filed, seed: int, folder: Path) -> Outcome:
    """Train the claim's run of a seed, measure what it states, and take its numbers."""
    config = filed.claim.build_config()
    run = train_and_measure(config, seed, folder, [], [])
    for statements, steps in _split_by_steps(filed.statements, run):
        for split in sorted({split for part in statements for split in part.list_splits()}):
            asked = [part for part in statements if split in part.list_splits()]
            analyses = sorted({part.measure.partition(".")[0] for part in asked})
            measure(run, analyses=analyses, steps=steps, split=split)

    numbers = {}
    for statement in filed.statements:
        curve = statement.read_curve(run)
        numbers[statement.text] = take_number(curve, statement.take, config.train)
    return Outcome(numbers, [])


def _split_by_steps(
    statements: Sequence[Statement], run: Run
) -> list[tuple[list[Statement], list[int]]]:
    """Statements with the checkpoints at which they are measured: the last alone, or all."""
    late = [statement for statement in statements if statement.take in AT_LAST]
    whole = [statement for statement in statements if statement.take not in AT_LAST]
    pairs = [(whole, run.steps), (late, [run.last_step])]
    return [pair for pair in pairs if pair[0]]


def describe_seeds(seeds: Sequence[int]) -> str:
    """Seeds in words: `seeds 0 to 9`, `seed 3`, `seeds 0, 2, 5`, `no seed`."""
    if not seeds:
        return "no seed"
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"seeds {seeds[0]} to {seeds[-1]}"
    if len(seeds) > MOST_SEEDS:
        return f"{len(seeds)} seeds"
    return f"seeds {', '.join(map(str, seeds))}"


def check_fresh(filed: Filed, folder: Path) -> None:
    """BadInput where a run of the claim's recipe in a folder has a seed that would confirm it.

    Runs in `folder/claims`, where they are confirmed, are what they should be.
    """
    fresh = set(filed.list_seeds())
    for run in find_runs(folder):
        if (folder / CLAIMS.name) in run.path.parents:
            continue
        config = run.read_config()
        shared = fresh & {config.seeds.init, config.seeds.data}
        if config.recipe == filed.claim.recipe and shared:
            raise BadInput(
                f"seed {min(shared)} of claim {filed.claim.name} was run before, in {run.path}: "
                "a claim is confirmed on seeds that nobody has seen"
            )


def format_ledger(claims: Sequence[Filed], folder: Path) -> str:
    """The seeds of every recipe that were explored, and those in a folder that confirm a claim."""
    lines = [
        "## Ledger",
        "",
        "Every seed that was run of a recipe for a statement on this page.",
        "",
        "| recipe | explored | run to confirm |",
        "|---|---|---|",
    ]
    for recipe in sorted({filed.claim.recipe for filed in claims}):
        own = [filed.claim for filed in claims if filed.claim.recipe == recipe]
        explored = sorted({seed for claim in own for seed in claim.explored})
        confirmed = sorted(
            {seed for claim in own for seed in list_record_seeds(folder, claim.name)}
        )
        cells = (f"`{recipe}`", ", ".join(map(str, explored)), ", ".join(map(str, confirmed)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
