"""The command line as a table: a family a file, torch only where needed, old names, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toyvit.analyses import ANALYSES
from toyvit.analyses.names import RENAMED
from toyvit.cli import COMMANDS, FAMILIES, renamed
from toyvit.cli.main import main
from toyvit.cli.parser import build_parser
from toyvit.config import RunConfig
from toyvit.data.worlds import NAMES as WORLDS
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.version import VERSION

ROOT = Path(__file__).parents[2]
LISTED = [name for name, command in COMMANDS.items() if command.help]
HEAVY = ("torch", "numpy", "scipy", "pandas", "matplotlib", "safetensors", "pytorch_lightning")
# Runs a command line and ends with what it has imported of the heavy packages.
PROGRAM = f"""
import sys
from toyvit.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("imported", *[name for name in {HEAVY} if name in sys.modules])
"""


def run_fresh(*words: object, cwd: Path | None = None) -> list[str]:
    """The lines that a command prints in an interpreter of its own, and what it imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder `runs` with three runs that have not begun, one of them in a folder of its own."""
    place = tmp_path_factory.mktemp("place")
    for name in ("deep", "shallow", "more/deeper"):
        folder = RunFolder(place / "runs" / name)
        folder.create(RECIPES["induction-smoke"]())
    (place / "runs/empty").mkdir()
    return place


def test_every_command_is_declared_once_and_there_are_at_most_twenty():
    declared = [command.name for family in FAMILIES for command in family.COMMANDS]
    assert declared == list(COMMANDS) and len(declared) == len(set(declared)) <= 20
    texts = [COMMANDS[name].help for name in LISTED]
    assert len(set(texts)) == len(texts) and all("\n" not in text for text in texts)
    assert set(COMMANDS) - set(LISTED) == {"follow"}  # `train` starts it


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_needs_no_torch(name):
    lines = run_fresh(name, "--help")
    assert lines[0].startswith(f"usage: toyvit {name}") and lines[-1] == "imported"


def test_help_and_version_need_no_torch(capsys):
    lines = run_fresh("--help")
    assert lines[-1] == "imported"
    text = "\n".join(lines)
    assert all(f"    {name}" in text for name in LISTED) and "follow" not in text
    assert main([]) == 0 and capsys.readouterr().out.splitlines() == lines[:-1]
    assert run_fresh("--version") == [f"toyvit {VERSION}", "imported"]


def test_runs_are_listed_without_torch(runs):
    *lines, last = run_fresh("ls", cwd=runs)
    assert [line.split()[:3] for line in lines] == [
        ["runs/deep", "induction-smoke", "stopped"],
        ["runs/more/deeper", "induction-smoke", "stopped"],
        ["runs/shallow", "induction-smoke", "stopped"],
    ]
    assert last == "imported"


@pytest.mark.slow
def test_the_check_for_torch_can_fail():
    *_, last = run_fresh("sites", "digits")
    assert "torch" in last.split() and "matplotlib" not in last.split()


def test_a_word_that_is_no_command_names_the_nearest(capsys):
    assert main(["tran"]) == 2
    assert "'train'" in capsys.readouterr().err
    assert main(["--verison"]) == 2
    assert "did you mean '--version'" in capsys.readouterr().err


COMPLETIONS = {
    "me": ["measure"],
    "train induction-s": ["induction-smoke"],
    "train digits indu": [name for name in RECIPES if name.startswith("indu")],
    "sites mnist": [name for name in RECIPES if name.startswith("mnist")],
    "data sort": [name for name in WORLDS if name.startswith("sort")],
    "measure runs/d": ["runs/deep"],
    "measure runs/deep runs/m": ["runs/more/deeper"],
    "report runs/deep --beside runs/": ["runs/deep", "runs/more/deeper", "runs/shallow"],
    "measure runs/deep --analyses att": [name for name in ANALYSES if name.startswith("att")],
    "measure runs/deep --analyses norms,pro": ["norms,probes"],
    "circuit runs/deep --abl": ["--ablation"],
    "circuit runs/deep --ba": [],
    "measure else": [],
}


@pytest.mark.parametrize("typed", COMPLETIONS)
def test_the_shell_completes_without_torch(runs, typed):
    """As argcomplete is asked by a shell; it answers with the words that may stand there."""
    shell = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(runs / "answer"),
        "COMP_LINE": f"toyvit {typed}",
        "COMP_POINT": str(len(f"toyvit {typed}")),
        "PYTHONPATH": str(ROOT),
    }
    # The completion ends the process: what was imported is written at its end.
    program = "import os, sys\nend = os._exit\n" + (
        f"def note(code):\n    print(*[name for name in {HEAVY} if name in sys.modules])\n"
        "    sys.stdout.flush()\n    end(code)\n"
        "os._exit = note\n"
        "from toyvit.cli.main import main\nmain([])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | shell,
        capture_output=True,
        text=True,
        check=True,
        cwd=runs,
    )
    assert done.stdout == "\n"
    answer = (runs / "answer").read_text().split("\n")
    assert sorted(word.strip() for word in answer if word) == sorted(COMPLETIONS[typed])


def test_completion_is_found_by_its_marker():
    source = Path(sys.modules["toyvit"].__path__[0], "__main__.py").read_text()
    assert "PYTHON_ARGCOMPLETE_OK" in source[:1024]


def test_old_options_and_names_are_one_to_one():
    """Each is gone, and stands for one that is there."""
    parsers = [build_parser().parse_known_args(words)[0].parser for words in list_minimal_words()]
    options = {
        option
        for parser in parsers
        for action in parser._actions
        if action.help != "==SUPPRESS=="
        for option in action.option_strings
    }
    for old, new in renamed.OPTIONS.items():
        assert old not in options and new in options
    for old, new in RENAMED.items():
        assert old not in ANALYSES and new in ANALYSES
    for table in (renamed.OPTIONS, RENAMED):
        assert len(set(table.values())) == len(table)


def list_minimal_words():
    """Every command with the arguments that it must have."""
    needed = {
        "train": ["digits"],
        "sweep": ["digits"],
        "replay": ["run", "--between", "1", "2"],
        "import": ["net.pth"],
        "export": ["run", "--to", "torch"],
    }
    takes_run = ("measure", "circuit", "lens", "report", "view", "verify", "follow")
    return [[name, *needed.get(name, ["run"] * (name in takes_run))] for name in COMMANDS]


@pytest.mark.parametrize("words", [["--base", "zero"], ["--base=zero"]])
def test_an_old_option_works_with_a_notice(capsys, words):
    options, rest = build_parser().parse_known_args(["circuit", "run", *words])
    assert (options.ablation, rest) == ("zero", [])
    assert capsys.readouterr().err == "toyvit: option '--base' is called '--ablation' now\n"
    assert main(["circuit", "run", "--basis", "zero"]) == 2
    assert "'--base'" not in capsys.readouterr().err


def test_an_old_name_of_an_analysis_works_with_a_notice(tmp_path, capsys):
    from tests.stories.processes import train_here

    path = train_here(tmp_path / "run", "--train.steps", 2, "--train.checkpoints", "none")
    words = ["--images", "8", "--steps", "last", "--analyses", "flow,knock_outs"]
    assert main(["measure", str(path), *words]) == 0
    out, err = capsys.readouterr()
    assert "measured 2 analyses of checkpoints" in out
    assert "toyvit: analysis 'flow' is called 'attention_knockout' now\n" in err
    assert "toyvit: analysis 'knock_outs' is called 'head_ablation' now\n" in err


def test_analyses_are_listed_with_all_that_is_declared(capsys):
    assert main(["analyses"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[0] for line in text.splitlines() if line[0] != " "] == list(ANALYSES)
    words = " ".join(text.split())
    for analysis in ANALYSES.values():
        needs = [need.words for need in analysis.needs]
        cost = f"{analysis.rough_cost} a checkpoint"
        for fact in (
            analysis.computes,
            analysis.source,
            analysis.truth,
            analysis.null,
            cost,
            *needs,
        ):
            assert " ".join(fact.split()) in words
    assert max(map(len, text.splitlines())) <= 100

    assert main(["analyses", "probes", "llc"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("probes") and "\nllc  (only when asked for by name)\n" in text
    assert main(["analyses", "prob"]) == 2
    assert "did you mean 'probes'" in capsys.readouterr().err


def test_a_command_of_its_own_is_one_row(capsys):
    """The parser and `main` know nothing of any one command."""
    source = Path(sys.modules["toyvit.cli.parser"].__file__).read_text()
    main_source = Path(sys.modules["toyvit.cli.main"].__file__).read_text()
    names = set(COMMANDS) - {"train"}  # the one whose run goes on by an option
    assert not [name for name in names if f'"{name}"' in source + main_source]
    assert RunConfig.__name__ not in source + main_source
