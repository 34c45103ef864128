"""What the bench reads off its clocks and ratios, and that a missed bar is called so."""

from __future__ import annotations

import json

import pytest

from bench import __main__ as command, starting
from bench.__main__ import SUBJECTS
from bench.growth import describe_growth
from bench.starting import read_children_clock, start
from bench.timing import Result, format_cells
from toyvit.cli.main import main
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder

RUN = RECIPES["induction-smoke"]()
BUSY = "sum(range(4 * 10**6))"


def measure_children(work) -> float:
    before = read_children_clock()
    work()
    return read_children_clock() - before


def test_the_work_of_a_child_is_counted_and_one_s_own_is_not():
    bare = measure_children(lambda: start("-c", ""))
    assert measure_children(lambda: start("-c", BUSY)) > bare > 0
    assert measure_children(lambda: sum(range(4 * 10**6))) == 0


def test_a_child_that_fails_is_no_measurement():
    with pytest.raises(Exception, match="returned non-zero exit status 3"):
        start("-c", "raise SystemExit(3)")


def test_every_command_is_started_afresh_on_runs_that_are_listed(monkeypatch, capsys):
    """Runs are made by hand here: of processes only what was typed is looked at."""
    typed = []
    listed = {}

    def note(*words):
        typed.append(words)
        if "train" in words:
            RunFolder(words[-1] / words[words.index("--name") + 1]).create(RUN)
        if "ls" in words:
            folder = words[words.index("ls") + 1]
            if folder not in listed:
                listed[folder] = main(["ls", str(folder)])

    def train_short(folder, *words):
        typed.append(("train", *words))

    monkeypatch.setattr(starting, "start", note)
    assert starting.MANY == 1000
    monkeypatch.setattr(starting, "MANY", 30)
    original = starting.train
    monkeypatch.setattr(
        starting, "train", lambda place, *words: (train_short if words else original)(place, *words)
    )
    rows = list(starting.results(2))
    assert SUBJECTS["starting"] is starting.results
    assert [row.bar for row in rows] == [50, 100, 200, 1000, 2000, 600, 3300]
    assert {row.barred for row in rows} == {"ours"} and {len(row.ours) for row in rows} == {2}
    assert [row.name.removesuffix(" (CPU time)") for row in rows] == [
        *starting.LIGHT,
        *starting.HEAVY,
    ]

    assert list(listed.values()) == [0, 0]
    assert capsys.readouterr().out.count("induction-smoke") == 20 + 30
    measured = [words for words in typed if "measure" in words]
    assert len(measured) == 1 + 3 and len(set(measured)) == 1, "the second finds nothing to do"
    assert typed.count(("train", "--train.steps", "1")) == 3


@pytest.mark.parametrize(
    ("ours", "barred", "bar", "verdict"),
    [
        (60.0, "ours", 50, "no"),
        (50.0, "ours", 50, "yes"),
        (60.0, "ratio", 2, "yes"),
        (90.0, "ratio", 2, "no"),
        (90.0, "ratio", None, "-"),
    ],
)
def test_a_bar_that_is_missed_is_called_so(ours, barred, bar, verdict):
    row = Result(name="a", ours=[ours] * 3, peer=[40.0] * 3, peer_name="b", bar=bar, barred=barred)
    assert format_cells(row)[-1] == verdict


@pytest.mark.parametrize(("power", "verdict"), [(1.0, "yes"), (2.0, "no")])
def test_growth_is_a_fitted_exponent_with_its_spread(power, verdict):
    """Three rounds of other speed: the exponent is of the growth alone."""
    times = {str(n): [speed * n**power for speed in (1.0, 2.0, 5.0)] for n in (10, 20, 40)}
    of_all, of_largest = describe_growth("images", times)
    assert of_all.ours == of_largest.ours == pytest.approx([power] * 3)
    assert of_all.quartiles == pytest.approx((power,) * 3)
    assert [format_cells(row)[-1] for row in (of_all, of_largest)] == [verdict] * 2


def test_what_is_done_once_hides_in_the_fit_and_less_so_between_the_largest():
    times = {str(n): [100 + float(n**2)] * 2 for n in (1, 10, 100)}
    of_all, of_largest = describe_growth("images", times)
    assert of_all.reached and of_largest.reached is False


def test_a_subject_whose_data_are_not_here_ends_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    result = Result(name="row", ours=[1.0, 1.1], peer=[2.0, 2.1], peer_name="peer")

    def break_off(repeats):
        yield result
        raise BadInput("MNIST is not here")

    subjects = {"first": break_off, "second": lambda repeats: iter([result])}
    monkeypatch.setattr(command, "SUBJECTS", subjects)
    out = tmp_path / "bench.json"
    assert command.main(["--only", "first,second", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == "no more rows of first: MNIST is not here\n"
    assert printed.out.count("row") == 2
    assert list(json.loads(out.read_text())["subjects"]) == ["first", "second"]
    assert command.main(["--only", "frist", "--out", str(out)]) == 2
    assert "did you mean 'first'" in capsys.readouterr().err
