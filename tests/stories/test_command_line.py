"""The command line answers at once, and lists what there is."""

import subprocess
import sys

import pytest

from tests.stories.processes import toyvit
from toyvit.__main__ import main
from toyvit.recipes import RECIPES


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["report", "--help"]])
def test_help_comes_without_torch(words):
    """Importing torch takes seconds; help must not wait for it."""
    program = (
        "import sys; from toyvit.__main__ import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'pandas', 'matplotlib')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "usage: toyvit" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "induction-smoke", "--train.clamps", "0.0:matsch"], "did you mean 'match'"),
        (["measure", "nowhere"], "nowhere is not a run folder"),
        (["replay", "nowhere", "--between", "1", "2"], "nowhere is not a run folder"),
        (["sweep", "inducton"], "did you mean 'induction'"),
        (["replicate", "rank-oen"], "did you mean 'rank-one'"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_a_command_that_other_tests_fork_starts_by_itself(tmp_path, monkeypatch, words, says):
    """An interpreter of its own imports what the command needs and nothing before; what it says and answers, a fork does."""
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "toyvit", *words], capture_output=True, text=True, check=False
    )
    assert (
        done.returncode == 2
        and done.stdout == ""
        and says in done.stderr
        and done.stderr.count("\n") == 1
    )
    fork = toyvit(*words)
    assert fork.communicate() == (done.stdout, done.stderr) and fork.returncode == done.returncode


def test_every_recipe_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_sites_of_every_recipe(capsys, recipe):
    assert main(["sites", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("blocks.0.attn.pattern") and "image head query key" in line
        for line in lines
    )
