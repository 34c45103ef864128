"""What can be typed: every command of the command line with its options and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from toyvit.errors import BadInput, suggest_nearest
from toyvit.recipes import RECIPES


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations, whose errors are BadInput."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(
            *args,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )  # type: ignore[arg-type, misc]

    def error(self, message: str) -> NoReturn:
        raise BadInput(message)

    def refuse_unknown(self, words: Sequence[str]) -> None:
        """BadInput for words that this command has not claimed, naming the nearest option."""
        if words:
            known = [option for action in self._actions for option in action.option_strings]
            raise BadInput(f"unknown argument {words[0]!r}{suggest_nearest(words[0], known)}")


def build_parser() -> tuple[Parser, Mapping[str, Parser]]:
    """The whole command line, and the parser of each command."""
    top = Parser(
        prog="toyvit",
        description="Train tiny vision transformers, keep dense checkpoints, measure every one.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, text: str, epilog: str = "") -> Parser:
        return commands.add_parser(name, help=text, description=text, epilog=epilog)

    train = command("train", "train a recipe, or several side by side", _recipe_help())
    train.add_argument("recipes", nargs="+", metavar="RECIPE", help=", ".join(RECIPES))
    train.add_argument("--name", help="name of the run folder (default: the recipe's)")
    train.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where run folders go (default: runs)",
    )
    train.add_argument("--seed", type=int, help="seed of weights and training data")
    train.add_argument(
        "--resume", action="store_true", help="start, go on, or say that the run is finished"
    )
    train.add_argument("--position", type=int, default=0, help=argparse.SUPPRESS)

    sweep = command(
        "sweep",
        "train and measure a recipe with several seeds and settings: --model.n_layers 1,2,3",
        _recipe_help(),
    )
    sweep.add_argument("recipe", metavar="RECIPE")
    sweep.add_argument(
        "--seeds", default="0..4", metavar="SEEDS", help="0..9, or 0,3,7 (default: 0..4)"
    )
    sweep.add_argument("--name", help="folder of the sweep's runs (default: the recipe's name)")
    sweep.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where it goes (default: runs)",
    )
    sweep.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        help="worker processes (default: one a processor)",
    )
    sweep.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="of a Dask scheduler, instead of processes here: tcp://127.0.0.1:8786",
    )
    sweep.add_argument(
        "--analyses", metavar="NAMES", help="comma-separated (default: all that the task allows)"
    )
    sweep.add_argument("--images", type=int, default=512, help="evaluation images (default: 512)")

    replay = command(
        "replay", "train a stretch of a run again, bit for bit, and keep more checkpoints of it"
    )
    replay.add_argument("run", type=Path, metavar="RUN")
    replay.add_argument(
        "--between", type=int, nargs=2, metavar=("FIRST", "LAST"), required=True, help="steps"
    )
    replay.add_argument(
        "--every", type=int, default=1, metavar="N", help="a checkpoint every N steps (default: 1)"
    )

    measure = command("measure", "run analyses on the checkpoints of runs")
    measure.add_argument("run", nargs="+", type=Path, metavar="RUN")
    measure.add_argument(
        "--analyses", metavar="NAMES", help="comma-separated (default: all that the task allows)"
    )
    measure.add_argument(
        "--steps", metavar="STEPS", help="comma-separated steps, or last (default: all)"
    )
    measure.add_argument("--images", type=int, default=512, help="evaluation images (default: 512)")
    measure.add_argument(
        "--split",
        default="test",
        help="of the task's world, such as train or held_out (default: test)",
    )
    measure.add_argument("--jobs", type=int, default=1, help="worker processes (default: 1)")
    measure.add_argument("--follow", action="store_true", help="go on while the run is training")
    measure.add_argument(
        "--skip-corrupt", action="store_true", help="leave out bad checkpoint files and say so"
    )

    circuit = command(
        "circuit",
        "find a circuit in a checkpoint: which edges an answer depends on, against chance",
    )
    circuit.add_argument("run", type=Path, metavar="RUN")
    circuit.add_argument("--step", type=int, help="of the checkpoint (default: the last)")
    circuit.add_argument(
        "--change",
        metavar="NAME",
        help="what the corrupt pictures change: in induction query, item, label",
    )
    circuit.add_argument(
        "--classes", metavar="A,B", help="instead: pictures of class A against pictures of class B"
    )
    circuit.add_argument("--method", default="eap-ig", help="eap, eap-ig or acdc (default: eap-ig)")
    circuit.add_argument(
        "--faithful",
        type=float,
        help="for eap and eap-ig: the faithfulness to reach (default: 0.9)",
    )
    circuit.add_argument(
        "--threshold",
        type=float,
        help="for acdc: the rise of KL in nats below which it cuts (default: 0.01)",
    )
    circuit.add_argument(
        "--metric",
        default="logit_difference",
        help="or probability, kl (acdc always cuts by KL)",
    )
    circuit.add_argument(
        "--ablation",
        default="corrupt",
        help="what cut edges carry: corrupt, mean, zero (default: corrupt)",
    )
    circuit.add_argument("--pairs", type=int, default=64, help="pairs of pictures (default: 64)")
    circuit.add_argument(
        "--null",
        type=int,
        default=50,
        help="random circuits of the size to compare with (default: 50)",
    )

    lens = command("lens", "fit a tuned lens on a checkpoint and keep it beside the run")
    lens.add_argument("run", type=Path, metavar="RUN")
    lens.add_argument("--step", type=int, help="of the checkpoint (default: the last)")
    lens.add_argument(
        "--images", type=int, default=512, help="training pictures to fit on (default: 512)"
    )

    report = command(
        "report",
        "draw the figures of a measured run, write its TensorBoard files and print what it came to",
    )
    report.add_argument("run", type=Path, metavar="RUN")
    report.add_argument("--beside", type=Path, metavar="RUN", help="a second run to draw beside it")

    replicate = command(
        "replicate",
        "run published results again and say whether they agree; what is done is not done again",
    )
    replicate.add_argument(
        "names", nargs="*", metavar="NAME", help="which (default: all; --list names them)"
    )
    replicate.add_argument("--list", action="store_true", help="list them and stop")
    replicate.add_argument(
        "--seeds", default="0", metavar="SEEDS", help="0..4, or 0,3,7 (default: 0)"
    )
    replicate.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="records go into DIR/replications",
    )
    replicate.add_argument(
        "--page", type=Path, metavar="DIR", help="also write DIR/replications.md and its pictures"
    )

    tensorboard = command(
        "tensorboard",
        "write the TensorBoard files of all runs below a folder anew and open TensorBoard on it",
    )
    tensorboard.add_argument("folder", type=Path, nargs="?", default=Path("runs"))
    tensorboard.add_argument(
        "--port", type=int, default=6006, help="on this machine only (default: 6006)"
    )

    follow = commands.add_parser("follow")  # started by `train`; no help, so not listed
    follow.add_argument("run", type=Path, metavar="RUN")

    verify = command("verify", "check every checkpoint file against the manifest")
    verify.add_argument("run", type=Path, metavar="RUN")

    ls = command("ls", "list runs")
    ls.add_argument("folder", type=Path, nargs="?", default=Path("runs"))

    sites = command("sites", "list the places in a recipe's model where a tap may read or write")
    sites.add_argument("recipe", nargs="?", default="induction", metavar="RECIPE")

    data = command(
        "data",
        "list the data sets; or prepare one (the only command that may download) and say what it holds",
        "Options of its task can be set: toyvit data pointers --task.hops 2",
    )
    data.add_argument("name", metavar="NAME", nargs="?", help="without it, the list")
    data.add_argument("--preview", action="store_true", help="also draw its first pictures")
    data.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="also write its samples as npz, with its card, into a new folder",
    )
    data.add_argument(
        "--samples",
        type=int,
        default=10_000,
        help="how many of each split --export writes (default: 10,000)",
    )

    return top, commands.choices


def _recipe_help() -> str:
    lines = [
        f"  {name:18} {(function.__doc__ or '').splitlines()[0]}"
        for name, function in RECIPES.items()
    ]
    return (
        "recipes:\n"
        + "\n".join(lines)
        + "\n\nAny field can be set: --model.n_layers 3 --train.steps 500 --task.noise 0"
    )
