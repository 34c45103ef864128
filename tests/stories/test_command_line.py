"""The command line by itself and as other tests fork it, and what it lists."""

import subprocess
import sys

import pytest

from tests.stories.processes import toyvit
from tests.stories.warm import Warm
from toyvit.__main__ import main
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run


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
    """A process without any module of the lab imports what the command needs; a fork of one with
    them gives the same answer.
    """
    monkeypatch.chdir(tmp_path)
    alone = Warm(*words, bare=True)
    out, error = alone.communicate()
    assert (alone.returncode, out, error.count("\n")) == (2, "", 1)
    assert says in error

    fork = toyvit(*words)
    assert fork.communicate() == (out, error)
    assert fork.returncode == alone.returncode


@pytest.mark.slow
def test_a_command_starts_in_an_interpreter_of_its_own(tmp_path):
    words = ["train", "induction-smoke", "--train.steps", "2", "--train.n_validation", "8"]
    done = subprocess.run([sys.executable, "-m", "toyvit", *words], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert Run(tmp_path / "runs/induction-smoke").steps[-1] == 2


def test_every_recipe_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_sites_of_every_recipe(capsys, recipe):
    assert main(["sites", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.startswith("blocks.0.attn.pattern") and "image head query key" in line
        for line in lines
    )
