"""Commands that train one run: `train` and its follower, `replay`."""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.arguments import (
    add_run,
    add_runs_folder,
    describe_recipes,
    read_name,
    refuse_seed_fields,
    set_seed,
)
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_recipes
from toyvit.cli.imports import importing
from toyvit.cli.output import show
from toyvit.errors import BadInput, Diverged
from toyvit.runs.signals import CLOCK, SIGNALS

if TYPE_CHECKING:
    from toyvit.config import RunConfig

SECONDS_BETWEEN_LOOKS = 2.0  # of the follower, at its standard input


def add_train_arguments(parser: Parser) -> None:
    """RECIPE ..., --name, --runs, --seed, --resume."""
    recipes = parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="listed below")
    complete(recipes, offer_recipes)
    parser.add_argument("--name", help="name of the run folder (default: the recipe's)")
    add_runs_folder(parser, "where run folders go (default: runs)")
    parser.add_argument("--seed", type=int, help="seed of weights and training data")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="start, go on, or say that the run is finished; with more --train.steps lengthen it",
    )
    # Of a recipe that is trained beside others, by the process that started it.
    parser.add_argument("--position", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--unfollowed", action="store_true", help=argparse.SUPPRESS)


def train(options: argparse.Namespace) -> int:
    """Train a recipe into its run folder, beside a process that writes TensorBoard files."""
    configs = [_read_config(options, name) for name in options.recipes]
    if len(configs) > 1:
        return train_side_by_side(options)
    name = options.recipes[0] if options.name is None else read_name("--name", options.name)
    path = options.runs / name
    if options.resume:
        check_steps_typed(path, configs[0], options.words)

    with importing():  # torch: seconds, after all that can be refused without
        from toyvit.train import fit

    with nullcontext() if options.unfollowed else start_follower([path]):
        fit(configs[0], path, resume=options.resume, position=options.position)
    show(f"{path} is trained: measure it with `toyvit measure {path}`")
    return 0


def _read_config(options: argparse.Namespace, name: str) -> RunConfig:
    """A recipe's config with all that was typed, or BadInput."""
    from toyvit.config.overrides import apply_overrides
    from toyvit.recipes import find_recipe

    config = apply_overrides(find_recipe(name)(), options.words)
    if options.seed is None:
        return config
    refuse_seed_fields("--seed", options.words)
    return set_seed("--seed", config, options.seed)


def check_steps_typed(path: Path, config: RunConfig, words: Sequence[str]) -> None:
    """BadInput for a run of fewer steps than its recipe, which only typed steps make longer."""
    from toyvit.runs.folder import RunFolder

    folder = RunFolder(path)
    is_typed = any(word.partition("=")[0] == "--train.steps" for word in words)
    if is_typed or not folder.config_file.is_file() or folder.provenance.exists():
        return
    steps = folder.read_config().train.steps
    if steps < config.train.steps:
        raise BadInput(
            f"{path} is a run of {steps} steps, the recipe has {config.train.steps}: give"
            f" --train.steps {steps}, or more to go on beyond its end"
        )


def train_side_by_side(options: argparse.Namespace) -> int:
    """One process a recipe, and one that follows all of them.

    A signal is passed on to all, and the first failure is the answer.
    """
    if options.name:
        n = len(options.recipes)
        raise BadInput(f"--name names one run, but {n} recipes were given")
    twice = [name for name in options.recipes if options.recipes.count(name) > 1]
    if twice:
        raise BadInput(f"each recipe is trained into one folder, but {twice[0]} was given twice")
    children: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def pass_on(signum: int, frame: object) -> None:
        received.append(signum)
        for child in children:
            child.send_signal(signum)

    for signum in SIGNALS:
        signal.signal(signum, pass_on)
    with start_follower([options.runs / name for name in options.recipes]) as follower:
        for words in _list_trainings(options):
            if not received:
                children.append(subprocess.Popen([sys.executable, "-m", "toyvit", *words]))
        codes = [child.wait() for child in children]
        if received:
            follower.kill()
    return next((code for code in codes if code), 128 + received[0] if received else 0)


def _list_trainings(options: argparse.Namespace) -> Iterator[list[str]]:
    """The words for each recipe, with the options that are common to all."""
    common = ["--runs", str(options.runs)]
    if options.resume:
        common += ["--resume"]
    if options.seed is not None:
        common += ["--seed", str(options.seed)]

    for place, name in enumerate(options.recipes):
        own = ["--position", str(place), "--unfollowed"]
        yield ["train", name, *common, *own, *options.words]


@contextmanager
def start_follower(paths: Sequence[Path]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes TensorBoard files while runs train; it ends when this one does.

    It is waited for where there is an end to show, not where the run was refused or stopped: what
    it has still to draw can take half a minute on a machine with other work.
    """
    words = [sys.executable, "-m", "toyvit", "follow", *map(str, paths)]
    follower = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    CLOCK.children.append(follower)
    try:
        yield follower
        follower.communicate()
    except Diverged:
        follower.communicate()
        raise
    except BaseException:
        follower.kill()
        follower.communicate()
        raise


def add_followed(parser: Parser) -> None:
    """RUN ..."""
    add_run(parser, several=True)


def follow(options: argparse.Namespace) -> int:
    """Write TensorBoard files of runs in training until standard input ends."""

    def has_ended() -> bool:
        ready, _, _ = select.select([sys.stdin], [], [], SECONDS_BETWEEN_LOOKS)
        return bool(ready)

    os.nice(10)
    if not has_ended():  # a run of a moment is over before the imports
        with importing():
            from toyvit.cli.following import follow as write_along

        write_along(options.run, has_ended)
    return 0


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
    with importing():
        from toyvit.train import replay as train_again

    first, last = options.between
    path = options.run
    added = train_again(path, first, last, options.every)
    if added:
        n = len(added)
        show(f"{path}: added {n} checkpoints; measure them with `toyvit measure {path}`")
    else:
        show(f"{path}: all of these checkpoints are there already")
    return 0


COMMANDS = (
    Command(
        name="train",
        help="train a recipe, or several side by side",
        add_arguments=add_train_arguments,
        run=train,
        takes_fields=True,
        write_epilog=describe_recipes,
        how_to_go_on="`--resume` goes on from there",
    ),
    Command(
        name="replay",
        help="train a stretch of a run again, bit for bit, and keep more checkpoints of it",
        add_arguments=add_replay_arguments,
        run=replay,
    ),
    # Started by `train`.
    Command(name="follow", help="", add_arguments=add_followed, run=follow),
)
