"""The one reader of types: what is typed, checked and kept as JSON, for any type of a field."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given, settings, strategies as st

from tests.laws.records import list_wrong
from toyvit.config import TaskConfig
from toyvit.config.field_types import Choice, OneOf, Scalar, Several, format_value, read_type
from toyvit.config.fields import Checked, build_record, choice, number, read_field_types
from toyvit.config.overrides import apply_task_overrides
from toyvit.errors import BadField, BadInput

many = settings(deadline=None, derandomize=True, max_examples=200)
# Text that does not stand between commas and is not a word for something else.
texts = st.from_regex(r"[a-z][a-z0-9_./ -]{0,8}[a-z0-9]", fullmatch=True).filter(
    lambda text: text not in ("none", "null", "true", "false", "nan", "inf", "infinity")
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    int: st.integers(-(10**9), 10**9),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: texts,
    Path: texts.map(Path),
    Literal["point", "line"]: st.sampled_from(["point", "line"]),
}


@st.composite
def hints_and_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """A type that a field may have, and a value of it."""
    hint = draw(st.sampled_from(list(SCALARS)))
    values = SCALARS[hint]
    form = draw(st.sampled_from(["alone", "endless", "fixed", "mixed"]))
    if form == "endless":
        hint, values = tuple[hint, ...], st.lists(values, max_size=4).map(tuple)
    if form == "fixed":
        hint, values = tuple[hint, hint], st.tuples(values, values)
    if form == "mixed":
        hint, values = tuple[int, hint], st.tuples(SCALARS[int], values)
    if draw(st.booleans()):
        hint, values = hint | None, st.none() | values
    value = draw(values)
    if hint == tuple[str, ...] | None and value == ():
        value = None  # both are typed `none`
    return hint, value


@pytest.mark.slow
@many
@given(hints_and_values())
def test_a_value_passes_through_text_and_json(case):
    hint, value = case
    kind = read_type(hint)
    assert kind.holds(value) and kind.find_problem(value, {}) == ""
    typed = kind.parse(format_value(value))
    assert typed == (None if value == () and kind.holds(None) else value)
    plain = json.loads(json.dumps(value, default=str))
    assert kind.read_plain(plain) == value
    assert "\n" not in str(kind) and str(kind)


@pytest.mark.parametrize("hint", [bool, int, float, str, Path, Literal["a", "b"]])
@pytest.mark.parametrize("form", ["alone", "endless", "fixed", "optional"])
def test_a_value_of_another_type_is_refused(hint, form):
    if form in ("endless", "fixed") and hint == Literal["a", "b"]:
        kind = read_type(tuple[hint, hint])
        assert kind.find_problem(("a", "c"), {}).startswith("cannot be 'c': allowed are a, b")
        return
    forms = {"alone": hint, "endless": tuple[hint, ...], "fixed": tuple[hint, hint]}
    kind = read_type(forms.get(form, hint | None))
    for value in list_wrong(kind, {"least": 0}):
        problem = kind.find_problem(value, {"least": 0})
        assert problem and "\n" not in problem, value


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (int, Scalar(int)),
        (Literal["a", "b"], Choice(("a", "b"))),
        (tuple[int, int], Several((Scalar(int), Scalar(int)), endless=False)),
        (tuple[Path, ...], Several((Scalar(Path),), endless=True)),
        (Optional[int], OneOf((Scalar(int), Scalar(NoneType)))),  # noqa: UP045
        (Union[int, str], OneOf((Scalar(int), Scalar(str)))),  # noqa: UP007
        (int | tuple[int, ...], OneOf((Scalar(int), Several((Scalar(int),), endless=True)))),
    ],
)
def test_a_hint_is_read_by_its_structure(hint, kind):
    assert read_type(hint) == kind


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        (dict[str, int], "dict[str, int]"),
        (list[int], "list[int]"),
        (list, "list"),
        (bytes, "bytes"),
        (Any, "Any"),
        (tuple, "tuple"),
        (Literal[1, 2], "typing.Literal[1, 2]"),
        (int | set[int], "set[int]"),
        (tuple[tuple[int, int], ...], "tuple[tuple[int, int], ...]"),
        (tuple[int | None, int], "tuple[int | None, int]"),
    ],
)
def test_a_type_that_is_not_known_is_refused_by_name(hint, named):
    with pytest.raises(BadInput) as caught:
        read_type(hint)
    assert f"of the type {named}: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_union_reads_what_is_typed_as_the_first_that_fits():
    kind = read_type(str | int | bool | tuple[int, int] | None)
    typed = ["none", "true", "3", "3,4", "3,4,5", "true,4"]
    assert [kind.parse(text) for text in typed] == [None, True, 3, (3, 4), "3,4,5", "true,4"]
    assert kind.find_problem(2.5, {}) == (
        "must be text or a whole number or true or false or a list of 2 whole numbers or none, "
        "got 2.5"
    )
    bounded = read_type(int | Literal["auto"])
    assert bounded.find_problem(0, {"least": 1}) == "must be >= 1, got 0"
    assert bounded.find_problem("auto", {"least": 1}) == ""
    with pytest.raises(ValueError, match="atuo"):
        bounded.parse("atuo")


@dataclass(frozen=True, kw_only=True)
class Example(TaskConfig):
    name = "example"
    form: Literal["point", "line"] = "point"
    file: Path | None = None
    size: int | Literal["auto"] = number("auto", least=1)
    shape: tuple[int, float] = (1, 0.5)
    way: str = choice("up", "down")


@dataclass(frozen=True, kw_only=True)
class Unknown(Checked):
    good: int = 1
    weights: dict[str, int] | None = None


def test_a_record_of_such_fields_is_typed_kept_and_refused():
    typed = "--task.form line --task.file a/b.npz --task.size 3 --task.shape 2,0.25 --task.way down"
    record = apply_task_overrides(Example(), typed.split())
    expected = Example(form="line", file=Path("a/b.npz"), size=3, shape=(2, 0.25), way="down")
    assert record == expected
    plain = {item.name: getattr(record, item.name) for item in fields(record)}
    assert build_record(Example, json.loads(json.dumps(plain, default=str))) == record

    for words, line in (
        (
            "form lnie",
            "--task.form cannot be 'lnie': allowed are point, line; did you mean 'line'?",
        ),
        ("size 0", "--task.size must be >= 1, got 0"),
        ("size x", "--task.size takes a whole number or one of auto, got 'x'"),
        ("shape 1", "--task.shape takes a list of 2 values: a whole number, a number, got '1'"),
        ("way left", "--task.way cannot be 'left': allowed are up, down"),
    ):
        with pytest.raises(BadInput) as caught:
            apply_task_overrides(Example(), f"--task.{words}".split())
        assert str(caught.value) == line


def test_a_record_with_an_unknown_type_is_refused_by_name():
    with pytest.raises(BadInput, match=r"^Unknown.weights: .* of the type dict\[str, int\]"):
        Unknown()
    with pytest.raises(BadInput, match=r"Unknown.weights"):
        read_field_types(Unknown)
    with pytest.raises(BadField, match=r"Example.file must be a path or none, got 'a'|a path"):
        Example(file="a")
