"""The command line by itself and as other tests fork it, and what it lists."""

import subprocess
import sys

import pytest

from tests.stories.processes import toyvit
from toyvit.__main__ import main
from toyvit.recipes import RECIPES


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
    """An interpreter of its own imports what the command needs; a fork gives the same answer."""
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "toyvit", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr

    fork = toyvit(*words)
    assert fork.communicate() == (done.stdout, done.stderr)
    assert fork.returncode == done.returncode


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
