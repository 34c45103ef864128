"""Laws of curricula: training shows the task of each step, all else is of the task itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.laws.worlds import CONFIGS, MADE
from toyvit.clamps.weight_clamps import check_clamps
from toyvit.config import (
    ModelConfig,
    RelationsConfig,
    RunConfig,
    SortOfClevrConfig,
    TaskConfig,
    TrainConfig,
    find_events,
    find_task_changes,
    plan_stages,
)
from toyvit.config.curriculum import TaskChange
from toyvit.config.field_types import Choice, format_value
from toyvit.config.fields import read_field_types
from toyvit.data.task import build_task, resolve_config
from toyvit.errors import BadInput
from toyvit.measuring import evaluation_id
from toyvit.recipes import RECIPES
from toyvit.train.stream import BatchStream

SIZE = 4
EVEN = ("alike=0.8", "alike=0.5@6")


def find_other(config: TaskConfig, option: str) -> TaskConfig | None:
    """The task with another value of an option that goes with the rest, of as many classes."""
    now = getattr(config, option)
    kind = read_field_types(type(config))[option]
    values = kind.allowed if isinstance(kind, Choice) else (now + 1, now - 1, now / 2 + 0.2)
    task = build_task(config)

    for value in values:
        try:
            other = build_task(replace(config, **{option: value}))
        except BadInput:
            continue
        if value != now and other.n_classes == task.n_classes:
            return other.config
    return None


def list_changed() -> dict[str, tuple[TaskConfig, TaskConfig, str]]:
    """Of each kind of task that declares an option: one, as it is at first, and the option."""
    changed: dict[str, tuple[TaskConfig, TaskConfig, str]] = {}
    for config in CONFIGS.values():
        for option in config.schedulable:
            case = f"{config.name} {option}"
            other = None if case in changed else find_other(config, option)
            if other is not None:
                changed[case] = (config, other, option)
    return changed


DECLARED = {
    f"{config.name} {option}" for config in CONFIGS.values() for option in config.schedulable
}
CHANGED = list_changed()


def run_of(config: TaskConfig, *curriculum: str, steps: int = 12, **training: object) -> RunConfig:
    train = TrainConfig(steps=steps, batch_size=SIZE, curriculum=curriculum, **training)
    return RunConfig(recipe="a", task=config, model=ModelConfig(), train=train)


def test_every_option_that_is_declared_is_tried():
    assert set(CHANGED) == DECLARED and len(DECLARED) > 20


@pytest.mark.parametrize(("config", "other", "option"), CHANGED.values(), ids=CHANGED)
def test_a_batch_is_of_the_task_of_its_step_and_pictures_keep_their_kind(config, other, option):
    """From the step on that is named, for whoever comes in at whichever step."""
    values = [format_value(getattr(each, option)) for each in (other, config)]
    run = run_of(config, f"{option}={values[0]}", f"{option}={values[1]}@6")
    batches = list(BatchStream(build_task(config), run))
    late = list(BatchStream(build_task(config), run, first=5))

    for step, (images, target) in enumerate(batches, 1):
        task = build_task(other if step <= 6 else config)
        indices = torch.arange((step - 1) * SIZE, step * SIZE).numpy()
        expected = task.training_batch(run.seeds.data, "train", indices)
        assert torch.equal(images, expected[0])
        assert target.equal(expected[1]) or target.isnan().any()
    assert all(torch.equal(one[0], two[0]) for one, two in zip(batches[4:], late, strict=True))
    assert len(batches) == 12


def test_without_a_curriculum_all_is_as_it_was():
    """One stage, the task itself, and a record that does not name it."""
    for name, config in CONFIGS.items():
        run = run_of(config)
        assert plan_stages(config, ()) == {0: config}
        assert "curriculum" not in run.to_json()["train"]
        assert BatchStream(MADE[name], run).stages == {0: MADE[name]}


def test_the_record_holds_the_curriculum_in_one_spelling():
    recipe = RECIPES["match-to-sample-even"]()
    typed = replace(recipe.train, curriculum=("alike=0.80@0", "alike=0.50@0700"))
    run = resolve_config(replace(recipe, train=typed))
    assert run.train.curriculum == ("alike=0.8", "alike=0.5@700")
    assert RunConfig.from_json(run.to_json()) == run
    assert str(TaskChange.parse("alike=0.5@0")) == "alike=0.5"


def test_tests_are_of_the_task_that_it_ends_with():
    """The evaluation pictures, and by them the cells of the table, are those without it."""
    plain = resolve_config(RECIPES["match-to-sample-even"]())
    plain = replace(plain, train=replace(plain.train, curriculum=()))
    batch = build_task(plain.task).eval_batch("test", 16, 0)
    run = resolve_config(replace(plain, train=replace(plain.train, curriculum=EVEN)))
    assert run.task == plain.task
    assert evaluation_id(run, "test", batch) == evaluation_id(plain, "test", batch)


def test_a_change_of_the_task_is_an_event_of_the_training():
    train = TrainConfig(steps=50, warmup=10, curriculum=("noise=0", "noise=0.1@6", "noise=0.3@9"))
    assert find_task_changes(train) == (6, 9)
    assert set(find_events(train)) > {6, 9}


REFUSED: dict[str, tuple[TaskConfig, tuple[str, ...], str]] = {
    "spelling": (RelationsConfig(), ("alike:0.8",), "OPTION=VALUE@STEP"),
    "order": (RelationsConfig(), ("alike=0.8@9", "alike=0.5@3"), "steps must ascend"),
    "twice": (RelationsConfig(), ("alike=0.8@3", "alike=0.5@3"), "two values at step 3"),
    "unknown": (RelationsConfig(), ("alik=0.8",), "did you mean 'alike'"),
    "fixed": (RelationsConfig(), ("rows=5", "rows=4@3"), "allowed are ask, alike, noise"),
    "none": (CONFIGS["addition"], ("modulus=5",), "no option that may change"),
    "type": (RelationsConfig(), ("alike=most",), "alike takes a number, got 'most'"),
    "range": (RelationsConfig(), ("alike=2",), "task.alike must be >= 0.01"),
    "end": (RelationsConfig(), ("alike=0.8",), "say --task.alike 0.8, or end with alike=0.5@STEP"),
    "late": (RelationsConfig(), ("alike=0.8", "alike=0.5@12"), "training ends at step 12"),
    "classes": (RelationsConfig(), ("ask=odd", "ask=same@3"), "n_classes 16, but it has 2"),
    "together": (SortOfClevrConfig(), ("n_objects=1", "n_objects=6@3"), "needs n_objects of at"),
    "held out": (SortOfClevrConfig(held_out=0.2), ("ask=relational",), "allowed are n_objects"),
}


@pytest.mark.parametrize(("config", "curriculum", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_one_line(config, curriculum, words):
    with pytest.raises(BadInput) as caught:
        resolve_config(run_of(config, *curriculum))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_clamp_that_needs_a_match_is_refused_where_one_stage_has_none():
    recipe = RECIPES["fewshot"]()
    curriculum = ("p_bursty=0.5", "p_bursty=1@6")
    train = replace(recipe.train, clamps=("1.0:match",), curriculum=curriculum)
    check_clamps(resolve_config(replace(recipe, train=replace(train, curriculum=()))))
    with pytest.raises(BadInput, match="needs a matching label in every training picture"):
        check_clamps(resolve_config(replace(recipe, train=train)))


def test_options_that_go_together_alone_may_change_together():
    curriculum = ("n_objects=1", "ask=non-relational", "n_objects=6@3", "ask=both@3")
    stages = plan_stages(SortOfClevrConfig(), curriculum)
    assert {start: (stage.n_objects, stage.ask) for start, stage in stages.items()} == {
        0: (1, "non-relational"),
        3: (6, "both"),
    }
