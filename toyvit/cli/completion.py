"""What the shell offers when the tab key is pressed, by argcomplete; nothing here imports torch."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator

Offer = Callable[[str], Iterable[str]]  # what is typed so far -> what the word may be


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Print what the word that is being typed may be, and exit, where the shell asks for that."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def complete(action: argparse.Action, offer: Offer) -> None:
    """Let an argument be completed to what `offer` lists."""

    def list_words(prefix: str, **context: object) -> list[str]:
        return [word for word in offer(prefix) if word.startswith(prefix)]

    action.completer = list_words  # type: ignore[attr-defined]  # read by argcomplete


def offer_recipes(prefix: str) -> Iterable[str]:
    """Every recipe."""
    from toyvit.recipes import list_recipes

    return list_recipes()


def offer_worlds(prefix: str) -> Iterable[str]:
    """Every data set."""
    from toyvit.data.worlds import list_worlds

    return list_worlds()


def offer_analyses(prefix: str) -> list[str]:
    """Every analysis, as the next of those that are typed with commas between them."""
    from toyvit.analyses.names import NAMES

    typed, comma, _ = prefix.rpartition(",")
    return [f"{typed}{comma}{name}" for name in NAMES if name not in typed.split(",")]


def offer_runs(prefix: str) -> Iterator[str]:
    """Every run folder below `runs/`, by name; for others the shell offers its own folders."""
    for path, folders, files in os.walk("runs"):
        folders.sort()
        if "config.json" in files:
            folders.clear()  # a run does not lie in another
            yield path
