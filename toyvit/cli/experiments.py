"""Commands that train many runs: `sweep` and `replicate`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.arguments import (
    add_measuring,
    add_recipe,
    add_runs_folder,
    describe_recipes,
    read_analyses,
    read_name,
    read_seeds,
    refuse_seed_fields,
    set_seed,
)
from toyvit.cli.command import Command, Parser
from toyvit.cli.output import show, show_text
from toyvit.errors import BadInput, choose

if TYPE_CHECKING:
    from toyvit.config import RunConfig
    from toyvit.runs.handle import Run


def add_sweep_arguments(parser: Parser) -> None:
    """RECIPE, --seeds, --name, --runs, --jobs, --cluster, --plot, --analyses, --images."""
    add_recipe(parser)
    parser.add_argument(
        "--seeds", default="0..4", metavar="SEEDS", help="0..9, or 0,3,7 (default: 0..4)"
    )
    parser.add_argument("--name", help="folder of the sweep's runs (default: the recipe's name)")
    add_runs_folder(parser, "where it goes (default: runs)")

    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="worker processes (default: one a processor)",
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler, instead of processes here: tcp://127.0.0.1:8786",
    )
    parser.add_argument(
        "--plot",
        metavar="MEASURES",
        help="also draw and tabulate these over the settings: attention.corner,induction.mass",
    )
    add_measuring(parser)


def sweep(options: argparse.Namespace) -> int:
    """Train and measure every setting with every seed; print their table and draw their curves."""
    name = options.recipe if options.name is None else read_name("--name", options.name)
    folder = options.runs / name
    plan = plan_sweep(options, folder)

    from toyvit.report import draw_measure, draw_sweep
    from toyvit.report.summary import summarize_events
    from toyvit.report.sweep_measures import parse_measure
    from toyvit.sweeping import describe_gaps, gather_table, write_table

    plots = options.plot.split(",") if options.plot else []
    for measure in plots:
        parse_measure(measure)  # refused before anything is trained
    runs = _train_settings(options, plan, folder)
    table = gather_table(runs)
    show_text(table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep=""))
    for gap in filter(None, map(describe_gaps, runs)):
        show(gap)
    if order := summarize_events(runs):
        show_text(order)
    show(f"table: {write_table(table, folder, runs)}")
    for picture in draw_sweep(runs, folder):
        show(f"figure: {picture}")
    for measure in plots:
        picture, values = draw_measure(runs, folder, measure)
        show(f"{measure}, last value over seeds:")
        show_text(values.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
        show(f"figure: {picture}")
    return 0


def _train_settings(
    options: argparse.Namespace, plan: Mapping[Path, RunConfig], folder: Path
) -> list[Run]:
    from toyvit.sweeping import train_plan

    return train_plan(
        plan,
        jobs=options.jobs,
        cluster=options.cluster,
        label=folder.name,
        images=options.images,
        analyses=read_analyses(options.analyses),
    )


def plan_sweep(options: argparse.Namespace, folder: Path) -> dict[Path, RunConfig]:
    """The runs of a sweep by their folders: every setting with every seed."""
    from toyvit.config.overrides import expand_variants
    from toyvit.recipes import find_recipe

    refuse_seed_fields("--seeds", options.words)
    if options.jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {options.jobs}")
    variants = expand_variants(find_recipe(options.recipe)(), options.words)
    seeds = read_seeds(options.seeds)
    plan = {}
    for variant, config in variants.items():
        for seed in seeds:
            plan[folder / variant / f"seed-{seed}"] = set_seed("--seeds", config, seed)
    return plan


def add_replicate_arguments(parser: Parser) -> None:
    """NAME ..., --list, --seeds, --claim, --runs, --page."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which (default: all; --list names them)"
    )
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument(
        "--seeds", metavar="SEEDS", help="0..4, or 0,3,7; seed 0 where none is given"
    )
    parser.add_argument(
        "--claim",
        nargs="+",
        metavar="CLAIM",
        help=(
            "confirm what the lab states of its recipes, on seeds that follow from the claim's "
            "record (all, a name, or a file of your own)"
        ),
    )
    add_runs_folder(parser, "records go into DIR/replications, or DIR/claims")
    parser.add_argument(
        "--page", type=Path, metavar="DIR", help="also write DIR/replications.md and its pictures"
    )


def _list_replications() -> int:
    from toyvit.replications import REPLICATIONS
    from toyvit.replications.claim import find_claim, list_claims

    for name, entry in REPLICATIONS.items():
        minutes = f"about {entry.minutes:g} CPU minutes"
        show(f"{name:18} {entry.title} ({entry.source}; {minutes})")
    for name in list_claims():
        claim = find_claim(name).claim
        minutes = f"{claim.seeds} seeds of about {claim.minutes:g} CPU minutes"
        show(f"--claim {name:10} {claim.title} ({minutes})")
    return 0


def replicate(options: argparse.Namespace) -> int:
    """Run published results, or the lab's own claims, again and print the verdict on each."""
    if options.list:
        return _list_replications()
    if options.claim:
        return _confirm_claims(options)

    from toyvit.replications import REPLICATIONS
    from toyvit.replications.loop import replicate as run_again
    from toyvit.replications.page import format_verdict, write_page
    from toyvit.replications.record import load_records

    names = options.names or list(REPLICATIONS)
    entries = [REPLICATIONS[choose(name, REPLICATIONS, "replication")] for name in names]
    folder = options.runs / "replications"
    seeds = read_seeds("0" if options.seeds is None else options.seeds)
    run_again(entries, seeds, folder, leave_out=not options.names)

    for entry in entries:
        records = [record for record in load_records(folder, entry) if record.seed in seeds]
        if records:
            show_text(format_verdict(entry, records))
    if options.page:
        show(f"page: {write_page(REPLICATIONS.values(), folder, options.page)}")
    return 0


def _confirm_claims(options: argparse.Namespace) -> int:
    """Run the seeds that confirm claims, and print the verdict on each."""
    from functools import partial

    from toyvit.replications.claim import find_claim, list_claims
    from toyvit.replications.claims import build_replication, check_fresh, format_ledger
    from toyvit.replications.loop import replicate as run_again
    from toyvit.replications.page import CLAIMS, format_verdict, write_page
    from toyvit.replications.record import load_records

    if options.names:
        raise BadInput(f"--claim stands for itself: {options.names[0]} cannot be given too")
    if options.seeds is not None:
        raise BadInput("--claim takes its seeds from the record: --seeds cannot be given too")
    is_all = options.claim == ["all"]
    claims = [find_claim(name) for name in (list_claims() if is_all else options.claim)]
    for filed in claims:
        check_fresh(filed, options.runs)

    folder = options.runs / CLAIMS.name
    for filed in claims:
        entry = build_replication(filed)
        run_again([entry], filed.list_seeds(), folder)
        show_text(format_verdict(entry, load_records(folder, entry), CLAIMS))
    if options.page:
        own = [find_claim(name) for name in list_claims()]
        foot = partial(format_ledger, own)
        page = write_page(map(build_replication, own), folder, options.page, CLAIMS, foot)
        show(f"page: {page}")
    return 0


COMMANDS = (
    Command(
        name="sweep",
        help="train and measure a recipe with several seeds and settings: --model.n_layers 1,2,3",
        add_arguments=add_sweep_arguments,
        run=sweep,
        takes_fields=True,
        write_epilog=describe_recipes,
    ),
    Command(
        name="replicate",
        help=(
            "run published results again and say whether they agree; what is done is not done again"
        ),
        add_arguments=add_replicate_arguments,
        run=replicate,
    ),
)
