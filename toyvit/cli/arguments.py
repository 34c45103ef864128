"""Arguments that several commands take, and how their texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.command import Parser
from toyvit.cli.completion import complete, offer_analyses, offer_recipes, offer_runs
from toyvit.cli.renamed import rename_analysis
from toyvit.errors import BadField, BadInput

if TYPE_CHECKING:
    from toyvit.config import RunConfig


def add_run(parser: Parser, *, several: bool = False, help: str | None = None) -> None:
    """RUN, the folder of a run; or several."""
    if several:
        action = parser.add_argument("run", nargs="+", type=Path, metavar="RUN")
    else:
        action = parser.add_argument("run", type=Path, metavar="RUN", help=help)
    complete(action, offer_runs)


def add_recipe(parser: Parser) -> None:
    """RECIPE."""
    complete(parser.add_argument("recipe", metavar="RECIPE"), offer_recipes)


def add_runs_folder(parser: Parser, help: str) -> None:
    """--runs DIR."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help=help)


def read_name(option: str, text: str) -> str:
    """A name for a folder; BadInput for one that would lead elsewhere or cannot be shown."""
    is_single = text not in ("", ".", "..") and not {"/", "\\"} & set(text)
    if not (is_single and text.isprintable() and not text.startswith("-")):
        raise BadInput(
            f"{option} takes the name of one folder, without slashes or control characters,"
            f" got {text!r}"
        )
    return text


def add_measuring(parser: Parser) -> None:
    """--analyses NAMES and --images N."""
    text = "comma-separated (default: all that the task allows; `toyvit analyses` lists them)"
    complete(parser.add_argument("--analyses", metavar="NAMES", help=text), offer_analyses)
    parser.add_argument("--images", type=int, default=512, help="evaluation images (default: 512)")


def read_analyses(text: str | None) -> list[str] | None:
    """Names of analyses between commas; those of version 0.1 become the names of today."""
    return None if text is None else [rename_analysis(name) for name in text.split(",")]


def read_numbers(option: str, text: str) -> list[int]:
    """`0,3,7`; BadInput for anything else."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        message = f"{option} takes whole numbers separated by commas, got {text!r}"
        raise BadInput(message) from None


def read_seeds(text: str) -> list[int]:
    """`0..9` or `0,3,7`; BadInput for anything else.

    >>> read_seeds("0..3"), read_seeds("0,3,7")
    ([0, 1, 2, 3], [0, 3, 7])
    """
    first, dots, last = text.partition("..")
    try:
        if dots:
            seeds = list(range(int(first), int(last) + 1))
        else:
            seeds = [int(word) for word in text.split(",")]
    except ValueError:
        seeds = []

    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise BadInput(f"--seeds takes 0..9 or 0,3,7, each seed once, got {text!r}")
    return seeds


def refuse_seed_fields(option: str, words: Sequence[str]) -> None:
    """BadInput where a field is typed that the option would set in silence."""
    for word in words:
        field = word.partition("=")[0]
        if field in ("--seeds.init", "--seeds.data"):
            raise BadInput(
                f"{option} sets --seeds.init and --seeds.data: {field} cannot be given too"
            )


def set_seed(option: str, config: RunConfig, seed: int) -> RunConfig:
    """The config under another seed; a refusal names the option that was typed."""
    from toyvit.config import replace_seed

    try:
        return replace_seed(config, seed)
    except BadField as error:
        raise BadInput(f"{option} {error.problem}") from None


def describe_recipes() -> str:
    """Every recipe with the first line of what it says of itself, for the end of a help."""
    from toyvit.recipes import list_recipes

    lines = ["recipes:"]
    for name, build in list_recipes().items():
        first, _, _ = (build.__doc__ or "").partition("\n")  # none under PYTHONOPTIMIZE=2
        lines.append(f"  {name:18} {first}".rstrip())
    lines += ["", "Any field can be set: --model.n_layers 3 --train.steps 500 --task.noise 0"]
    return "\n".join(lines)
