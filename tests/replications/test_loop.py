"""Records, verdicts, resuming and the page.

A finished seed is not done again, and the page follows from the records alone.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stories.processes import kill, toyvit, wait_for
from toyvit.__main__ import main
from toyvit.errors import BadInput
from toyvit.replications import REPLICATIONS, rank_one
from toyvit.replications.claim import list_claims
from toyvit.replications.loop import replicate
from toyvit.replications.margins import AGREES, DIFFERS, NOT_RUN, judge_result
from toyvit.replications.page import explain_verdict, format_page, format_verdict, write_page
from toyvit.replications.record import (
    MOST_POINTS,
    Check,
    Outcome,
    Record,
    Replication,
    build_grid,
    build_lines,
    build_path,
    load_records,
    read_record,
    write_record,
)
from toyvit.runs.disk import format_line

DOCS = Path(__file__).parents[2] / "docs"


def coin(seed, folder):
    panel = build_lines("coin", "toss", "heads", {"one": ([0, 1], [0, seed])})
    return Outcome({"heads": float(seed), "never": None}, [panel])


COIN = Replication(
    name="coin",
    title="A coin",
    source="Nobody 2000",
    compared="Heads.",
    run=coin,
    checks=(
        Check("heads", "heads", "1", "text", 1, 2),
        Check("heads", "fewer heads", "1", "text", 0, 1),
    ),
    minutes=0.1,
)


def test_a_result_is_judged_by_margins_that_stand_before_it(tmp_path):
    records = replicate([COIN], list(range(1, 6)), tmp_path, progress=False)
    heads = replace(COIN, checks=COIN.checks[:1])
    assert judge_result(COIN.checks, records[:0]) == NOT_RUN
    many = [replace(record, numbers={"heads": 1.0}) for record in records]
    assert judge_result(COIN.checks, many) == AGREES
    assert explain_verdict(COIN, many) == "All numbers lie within their margins."
    assert explain_verdict(heads, records) == "heads: 3 (1 to 5), margin 1 to 2, undecided."
    never = replace(COIN, checks=(Check("never", "never", "1", "text", 0, 1),))
    assert judge_result(never.checks, records) == DIFFERS
    assert explain_verdict(never, records) == (
        "never: never (never to never), margin 0 to 1, differs."
    )
    assert format_verdict(heads, many).splitlines() == [
        "coin: agrees, 5 seeds",
        "  heads: 1 (1 to 1), margin 1 to 2: agrees",
    ]


def test_a_finished_seed_is_not_done_again_and_one_of_another_version_is(tmp_path):
    done = []
    noted = replace(COIN, run=lambda seed, folder: done.append(seed) or coin(seed, folder))
    replicate([noted], [0, 2], tmp_path, progress=False)
    replicate([noted], [0, 1, 2], tmp_path, progress=False)
    assert done == [0, 2, 1]
    replicate([replace(noted, version=2)], [0], tmp_path, progress=False)
    assert done == [0, 2, 1, 0]
    assert [record.seed for record in load_records(tmp_path, replace(noted, version=2))] == [0]


def test_minutes_are_those_of_a_seed_that_was_run_at_once(tmp_path):
    whole = replicate([COIN], [0], tmp_path, progress=False)[0]
    assert 0 <= whole.minutes < 0.1
    (tmp_path / "coin" / "seed-1").mkdir(parents=True)
    replicate([COIN], [1], tmp_path, progress=False)
    assert [record.minutes is None for record in load_records(tmp_path, COIN)] == [False, True]


def test_what_is_finished_is_written_before_the_next_seed_breaks(tmp_path):
    def breaks(seed, folder):
        if seed == 1:
            raise KeyboardInterrupt
        return coin(seed, folder)

    with pytest.raises(KeyboardInterrupt):
        replicate([replace(COIN, run=breaks)], [0, 1, 2], tmp_path, progress=False)
    assert [record.seed for record in load_records(tmp_path, COIN)] == [0]


@pytest.mark.slow
def test_killed_between_seeds_nothing_is_lost_and_nothing_done_twice(tmp_path):
    words = ["replicate", "rank-one", "--seeds", "0..3", "--runs", str(tmp_path)]
    folder = tmp_path / "replications"
    process = toyvit(*words)
    wait_for(build_path(folder, "rank-one", 0).exists, process)
    kill(process)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    assert 1 <= len(written) < 4
    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written
    records = load_records(folder, REPLICATIONS["rank-one"])
    assert [record.seed for record in records] == [0, 1, 2, 3]


DAMAGES = ("", "{", '{"name": "coin"}', "[1]", '{"name": "other"}')


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_refused_in_one_line(damage, tmp_path):
    write_record(tmp_path, Record(name="coin", version=1, seed=3, minutes=0, numbers={}, panels=[]))
    path = build_path(tmp_path, "coin", 3)
    assert read_record(path).seed == 3
    path.write_text(damage)
    with pytest.raises(BadInput, match="is not a record of a replication") as error:
        replicate([COIN], [0], tmp_path, progress=False)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    path.unlink()
    write_record(tmp_path, Record(name="coin", version=1, seed=4, minutes=0, numbers={}, panels=[]))
    build_path(tmp_path, "coin", 4).rename(path)
    with pytest.raises(BadInput, match="another's"):
        replicate([COIN], [0], tmp_path, progress=False)


STRANGE = {
    "a number that is text": {"numbers": {"heads": "1"}},
    "no numbers": {"numbers": 7},
    "a panel that is text": {"panels": ["lines"]},
    "a huge number": {"minutes": 10**400},
    "another seed": {"seed": "3"},
}


@pytest.mark.parametrize("fields", STRANGE.values(), ids=STRANGE)
def test_an_edited_record_is_refused_with_its_digest_or_another(fields, tmp_path):
    coin_3 = Record(name="coin", version=1, seed=3, minutes=0, numbers={"heads": 1.0}, panels=[])
    write_record(tmp_path, coin_3)
    path = build_path(tmp_path, "coin", 3)
    edited = json.loads(path.read_text()) | fields
    for digest in ("as it was", "that fits"):
        if digest == "that fits":
            edited.pop("check")
        path.write_text(json.dumps(edited) if "check" in edited else format_line(edited))
        with pytest.raises(BadInput, match="is not a record of a replication") as error:
            load_records(tmp_path, COIN)
        assert "\n" not in str(error.value)


def test_no_flipped_bit_of_a_record_is_silent(tmp_path):
    numbers = {"heads": 1.0, "tails": 0.25}
    write_record(
        tmp_path, Record(name="coin", version=1, seed=3, minutes=0, numbers=numbers, panels=[])
    )
    path = build_path(tmp_path, "coin", 3)
    content = path.read_bytes()
    expected = read_record(path)
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged)
        try:
            assert read_record(path) == expected, at
        except BadInput:
            continue


def test_a_record_without_a_digest_is_read_and_that_is_said(tmp_path, caplog):
    write_record(tmp_path, Record(name="coin", version=1, seed=3, minutes=0, numbers={}, panels=[]))
    path = build_path(tmp_path, "coin", 3)
    plain = json.loads(path.read_text())
    plain.pop("check")
    path.write_text(json.dumps(plain))
    assert read_record(path).seed == 3
    assert "has no digest" in caplog.text


def test_bad_words_on_the_command_line(tmp_path, capsys):
    assert main(["replicate", "rank-oen"]) == 2
    assert "did you mean 'rank-one'" in capsys.readouterr().err
    assert main(["replicate", "rank-one", "--seeds", "zero"]) == 2
    assert "--seeds takes" in capsys.readouterr().err
    assert main(["replicate", "--list"]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [word[0] for word in words if word[0] != "--claim"] == list(REPLICATIONS)
    assert [word[1] for word in words if word[0] == "--claim"] == list_claims()


def test_what_misses_its_data_is_refused_by_name_or_left_out_of_all(tmp_path, caplog):
    def missing():
        raise BadInput("MNIST is not here")

    poor = replace(COIN, name="poor", ready=missing)
    with pytest.raises(BadInput, match="MNIST is not here"):
        replicate([COIN, poor], [1], tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
    assert len(replicate([COIN, poor], [1], tmp_path, leave_out=True, progress=False)) == 1
    assert "poor is left out: MNIST is not here" in caplog.text


def test_panels_are_thinned_and_hold_plain_json():
    points = (range(1000), [k / 3 for k in range(1000)])
    panel = build_lines("t", "x", "y", {"a": points}, levels={"chance": 1 / 3})
    x, y = panel["curves"]["a"]
    assert len(x) <= MOST_POINTS
    assert (x[0], x[-1]) == (0, 999)
    assert y[-1] == 333
    assert panel["levels"]["chance"] == 0.33333

    panel = build_lines("t", "x", "y", {"a": points}, scale="symlog")
    x, _ = panel["curves"]["a"]
    assert x[:3] == [0, 1, 2]
    assert x[-1] == 999
    assert len(x) <= MOST_POINTS

    panel = build_lines("t", "x", "y", {"a": ([0], [float("nan")])})
    assert panel["curves"]["a"][1] == [None]
    grid = build_grid("g", "x", "y", "v", ([1.0], [2.0]), [[0.5]])
    assert json.loads(json.dumps(grid))["values"] == [[0.5]]


@pytest.mark.slow
def test_the_page_is_made_of_the_records_alone(tmp_path):
    folder, docs = tmp_path / "runs", tmp_path / "docs"
    replicate([COIN], [1, 2], folder, progress=False)
    page = write_page([COIN], folder, docs).read_text()
    assert "| [A coin](#coin) | Nobody 2000 | undecided | 2 |" in page
    assert "| heads | 1 | text | 1 to 2 | 1.5 (-1.66 to 4.66) | undecided |" in page
    assert (docs / "replications/coin.png").stat().st_size > 5000
    assert write_page([COIN], tmp_path / "empty", docs).read_text() == page
    replicate([COIN], [0], folder, progress=False)
    assert "3 |" in write_page([COIN], folder, docs).read_text()
    other = replace(COIN, name="other")
    assert "Not run." in write_page([COIN, other], folder, docs).read_text()


def test_the_page_in_docs_is_what_the_generator_writes():
    listed = list(REPLICATIONS.values())
    place = DOCS / "replications"
    records = {replication.name: load_records(place, replication) for replication in listed}
    assert (DOCS / "replications.md").read_text() == format_page(listed, records)
    assert all((place / f"{name}.png").exists() for name, seeds in records.items() if seeds)
    names = {path.stem.rpartition("-")[0] for path in place.glob("*.json")}
    assert names <= set(REPLICATIONS)


@pytest.mark.slow
def test_clamped_losses_are_those_of_the_record():
    outcome = rank_one.run_seed(0, Path())
    curve = rank_one.train_product(0, "c")
    half = next(k for k, value in enumerate(curve) if value < 0.5 * curve[0])
    assert outcome.numbers["c_0.5"] == half
