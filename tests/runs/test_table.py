"""Nothing of a table of measures is read that is not what was written, and all of it is mended."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing

import pytest

from tests.runs.stamping import edit
from toyvit.__main__ import main
from toyvit.data.task import resolve_config
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs import cells, database
from toyvit.runs.cells import Cell
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.table_writer import MeasureTable
from toyvit.runs.verification import list_problems

OPTIONS = {"analyses": ["performance", "norms"], "images": 16, "progress": False}
FLIPS = 40


def build_run(path, seed):
    """A run of three checkpoints, measured: the models are drawn, not trained."""
    config = resolve_config(RECIPES["induction-smoke"]())
    folder = RunFolder(path)
    folder.create(config)
    for step in (0, 5, 10):
        weights = ViT(config.model, seed=seed + step).state_dict()
        folder.write_checkpoint(step, 8 * step, weights, {"loss": 2.0, "accuracy": 0.1})
    measure(path, **OPTIONS)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return [build_run(folder / f"run-{n}", 100 * n) for n in (0, 1)]


@pytest.fixture(scope="module")
def before(two):
    return read(two[0])


@pytest.fixture
def folder(two, tmp_path):
    return RunFolder(shutil.copytree(two[0], tmp_path / "run-0"))


def read(path):
    run = Run(path)
    return run.table, run.baselines


def is_same(one, other):
    """Whether two readings gave the same numbers, in whatever order they were written."""
    frames = [
        frame.sort_values([*frame.columns.drop("value")], ignore_index=True)
        for frame, _ in (one, other)
    ]
    return frames[0].equals(frames[1]) and one[1] == other[1]


def is_silent(folder, before):
    """Whether a table is read without a word, and holds other numbers."""
    try:
        return not is_same(read(folder.path), before)
    except BadInput as error:
        return f"`toyvit measure {folder.path}" not in str(error) or "\n" in str(error)


def is_found(folder):
    run = Run(folder)
    return folder.measures.name in list_problems(folder, list(run.entries.values()))


def flip(content, at):
    damaged = bytearray(content)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


@pytest.mark.slow
def test_no_flipped_bit_is_silent(folder, before):
    content = folder.measures.read_bytes()
    for at in random.Random(0).sample(range(8 * len(content)), FLIPS):
        folder.measures.write_bytes(flip(content, at))
        assert not is_silent(folder, before), at


def test_a_name_in_the_schema_that_is_no_utf_8_is_one_line(folder, before):
    """SQLite says it in bytes that Python cannot read."""
    content = folder.measures.read_bytes()
    folder.measures.write_bytes(flip(content, 8 * (content.index(b"tablecells") + 7) + 7))
    assert not is_silent(folder, before)
    assert is_found(folder)


def test_what_a_flipped_bit_damaged_is_made_again_where_the_rest_can_be_read(folder, before):
    """In the text of a place, in the line of a cell, and in the index of either."""
    content = folder.measures.read_bytes()
    texts = (b"weight_total", b"performance")
    for text in texts:
        for at in (content.index(text), content.rindex(text)):
            folder.measures.write_bytes(flip(content, 8 * at))
            assert is_found(folder), text
            measure(folder.path, **OPTIONS)
            assert not is_found(folder), text
            assert is_same(read(folder.path), before), text


def test_no_cut_is_silent(folder, before):
    content = folder.measures.read_bytes()
    for share in (0.0, 0.01, 0.3, 0.6, 0.9, 0.99):
        folder.measures.write_bytes(content[: int(share * len(content))])
        assert not is_silent(folder, before) and is_found(folder), share


FIRST = "(select min(id) from cells)"
LAST = "(select max(id) from cells)"
PLACE = "(select min(place) from numbers)"
EDITS = {
    "a number": "update numbers set value = value + 1e-12 where rowid = 3",
    "a number that is text": "update numbers set value = 'NaN' where rowid = 3",
    "no number": "update numbers set value = null where rowid = 3",
    "endless": "update numbers set value = 9e999 where rowid = 3",
    "a number less": "delete from numbers where rowid = 3",
    "a number twice": "insert into numbers select * from numbers where rowid = 3",
    "a number of another cell": f"update numbers set cell = {LAST} where rowid = 3",
    "a number at another place": f"update numbers set place = {PLACE} where cell = {LAST}",
    "a cell without its line": f"delete from cells where id = {LAST}",
    "a cell without numbers": f"delete from numbers where cell = {LAST}",
    "two cells exchanged": f"update numbers set cell = {FIRST} + {LAST} - cell"
    f" where cell in ({FIRST}, {LAST})",
    "another step": f"update cells set step = 7 where id = {LAST}",
    "a step that is text": f"update cells set step = 'ten' where id = {LAST}",
    "a step of 64 bits": f"update cells set step = 9223372036854775807 where id = {LAST}",
    "another checkpoint": f"update cells set sha256 = 'c0ffee' where id = {LAST}",
    "another analysis": f"update cells set analysis = 'heads' where id = {LAST}",
    "another version": f"update cells set version = 0 where id = {LAST}",
    "another evaluation": f"update cells set digest = 'c0ffee' where id = {LAST}",
    "another split": f"update cells set split = 'train' where id = {LAST}",
    "other pictures": f"update cells set images = 512 where id = {LAST}",
    "another digest": f"update cells set \"check\" = '0' where id = {LAST}",
    "no digest": f'update cells set "check" = null where id = {LAST}',
    "another quantity": f"update places set quantity = 'other' where id = {PLACE}",
    "a quantity that is no UTF-8": f"update places set quantity = cast(x'ff' as text)"
    f" where id = {PLACE}",
    "a quantity that is bytes": f"update places set quantity = x'ff' where id = {PLACE}",
    "other axes": f"update places set axes = '{{\"layer\": 7}}' where id = {PLACE}",
    "no axes": f"update places set axes = '{{' where id = {PLACE}",
    "endless axes": f"update places set axes = '{'[' * 99_999}' where id = {PLACE}",
    "a place less": f"delete from places where id = {PLACE}",
    "a baseline": "update baselines set value = 0.5 where rowid = 1",
    "a baseline less": "delete from baselines where rowid = 1",
    "a baseline more": "insert into baselines select digest, 'x', value, \"check\" from baselines"
    " limit 1",
    "baselines of another evaluation": "update baselines set digest = 'c0ffee'",
    "a baseline that is text": "update baselines set value = 'NaN' where rowid = 1",
    "baselines without a name": "update baselines set name = null",
}


@pytest.mark.parametrize("case", EDITS)
def test_no_edit_is_silent(folder, case):
    edit(folder, EDITS[case])
    with pytest.raises(BadInput, match=r"is damaged: .*`toyvit measure .*makes it again"):
        read(folder.path)
    assert is_found(folder)


EACH_PART = ("a number", "no axes", "a cell without its line", "a baseline less", "another step")


@pytest.mark.parametrize("cases", [EACH_PART, *zip(EACH_PART, strict=True)], ids=",".join)
def test_measuring_makes_again_what_was_edited_and_says_so(folder, before, caplog, cases):
    edit(folder, *(EDITS[case] for case in cases))
    report = measure(folder.path, **OPTIONS)
    assert "was taken out" in caplog.text
    assert 0 < report.computed < 6 or "baseline" in cases[0] or len(cases) > 1
    assert is_same(read(folder.path), before)
    assert not is_found(folder)


def test_the_cell_is_named_with_what_makes_it_again(folder):
    cell = "(select id from cells where analysis = 'norms' and step = 5)"
    edit(folder, f"update numbers set value = value + 1 where cell = {cell}")
    with pytest.raises(BadInput) as refusal:
        read(folder.path)
    assert str(refusal.value) == (
        f"{folder.measures} is damaged: the cell of norms at step 5;"
        f" `toyvit measure {folder.path} --analyses norms` makes it again"
    )


@pytest.mark.parametrize("line", [False, True], ids=["the numbers", "the line too"])
@pytest.mark.parametrize("analysis", OPTIONS["analyses"])
def test_a_cell_of_another_runs_table_is_not_silent(two, folder, analysis, line):
    """Of the same config, step, analysis and evaluation: only the checkpoint is another."""
    taken = f"(select id from cells where analysis = '{analysis}' and step = 5)"
    with closing(sqlite3.connect(two[1] / "measures.sqlite")) as db:
        numbers = db.execute(f"select place, value from numbers where cell = {taken}").fetchall()
        query = f'select sha256, "check" from cells where id = {taken}'
        sha256, check = db.execute(query).fetchone()
    with closing(sqlite3.connect(folder.measures)) as db, db:
        db.execute(f"delete from numbers where cell = {taken}")
        db.executemany(f"insert into numbers values ({taken}, ?, ?)", numbers)
        db.execute(f'update cells set "check" = ? where id = {taken}', [check])
        if line:
            db.execute(f"update cells set sha256 = ? where id = {taken}", [sha256])
    if line:  # the cell is whole, and of a checkpoint that is not there: it is not used
        assert is_found(folder)
        assert 5 not in set(read(folder.path)[0].query("analysis == @analysis")["step"])
    else:
        with pytest.raises(BadInput, match=f"the cell of {analysis} at step 5;"):
            read(folder.path)


def test_a_table_of_another_run_is_not_silent(two, folder):
    """Even one with the same config: its cells are of other checkpoints."""
    shutil.copy(two[1] / "measures.sqlite", folder.measures)
    assert is_found(folder)
    assert len(read(folder.path)[0]) == 0


def test_an_earlier_version_of_an_analysis_is_left_out_and_said(folder, before, caplog):
    run = Run(folder)
    with MeasureTable(folder) as opened:
        (cell,) = (
            cell for cell in opened.list_done() if cell.step == 5 and cell.analysis == "norms"
        )
        earlier = Cell(5, run.entries[5].sha256, "norms", 0, cell.digest)
        opened.write(earlier, "test", 16, [("weight_total", {}, 99.0)])
    assert is_same(read(folder.path), before)
    assert "1 cells of an earlier version of an analysis are left out" in caplog.text


MEANINGS = {
    "no JSON": "{",
    "a list": "[]",
    "nested without end": "[" * 99_999,
    "a number of 5,000 digits": f'{{"layer": {"9" * 5_000}}}',
    "a number of 64 bits": f'{{"layer": {1 << 63}}}',
    "a fraction": '{"layer": 0.5}',
    "no place": '{"layer": null}',
    "the name of a column": '{"value": 1}',
    "an axis twice": '{"layer": 1, "layer": 1}',
}


@pytest.mark.parametrize("case", MEANINGS)
def test_axes_with_another_meaning_and_digests_that_fit_are_refused(folder, case):
    """In one line that names the file, without a traceback."""
    edit(folder, f"update places set axes = '{MEANINGS[case]}' where id = {PLACE}", restamp=True)
    with pytest.raises(BadInput, match="axes of a number,") as refusal:
        read(folder.path)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 500
    assert is_found(folder)


def test_a_cell_of_another_step_with_a_digest_that_fits_is_found(folder):
    edit(folder, "update cells set step = 10 where step = 5", restamp=True)
    assert is_found(folder)


FOREIGN = {
    "a view": "alter table numbers rename to n; create view numbers as select * from n",
    "a trigger": "create trigger t after insert on cells begin update numbers set value = 0; end",
    "a column more": "alter table numbers add column more text",
    "a table more": "create table more (x)",
    "a table less": "drop table baselines",
    "an index less": "drop index numbers_of_a_cell",
    "other columns": "drop table numbers; create table numbers (cell text, place text, value text)",
    "another application": "pragma application_id = 7",
    "no application": "pragma application_id = 0",
    "a newer version": "pragma user_version = 99",
    "no version": "pragma user_version = 0",
    "an endless view": "drop table numbers; create view numbers as with recursive r(cell, place,"
    " value) as (select 1, 1, 1.0 union all select cell, place, value from r) select * from r",
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_table_is_refused_in_a_line_and_stays_as_it_is(folder, capsys, case):
    with closing(sqlite3.connect(folder.measures)) as db:
        db.executescript(FOREIGN[case])
    content = folder.measures.read_bytes()
    for command in (["measure"], ["report"]):
        assert main([command[0], str(folder.path)]) == 2
        error = capsys.readouterr().err
        assert str(folder.measures) in error and error.count("\n") == 1
    assert is_found(folder)
    assert folder.measures.read_bytes() == content


def build_database(path):
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("create table moz_places (id integer primary key, url text)")


OTHERS = {
    "another application's": build_database,
    "no database": lambda path: path.write_bytes(b"no database, but long enough" * 99),
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_file_that_is_no_table_is_refused_in_a_line(folder, capsys, case):
    folder.measures.unlink()
    OTHERS[case](folder.measures)
    for command in ("measure", "report"):
        assert main([command, str(folder.path)]) == 2
        error = capsys.readouterr().err
        assert str(folder.measures) in error and error.count("\n") == 1
    assert is_found(folder)


def test_a_table_that_cannot_be_written_to_is_read_and_measured_where_all_is_done(
    folder, before, monkeypatch
):
    monkeypatch.setattr(os, "access", lambda path, mode, **how: False)
    files = {path.name for path in folder.path.iterdir()}
    assert is_same(read(folder.path), before)
    assert measure(folder.path, **OPTIONS).computed == 0
    with pytest.raises(
        BadInput, match="cannot be written to, and 3 cells are not measured: measure a copy"
    ):
        measure(folder.path, **OPTIONS | {"analyses": ["attention"]})
    assert {path.name for path in folder.path.iterdir()} == files
    assert not is_found(folder)


def test_with_the_comparison_switched_off_an_edit_is_silent(folder, before, monkeypatch):
    """The harness can fail."""
    edit(folder, EDITS["a number"])
    assert not is_silent(folder, before)
    monkeypatch.setattr(cells, "_hash_cells", lambda run, frame, *rest: iter(frame["check"]))
    assert is_silent(folder, before)


def test_with_the_schema_not_looked_at_a_trigger_is_silent(folder, monkeypatch):
    edit(folder, FOREIGN["a trigger"])
    assert is_found(folder)
    monkeypatch.setattr(database, "check_schema", lambda db, file: True)
    assert not is_found(folder)
    measure(folder.path, **OPTIONS | {"images": 8})
    with pytest.raises(BadInput, match=r"at step 0 and .* more"):  # the trigger has run
        read(folder.path)


def test_what_is_read_while_another_process_writes_is_of_one_moment(folder, before, monkeypatch):
    """A cell that comes between the reading of cells and that of numbers is not seen in part."""
    read_numbers = cells._read_numbers

    def write_first(db):
        monkeypatch.setattr(cells, "_read_numbers", read_numbers)
        measure(folder.path, **OPTIONS | {"images": 8})
        return read_numbers(db)

    monkeypatch.setattr(cells, "_read_numbers", write_first)
    assert is_same(read(folder.path), before)
    assert len(read(folder.path)[0]) == 2 * len(before[0])


def test_numbers_come_back_to_the_bit():
    """Minus zero, which SQLite does not have, is zero when it is written."""
    lines = cells.list_lines([("x", {}, -0.0), ("x", {"layer": 1}, 1)])
    assert [str(value) for _, _, value in lines] == ["0.0", "1.0"]
