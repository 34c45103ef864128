"""What comes from outside: the example package, things registered in a notebook, what is missing.

The example package is installed into a folder of its own, so that no other test sees it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_registry import write_world
from tests.stories.warm import Warm

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/stripes"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that the example package is installed in."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source") / "stripes"
    shutil.copytree(EXAMPLE, source)
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", *words, str(source)], check=True)
    return folder


def name_places(site):
    """The environment of an interpreter with the example package, where `site` says so."""
    places = [str(ROOT)] + ([str(site)] if site else [])
    return os.environ | {"PYTHONPATH": os.pathsep.join(places)}


def run(words, cwd, site=None):
    """A fresh interpreter."""
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, env=name_places(site), capture_output=True, text=True
    )


def fork(words, cwd, site=None):
    """`python -m toyvit WORDS`, or `python -c CODE`, without the seconds of its imports."""
    process = Warm(*words, cwd=cwd, environ=name_places(site))
    out, err = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def toyvit(words, cwd, site=None):
    return fork(words.split(), cwd, site)


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory):
    """A working folder with a short run of the example's recipe, measured by two workers."""
    cwd = tmp_path_factory.mktemp("work")
    short = "--train.steps 12 --train.checkpoints 0,4,8,12 --train.n_validation 16"
    for words in (
        f"train stripes {short}",
        "measure runs/stripes --jobs 2 --images 32 --analyses performance,orientation_tuning",
    ):
        done = toyvit(words, cwd, installed)
        assert done.returncode == 0, done.stderr
    return cwd


@pytest.mark.slow
def test_a_package_brings_a_world_a_recipe_and_an_analysis(installed, tmp_path):
    lists = toyvit("data", tmp_path, installed).stdout
    assert "stripes        stripes at one of a few orientations" in lists
    assert "(train stripes)" in lists
    assert "orientation_tuning" in toyvit("analyses", tmp_path, installed).stdout
    assert "stripes" not in toyvit("data", tmp_path).stdout


@pytest.mark.slow
def test_its_runs_are_measured_by_workers_and_its_cells_say_where_they_come_from(trained):
    code = """
import sqlite3, toyvit
run = toyvit.Run("runs/stripes")
curve = run.curve("orientation_tuning", "tuning", distance=0)
print(list(curve.index))
db = sqlite3.connect("runs/stripes/measures.sqlite")
print(db.execute("select distinct version from cells order by analysis").fetchall())
"""
    site = next(iter(trained.parent.glob("site*")))
    lines = fork(["-c", code], trained, site).stdout.splitlines()
    assert lines[0] == "[0, 4, 8, 12]"
    assert "1 toyvit-stripes 0.1.0" in lines[1] and "(1,)" in lines[1]
    plain = json.loads((trained / "runs/stripes/config.json").read_text())
    assert plain["extensions"][0]["distribution"] == "toyvit-stripes"


@pytest.mark.slow
def test_edited_code_is_measured_anew(installed, trained, tmp_path):
    edited = tmp_path / "site"
    shutil.copytree(installed, edited)
    file = edited / "toyvit_stripes/tuning.py"
    file.write_text(
        file.read_text().replace("logits[distance == far]", "2 * logits[distance == far]")
    )
    words = "measure runs/stripes --images 32 --analyses performance,orientation_tuning"
    measured = "measured {} analyses of checkpoints, {} were there"
    assert measured.format(4, 4) in toyvit(words, trained, edited).stdout
    assert measured.format(0, 8) in toyvit(words, trained, edited).stdout


@pytest.mark.slow
def test_a_run_whose_world_is_not_here_is_listed_and_verified_and_says_what_to_install(trained):
    assert "stripes" in toyvit("ls", trained).stdout
    assert "all 4 checkpoints are whole" in toyvit("verify runs/stripes", trained).stdout
    done = toyvit("measure runs/stripes", trained)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert "pip install toyvit-stripes==0.1.0" in done.stderr


@pytest.mark.slow
def test_its_figure_is_drawn_and_without_its_world_what_was_measured_is(installed, trained):
    done = toyvit("report runs/stripes", trained, installed)
    assert done.returncode == 0, done.stderr
    assert "figure: runs/stripes/figures/orientation_tuning.png" in done.stdout

    without = toyvit("report runs/stripes", trained)
    assert without.returncode == 0, without.stderr
    assert "not drawn: " in without.stderr
    assert "pip install toyvit-stripes==0.1.0" in without.stderr
    assert "learning.png" in without.stdout


def add_world(project):
    """Put the project there, with one world's folder and its name more and nothing else."""
    being_written = shutil.ignore_patterns("*.pyc.*")
    for folder in ("toyvit", "tests"):
        shutil.copytree(ROOT / folder, project / folder, ignore=being_written)
    (project / ".pytest_cache").symlink_to(ROOT / ".pytest_cache")  # the stand-ins for data
    shutil.copy(ROOT / "pyproject.toml", project)
    write_world(project / "toyvit/data/worlds")

    registry = project / "toyvit/data/worlds/__init__.py"
    text = registry.read_text()
    assert text.count('    "counting",\n') == 1
    registry.write_text(text.replace('    "counting",\n', '    "counting",\n    "two-dots",\n'))


@pytest.mark.slow
def test_the_laws_of_worlds_hold_for_it_and_for_a_new_folder(installed, tmp_path):
    """Every law that is parametrised over tasks or their three splits, and what one declares."""
    add_world(tmp_path)
    files = ["tests/laws/test_worlds.py", "tests/data/test_registry.py"]
    chosen = ["-k", "stripes or two-dots", "-p", "no:cacheprovider"]
    places = os.pathsep.join([str(tmp_path), str(installed)])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rp", *chosen, *files],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": places},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED ")]
    assert sum("two-dots" in line for line in passed) >= 12
    assert sum("[stripes" in line for line in passed) >= 8


NOTEBOOK = """
import dataclasses, toyvit
from typing import ClassVar
from toyvit.config.fields import number
from toyvit.config import TaskConfig
from toyvit.data.task import Task, ask_target, score_class_baselines
from toyvit.data.world import World
import numpy as np, torch

@dataclasses.dataclass(frozen=True, kw_only=True)
class SideConfig(TaskConfig):
    name: ClassVar[str] = "sides"
    size: int = number(8, least=2)

class Sides(World):
    name = "sides"
    def __init__(self, config):
        self.image_size = (config.size, config.size)
        self.sizes = dict.fromkeys(("train", "validation", "test"))
        self.factors = {"side": 2}
    def sample(self, seed, split, indices):
        return {"side": np.asarray(indices, np.int64) % 2}
    def render(self, factors):
        images = torch.zeros(len(factors["side"]), 1, *self.image_size)
        images[torch.from_numpy(factors["side"]) == 1, :, :, : self.image_size[1] // 2] = 1
        return images

def build_sides(config):
    return Task(config=config, world=Sides(config), n_classes=2,
        ask=ask_target(lambda factors: factors["side"]),
        probe_factors=lambda factors: {"side": factors["side"]},
        baselines=lambda batch: score_class_baselines(batch.target))

def measure_mean(model, batch, trace):
    return {"mean": trace["logits"].mean()}

toyvit.register(toyvit.WorldEntry(name="sides", summary="which side is bright", purpose="a test",
    default=SideConfig(), tasks=(SideConfig,), builders={"sides": build_sides}))
toyvit.register(toyvit.Analysis(name="mean_logit", computes="the mean logit", measure=measure_mean,
    quantities={"mean": toyvit.Quantity()}, sites=("logits",), cost=0.1, source="a test",
    truth="-", null="-"))

@toyvit.register
def sides():
    return toyvit.RunConfig(recipe="sides", task=SideConfig(),
        model=toyvit.ModelConfig(n_layers=1, d_model=8, patch_size=4),
        train=toyvit.TrainConfig(steps=4, batch_size=8, checkpoints=(0, 2, 4), n_validation=8))

if __name__ == "__main__":
    toyvit.fit(sides(), "runs/sides", progress=False)
    report = toyvit.measure("runs/sides", jobs=2, images=8, analyses=["mean_logit"], progress=False)
    print(report.computed, list(toyvit.Run("runs/sides").curve("mean_logit", "mean").index))

    from toyvit.__main__ import main
    words = "sweep stripes --seeds 0..1 --jobs 2 --images 16 --analyses orientation_tuning"
    short = "--train.steps 3 --train.checkpoints 0,3 --train.n_validation 8"
    assert main([*words.split(), *short.split()]) == 0
"""


@pytest.mark.slow
def test_a_script_registers_a_world_an_analysis_and_a_recipe(installed, tmp_path):
    """Measured and swept in fresh interpreters, as what the package brings is."""
    (tmp_path / "script.py").write_text(NOTEBOOK)
    done = run(["script.py"], tmp_path, installed)
    assert done.returncode == 0, done.stderr
    assert "3 [0, 2, 4]" in done.stdout.splitlines()
    assert done.stdout.count("finished") == 2
    missing = toyvit("measure runs/sides", tmp_path)
    assert missing.returncode == 2 and "toyvit.register" in missing.stderr


def test_what_cannot_be_registered_is_refused_in_one_line():
    from toyvit.config.extensions import forget, register
    from toyvit.errors import BadInput

    with pytest.raises(BadInput, match="takes a World, an Analysis, a Figure, or a function"):
        register(3)

    def induction():
        """A recipe with the name of one of the lab's."""

    register(induction)
    try:
        from toyvit.recipes import list_recipes

        with pytest.raises(BadInput, match="has the name of one of toyvit's own"):
            list_recipes()
    finally:
        forget("recipes", "induction")
