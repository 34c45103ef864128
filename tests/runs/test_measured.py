"""What is measured already is found without torch, and nothing is taken for it that is not."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.runs.stamping import edit
from tests.runs.test_table import EDITS, OPTIONS, build_run
from toyvit.cli.measurement import find_done
from toyvit.config import extensions
from toyvit.config.extensions import forget, register
from toyvit.data.question_configs import ClassifyConfig
from toyvit.data.worlds import list_task_configs
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.runs import measured
from toyvit.runs.cells import read_contents
from toyvit.runs.database import open_to_read
from toyvit.runs.digests import Cell
from toyvit.runs.folder import RunFolder
from toyvit.runs.measured import Request, find_measured, read_whole_cells
from toyvit.version import STARTED

REQUEST = Request(tuple(OPTIONS["analyses"]), OPTIONS["images"], "test")
PLAIN = {"device": "cpu", "follow": False, "images": REQUEST.images, "jobs": 1, "split": "test"}
PLAIN |= {"analyses": ",".join(REQUEST.analyses), "steps": None}


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Nothing from outside the package is known, whatever other tests have registered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extensions, "_registered", {})
        yield


@pytest.fixture(scope="module")
def original(tmp_path_factory, alone):
    return build_run(tmp_path_factory.mktemp("measured") / "run", seed=0)


@pytest.fixture
def folder(original, tmp_path):
    return RunFolder(shutil.copytree(original, tmp_path / "run"))


def find(folder, request, steps):
    entries = {entry.step: entry for entry in folder.read_manifest()}
    return find_measured(folder, entries, request, steps)


def test_it_is_what_measure_reports(folder):
    report = measure(folder, **OPTIONS)
    assert report.computed == 0 < report.done
    assert find(folder, REQUEST, None) == report
    last = folder.read_manifest()[-1].step
    of_last = measure(folder, **OPTIONS, steps=[last])
    assert find(folder, REQUEST, [last]) == of_last


def test_the_analyses_that_fit_are_noted_with_why_others_do_not(folder):
    request = Request(None, 8, "train")
    assert find(folder, request, None) is None
    options = {"images": 8, "split": "train", "steps": [0], "progress": False}
    measure(folder, **options)
    report = measure(folder, **options)
    assert report.unfit and find(folder, request, [0]) == report
    assert find(folder, request, None) is None  # other steps have no cells


@pytest.mark.parametrize(
    "request_",
    [
        replace(REQUEST, images=REQUEST.images + 1),
        replace(REQUEST, split="train"),
        replace(REQUEST, analyses=None),
        replace(REQUEST, analyses=REQUEST.analyses[:1]),
    ],
)
def test_another_request_is_not_answered(folder, request_):
    assert find(folder, request_, None) is None


def test_steps_that_there_are_none_of_are_not_answered(folder):
    assert find(folder, REQUEST, []) is None
    assert find(folder, REQUEST, [0, 999]) is None


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["requests.jsonl", "checkpoints"])
def test_damage_is_never_taken_for_measured(folder, name):
    path = folder.path / name
    damage(path if path.is_file() else sorted(path.iterdir())[-1])
    assert find(folder, REQUEST, None) is None


def test_a_damaged_manifest_is_bad_input(folder, monkeypatch):
    damage(folder.manifest)
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(BadInput, match="manifest"):
        find_done(folder.path, Namespace(**PLAIN))


@pytest.mark.parametrize("text", ["[]", "{}", '{"request": 1}', '{"request": {"a": []}}', "\0"])
def test_foreign_notes_count_for_nothing(folder, text):
    noted = folder.requests.read_text()
    folder.requests.write_text(f"{text}\n{noted}")
    assert find(folder, REQUEST, None) is not None
    folder.requests.write_text(f"{text}\n")
    assert find(folder, REQUEST, None) is None
    assert measure(folder, **OPTIONS).computed == 0
    assert folder.requests.read_text() == noted


def test_no_note_can_be_written_and_measuring_is_done_all_the_same(folder):
    folder.requests.unlink()
    folder.requests.mkdir()
    report = measure(folder, **OPTIONS)
    assert report.computed == 0 < report.done and find(folder, REQUEST, None) is None


def test_a_damaged_note_is_written_anew(folder):
    damage(folder.requests)
    report = measure(folder, **OPTIONS)
    assert report.computed == 0 and find(folder, REQUEST, None) == report


@pytest.mark.parametrize("name", EDITS)
def test_cells_are_whole_where_the_whole_table_is(folder, name):
    """The plain reader of digests and the one of frames say the same of every edit."""
    edit(folder, EDITS[name])
    with open_to_read(folder.measures) as db:
        contents = read_contents(db, folder.hash_run())
        assert (read_whole_cells(db, folder.hash_run()) is not None) == contents.is_whole
    if not contents.is_whole:
        assert find(folder, REQUEST, None) is None


def test_cells_have_their_ids(folder):
    with open_to_read(folder.measures) as db:
        ids = read_whole_cells(db, folder.hash_run())
        frame = read_contents(db, folder.hash_run()).cells
    rows = frame[["step", "sha256", "analysis", "version", "digest"]].itertuples(index=False)
    assert ids == {Cell(*row): number for row, number in zip(rows, frame["id"], strict=True)}


def test_a_cell_that_is_missing_is_not_measured(folder):
    edit(
        folder,
        "delete from numbers where cell = (select max(id) from cells)",
        "delete from cells where id = (select max(id) from cells)",
    )
    with open_to_read(folder.measures) as db:
        assert read_whole_cells(db, folder.hash_run())
    assert find(folder, REQUEST, None) is None


def test_baselines_that_are_missing_are_not_measured(folder):
    edit(folder, "delete from baselines")
    assert find(folder, REQUEST, None) is None


def test_a_sampler_that_diverged_is_named(folder):
    """A cell of one analysis whose numbers say so, with a digest that fits."""
    edit(
        folder,
        "insert into places (quantity, axes) values ('diverged', '{}')",
        "insert into numbers select max(cells.id), max(places.id), 1.0 from cells, places",
        restamp=True,
    )
    report = measure(folder, **OPTIONS)
    assert list(report.diverged.values()) == [[folder.read_manifest()[-1].step]]
    assert find(folder, REQUEST, None) == report


def test_what_was_not_sampled_near_by_is_named(folder):
    """In two cells; one of them diverged too, and is named as that alone."""
    edit(
        folder,
        "insert into places (quantity, axes) values ('local', '{}')",
        "insert into numbers select cells.id, max(places.id), 0.0 from cells, places"
        " group by cells.id order by cells.id desc limit 2",
        "insert into places (quantity, axes) values ('diverged', '{}')",
        "insert into numbers select max(cells.id), max(places.id), 1.0 from cells, places",
        restamp=True,
    )
    report = measure(folder, **OPTIONS)
    assert [len(steps) for steps in report.diverged.values()] == [1]
    assert [len(steps) for steps in report.not_local.values()] == [1]
    assert find(folder, REQUEST, None) == report


@pytest.mark.parametrize("what", ["source", "installed", "variables"])
def test_what_the_lab_is_made_of_is_part_of_the_request(what, tmp_path, monkeypatch):
    before = REQUEST.hash()
    assert REQUEST.hash() == before
    if what == "source":
        shutil.copytree(measured.PACKAGE / "runs", tmp_path / "runs")
        monkeypatch.setattr(measured, "PACKAGE", tmp_path)
        before = REQUEST.hash()
        file = tmp_path / "runs/disk.py"
        file.write_text(file.read_text().replace("16", "17", 1))
    elif what == "installed":
        (tmp_path / "site-packages/torch-9.9.dist-info").mkdir(parents=True)
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site-packages")])
    else:
        monkeypatch.setattr(measured, "AT_START", {"OMP_NUM_THREADS": "7"})
    assert REQUEST.hash() != before


@pytest.mark.parametrize("why", ["extension", "source", "files", "read-only"])
def test_nothing_is_noted_that_may_change(folder, why, monkeypatch):
    folder.requests.unlink()
    if why == "source":
        monkeypatch.setattr(measured, "STARTED", STARTED - 10**18)
    elif why == "files":
        monkeypatch.setattr(type(folder.read_config().task), "reads_files", True)
    elif why == "read-only":
        monkeypatch.setattr(measured, "is_writable", lambda path: False)
    else:

        @register
        def another():
            return RECIPES["induction"]()

    try:
        measure(folder, **OPTIONS)
    finally:
        if why == "extension":
            forget("recipes", "another")
    assert not folder.requests.exists()


def test_the_last_requests_are_noted(folder, monkeypatch):
    monkeypatch.setattr(measured, "MOST", 2)
    for n in (3, 4, 5):
        measured.note_request(folder, replace(REQUEST, images=n), "evaluation", [], {})
    first, last = folder.requests.read_text().splitlines()
    assert replace(REQUEST, images=4).hash() in first
    assert replace(REQUEST, images=5).hash() in last


def test_which_tasks_read_files():
    configs = {name: kind() for name, kind in list_task_configs().items() if name != "missing"}
    assert [name for name, config in configs.items() if config.reads_files] == []
    assert ClassifyConfig(world="mnist").reads_files and ClassifyConfig(npz="own.npz").reads_files
    for source in ("mnist", "omniglot"):
        assert FewshotConfig(source=source, n_classes=8, n_pairs=4).reads_files


@pytest.mark.parametrize(
    "changed",
    [{}, {"device": "cuda"}, {"follow": True}, {"images": 1}, {"jobs": 0}, {"steps": "last"}],
)
def test_the_command_asks_before_torch_is_imported(folder, changed, monkeypatch):
    options = Namespace(**PLAIN | changed)
    assert find_done(folder.path, options) is None  # torch is here already
    monkeypatch.delitem(sys.modules, "torch")
    report = find_done(folder.path, options)
    if changed and "steps" not in changed:
        assert report is None
    else:
        steps = [folder.read_manifest()[-1].step] if changed else None
        again = measure(folder, **OPTIONS, steps=steps)
        assert asdict(report) == asdict(again)
