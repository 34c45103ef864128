"""Pictures, pages and exports are whole or not there, whoever is killed or works beside."""

from __future__ import annotations

import ast
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import toyvit
from tests.report.planted import PERFORMANCE, plant, shrink, train, write_arrays
from tests.stories.processes import contents
from toyvit.cli.viewing import write_events
from toyvit.config import whole_files
from toyvit.config.whole_files import PART, open_beside, remove_leftovers, write_atomically
from toyvit.data.exports import export_samples
from toyvit.data.question_configs import ClassifyConfig
from toyvit.data.task import build_task
from toyvit.errors import BadInput
from toyvit.report import FIGURES, draw, open_figures, tensorboard
from toyvit.report.matplotlib_renderer import save_figure
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run

PICTURES = {"learning", "by_factor"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """A run with measures of two figures."""
    folder = tmp_path_factory.mktemp("drawn")
    run = train(folder / "run", shrink(write_arrays(folder / "own.npz")))
    values = [("accuracy_of_value", {"factor": "class", "level": 0}, 0.5)]
    plant(run, {"performance": PERFORMANCE, "by_factor": values})
    return run


@pytest.fixture(scope="module")
def expected(run) -> dict[str, bytes]:
    """Its pictures."""
    for name in sorted(PICTURES):
        save_figure(FIGURES[name].draw(run, None), open_figures(run) / f"{name}.png")
    return contents(run.path, "figures/*")


@pytest.fixture
def quick(monkeypatch):
    few = {name: FIGURES[name] for name in PICTURES}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    monkeypatch.setattr(tensorboard, "draw_pictures", lambda run: ())


def fork(job: Callable[[], object]) -> int:
    """A process that does a job; its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        job()
        os._exit(0)
    except BaseException:
        os._exit(1)


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def report(run: Run) -> None:
    draw(run)
    write_events(RunFolder(run.path), None)


def die_at(n: int, half: bool) -> None:
    """Be killed at the n-th file: as half of it is written, or before it is moved to its place."""
    moved = []

    def replace(source: Path, target: Path) -> None:
        if len(moved) == n:
            if half:
                os.truncate(source, os.stat(source).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        moved.append(target)
        os.rename(source, target)

    whole_files.os = type("os", (), {**vars(os), "replace": staticmethod(replace)})


@pytest.mark.slow
@pytest.mark.parametrize(("n", "half"), [(0, True), (1, False), (2, True)])
def test_a_killed_report_leaves_whole_pictures_and_the_next_cleans_up(
    run, quick, expected, n, half
):
    """Two pictures, then the events of TensorBoard."""
    (run.path / "figures/learning.png").unlink()

    def killed() -> None:
        die_at(n, half)
        report(run)

    assert wait(fork(killed)) == -signal.SIGKILL
    assert len([path for path in run.path.rglob("*") if PART.fullmatch(path.name)]) == 1
    for name, content in contents(run.path, "figures/*.png").items():
        assert content == expected[name]
    report(run)
    assert contents(run.path, "figures/*") == expected
    assert not [path for path in run.path.rglob("*") if PART.fullmatch(path.name)]
    assert len(list(run.path.glob("tensorboard/events.*"))) == 1


@pytest.mark.slow
def test_two_reports_at_once_do_not_meet(run, quick, expected):
    pids = [fork(lambda: report(run)) for _ in range(2)]
    assert [wait(pid) for pid in pids] == [0, 0]
    assert contents(run.path, "figures/*") == expected
    assert not [path for path in run.path.rglob("*") if PART.fullmatch(path.name)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "pdf"])
def test_a_picture_is_the_same_whenever_it_is_drawn(run, quick, tmp_path, kind):
    """But for the names that matplotlib gives to clip paths in SVG, after their place in memory."""
    files = [draw(run, kind=kind, to=tmp_path / place)[0].file for place in "ab"]
    first, second = (re.sub(rb"#?\bp[0-9a-f]{10}\b", b"clip", file.read_bytes()) for file in files)
    assert first == second


def test_many_writers_of_one_file_leave_one_of_theirs(tmp_path):
    """Threads of one process, and a sweep for leftovers all the while: nothing is lost or torn."""
    file = tmp_path / "note"
    texts = [bytes([65 + n]) * 100_000 for n in range(4)]
    seen: set[bytes] = set()
    problems: list[BaseException] = []

    def write(text: bytes) -> None:
        try:
            for _ in range(40):
                write_atomically(file, text)
                remove_leftovers(tmp_path)
                seen.add(file.read_bytes())
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == [] and seen <= set(texts)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_only_what_the_lab_left_is_removed(tmp_path):
    """Not what a living process writes, nor files of other names, nor what a link leads to."""
    precious = tmp_path / "elsewhere"
    precious.mkdir()
    (precious / "thesis").write_text("precious")
    folder = tmp_path / "figures"
    folder.mkdir()
    living, file = open_beside(folder / "living.png")
    link = folder / "linked.png.1-0123abcd.part"
    link.symlink_to(precious)
    for name in ("note.part", "a.1-0123abcd.part.txt", "a.1-0123ABCD.part"):
        (folder / name).touch()
    dead = [folder / "a.png.1-0123abcd.part", folder / "b.png.1-0123abcd.part"]
    dead[0].touch()
    dead[1].mkdir()
    (dead[1] / "half").touch()

    stays = {path.name for path in folder.iterdir()} - {path.name for path in dead}
    remove_leftovers(folder, "b.png")
    assert dead[0].exists() and not dead[1].exists()
    remove_leftovers(folder)
    assert {path.name for path in folder.iterdir()} == stays
    assert (precious / "thesis").read_text() == "precious" and living.name in stays
    file.close()
    remove_leftovers(folder)
    assert not living.exists()


def test_a_name_that_is_swept_away_at_once_is_taken_anew(tmp_path, monkeypatch):
    """Between making a file and locking it another process may take it for a leftover."""
    claim = whole_files._claim
    swept = []

    def claim_late(descriptor: int, path: Path) -> bool:
        if not swept:
            path.unlink()
            swept.append(path)
        return claim(descriptor, path)

    monkeypatch.setattr(whole_files, "_claim", claim_late)
    write_atomically(tmp_path / "note", b"whole")
    assert swept and (tmp_path / "note").read_bytes() == b"whole"


def export(folder: Path, draw: Callable[[Path], object] = lambda path: None) -> Path:
    return export_samples("digits", build_task(ClassifyConfig()), folder, 5, draw)


def test_a_killed_export_leaves_nothing_for_long(tmp_path):
    def kill(path: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    assert wait(fork(lambda: export(tmp_path / "out", kill))) == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert PART.fullmatch(left.name) and (left / "train.npz").exists()
    export(tmp_path / "other")
    assert left.exists(), "of another export"
    export(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other"}
    assert (tmp_path / "out/README.md").exists()


def test_of_two_exports_at_once_one_is_refused(tmp_path):
    """The second is whole when the first wants to move to its place."""
    with pytest.raises(BadInput, match="out exists already"):
        export(tmp_path / "out", lambda path: export(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_could_not_be_built_is_gone(tmp_path):
    def fail(path: Path) -> None:
        assert (path.parent / "train.npz").exists()
        raise KeyError

    with pytest.raises(KeyError):
        export(tmp_path / "new", fail)
    assert list(tmp_path.iterdir()) == []


IN_PLACE = {"write_text", "write_bytes", "savefig", "save_file"}
ALLOWED = {
    "data/exports.py",  # into a folder that is moved when it is whole
    "data/worlds/dsprites/drawing.py",  # a checksum, which is compared
    "report/matplotlib_renderer.py",  # into memory
}


@pytest.mark.slow
def test_nothing_writes_a_file_in_place():
    root = Path(toyvit.__file__).parent
    writers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name in IN_PLACE:
                    writers.add(path.relative_to(root).as_posix())
    assert writers == ALLOWED
