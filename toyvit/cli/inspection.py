"""Commands that look at what there is: `verify`, `sites`."""

from __future__ import annotations

import argparse
from pathlib import Path

from toyvit.cli.arguments import add_run
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_recipes
from toyvit.cli.output import show
from toyvit.errors import BadInput


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
        show(f"{name:28} {site.axes:26} {site.meaning}")
    return 0


COMMANDS = (
    Command(
        name="verify",
        help="check every file of a run, or of a folder of runs, and what it means",
        add_arguments=add_verify_arguments,
        run=verify,
    ),
    Command(
        name="sites",
        help="list the places in a recipe's model where a tap may read or write",
        add_arguments=add_sites_arguments,
        run=list_sites,
    ),
)
