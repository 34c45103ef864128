"""Python and commands in the pages run: as they are where that takes seconds, else made smaller."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

import toyvit
from tests.docs.pages import PAGES, Block, name_page, read_blocks, split_commands
from toyvit.cli.main import main
from toyvit.config import extensions
from toyvit.model import options

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
RUN = [
    page
    for page in PAGES
    if any(block.is_run and block.language in ("python", "sh") for block in read_blocks(page))
]


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles_and_its_imports_are_there(block):
    tree = ast.parse(block.reduced)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                import_module(alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "toyvit":
            assert node.attr in toyvit.__all__, f"toyvit has no {node.attr}"


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block):
    assert block.language in ("python", "sh", "text", "pycon")
    assert block.note.split(":")[0] in ("", "run with", "not run", "given")


def test_there_are_blocks_that_run():
    assert len(PYTHON) > 20 and len(RUN) > 8


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a hundred steps, measured, for pages that are given one."""
    path = tmp_path_factory.mktemp("pages") / "deep"
    config = toyvit.RECIPES["induction"]()
    training = replace(
        config.train,
        steps=100,
        batch_size=16,
        warmup=10,
        n_validation=32,
        checkpoints=tuple(range(0, 100, 5)),
    )
    toyvit.fit(replace(config, train=training), path, progress=False)
    names = ["performance", "induction", "head_ablation"]
    toyvit.measure(path, analyses=names, images=32, progress=False)
    return path


def run_block(block: Block, names: dict[str, object]) -> None:
    """Run a block in the working folder; Python goes on with the names of the blocks before it."""
    if block.language == "python":
        file = Path(f"block_{block.line}.py").absolute()  # what is registered must have a source
        file.write_text(block.reduced)
        exec(compile(block.reduced, str(file), "exec"), names)
        return
    for words in split_commands(block.reduced):
        assert words[0] == "toyvit", f"{block}: only toyvit is run, got {words[0]}"
        assert main(words[1:]) == 0, f"{block}: {' '.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_page)
def test_the_blocks_of_a_page_run(page, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(extensions, "_registered", dict(extensions._registered))
    for table in ("ACTIVATIONS", "NORMS", "POSITIONS", "MASKS", "READOUTS"):  # pages add to them
        monkeypatch.setattr(options, table, dict(getattr(options, table)))
    if "<!-- given: runs/deep -->" in page.read_text():
        shutil.copytree(trained, "runs/deep")
    names: dict[str, object] = {"__name__": "__page__"}
    for block in read_blocks(page):
        if block.is_run and block.language in ("python", "sh"):
            run_block(block, names)
