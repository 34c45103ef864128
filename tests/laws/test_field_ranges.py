"""Where the range of a field ends follows from what it counts, and where options contradict each
other from what they leave to be shown: the last that can be is taken, the next is refused.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.laws.records import FIELDS, IDS
from toyvit.config.field_types import Scalar, Several
from toyvit.config.fields import read_field_types
from toyvit.data.question_configs import ReconstructConfig
from toyvit.data.task import build_task
from toyvit.data.worlds import find_task_config
from toyvit.errors import BadField, BadInput

# The fewest that a run can do with, of what a field counts.
FEWEST = {
    # What may be left out.
    **dict.fromkeys(("d_mlp", "n_registers", "warmup", "burstiness", "distractors"), 0),
    # Places on a scale that begins at 0.
    **dict.fromkeys(("checkpoints", "init", "data", "measure"), 0),
    # What there is nothing without.
    **dict.fromkeys(("n_layers", "n_heads", "d_model", "n_channels", "n_classes"), 1),
    **dict.fromkeys(("image_size", "patch_size", "rows", "columns", "window", "hops"), 1),
    **dict.fromkeys(("steps", "batch_size", "n_validation", "threads"), 1),
    **dict.fromkeys(("n_pairs", "n_items", "n_labels", "least", "most"), 1),
    # What has to differ, or there is nothing to ask.
    **dict.fromkeys(("n_values", "n_textures", "n_glyphs", "n_shapes", "modulus"), 2),
    "FewshotConfig.n_labels": 2,
    # An odd one, and others that are alike.
    "n_objects": 3,
    # One that is asked about itself.
    "SortOfClevrConfig.n_objects": 1,
    "cell": 8,
    # Three cells of 8 pixels; of the user's own pictures a pixel.
    "size": 24,
    **dict.fromkeys(("ClassifyConfig.size", "LookConfig.size", "channels", "n_answers"), 1),
}
# Numbers that divide or multiply all there is: not 0.
POSITIVE = {
    *("norm_epsilon", "patch_scale", "learning_rate", "epsilon", "clip"),
    *("train_share", "hidden", "deviation"),
}
# Shares that may be the whole, and shares that have to leave something.
WHOLE = {"p_bursty", "hidden"}
PARTIAL = {"dropout", "momentum", "beta1", "beta2", "held_out", "train_share", "alike"}
# What a bound from above stands for: a side of the counting picture has 16 cells, and more than
# three objects (six with a colour each), or two hops, no world draws; a seed has 32 bits, an
# operand's byte 256 values.
MOST = {
    "CountingConfig.most": 16,
    "ObjectsConfig.most": 3,
    "SortOfClevrConfig.n_objects": 6,
    "SortOfClevrConfig.cell": 16,
    "channels": 3,
    "hops": 2,
    "modulus": 255,
    **dict.fromkeys(("init", "data", "measure"), 2**32 - 1),
}

# The largest that a run of an earlier version may have: it has to open in every later one.
LARGEST = {
    **dict.fromkeys(("rows", "columns"), 16),
    **dict.fromkeys(("InductionConfig.rows", "InductionConfig.columns"), 32),
    **dict.fromkeys(("RepeatsConfig.rows", "RepeatsConfig.columns"), 32),
    **dict.fromkeys(("RelationsConfig.rows", "RelationsConfig.columns"), 32),
    **dict.fromkeys(("MarkovConfig.rows", "MarkovConfig.columns"), 64),
    **dict.fromkeys(("n_items", "n_labels", "n_glyphs", "n_shapes"), 256),
    **dict.fromkeys(("n_values", "n_objects", "n_pairs", "burstiness", "size"), 64),
    **{"SortOfClevrConfig.n_objects": 6, "SortOfClevrConfig.cell": 16},
    **{"FewshotConfig.n_classes": 1024, "n_textures": 16, "distractors": 15},
    **{"noise": 10.0, "zipf": 8.0, "held_out": 0.9, "train_share": 0.99, "alike": 0.99},
    **{"dropout": 0.99, "momentum": 0.9999, "beta1": 0.9999, "beta2": 0.999999},
}


def find_scalar(kind: type[Any], name: str) -> tuple[type | None, bool]:
    """The type of a field's number (None: it has none), and whether the field is a list of such."""
    field_type = read_field_types(kind)[name]
    options = getattr(field_type, "options", (field_type,))
    for option in options:
        is_list = isinstance(option, Several)
        part = option.parts[0] if is_list else option
        if isinstance(part, Scalar) and part.kind in (int, float):
            return part.kind, is_list
    return None, False


def is_in_range(kind: type[Any], name: str, value: float) -> bool:
    """Whether a field takes a value by itself; it may yet not go with the others' defaults."""
    is_list = find_scalar(kind, name)[1]
    try:
        kind(**{name: (value, value) if is_list else value})
    except BadField as error:
        return not (error.field == name and error.problem.startswith("must be"))
    except BadInput:
        return True
    return True


def list_numbers(number: type) -> list[Any]:
    """Every field that is a number of this type, or a list of such: pytest's parameters."""
    return [
        pytest.param(kind, item.name, id=name)
        for (kind, item), name in zip(FIELDS, IDS, strict=True)
        if find_scalar(kind, item.name)[0] is number
    ]


@pytest.mark.parametrize(("kind", "name"), list_numbers(int))
def test_a_count_begins_where_there_is_something_to_count(kind, name):
    fewest = FEWEST.get(f"{kind.__name__}.{name}", FEWEST[name])
    assert is_in_range(kind, name, fewest)
    assert not is_in_range(kind, name, fewest - 1)


@pytest.mark.parametrize(("kind", "name"), list_numbers(int))
def test_a_count_ends_where_there_are_no_more(kind, name):
    most = MOST.get(f"{kind.__name__}.{name}", MOST.get(name))
    if most is not None:
        assert is_in_range(kind, name, most)
        assert not is_in_range(kind, name, most + 1)


@pytest.mark.parametrize(("kind", "name"), list_numbers(int) + list_numbers(float))
def test_the_largest_of_an_earlier_run_is_taken(kind, name):
    largest = LARGEST.get(f"{kind.__name__}.{name}", LARGEST.get(name))
    assert largest is None or is_in_range(kind, name, largest)


@pytest.mark.parametrize(("kind", "name"), list_numbers(float))
def test_a_size_begins_at_0_and_a_share_ends_at_1(kind, name):
    is_open = name in POSITIVE
    assert is_in_range(kind, name, 0.0) is not (is_open or name == "alike")
    assert not is_in_range(kind, name, -1e-9)
    assert is_in_range(kind, name, 1e-12) or name == "alike"

    assert is_in_range(kind, name, 1.0) is (name not in PARTIAL)
    assert is_in_range(kind, name, 0.9)
    assert is_in_range(kind, name, 1.001) is (name not in PARTIAL | WHOLE)
    assert is_in_range(kind, name, 0.01) and is_in_range(kind, name, 0.5)


# A task, the last options that go together, the first that do not, and what the refusal says.
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a pair and a query": (
        "induction",
        {"rows": 1, "columns": 3},
        {"rows": 1, "columns": 2},
        "holds 0 pairs: need at least 1",
    ),
    "an item a pair": (
        "induction",
        {"rows": 1, "columns": 7, "n_items": 3},
        {"rows": 1, "columns": 7, "n_items": 2},
        "holds 3 pairs: .* at most n_items 2",
    ),
    "a next cell": (
        "markov",
        {"rows": 1, "columns": 2},
        {"rows": 1, "columns": 1},
        "has no next cell",
    ),
    "discs fill a side": (
        "counting",
        {"most": 10, "distractors": 6},
        {"most": 10, "distractors": 7},
        "at most 16 in all",
    ),
    "cells to point to": (
        "pointers",
        {"rows": 3, "columns": 3, "n_values": 8},
        {"rows": 2, "columns": 4, "n_values": 8},
        "has 7 cells to point to",
    ),
    "digits": (
        "pointers",
        {"source": "mnist", "n_values": 10, "rows": 4},
        {"source": "mnist", "n_values": 11, "rows": 4},
        "mnist has 10 digits",
    ),
    "hops": (
        "pointers",
        {"n_values": 3, "hops": 2},
        {"n_values": 2, "hops": 2},
        "2 hops need n_values of at least 3",
    ),
    "the first of a window": (
        "pointers",
        {"window": 1},
        {"window": 2},
        "at most 1 with 'first'",
    ),
    "the sum of a window": (
        "pointers",
        {"window": 8, "aggregate": "sum"},
        {"window": 9, "aggregate": "sum"},
        "at most the 8 cells",
    ),
    "two objects": (
        "relations",
        {"rows": 1, "columns": 2},
        {"rows": 1, "columns": 1},
        "does not hold the 2 objects",
    ),
    "odd ones": (
        "relations",
        {"ask": "odd", "rows": 1, "columns": 5, "n_objects": 5},
        {"ask": "odd", "rows": 1, "columns": 4, "n_objects": 5},
        "does not hold the 5 objects",
    ),
    "room for pairs": (
        "relations",
        {"ask": "match", "rows": 2, "columns": 4},
        {"ask": "match", "rows": 2, "columns": 3},
        "no room for the three pairs",
    ),
    "shapes of pairs": (
        "relations",
        {"ask": "match", "n_shapes": 6},
        {"ask": "match", "n_shapes": 5},
        "n_shapes of at least 6, got 5",
    ),
    "a period that comes twice": (
        "repeats",
        {"rows": 1, "columns": 6, "least": 4, "most": 4},
        {"rows": 1, "columns": 6, "least": 5, "most": 5},
        "least <= most < 5",
    ),
    "a period of different glyphs": (
        "repeats",
        {"least": 4, "most": 4, "n_glyphs": 4},
        {"least": 5, "most": 5, "n_glyphs": 4},
        "least <= most < 5",
    ),
    "periods in order": (
        "repeats",
        {"least": 8, "most": 8},
        {"least": 9, "most": 8},
        "periods of 9 to 8",
    ),
    "a canvas of glyphs": (
        "objects",
        {"source": "glyphs", "size": 32},
        {"source": "glyphs", "size": 33},
        "a multiple of 8 pixels",
    ),
    "a canvas of shapes": (
        "objects",
        {"source": "dsprites", "size": 40},
        {"source": "dsprites", "size": 32},
        "at least 40: got 32",
    ),
    "copies of a class": (
        "fewshot",
        {"burstiness": 12},
        {"burstiness": 13},
        "does not go into n_pairs 12",
    ),
    "classes of a picture": (
        "fewshot",
        {"n_classes": 7},
        {"n_classes": 6},
        "take 7 classes",
    ),
    "classes of a picture with random labels": (
        "fewshot",
        {"labels": "random", "n_classes": 6},
        {"labels": "random", "n_classes": 5},
        "take 6 classes",
    ),
    "classes that there are": (
        "fewshot",
        {"source": "omniglot", "n_classes": 964},
        {"source": "omniglot", "n_classes": 965},
        "omniglot can train 964",
    ),
    "classes that are left": (
        "fewshot",
        {"source": "mnist", "n_pairs": 8, "n_classes": 6},
        {"source": "mnist", "n_pairs": 8, "n_classes": 7},
        "leaves 3 classes",
    ),
    "labels that the context gives": (
        "fewshot",
        {"labels": "random", "burstiness": 1, "n_pairs": 4},
        {"labels": "random", "burstiness": 0, "n_pairs": 4},
        "burstiness at least 1",
    ),
    "pictures that all give them": (
        "fewshot",
        {"labels": "random", "p_bursty": 1},
        {"labels": "random", "p_bursty": 0.99},
        "p_bursty 1",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_the_last_options_that_go_together_are_taken_and_the_next_refused(case):
    task, last, beyond, words = CONTRADICTIONS[case]
    kind = find_task_config(task)
    assert {name: getattr(kind(**last), name) for name in last} == last
    with pytest.raises(BadInput, match=words) as caught:
        kind(**beyond)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["induction", "markov", "repeats", "pointers", "relations"])
def test_the_smallest_pictures_that_are_taken_can_be_drawn(name):
    """What a config takes its world can draw, with as little in it as there may be."""
    for task, last, _, _ in CONTRADICTIONS.values():
        if task == name and last.get("source") != "mnist":
            batch = build_task(find_task_config(name)(**last)).eval_batch("test", 3, 0)
            assert len(batch.images) == 3
            assert batch.images.isfinite().all()


@pytest.mark.parametrize(("n_hidden", "is_taken"), [(0, False), (1, True), (15, True), (16, False)])
def test_some_patches_are_hidden_and_some_shown(n_hidden, is_taken):
    config = ReconstructConfig(patch_size=2, hidden=max(n_hidden, 0.1) / 16)
    if is_taken:
        assert build_task(config).world.n_hidden == n_hidden
        return
    with pytest.raises(BadInput, match=f"hides {n_hidden}: allowed are 1 to 15"):
        build_task(config)


def test_a_task_of_two_sources_is_refused(tmp_path):
    """A world by name and a file: which of them is meant cannot be known."""
    kind = find_task_config("classify")
    file = tmp_path / "own.npz"
    with pytest.raises(BadInput, match=r"'digits' and task\.npz .* are both given") as caught:
        build_task(kind(world="digits", npz=str(file)))
    assert "\n" not in str(caught.value)


def test_the_rules_name_fields_that_are_there():
    there = {item.name for kind, item in FIELDS if find_scalar(kind, item.name)[0]}
    named = {name.rpartition(".")[2] for name in (*FEWEST, *MOST, *LARGEST)}
    assert named | POSITIVE | WHOLE | PARTIAL <= there
