"""The command for data sets: `data`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_worlds
from toyvit.cli.output import show
from toyvit.errors import BadInput, escape_file_name

if TYPE_CHECKING:
    from toyvit.data.task import Task
LONGEST = 150  # letters of a file's name


def add_data_arguments(parser: Parser) -> None:
    """[NAME], --preview, --export DIR, --samples N."""
    name = parser.add_argument("name", metavar="NAME", nargs="?", help="without it, the list")
    complete(name, offer_worlds)

    parser.add_argument("--preview", action="store_true", help="also draw its first pictures")
    parser.add_argument(
        "--export",
        type=Path,
        metavar="DIR",
        help="also write its samples as npz, with its card, into a new folder",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=10_000,
        help="how many of each split --export writes (default: 10,000)",
    )


def prepare_data(options: argparse.Namespace) -> int:
    """List the data sets; or prepare one and print what it holds."""
    words = options.words
    if words and not (options.name and words[0].startswith("--task.")):
        options.parser.refuse_unknown(words)
    if options.name is None:
        option = "preview" if options.preview else "export" if options.export else ""
        if option:
            raise BadInput(f"--{option} needs the NAME of a data set")
        return list_data_sets()

    from toyvit.data import worlds

    worlds.find(options.name)  # refused before anything heavy is imported

    from toyvit.data import files
    from toyvit.data.exports import check_vacant

    if options.samples < 1:
        raise BadInput(f"--samples must be at least 1, got {options.samples}")
    if options.export:
        check_vacant(options.export)
    if options.name == "mnist" and files.find_mnist() is None:
        files.fetch_mnist()
    describe_data_set(options)
    return 0


def describe_data_set(options: argparse.Namespace) -> None:
    """Print sizes, baselines and SHA-256 of a data set; draw and export it if that is asked for."""
    from toyvit.data.baselines import N_FIT, N_SCORED
    from toyvit.data.exports import hash_samples, score_baselines

    task = build_with_options(options.name, options.words)
    sizes = [
        f"{split} {'endless' if size is None else size}" for split, size in task.world.sizes.items()
    ]
    show(f"{options.name}: {', '.join(sizes)}")
    if options.preview:
        show(f"preview: {preview_data_set(task, options)}")

    show(
        f"baselines, on the first {N_SCORED:,} test pictures or all, "
        f"probes fitted on {N_FIT:,} training pictures or all:"
    )
    for name, score in score_baselines(task).items():
        show(f"  {name:36} {score:.3f}")
    what = "SHA-256 of the first 1,000 training pictures and their answers, byte after byte"
    show(f"{what}: {hash_samples(task)}")
    if options.export:
        show(f"exported to {export_data_set(task, options)}")


def preview_data_set(task: Task, options: argparse.Namespace) -> Path:
    """The first pictures, in a file that is named by the options of the task."""
    from toyvit.data.files import find_prepared
    from toyvit.report.previews import draw_preview

    settings = [word.removeprefix("--task.") for word in options.words]
    file = escape_file_name("_".join(["preview", *settings])[:LONGEST]) + ".png"
    return draw_preview(task, find_prepared(options.name) / file)


def export_data_set(task: Task, options: argparse.Namespace) -> Path:
    """Samples of every split and the card, in a new folder."""
    from toyvit.data.exports import export_samples
    from toyvit.report.previews import draw_preview

    draw = partial(draw_preview, task)
    return export_samples(options.name, task, options.export, options.samples, draw)


def list_data_sets() -> int:
    """Print every data set in a line, with the recipes that train on it."""
    from toyvit.data import worlds
    from toyvit.recipes import list_recipes

    data_sets = {recipe: build().task.data_set for recipe, build in list_recipes().items()}
    for name, entry in worlds.list_worlds().items():
        recipes = ", ".join(recipe for recipe, data_set in data_sets.items() if data_set == name)
        show(f"{name:14} {entry.summary}" + (f" (train {recipes})" if recipes else ""))
    show(
        "by a factor of which a picture has one value: "
        "toyvit train classify or regress --task.world NAME --task.factor NAME; "
        "to restore pictures: toyvit train reconstruct --task.world NAME; "
        "more of one: toyvit data NAME"
    )
    return 0


def build_with_options(name: str, words: list[str]) -> Task:
    """The task of a data set, its options set by words such as `--task.hops 2`."""
    from toyvit.config.overrides import apply_task_overrides
    from toyvit.data import worlds
    from toyvit.data.question_configs import ClassifyConfig
    from toyvit.data.task import build_task

    config = worlds.find(name).default
    if words and isinstance(config, ClassifyConfig):
        raise BadInput(f"{name} is collected data without settings, got {words[0]}")
    return build_task(apply_task_overrides(config, words))


COMMANDS = (
    Command(
        name="data",
        help=(
            "list the data sets; or prepare one (the only command that may download) "
            "and say what it holds"
        ),
        add_arguments=add_data_arguments,
        run=prepare_data,
        takes_fields=True,
        write_epilog=lambda: "Options of its task can be set: toyvit data pointers --task.hops 2",
    ),
)
