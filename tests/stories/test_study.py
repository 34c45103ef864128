"""The study of first weights and data streams trains as the lab does, and puts in what it says."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from studies.when_not_whether.crosses import Table, read_steps, train_cross, write_steps
from studies.when_not_whether.half_way import EVERY, Subject, find_half_way
from studies.when_not_whether.page import judge_share
from studies.when_not_whether.prediction import _score
from studies.when_not_whether.subjects import SUBJECTS
from studies.when_not_whether.transplants import choose_pairs, list_parts, put_parts
from toyvit.dynamics.crosses import Cross, Share
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.train import fit

SMOKE = Subject("induction-smoke", 0.272)


def shorten(config, steps):
    train = replace(config.train, steps=steps, checkpoints=tuple(range(0, steps + 1, EVERY)))
    return replace(config, train=train)


def test_half_way_is_where_the_accuracies_of_a_run_of_the_lab_say(tmp_path):
    config = shorten(SMOKE.build_config(3, 5), 60)
    folder = fit(config, tmp_path / "run", progress=False)
    accuracies = {entry.step: entry.accuracy for entry in folder.read_manifest()}
    best = max(list(accuracies)[1:], key=accuracies.get)
    level = accuracies[best] - 1e-9
    step = next(step for step in list(accuracies)[1:] if accuracies[step] >= level)
    before = accuracies[step - EVERY] if step > EVERY else 0
    share = (level - before) / (accuracies[step] - before)
    assert find_half_way(config, level) == pytest.approx(step - EVERY * (1 - share))
    assert find_half_way(config, 1.1) == math.inf


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.recipe)
def test_first_steps_are_those_of_the_recipe(subject):
    """It has longer, and nothing of its schedule depends on that."""
    config = subject.build_config(1, 2)
    recipe = RECIPES[subject.recipe]()
    assert (config.seeds.init, config.seeds.data) == (1, 2)
    assert config.train.decay == "constant"
    assert replace(config.train, steps=recipe.train.steps) == recipe.train
    assert subject.plateau < subject.level < 1


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.recipe)
def test_parts_put_in_are_the_donor_s_and_all_together_are_the_donor(subject):
    config = subject.build_config(0, 0).model
    donor = ViT(config, seed=1)
    parts = list_parts(donor)
    for names in parts.values():
        model = ViT(config, seed=0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        put_parts(donor, names, model)
        after = model.state_dict()
        assert any(not torch.equal(after[name], value) for name, value in before.items())
    model = ViT(config, seed=0)
    put_parts(donor, parts["embedding"] + parts["all blocks"] + parts["read-out"], model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]), name


def test_a_cross_goes_on_where_it_was(tmp_path, monkeypatch):
    file = tmp_path / "cross.json"
    write_steps(file, SMOKE, {(0, 0): 12.5, (0, 1): math.inf})
    assert json.loads(file.read_text())["runs"] == [[0, 0, 12.5], [0, 1, None]]
    assert read_steps(file) == {(0, 0): 12.5, (0, 1): math.inf}
    table = train_cross(SMOKE, [0], [0, 1], file)
    assert (table.steps == [[12.5, math.inf]]).all()
    assert table.n_censored == 1
    assert table.take_logs(100).tolist() == [[math.log(12.5), math.log(100)]]


def test_pairs_are_of_the_latest_and_the_earliest():
    steps = np.array([[30.0], [10.0], [20.0], [50.0], [40.0], [60.0], [80.0], [70.0]])
    table = Table("any", list(range(8)), [0], steps)
    assert choose_pairs(table, 100) == [(6, 1), (7, 2), (5, 0), (3, 4)]


def test_a_planted_measure_is_found_and_noise_tells_nothing():
    random = np.random.default_rng(0)
    x = random.standard_normal((48, 20))
    y = x[:, 3] + 0.1 * random.standard_normal(48)
    assert _score(x[:24], y[:24], x[24:], y[24:]) > 0.5
    assert _score(x[:24], random.permutation(y[:24]), x[24:], y[24:]) < 0.2


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.51, 0.9, "confirmed"), (0.5, 0.9, "undecided"), (0.2, 0.49, "refuted")],
)
def test_a_share_is_confirmed_where_its_whole_interval_is(low, high, verdict):
    share = Share((low + high) / 2, low, high)
    assert judge_share(Cross(share, share, share), 0.5) == verdict


def test_its_run_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find_half_way(shorten(SMOKE.build_config(0, 0), EVERY), 1.1)
    assert not list(tmp_path.iterdir())
    assert not RunFolder(tmp_path / SMOKE.recipe).config_file.exists()
