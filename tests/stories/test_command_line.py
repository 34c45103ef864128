"""The command line answers at once, and lists what there is."""

import subprocess
import sys

import pytest

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
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage: toyvit" in done.stdout


def test_every_recipe_is_listed(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_sites_of_every_recipe(capsys, recipe):
    assert main(["sites", recipe]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("blocks.0.attn.pattern") and "image head query key" in line for line in lines)
