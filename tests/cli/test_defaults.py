"""What holds where an option is left out: its help, the parser and the library say the same."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Callable

import pytest

from toyvit.circuits.search import _choose_limit, find_circuit
from toyvit.cli.parser import build_parser
from toyvit.errors import BadInput
from toyvit.instruments.lenses import fit_tuned_lens
from toyvit.measuring import measure
from toyvit.report import draw, draw_circuit, draw_sweep
from toyvit.sweeping import check_plan
from toyvit.train.replay import replay

STATED = re.compile(r"\(default: ([^);]+)")


def list_options() -> list[tuple[str, argparse.Action]]:
    """Every option that says in its help what holds where it is left out, with its command."""
    (commands,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return [
        (command, action)
        for command, parser in commands.choices.items()
        for action in parser._actions
        if STATED.search(action.help or "")
    ]


OPTIONS = list_options()
IDS = [f"{command} {action.dest}" for command, action in OPTIONS]
# The function of the library behind a command, and what it calls an option.
LIBRARY: dict[str, tuple[Callable[..., object], dict[str, str]]] = {
    "measure": (measure, {}),
    "circuit": (find_circuit, {"pairs": "n_pairs", "null": "n_null"}),
    "lens": (fit_tuned_lens, {}),
    "replay": (replay, {}),
    "report": (draw, {"format": "kind"}),
    "sweep": (check_plan, {}),
}


@pytest.mark.parametrize(("command", "action"), OPTIONS, ids=IDS)
def test_the_help_states_the_default(command, action):
    """Its very value; in words only where there is none, or where it is the machine's."""
    match = STATED.search(action.help)
    assert match
    if action.dest == "jobs" and match[1] == "one a processor":
        assert action.default == os.cpu_count()
    elif action.default is not None:
        values = action.default if isinstance(action.default, list) else [action.default]
        assert match[1].replace(",", "") == " ".join(map(str, values))
    else:
        assert not match[1][0].isdigit() or (command, action.dest) in LIMITS


@pytest.mark.parametrize(("command", "action"), OPTIONS, ids=IDS)
def test_the_library_has_the_default_of_the_command(command, action):
    function, names = LIBRARY.get(command, (None, {}))
    if function is None:
        return
    parameters = inspect.signature(function).parameters
    parameter = parameters.get(names.get(action.dest, action.dest))
    if parameter is not None and action.dest != "jobs":
        assert parameter.default == action.default


# Options of `circuit` whose value depends on the method, which has no use for the other.
LIMITS = {("circuit", "faithful"): "eap-ig", ("circuit", "threshold"): "acdc"}


@pytest.mark.parametrize(("command", "name"), LIMITS)
def test_the_limit_of_a_search_is_as_stated(command, name):
    (action,) = (action for other, action in OPTIONS if (other, action.dest) == (command, name))
    stated = float(STATED.search(action.help)[1])
    method = LIMITS[command, name]
    assert _choose_limit(method, None, None) == stated
    given = {"faithful": None, "threshold": None, name: stated / 2}
    assert _choose_limit(method, **given) == stated / 2
    other = "acdc" if method == "eap-ig" else "eap-ig"
    with pytest.raises(BadInput, match=f"--{name} .* is of no use to {other}"):
        _choose_limit(other, **given)


@pytest.mark.parametrize("function", [draw, draw_circuit, draw_sweep])
def test_figures_are_of_one_kind_unless_another_is_asked_for(function):
    (kind,) = {
        action.default for command, action in OPTIONS if action.dest == "format" and command != "ls"
    }
    assert inspect.signature(function).parameters["kind"].default == kind
