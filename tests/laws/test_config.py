"""Laws of the config records: what is refused, and how; there and back through JSON."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.laws.records import FIELDS, IDS, KINDS, another, others, refused, runs
from toyvit.config import (
    ModelConfig,
    RunConfig,
    Seeds,
    TrainConfig,
    list_differences,
    replace_seed,
    run as run_config,
)
from toyvit.config.overrides import PARTS
from toyvit.data import worlds
from toyvit.data.random import make_sample_keys
from toyvit.errors import BadField, BadInput
from toyvit.recipes import RECIPES

few = settings(max_examples=60)
every_field = pytest.mark.parametrize(("kind", "item"), FIELDS, ids=IDS)
every_recipe = pytest.mark.parametrize("name", RECIPES)


@every_field
def test_a_field_refuses_the_wrong_type_and_what_is_out_of_range(kind, item):
    """In one line that names the field."""
    accepted = []
    messages = []
    for value in refused(kind, item):
        try:
            kind(**{item.name: value})
        except BadInput as error:
            messages.append(str(error))
        except Exception as error:
            accepted.append(f"{value!r} raised {type(error).__name__}")
        else:
            accepted.append(repr(value))
    assert accepted == []
    name = f"{kind.__name__}.{item.name}"
    assert all(name in message and "\n" not in message for message in messages)


@every_field
def test_a_field_takes_its_default_and_the_ends_of_its_range(kind, item):
    record = kind()
    assert replace(record, **{item.name: getattr(record, item.name)}) == record
    ends = [item.metadata[end] for end in ("least", "most") if item.metadata.get(end) is not None]
    for end in ends:
        is_list = isinstance(others(record, item)[0], tuple)
        message = ""
        try:
            kind(**{item.name: (end, end) if is_list else end})
        except BadInput as error:  # it may not go with the other fields' defaults
            message = str(error)
        assert f"{item.name} must be" not in message


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_is_frozen_and_knows_its_fields(kind):
    record = kind()
    with pytest.raises(AttributeError):
        setattr(record, fields(kind)[0].name, 3)
    with pytest.raises(TypeError):
        kind(no_such_field=1)


def test_what_is_refused_passes_between_processes():
    with pytest.raises(BadField) as caught:
        ModelConfig(n_layers=0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) == "ModelConfig.n_layers must be >= 1, got 0"
    assert (again.field, again.problem) == ("n_layers", "must be >= 1, got 0")


@few
@given(runs())
def test_a_run_passes_through_json(run):
    plain = run.to_json()
    assert RunConfig.from_json(json.loads(json.dumps(plain, allow_nan=False))) == run
    assert RunConfig.from_json(plain).to_json() == plain
    assert list_differences(run, RunConfig.from_json(plain)) == []


@few
@given(runs(), runs())
def test_differences_are_empty_exactly_between_equal_runs(run, other):
    lines = list_differences(run, other)
    assert (lines == []) == (run == other)
    assert len(lines) == len(list_differences(other, run))
    assert all("\n" not in line for line in lines)


def test_parts_are_built_once_where_they_are_alike_and_only_there(monkeypatch):
    monkeypatch.setattr(run_config, "_BUILT", {})
    monkeypatch.setattr(run_config, "MOST_BUILT", 7)
    plain = RECIPES["induction"]().to_json()
    first = RunConfig.from_json(plain)
    other = json.loads(json.dumps(plain))
    other["seeds"]["data"] = 1
    second = RunConfig.from_json(other)
    assert second.model is first.model and second.seeds == Seeds(data=1) != first.seeds

    other["seeds"]["data"] = True  # equal to 1, and no seed
    with pytest.raises(BadField, match="data"):
        RunConfig.from_json(other)
    for seed in range(20):
        other["seeds"]["data"] = seed
        assert RunConfig.from_json(other).seeds.data == seed
    assert len(run_config._BUILT) <= 7


def test_a_task_is_found_without_the_declarations_of_later_worlds(monkeypatch):
    known = worlds.list_task_configs()
    monkeypatch.setattr(worlds, "NAMES", ())
    assert worlds.find_task_config("classify") is known["classify"]
    monkeypatch.undo()
    assert {name: worlds.find_task_config(name) for name in known} == known


@every_recipe
def test_one_changed_field_is_one_difference(name):
    run = RECIPES[name]()
    assert run.recipe == name and (RECIPES[name].__doc__ or "").strip()
    assert list_differences(run, RECIPES[name]()) == []
    for part in PARTS:
        for item in fields(record := getattr(run, part)):
            changed = another(record, item)
            if changed is not None:
                (line,) = list_differences(run, replace(run, **{part: changed}))
                assert line.startswith(f"{part}.{item.name}: ")


@every_recipe
def test_unknown_keys_and_parts_are_refused_and_the_nearest_named(name):
    plain = RECIPES[name]().to_json()
    for part in PARTS:
        key = next(key for key in plain[part] if key != "name")
        with pytest.raises(BadInput, match=f"unknown key '{key}x' in .*did you mean '{key}'"):
            RunConfig.from_json(plain | {part: plain[part] | {key + "x": 1}})
    with pytest.raises(BadInput, match="did you mean 'train'"):
        RunConfig.from_json(plain | {"trian": {}})
    with pytest.raises(BadInput, match="unknown task"):
        RunConfig.from_json(plain | {"task": {"name": "no-such"}})


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 2**70])
def test_a_seed_that_is_accepted_can_be_used(seed):
    """For weights, for samples, and (multiplied by a million) for dropout at a step."""
    try:
        seeds = replace_seed(RECIPES["induction"](), seed).seeds
    except BadInput:
        return
    assert seeds == Seeds(init=seed, data=seed)
    make_sample_keys(seed, "train", np.arange(3))
    torch.Generator().manual_seed(seeds.init * 1_000_003 + 10**6)


def test_what_goes_together_is_checked():
    for options, named in (
        ({"d_model": 10, "n_heads": 3}, "not a multiple"),
        ({"image_size": (9, 8), "patch_size": 4}, "do not tile"),
        ({"cls_token": False}, "readout 'cls' needs cls_token"),
        (
            {"cls_token": False, "readout": "mean", "mask": "no-cls-read"},
            "mask 'no-cls-read' needs cls_token",
        ),
    ):
        with pytest.raises(BadInput, match=named):
            ModelConfig(**options)
    with pytest.raises(BadInput, match="n_classes is not stated"):
        ModelConfig().stated("n_classes")
    assert TrainConfig() == TrainConfig() and hash(ModelConfig()) == hash(ModelConfig())
