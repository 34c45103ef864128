"""One tuple of names: a new world is its folder and its name there, and is everywhere at once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

import toyvit.config
from toyvit.__main__ import main
from toyvit.config import ModelConfig, RunConfig, TaskConfig, TrainConfig
from toyvit.data import worlds
from toyvit.data.question_configs import QUESTIONS, ClassifyConfig
from toyvit.data.questions import build_world
from toyvit.data.task import build_task
from toyvit.errors import BadInput

ROOT = Path(__file__).parents[2]
every_world = pytest.mark.parametrize("name", worlds.NAMES)

NEW_WORLD = {
    "__init__.py": "",
    "card.md": "# two-dots\n",
    "config.py": """
from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry


@dataclass(frozen=True, kw_only=True)
class DotsConfig(TaskConfig):
    name: ClassVar[str] = "two-dots"
    size: int = number(8, least=2, most=64)


ENTRY = WorldEntry(
    summary="two dots somewhere",
    purpose="a test",
    default=DotsConfig(),
    tasks=(DotsConfig,),
)
""",
    "world.py": """
import numpy as np
import torch

from toyvit.data.random import draw_integers, draw_normals, make_noise_keys, make_sample_keys
from toyvit.data.task import Task, ask_target, score_class_baselines
from toyvit.data.world import World


class DotsWorld(World):
    name = "two-dots"

    def __init__(self, config):
        self.image_size = (config.size, config.size)
        self.sizes = dict.fromkeys(("train", "validation", "test"))
        self.factors = {"left": 4, "right": 4, "noise_key": 2**63 - 1}

    def sample(self, seed, split, indices):
        keys = make_sample_keys(seed, self.check_split(split), indices)
        left, right = draw_integers(keys, "dots", 2, 4).T
        return {"left": left, "right": right, "noise_key": make_noise_keys(keys)}

    def render(self, factors):
        keys = factors["noise_key"].astype(np.uint64)
        images = draw_normals(keys, "pixels", self.image_size[0] ** 2)
        images = images.reshape(-1, 1, *self.image_size).copy()
        images[:, 0, 0, 0] += factors["left"]
        images[:, 0, 0, -1] += factors["right"]
        return torch.from_numpy(images)


def build_two_dots(config):
    return Task(
        config=config,
        world=DotsWorld(config),
        n_classes=7,
        ask=ask_target(lambda factors: factors["left"] + factors["right"]),
        probe_factors=lambda factors: {"left": factors["left"]},
        baselines=lambda batch: score_class_baselines(batch.target),
    )
""",
}


def write_world(folder: Path) -> None:
    (folder / "two_dots").mkdir(parents=True)
    for file, text in NEW_WORLD.items():
        (folder / "two_dots" / file).write_text(text)


@pytest.fixture
def new_world(tmp_path, monkeypatch):
    """The name of a world that stands in another folder, named in the tuple while the test runs."""
    write_world(tmp_path)
    monkeypatch.setattr(worlds, "__path__", [*worlds.__path__, str(tmp_path)])
    monkeypatch.setattr(worlds, "NAMES", (*worlds.NAMES, "two-dots"))
    yield "two-dots"
    for module in [name for name in sys.modules if "two_dots" in name]:
        del sys.modules[module]


def test_names_options_and_recipes_need_nothing_heavy():
    """In a fresh interpreter; a run's config is read there too, and the data sets are listed."""
    code = """
import sys
from toyvit.__main__ import main
from toyvit.config import RunConfig
from toyvit.data import worlds
from toyvit.recipes import RECIPES

assert main(["data"]) == 0
assert all(entry.summary for entry in worlds.list_worlds().values())
for build in RECIPES.values():
    run = build()
    assert RunConfig.from_json(run.to_json()) == run
print(sorted({"torch", "numpy", "scipy", "sklearn", "einops", "jaxtyping"} & set(sys.modules)))
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_folder_is_named_and_every_name_has_a_folder():
    folders = {path.parent.name for path in Path(worlds.__file__).parent.glob("*/__init__.py")}
    assert folders == {name.replace("-", "_") for name in worlds.NAMES}
    assert len(set(worlds.NAMES)) == len(worlds.NAMES)


@every_world
def test_what_a_world_declares_is_there(name):
    entry = worlds.find(name)
    assert entry.summary and entry.purpose and entry.pictures
    assert entry.default.data_set == name
    wanted = [f"build_{kind.name}" for kind in entry.tasks]
    if isinstance(entry.default, ClassifyConfig):
        wanted.append(f"load_{name}")
    for function in wanted:
        assert callable(getattr(worlds.load_code(name), function.replace("-", "_")))


def test_no_two_tasks_share_a_name_and_every_record_is_in_config():
    tasks = worlds.list_task_configs()
    own = [kind for entry in worlds.list_worlds().values() for kind in entry.tasks]
    assert len(tasks) == len(own) + len(QUESTIONS)
    for name, kind in tasks.items():
        assert kind.name == name and getattr(toyvit.config, kind.__name__) is kind
    assert not hasattr(toyvit.config, "NoSuchConfig") and not hasattr(toyvit.config, "no_such")


def test_an_unknown_world_is_refused_and_the_nearest_named():
    for look_up in (worlds.find, worlds.load_code, worlds.read_card, build_world):
        with pytest.raises(BadInput, match="did you mean 'glyphs'"):
            look_up("glyph")


def test_the_options_of_a_task_from_outside_are_found(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class StripesConfig(TaskConfig):
        name: ClassVar[str] = "stripes"

    words = {"name": "stripes", "summary": "stripes", "purpose": "a test"}
    entry = worlds.WorldEntry(**words, default=StripesConfig(), tasks=(StripesConfig,))
    monkeypatch.setattr(worlds, "list_worlds", lambda: {"stripes": entry})
    assert worlds.find_task_config("stripes") is StripesConfig
    assert worlds.find("stripes") is entry
    with pytest.raises(BadInput, match="did you mean 'stripes'"):
        worlds.find_task_config("stripe")


def test_a_new_world_is_in_configs_tasks_and_lists(new_world, capsys):
    config = toyvit.config.DotsConfig(size=4)
    run = RunConfig(recipe="", task=config, model=ModelConfig(), train=TrainConfig())
    assert RunConfig.from_json(run.to_json()) == run
    with pytest.raises(BadInput, match=r"DotsConfig\.size must be >= 2"):
        RunConfig.from_json(run.to_json() | {"task": {"name": new_world, "size": 1}})

    task = build_task(config)
    assert task.draw_batch(0, "test", range(3)).images.shape == (3, 1, 4, 4)
    named = build_task(ClassifyConfig(world=new_world, factor="left"))
    assert named.n_classes == 4 and named.world.image_size == (8, 8)

    assert main(["data"]) == 0
    assert f"{new_world:14} two dots somewhere\n" in capsys.readouterr().out


def test_a_world_that_is_not_named_is_nowhere(tmp_path, monkeypatch):
    write_world(tmp_path)
    monkeypatch.setattr(worlds, "__path__", [*worlds.__path__, str(tmp_path)])
    assert "two-dots" not in worlds.list_task_configs()
    with pytest.raises(BadInput, match="unknown data set"):
        worlds.find("two-dots")


def test_a_record_of_options_says_whose_pictures_it_shows():
    class Bare(TaskConfig):
        name = "bare"

    assert Bare().data_set == "bare"
