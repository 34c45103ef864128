"""Commands that train: `train` and its follower, `sweep`, `replay`, `replicate`."""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.arguments import (
    add_measuring,
    add_recipe,
    add_run,
    add_runs_folder,
    describe_recipes,
    read_analyses,
    read_seeds,
)
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_recipes
from toyvit.errors import BadField, BadInput, choose

if TYPE_CHECKING:
    from toyvit.config import RunConfig
    from toyvit.runs.handle import Run

SECONDS_BETWEEN_LOOKS = 2.0  # of the follower, at its standard input


def add_train_arguments(parser: Parser) -> None:
    """RECIPE ..., --name, --runs, --seed, --resume."""
    recipes = parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="listed below")
    complete(recipes, offer_recipes)
    parser.add_argument("--name", help="name of the run folder (default: the recipe's)")
    add_runs_folder(parser, "where run folders go (default: runs)")
    parser.add_argument("--seed", type=int, help="seed of weights and training data")
    parser.add_argument(
        "--resume", action="store_true", help="start, go on, or say that the run is finished"
    )
    parser.add_argument("--position", type=int, default=0, help=argparse.SUPPRESS)


def train(options: argparse.Namespace) -> int:
    """Train a recipe into its run folder, beside a process that writes TensorBoard files."""
    configs = [_read_config(options, name) for name in options.recipes]
    if len(configs) > 1:
        return train_side_by_side(options)
    path = options.runs / (options.name or options.recipes[0])

    from toyvit.train import fit  # imports torch: seconds, after all that can be refused without

    with start_follower(path):
        fit(configs[0], path, resume=options.resume, position=options.position)
    print(f"{path} is trained: measure it with `toyvit measure {path}`")
    return 0


def _read_config(options: argparse.Namespace, name: str) -> RunConfig:
    """A recipe's config with all that was typed, or BadInput."""
    from toyvit.cli.overrides import apply_overrides
    from toyvit.recipes import find_recipe

    config = apply_overrides(find_recipe(name)(), options.words)
    if options.seed is None:
        return config
    _refuse_seed_fields("--seed", options.words)
    return _set_seed("--seed", config, options.seed)


def _refuse_seed_fields(option: str, words: Sequence[str]) -> None:
    """BadInput where a field is typed that the option would set in silence."""
    for word in words:
        field = word.partition("=")[0]
        if field in ("--seeds.init", "--seeds.data"):
            raise BadInput(
                f"{option} sets --seeds.init and --seeds.data: {field} cannot be given too"
            )


def _set_seed(option: str, config: RunConfig, seed: int) -> RunConfig:
    """The config under another seed; a refusal names the option that was typed."""
    from toyvit.config import replace_seed

    try:
        return replace_seed(config, seed)
    except BadField as error:
        raise BadInput(f"{option} {error.problem}") from None


def train_side_by_side(options: argparse.Namespace) -> int:
    """One process a recipe; a signal is passed on to all, and the first failure is the answer."""
    if options.name:
        n = len(options.recipes)
        raise BadInput(f"--name names one run, but {n} recipes were given")
    twice = [name for name in options.recipes if options.recipes.count(name) > 1]
    if twice:
        raise BadInput(f"each recipe is trained into one folder, but {twice[0]} was given twice")
    children = _start_trainings(options)

    def pass_on(signum: int, frame: object) -> None:
        for child in children:
            child.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, pass_on)
    codes = [child.wait() for child in children]
    return next((code for code in codes if code), 0)


def _start_trainings(options: argparse.Namespace) -> list[subprocess.Popen[bytes]]:
    """A process for each recipe, with the options that are common to all."""
    common = ["--runs", str(options.runs)]
    if options.resume:
        common += ["--resume"]
    if options.seed is not None:
        common += ["--seed", str(options.seed)]

    children = []
    for place, name in enumerate(options.recipes):
        words = ["train", name, *common, "--position", str(place), *options.words]
        children.append(subprocess.Popen([sys.executable, "-m", "toyvit", *words]))
    return children


@contextmanager
def start_follower(path: Path) -> Iterator[None]:
    """A process that writes TensorBoard files while the run trains; it ends when this one does."""
    words = [sys.executable, "-m", "toyvit", "follow", str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as follower:
        assert follower.stdin is not None
        with follower.stdin:
            try:
                yield
            except BadInput:
                follower.kill()  # nothing was written, so there is nothing to show
                raise


def follow(options: argparse.Namespace) -> int:
    """Write TensorBoard files of a run in training until standard input ends."""

    def has_ended() -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)
        return bool(ready)

    os.nice(10)
    if not has_ended():  # a run of a moment is over before the imports
        from toyvit.report.tensorboard import follow as write_along

        write_along(options.run, has_ended)
    return 0


def add_sweep_arguments(parser: Parser) -> None:
    """RECIPE, --seeds, --name, --runs, --jobs, --cluster, --analyses, --images."""
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
    add_measuring(parser)


def sweep(options: argparse.Namespace) -> int:
    """Train and measure every setting with every seed; print their table and draw their curves."""
    folder = options.runs / (options.name or options.recipe)
    plan = plan_sweep(options, folder)

    from toyvit.report import draw_sweep
    from toyvit.report.summary import summarize_events
    from toyvit.sweeping import gather_table, write_table

    runs = _train_settings(options, plan, folder)
    table = gather_table(runs)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep=""))
    if order := summarize_events(runs):
        print(order)
    print(f"table: {write_table(table, folder)}")
    for picture in draw_sweep(runs, folder):
        print(f"figure: {picture}")
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
    from toyvit.cli.overrides import expand_variants
    from toyvit.recipes import find_recipe

    _refuse_seed_fields("--seeds", options.words)
    if options.jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {options.jobs}")
    variants = expand_variants(find_recipe(options.recipe)(), options.words)
    seeds = read_seeds(options.seeds)
    plan = {}
    for variant, config in variants.items():
        for seed in seeds:
            plan[folder / variant / f"seed-{seed}"] = _set_seed("--seeds", config, seed)
    return plan


def add_replay_arguments(parser: Parser) -> None:
    """RUN, --between FIRST LAST, --every N."""
    add_run(parser)
    parser.add_argument(
        "--between", type=int, nargs=2, metavar=("FIRST", "LAST"), required=True, help="steps"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="a checkpoint every N steps (default: 1)"
    )


def replay(options: argparse.Namespace) -> int:
    """Train a stretch of a run again and keep more checkpoints of it."""
    from toyvit.train import replay as train_again

    first, last = options.between
    path = options.run
    added = train_again(path, first, last, options.every)
    if added:
        n = len(added)
        print(f"{path}: added {n} checkpoints; measure them with `toyvit measure {path}`")
    else:
        print(f"{path}: all of these checkpoints are there already")
    return 0


def add_replicate_arguments(parser: Parser) -> None:
    """NAME ..., --list, --seeds, --runs, --page."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which (default: all; --list names them)"
    )
    parser.add_argument("--list", action="store_true", help="list them and stop")
    parser.add_argument("--seeds", default="0", metavar="SEEDS", help="0..4, or 0,3,7 (default: 0)")
    add_runs_folder(parser, "records go into DIR/replications")
    parser.add_argument(
        "--page", type=Path, metavar="DIR", help="also write DIR/replications.md and its pictures"
    )


def _list_replications() -> int:
    from toyvit.replications import REPLICATIONS

    for name, entry in REPLICATIONS.items():
        minutes = f"about {entry.minutes:g} CPU minutes"
        print(f"{name:18} {entry.title} ({entry.source}; {minutes})")
    return 0


def replicate(options: argparse.Namespace) -> int:
    """Run published results again and print the verdict on each."""
    from toyvit.replications import REPLICATIONS
    from toyvit.replications.loop import replicate as run_again
    from toyvit.replications.page import format_verdict, write_page
    from toyvit.replications.record import load_records

    if options.list:
        return _list_replications()

    names = options.names or list(REPLICATIONS)
    entries = [REPLICATIONS[choose(name, REPLICATIONS, "replication")] for name in names]
    folder = options.runs / "replications"
    seeds = read_seeds(options.seeds)
    run_again(entries, seeds, folder, leave_out=not options.names)

    for entry in entries:
        records = [record for record in load_records(folder, entry) if record.seed in seeds]
        if records:
            print(format_verdict(entry, records))
    if options.page:
        print(f"page: {write_page(REPLICATIONS.values(), folder, options.page)}")
    return 0


COMMANDS = (
    Command(
        name="train",
        help="train a recipe, or several side by side",
        add_arguments=add_train_arguments,
        run=train,
        takes_fields=True,
        write_epilog=describe_recipes,
    ),
    Command(
        name="sweep",
        help="train and measure a recipe with several seeds and settings: --model.n_layers 1,2,3",
        add_arguments=add_sweep_arguments,
        run=sweep,
        takes_fields=True,
        write_epilog=describe_recipes,
    ),
    Command(
        name="replay",
        help="train a stretch of a run again, bit for bit, and keep more checkpoints of it",
        add_arguments=add_replay_arguments,
        run=replay,
    ),
    Command(
        name="replicate",
        help=(
            "run published results again and say whether they agree; what is done is not done again"
        ),
        add_arguments=add_replicate_arguments,
        run=replicate,
    ),
    # Started by `train`.
    Command(name="follow", help="", add_arguments=add_run, run=follow),
)
