"""Commands that look at what there is: `verify`, `ls`, `sites`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.arguments import add_run
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_recipes
from toyvit.cli.output import show
from toyvit.errors import BadInput

if TYPE_CHECKING:
    from toyvit.runs.folder import RunFolder


def add_verify_arguments(parser: Parser) -> None:
    """RUN, --hashes."""
    add_run(parser, help="a run, or a folder of runs, of a sweep or of replications")
    parser.add_argument(
        "--hashes",
        action="store_true",
        help="print the SHA-256 of every file, as `sha256sum --check` reads it in the run's folder",
    )


def verify(options: argparse.Namespace) -> int:
    """Check every file of a run, or of all below a folder, and what it means.

    BadInput if one is bad.
    """
    from toyvit.cli.verifying import check_folder, check_run
    from toyvit.runs.folder import RunFolder

    path: Path = options.run
    is_run = (path / "config.json").exists() or not path.is_dir()
    report = check_run(RunFolder(path)) if is_run else check_folder(path)
    for line in report.problems:
        show(line)
    if report.problems:
        s = "s" if len(report.problems) > 1 else ""
        raise BadInput(f"{path} has {len(report.problems)} bad file{s}")

    if options.hashes:
        for digest, file in report.hash_files():
            show(f"{digest}  {file.relative_to(path)}")
        return 0
    show(f"{path}: {report}")
    return 0


def add_ls_arguments(parser: Parser) -> None:
    """[FOLDER]"""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"))


def list_runs(options: argparse.Namespace) -> int:
    """Print every run below a folder, a line each; a damaged one is named, and the code is 2."""
    from toyvit.runs.finding import find_runs

    if not options.folder.is_dir():
        raise BadInput(f"{options.folder} is not a folder")
    code = 0
    for folder in find_runs(options.folder):
        try:
            show(describe_run(folder))
        except BadInput as error:  # it hides no other run
            show(f"toyvit: {error}", error=True)
            code = 2
    return code


def describe_run(folder: RunFolder) -> str:
    """A line: path, recipe, status, progress, scores of the last checkpoint."""
    config = folder.read_config()
    n_checkpoints, last = folder.read_progress()
    status = folder.read_status(config)
    step = last.step if last else 0
    progress = f"{n_checkpoints} checkpoints to step {step} of {config.train.steps}"
    scores = f"loss {last.loss:.3f}  accuracy {last.accuracy:.3f}" if last else ""
    return f"{folder.path!s:36} {config.recipe:18} {status:9} {progress}  {scores}"


def add_sites_arguments(parser: Parser) -> None:
    """[RECIPE]"""
    recipe = parser.add_argument("recipe", nargs="?", default="induction", metavar="RECIPE")
    complete(recipe, offer_recipes)


def list_sites(options: argparse.Namespace) -> int:
    """Print every site of a recipe's model, with its axes and its meaning."""
    from toyvit.model.sites import list_sites as list_model_sites
    from toyvit.recipes import find_recipe

    config = find_recipe(options.recipe)()
    for name, site in list_model_sites(config.model).items():
        show(f"{name:28} {site.axes:24} {site.meaning}")
    return 0


COMMANDS = (
    Command(
        name="verify",
        help="check every file of a run, or of a folder of runs, and what it means",
        add_arguments=add_verify_arguments,
        run=verify,
    ),
    Command(name="ls", help="list runs", add_arguments=add_ls_arguments, run=list_runs),
    Command(
        name="sites",
        help="list the places in a recipe's model where a tap may read or write",
        add_arguments=add_sites_arguments,
        run=list_sites,
    ),
)
