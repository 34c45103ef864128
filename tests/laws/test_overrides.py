"""Fields set on the command line: every field of every recipe, and what is refused in one line."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from tests.laws.records import FIELDS, IDS, another, others, refused
from toyvit.config import ModelConfig, Seeds, TrainConfig, list_differences
from toyvit.config.field_types import format_value
from toyvit.config.overrides import PARTS, apply_overrides, expand_variants
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES

every_recipe = pytest.mark.parametrize("name", RECIPES)
every_field = pytest.mark.parametrize(("kind", "item"), FIELDS, ids=IDS)
# All other records are tasks.
PART_OF = {ModelConfig: "model", TrainConfig: "train", Seeds: "seeds"}


def type_field(part, name, record):
    """The words that set a field to what it is in a record."""
    return [f"--{part}.{name}", format_value(getattr(record, name))]


@every_recipe
def test_every_field_of_every_recipe_can_be_set(name):
    """All at once: to their own values, and each to another that goes with the rest."""
    run = RECIPES[name]()
    own = []
    new = []
    expected = run
    for part in PARTS:
        record = getattr(run, part)
        changed = record
        for item in fields(record):
            own += type_field(part, item.name, record)
            changed = another(changed, item) or changed
        for item in fields(record):
            new += type_field(part, item.name, changed)
        expected = replace(expected, **{part: changed})

    assert apply_overrides(run, own) == run == apply_overrides(run, [])
    assert apply_overrides(run, new) == expected
    assert len(list_differences(run, expected)) > 0.8 * len(new) / 2


def test_every_field_can_be_set_alone():
    run = RECIPES["markov"]()
    for part in PARTS:
        record = getattr(run, part)
        for item in fields(record):
            changed = another(record, item)
            if changed is not None:
                typed = type_field(part, item.name, changed)
                assert apply_overrides(run, typed) == replace(run, **{part: changed})


def test_a_value_may_follow_an_equals_sign():
    run = RECIPES["induction"]()
    for name, value in (
        ("train.steps", "7"),
        ("model.cls_token", "true"),
        ("train.checkpoints", "0,10"),
        ("model.image_size", "40,40"),
    ):
        joined = apply_overrides(run, [f"--{name}={value}"])
        assert joined == apply_overrides(run, [f"--{name}", value]) != run


def test_a_list_may_have_one_number_or_none():
    run = RECIPES["induction"]()
    assert apply_overrides(run, ["--train.checkpoints", "5"]).train.checkpoints == (5,)
    assert apply_overrides(run, ["--train.checkpoints", "none"]).train.checkpoints is None
    assert apply_overrides(run, ["--train.clamps", "none"]).train.clamps == ()


def test_lists_of_a_sweep_are_apart_by_slashes():
    """Each becomes a setting of its own, with a name that is a folder's."""
    variants = expand_variants(
        RECIPES["induction"](),
        ["--train.clamps", "none/0.0:previous,0.0:copy@5/1:match", "--model.n_heads", "1,2"],
    )
    assert list(variants)[::2] == [
        "clamps-none_n_heads-1",
        "clamps-0.0-previous-0.0-copy-5_n_heads-1",
        "clamps-1-match_n_heads-1",
    ]
    assert [run.train.clamps for run in list(variants.values())[1::2]] == [
        (),
        ("0.0:previous", "0.0:copy@5"),
        ("1:match",),
    ]
    (alone,) = expand_variants(RECIPES["induction"](), ["--train.checkpoints", "0,10"]).values()
    assert alone.train.checkpoints == (0, 10)


@pytest.mark.parametrize("rates", ["0.1,0.2,0.1", "0.1,0.2,1e-1"])
def test_a_setting_of_a_sweep_is_named_once(rates):
    with pytest.raises(
        BadInput, match=r"^--model.n_heads 1 --train.learning_rate (0.1|1e-1) is named twice"
    ):
        expand_variants(
            RECIPES["induction"](), ["--model.n_heads", "1,2", "--train.learning_rate", rates]
        )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            ["--train.clamps", "0.0:previous,1-match"],
            "--train.clamps cannot be read: a clamp is spelt",
        ),
        (["--model.n_layer", "3"], "did you mean '--model.n_layers'"),
        (["--modle.n_layers", "3"], "did you mean '--model.n_layers'"),
        (["--model.n_layers", "x"], "model.n_layers"),
        (["--model.n_layers", "2.5"], "model.n_layers"),
        (["--model.n_layers"], "model.n_layers"),
        (["--model.n_layers", "0"], "--model.n_layers must be >= 1, got 0"),
        (["--model.n_heads", "3"], "--model.n_heads 3: d_model 64 is not a multiple of n_heads 3"),
        (["--seeds.init", "-1"], "--seeds.init must be >= 0"),
        (
            ["--task.rows", "1", "--task.columns", "2"],
            "--task.rows 1 --task.columns 2: a grid of 1 x 2 cells holds 0 pairs",
        ),
        (["--train.learning_rate", "nan"], "--train.learning_rate"),
        (["--train.clip", "inf"], "--train.clip"),
        (["--model.cls_token", "perhaps"], "--model.cls_token"),
        (["--task.world", "mnist"], "unknown argument '--task.world'"),
        (["--model", "{}"], "unknown argument '--model'"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_override_is_one_line(words, named):
    with pytest.raises(BadInput) as caught:
        apply_overrides(RECIPES["induction"](), words)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@every_field
def test_what_is_refused_names_the_option_that_was_typed(kind, item):
    """Not the record, which only a library user knows: for texts, and numbers out of range."""
    part = PART_OF.get(kind, "task")
    run = replace(RECIPES["induction"](), **{part: kind()})
    near = others(kind(), item)[0]
    words = ["no-such"] if "allowed" in item.metadata else []
    if isinstance(near, (int, float)) and not isinstance(near, bool):
        numbers = [value for value in refused(kind, item) if isinstance(value, (int, float))]
        words += [format_value(value) for value in numbers]
    for word in words:
        with pytest.raises(BadInput) as caught:
            apply_overrides(run, [f"--{part}.{item.name}", word])
        assert str(caught.value).startswith(f"--{part}.{item.name} ")
        assert kind.__name__ not in str(caught.value)
