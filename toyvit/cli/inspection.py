"""Commands that look at what there is: `verify`, `sites`."""

from __future__ import annotations

import argparse

from toyvit.cli.arguments import add_run
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_recipes
from toyvit.cli.output import show
from toyvit.errors import BadInput


def add_verify_arguments(parser: Parser) -> None:
    """RUN, --hashes."""
    add_run(parser)
    parser.add_argument(
        "--hashes",
        action="store_true",
        help="print the SHA-256 of every file, as `sha256sum --check` reads it in the run's folder",
    )


def verify(options: argparse.Namespace) -> int:
    """Check every file of a run and what it means; BadInput if one is bad."""
    from toyvit.runs.folder import RunFolder
    from toyvit.runs.verification import hash_files, list_problems

    folder = RunFolder(options.run)
    folder.read_config()  # config.json is whole
    entries = folder.read_manifest()
    bad = list_problems(folder, entries)
    for name, problem in bad.items():
        show(f"{folder.path / name} {problem}")
    if bad:
        s = "s" if len(bad) > 1 else ""
        raise BadInput(f"{options.run} has {len(bad)} bad file{s}")

    if options.hashes:
        for digest, name in hash_files(folder):
            show(f"{digest}  {name}")
        return 0
    show(f"{options.run}: all {len(entries)} checkpoints are whole")
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
        show(f"{name:28} {site.axes:24} {site.meaning}")
    return 0


COMMANDS = (
    Command(
        name="verify",
        help="check every file of a run against what was written down, and what it means",
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
