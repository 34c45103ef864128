"""Fields set on the command line: every field of every recipe, and what is refused in one line."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from tests.laws.records import another
from toyvit.config import differences
from toyvit.errors import BadInput
from toyvit.overrides import PARTS, overridden, variants
from toyvit.recipes import RECIPES

every_recipe = pytest.mark.parametrize("name", RECIPES)


def text(value: object) -> str:
    """How a value is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


@every_recipe
def test_every_field_of_every_recipe_can_be_set(name):
    """All at once: to their own values, and each to another that goes with the rest."""
    run = RECIPES[name]()
    own, new, expected = [], [], run
    for part in PARTS:
        for item in fields(getattr(run, part)):
            own += [f"--{part}.{item.name}", text(getattr(getattr(run, part), item.name))]
            changed = another(getattr(expected, part), item)
            if changed is not None:
                expected = replace(expected, **{part: changed})
        for item in fields(changed := getattr(expected, part)):
            new += [f"--{part}.{item.name}", text(getattr(changed, item.name))]
    assert overridden(run, own) == run == overridden(run, [])
    assert overridden(run, new) == expected and len(differences(run, expected)) > 0.8 * len(new) / 2


def test_every_field_can_be_set_alone():
    run = RECIPES["markov"]()
    for part in PARTS:
        for item in fields(record := getattr(run, part)):
            changed = another(record, item)
            if changed is not None:
                found = overridden(run, [f"--{part}.{item.name}", text(getattr(changed, item.name))])
                assert found == replace(run, **{part: changed})


def test_a_value_may_follow_an_equals_sign():
    run = RECIPES["induction"]()
    for name, value in (
        ("train.steps", 7),
        ("model.cls_token", True),
        ("train.checkpoints", (0, 10)),
        ("model.image_size", (40, 40)),
    ):
        spaced, joined = ([f"--{name}", text(value)], [f"--{name}={text(value)}"])
        assert overridden(run, joined) == overridden(run, spaced) != run


def test_a_list_may_have_one_number():
    assert overridden(RECIPES["induction"](), ["--train.checkpoints", "5"]).train.checkpoints == (5,)


def test_lists_of_a_sweep_are_apart_by_slashes():
    """Each becomes a setting of its own, with a name that is a folder's."""
    made = variants(
        RECIPES["induction"](), ["--train.clamps", "none/0.0:previous,0.0:copy@5/1:match", "--model.n_heads", "1,2"]
    )
    assert list(made)[::2] == ["clamps-none_n_heads-1", "clamps-0.0-previous-0.0-copy-5_n_heads-1", "clamps-1-match_n_heads-1"]
    assert [run.train.clamps for run in list(made.values())[1::2]] == [(), ("0.0:previous", "0.0:copy@5"), ("1:match",)]
    (alone,) = variants(RECIPES["induction"](), ["--train.checkpoints", "0,10"]).values()
    assert alone.train.checkpoints == (0, 10)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--train.clamps", "0.0:previous,1-match"], "TrainConfig.clamps: a clamp is spelt"),
        (["--model.n_layer", "3"], "did you mean '--model.n_layers'"),
        (["--modle.n_layers", "3"], "did you mean '--model.n_layers'"),
        (["--model.n_layers", "x"], "model.n_layers"),
        (["--model.n_layers", "2.5"], "model.n_layers"),
        (["--model.n_layers"], "model.n_layers"),
        (["--model.n_layers", "0"], "n_layers must be >= 1, got 0"),
        (["--model.n_heads", "3"], "d_model 64 is not a multiple of n_heads 3"),
        (["--train.learning_rate", "nan"], "learning_rate"),
        (["--train.clip", "inf"], "clip"),
        (["--model.cls_token", "perhaps"], "cls_token"),
        (["--task.world", "mnist"], "unknown argument '--task.world'"),
        (["--model", "{}"], "unknown argument '--model'"),
        (["stray"], "stray"),
    ],
)
def test_a_wrong_override_is_one_line(words, named):
    with pytest.raises(BadInput) as caught:
        overridden(RECIPES["induction"](), words)
    assert named in str(caught.value) and "\n" not in str(caught.value)
