"""Reading a part of a table of measures: as little as will do, compared with its digests."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.runs.stamping import edit
from tests.runs.test_frames import ROWS, STEPS, build_empty, list_rows, plant
from tests.runs.test_table import EDITS, FLIPS, OPTIONS, build_run, flip
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.runs import cells, table, table_writer
from toyvit.runs.cells import Cell
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table_writer import MeasureTable

ANALYSES = OPTIONS["analyses"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return build_run(tmp_path_factory.mktemp("parts") / "run", seed=0)


@pytest.fixture
def folder(original, tmp_path):
    return RunFolder(shutil.copytree(original, tmp_path / "run"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    run = build_empty(tmp_path_factory.mktemp("planted") / "run")
    plant(run, ROWS, STEPS)
    return run


def read_part(path, analysis):
    return list_rows(load_table(path, analyses=[analysis]))


READERS = {name: lambda path, name=name: read_part(path, name) for name in ANALYSES}
READERS["baselines"] = lambda path: Run(path).baselines


@pytest.fixture(scope="module")
def before(original):
    return {name: reader(original) for name, reader in READERS.items()}


def read_all(folder, before):
    """The readers that gave another answer without a word, and those that refused to answer."""
    silent, refused = [], []
    for name, reader in READERS.items():
        try:
            if reader(folder.path) != before[name]:
                silent.append(name)
        except BadInput as error:
            is_line = "\n" not in str(error) and str(folder.path) in str(error)
            (refused if is_line else silent).append(name)
    return silent, refused


@pytest.mark.parametrize("case", EDITS)
def test_no_edit_is_silent(folder, before, case):
    """Each part is what was written, or refused; and what was edited is refused in some part."""
    edit(folder, EDITS[case])
    silent, refused = read_all(folder, before)
    assert refused and not silent


@pytest.mark.slow
def test_no_flipped_bit_is_silent(folder, before):
    content = folder.measures.read_bytes()
    for at in random.Random(1).sample(range(8 * len(content)), FLIPS):
        folder.measures.write_bytes(flip(content, at))
        assert read_all(folder, before)[0] == [], at


@pytest.mark.parametrize("line", ["analysis = 'normt'", "id = id + 1000"])
def test_a_cell_that_has_lost_its_name_or_its_line_is_found(folder, line):
    """It is no cell of the analysis any more, but it has numbers where the others have them."""
    edit(folder, f"update cells set {line} where analysis = 'norms' and step = 5")
    with pytest.raises(BadInput, match="is damaged"):
        read_part(folder.path, "norms")
    assert len(read_part(folder.path, "performance")) == 6


@pytest.mark.parametrize("change", ["update cells set analysis = 'other'", "delete from cells"])
def test_an_analysis_whose_only_cell_is_damaged_is_not_missing(folder, change):
    edit(folder, "delete from numbers where cell in (select id from cells where step > 0)")
    edit(folder, "delete from cells where step > 0")
    assert len(Run(folder).curve("norms", "weight_total")) == 1
    edit(folder, f"{change} where analysis = 'norms'")
    with pytest.raises(BadInput, match="is damaged"):
        Run(folder).curve("norms", "weight_total")


def test_without_looking_at_places_a_lost_name_would_be_silent(folder, before, monkeypatch):
    """The harness can fail."""
    edit(folder, "update cells set analysis = 'normt' where analysis = 'norms' and step = 5")
    monkeypatch.setattr(cells, "_find_neighbours", lambda db, ids: [])
    assert read_all(folder, before)[0] == ["norms"]


def test_damage_elsewhere_does_not_concern_a_part(folder, before):
    cell = "(select id from cells where analysis = 'norms' and step = 5)"
    edit(folder, f"update numbers set value = value + 1 where cell = {cell}")
    assert read_part(folder.path, "performance") == before["performance"]
    run = Run(folder)
    assert run.curve("performance", "loss").size == 3 and run.baselines == before["baselines"]
    for read in (lambda: run.curve("norms", "weight_total"), lambda: run.table):
        with pytest.raises(BadInput, match="the cell of norms at step 5;"):
            read()


@pytest.mark.parametrize("whole", [False, True], ids=["read in part", "read whole before"])
@pytest.mark.parametrize(
    "names",
    [
        {"analyses": ["heads"]},
        {"analyses": "heads"},
        {"analyses": ["performance", "edges"]},
        {"quantities": ["loss"]},
        {"analyses": ["heads", "norms"], "quantities": ["score", "norm"]},
        {"analyses": []},
    ],
    ids=str,
)
def test_filters_give_the_rows_asked_for(planted, names, whole):
    run = Run(planted.path)
    frame = run.table
    for option, chosen in names.items():
        column = {"analyses": "analysis", "quantities": "quantity"}[option]
        frame = frame[frame[column].isin([chosen] if isinstance(chosen, str) else chosen)]
    part = load_table(run if whole else run.path, **names)
    assert list_rows(part) == list_rows(frame)
    assert list(part.index) == list(range(len(part)))
    tags = part.columns.drop(["run", "step", "analysis", "quantity", "split", "images", "value"])
    assert part[tags].notna().any().all()
    assert set(part["analysis"].cat.categories) == set(part["analysis"])
    assert run.table.equals(planted.table)


def test_without_filters_it_is_the_whole_table(planted):
    assert load_table(planted) is planted.table


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"analyses": ["head"]}, "the analysis 'head': .*did you mean 'heads'"),
        ({"analyses": ["heads", "llc"]}, "the analysis 'llc': measured are performance, norms,"),
        ({"quantities": ["los"]}, "the quantity 'los': .*did you mean 'loss'"),
        (
            {"analyses": ["norms"], "quantities": ["score"]},
            r"the quantity 'score': measured are norm$",
        ),
    ],
)
def test_an_unknown_name_is_refused_in_a_line_with_the_nearest(planted, names, problem):
    with pytest.raises(BadInput, match=f"has no measures of {problem}"):
        load_table(planted.path, **names)


@pytest.fixture
def readings(monkeypatch):
    """How the table was read: each time the analyses, or `whole`."""
    log = []
    whole, part = table.read_contents, table.read_part
    monkeypatch.setattr(table, "read_contents", lambda *rest: log.append("whole") or whole(*rest))
    monkeypatch.setattr(
        table, "read_part", lambda db, run, names: log.append(names) or part(db, run, names)
    )
    return log


def test_a_curve_reads_its_analysis_alone_and_once(planted, readings):
    run = Run(planted.path)
    for quantity in ("loss", "accuracy", "loss"):
        assert len(run.curve("performance", quantity)) == 3
    assert readings == [("performance",)]
    assert run.baselines and len(run.curve("heads", "score", type="copy")) == 3
    assert readings == [("performance",), ("heads",)]

    assert len(run.table) and len(run.curve("norms", "norm")) and run.baselines
    assert readings == [("performance",), ("heads",), "whole"]
    run.refresh()
    assert len(run.curve("performance", "loss"))
    assert readings[3:] == [("performance",)]


def test_a_curve_is_that_of_the_whole_table(planted):
    """Also of an axis that only other analyses have, and of what was not measured."""
    for analysis, where in (("heads", {"layer": 1}), ("performance", {"layer": 1}), ("llc", {})):
        quantity = "loss" if analysis == "performance" else "score"
        whole = table.select_curve(planted.table, analysis, quantity, **where)
        assert Run(planted.path).curve(analysis, quantity, **where).equals(whole)
    with pytest.raises(BadInput, match="unknown axis or tag 'layr'"):
        Run(planted.path).curve("performance", "loss", layr=1)


def test_baselines_of_one_evaluation_are_read_without_numbers(planted, readings):
    assert Run(planted.path).baselines == planted.baselines
    assert readings == []


def test_baselines_are_those_that_most_cells_were_measured_on(tmp_path, readings):
    run = build_empty(tmp_path / "run")
    plant(run, {"heads": ROWS["heads"]}, STEPS, images=20, baselines={"accuracy.a": 0.25})
    plant(run, {"norms": ROWS["norms"]}, STEPS[:1], baselines={"accuracy.b": 0.5})
    assert run.baselines == {"accuracy.a": 0.25}
    assert readings == ["whole"]


def test_the_cells_of_a_checkpoint_are_written_together_or_not_at_all(planted, tmp_path):
    folder = RunFolder(shutil.copytree(planted.path, tmp_path / "run"))
    sha256 = planted.entries[5].sha256
    written = [Cell(5, sha256, name, 1, "new") for name in ("heads", "norms")]

    def break_off():
        for cell in written:
            yield cell, ROWS[cell.analysis]
        raise KeyboardInterrupt

    with MeasureTable(folder) as opened:
        before = opened.list_done()
        with pytest.raises(KeyboardInterrupt):
            opened.write_all(break_off(), "test", 10)
        assert opened.list_done() == before
        opened.write_all([(cell, ROWS[cell.analysis]) for cell in written], "test", 10)
        assert opened.list_done() == before | set(written)
    assert len(Run(folder).table) == len(planted.table) + len(ROWS["heads"]) + len(ROWS["norms"])


def test_measuring_writes_a_checkpoint_in_one_transaction(folder, monkeypatch):
    """And one more for what predictors that know less score."""
    opened = []
    transaction = table_writer.transaction
    monkeypatch.setattr(
        table_writer, "transaction", lambda db: opened.append(db) or transaction(db)
    )
    assert measure(folder.path, **OPTIONS | {"images": 8}).computed == 6
    assert len(opened) == 3 + 1
