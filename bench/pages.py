"""`python -m bench.pages`: the pages of `docs/` that list things, from tables and docstrings.

A page is a function in `PAGES`; `tests/docs/test_links.py` compares each with its file.
"""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action
from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import cleandoc
from math import isfinite
from pathlib import Path

import toyvit
from bench.docstrings import format_docstring
from toyvit.analyses import ANALYSES, Analysis, Axis, Quantity
from toyvit.cli import COMMANDS
from toyvit.cli.command import Command, Parser
from toyvit.config import RunConfig
from toyvit.model.sites import AXES, SITES
from toyvit.recipes import RECIPES

DOCS = Path(__file__).parents[1] / "docs"
NAMED = re.compile(r"^The analysis `\w+`(?:[:,]? |\.)")  # how the docstring of a measure begins
WRITTEN = "<!-- Written by `python -m bench.pages`: change the tables and docstrings, not this. -->"


def format_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of Markdown."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text for a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def capitalize(text: str) -> str:
    """The text with a capital first letter; the rest as it is."""
    return text[:1].upper() + text[1:]


def split_docstring(function: object) -> tuple[str, str]:
    """The first paragraph of a docstring on one line, and the rest as it stands."""
    first, _, rest = cleandoc(function.__doc__ or "").partition("\n\n")
    return " ".join(first.split()), rest.strip()


# ---- measures ----


def say_default(analysis: Analysis) -> str:
    """When a quick analysis runs without being named."""
    return f"up to {analysis.most_layers} layers" if analysis.most_layers else "yes"


def format_measures() -> str:
    """Every analysis: what it needs, what it computes, where, and what chance would give."""
    rows = []
    axes: dict[str, Axis] = {}
    for analysis in ANALYSES.values():
        name = f"[`{analysis.name}`](#{analysis.name})"
        when = "by name only" if analysis.slow else say_default(analysis)
        rows.append((name, escape(analysis.computes), _format_needs(analysis), when))
        axes |= analysis.axes
    return "\n\n".join(
        [
            "# Measures",
            WRITTEN,
            MEASURES_INTRODUCTION,
            format_table(["analysis", "computes", "needs", "by default"], rows),
            "## Axes",
            "Positions are counted from 0. A quantity without an axis is one number.",
            format_table(
                ["axis", "a position is"],
                [(f"`{name}`", escape(axes[name].words)) for name in sorted(axes)],
            ),
            *map(_format_analysis, ANALYSES.values()),
        ]
    )


MEASURES_INTRODUCTION = """\
An analysis is a pure function of a model, a batch and a trace; `toyvit measure RUN` runs all that
the run's task allows, at every checkpoint, and `--analyses NAME,NAME` those that are named. Those
marked *by name only* take longer, or make many rows. Each number becomes a row of the run's table
(`run.table`): step, analysis, quantity, its tags and axes, split, number of pictures, value. A
number that is not defined (NaN) has no row.

Each section says what the numbers are (units, range), the source, a model for which the right
number is known (*truth*: the tests check it), and what would be there if there were nothing to see
(*null*). Costs are of one checkpoint of the default model on 512 pictures, one thread, roughly."""


def _format_analysis(analysis: Analysis) -> str:
    first, rest = split_docstring(analysis.measure)
    module = analysis.measure.__module__
    facts = [
        ("needs", _format_needs(analysis)),
        (
            "by default",
            "no, only when it is named" if analysis.slow else say_default(analysis),
        ),
        ("cost", analysis.rough_cost),
        ("source", escape(analysis.source)),
        ("truth", escape(analysis.truth)),
        ("null", escape(analysis.null)),
        ("computed in", f"`{module.replace('.', '/')}.py`, `{analysis.measure.__name__}`"),
    ]
    quantities = [
        (f"`{name}`", _format_axes(quantity), quantity.unit, _format_range(quantity))
        for name, quantity in analysis.quantities.items()
    ]
    parts = [
        f"## {analysis.name}",
        f"{capitalize(analysis.computes)}.",
        capitalize(NAMED.sub("", first)),
        format_docstring(rest),
        format_table(["quantity", "axes", "unit", "range"], quantities),
        "\n".join(f"- **{name}**: {text}" for name, text in facts),
    ]
    return "\n\n".join(filter(None, parts))


def _format_needs(analysis: Analysis) -> str:
    return "; ".join(need.words for need in analysis.needs) or "nothing"


def _format_axes(quantity: Quantity) -> str:
    axes = ", ".join(f"`{axis}`" for axis in quantity.axes.split()) or "one number"
    return f"{axes}; only with {quantity.only_with.words}" if quantity.only_with else axes


def _format_range(quantity: Quantity) -> str:
    """`0 to 1`, `from 0`, `to 1`; and whether a number may be missing."""
    least, most = quantity.least, quantity.most
    if isfinite(least) and isfinite(most):
        text = f"{least:g} to {most:g}"
    elif isfinite(least):
        text = f"from {least:g}"
    else:
        text = f"to {most:g}" if isfinite(most) else "any"
    return f"{text}, or missing" if quantity.may_be_nan else text


# ---- recipes ----


def format_recipes() -> str:
    """Every recipe: what it trains, on what, and what is expected of it."""
    rows = []
    sections = []
    for name, recipe in RECIPES.items():
        first, rest = split_docstring(recipe)
        rows.append((f"[`{name}`](#{name})", escape(first)))
        config = recipe()
        sections.append(
            "\n\n".join(filter(None, [f"## {name}", first, rest, _format_config(config)]))
        )
    return "\n\n".join(
        [
            "# Recipes",
            WRITTEN,
            RECIPES_INTRODUCTION,
            format_table(["recipe", "what it is, and what to expect"], rows),
            *sections,
        ]
    )


RECIPES_INTRODUCTION = """\
A recipe is an experiment that is known to work: `toyvit train NAME`. Any field can be set,
`--model.n_layers 3 --train.steps 500 --task.noise 0`; `toyvit train --help` lists the recipes too.
Accuracies are of pictures that training does not show. CPU times are of one thread of a server's
processor. Where seeds are named, those were run; `LOG.md` has the tables."""


def _format_config(config: RunConfig) -> str:
    """A line on the model and its training."""
    model, train = config.model, config.train
    heads = f"{model.n_heads} head{'s' * (model.n_heads > 1)}"
    layers = f"{model.n_layers} layer{'s' * (model.n_layers > 1)} of {heads}, width {model.d_model}"
    mlp = f"MLP of {model.d_mlp}" if model.d_mlp else "attention only"
    return (
        f"Task `{config.task.name}`; {layers}, {mlp}, mask `{model.mask}`, read-out "
        f"`{model.readout}`; {train.steps:,} steps of {train.batch_size:,}, rate "
        f"{train.learning_rate:g}, weight decay {train.weight_decay:g}."
    )


# ---- sites ----


def format_sites() -> str:
    """Every place in a model that a tap can read or change."""
    rows = [(f"`{site.name}`", escape(site.axes), escape(site.meaning)) for site in SITES]
    axes = [(f"`{name}`", escape(text)) for name, text in AXES.items()]
    return "\n\n".join(
        [
            "# Sites",
            WRITTEN,
            SITES_INTRODUCTION,
            format_table(["site", "axes", "what"], rows),
            "## Axes",
            format_table(["axis", "what"], axes),
        ]
    )


SITES_INTRODUCTION = """\
The places in the model that a [tap](concepts.md#taps) can read or change, in the order of the
forward pass. `{layer}` is the number of a block. `toyvit sites RECIPE` lists those of a recipe's
model: one without an MLP, for example, has no `mlp.pre`. Names are TransformerLens's without
`hook_`, and names with `hook_` are understood too."""


# ---- commands ----


def format_commands() -> str:
    """Every command with its options."""
    commands = [command for command in COMMANDS.values() if command.help]
    rows = [(f"[`{command.name}`](#{command.name})", escape(command.help)) for command in commands]
    return "\n\n".join(
        [
            "# Commands",
            WRITTEN,
            COMMANDS_INTRODUCTION,
            format_table(["command", "what it does"], rows),
            *map(_format_command, commands),
        ]
    )


COMMANDS_INTRODUCTION = """\
`source .venv/bin/activate` puts `toyvit` on the path. Bad input is one line that says what came,
what is allowed and what comes nearest, and exit code 2. Other exit codes: 0 done, 1 nobody reads
what is printed any more, 3 the training diverged, 4 it ended early though nobody asked, 130 and 143
stopped by a signal: what was done is kept, and the same command goes on (of `train` with
`--resume`). Names that version 0.1 had work for one version more, with a notice.

`make help` lists the targets of the makefile: the longer ways, such as `make train-toy`."""


def _format_command(command: Command) -> str:
    parser = Parser(prog=f"toyvit {command.name}", description=command.help)
    command.add_arguments(parser)
    actions = [action for action in parser._actions if action.dest != "help"]
    actions = [action for action in actions if action.help is not SUPPRESS]
    operands = [action for action in actions if not action.option_strings]

    usage = " ".join([parser.prog, *map(_name_operand, operands)])
    rows = [
        (_name_action(action), escape(_expand_help(action))) for action in actions if action.help
    ]
    parts = [f"## {command.name}", f"`{usage}`: {command.help}."]
    if command.takes_fields:
        parts.append("Fields can be set too, such as `--model.n_layers 3` or `--task.noise 0`.")
    if rows:
        parts.append(format_table(["argument", "what"], rows))
    return "\n\n".join(parts)


def _name_operand(action: Action) -> str:
    name = str(action.metavar or action.dest).upper()
    if action.nargs == "+":
        return f"{name} [{name} ...]"
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _name_action(action: Action) -> str:
    if not action.option_strings:
        return f"`{_name_operand(action)}`"
    if action.nargs == 0:
        return f"`{action.option_strings[0]}`"
    metavar = action.metavar or action.dest.upper()
    operands = " ".join(metavar) if isinstance(metavar, tuple) else metavar
    return f"`{action.option_strings[0]} {operands}`"


def _expand_help(action: Action) -> str:
    text = (action.help or "").replace("%%", "%")
    return text.replace("listed below", "[Recipes](recipes.md) lists them")


# ---- API ----


def format_api() -> dict[str, str]:
    """A page a package, with the public names that it defines; and one that lists them all."""
    packages: dict[str, list[str]] = {}
    for module, names in toyvit.PUBLIC.items():
        packages.setdefault(module.split(".")[1], []).extend(f"{module}.{name}" for name in names)
    pages = {
        f"api/{package}.md": _format_package(package, names) for package, names in packages.items()
    }
    rows = []
    for package, names in packages.items():
        for full in sorted(names, key=str.lower):
            module, _, name = full.rpartition(".")
            rows.append(
                (f"[`toyvit.{name}`]({package}.md#{full})", escape(_summarize(module, name)))
            )
    rows.sort(key=lambda row: row[0].lower())
    index = ["# Names in Python", WRITTEN, API_INTRODUCTION, format_table(["name", "what"], rows)]
    return {"api/index.md": "\n\n".join(index)} | pages


API_INTRODUCTION = """\
`import toyvit` gives these names; each is imported when it is first used, so that the import itself
costs next to nothing. Everything else can be imported from where it is defined."""


def _format_package(package: str, names: Iterable[str]) -> str:
    return "\n\n".join([f"# {package}", WRITTEN, *(f"::: {name}" for name in names)])


def _summarize(module: str, name: str) -> str:
    """The first sentence of a name's docstring; for a table, how much it holds."""
    value = getattr(import_module(module), name)
    if isinstance(value, dict):
        return f"a table of {len(value)} entries by name"
    return split_docstring(value)[0]


PAGES: dict[str, Callable[[], str]] = {
    "measures.md": format_measures,
    "recipes.md": format_recipes,
    "sites.md": format_sites,
    "commands.md": format_commands,
}


def build_pages() -> dict[Path, str]:
    """The text of every page that is written from tables, by its place."""
    pages = {name: page() for name, page in PAGES.items()} | format_api()
    return {DOCS / name: text.rstrip() + "\n" for name, text in pages.items()}


def main() -> None:
    for path, text in build_pages().items():
        path.parent.mkdir(exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
