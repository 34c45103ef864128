"""The table of runs that the browser asks for is that of `toyvit ls`."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
from starlette.testclient import TestClient

import toyvit
from tests.report.live.asking import BASE, TOKEN, read_refusal
from tests.report.live.test_app import in_address
from toyvit.__main__ import main
from toyvit.report.live import run_rows
from toyvit.report.live.app import build_app
from toyvit.report.live.security import HEADER
from toyvit.runs.handle import Run

NAMES = ["chain", "hidden", "matched", "more/digits"]
COLUMNS = "status,steps,accuracy,model.n_layers,task.rows,performance.accuracy,heads.score"


def list_table(client: TestClient, **parts: object) -> dict[str, Any]:
    """What is answered to a question about the table that can be asked."""
    response = client.get("/api/runs", params=parts)
    assert response.status_code == 200, response.text
    return dict(response.json())


def list_printed(capsys, folder: Path, *words: str) -> list[list[str]]:
    """The rows of `toyvit ls`, the paths as names."""
    main(["ls", str(folder), "--format", "csv", *words])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]
    return [[Path(path).relative_to(folder).as_posix(), *texts] for path, *texts in rows]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"where": "model.n_layers=1"}, ["--where", "model.n_layers=1"]),
        (
            {"where": ["recipe=digits,markov", "task.rows=4"]},
            ["--where", "recipe=digits,markov", "--where", "task.rows=4"],
        ),
        ({"status": "stopped"}, ["--status", "stopped"]),
        ({"sort": "accuracy"}, ["--sort", "accuracy"]),
        ({"sort": "heads.score", "reverse": "1"}, ["--sort", "heads.score", "--reverse"]),
        ({"sort": "recipe", "reverse": "1"}, ["--sort", "recipe", "--reverse"]),
    ],
)
def test_the_table_is_that_of_the_command(client, folder, capsys, asked, words):
    """Columns of configurations and measures, conditions and order, to the letter."""
    rows = list_table(client, columns=COLUMNS, **asked)["rows"]
    printed = list_printed(capsys, folder, "--columns", COLUMNS, *words)
    assert [[row["name"], *row["texts"]] for row in rows] == printed
    assert all(row["run"] == NAMES.index(row["name"]) for row in rows)


def test_runs_are_compared_as_by_the_command(client, folder, capsys):
    parts = {"run": ["3", "chain"], "columns": "recipe,performance.accuracy,model.n_layers"}
    reply = client.get("/api/compare", params=parts).json()
    assert reply["names"] == ["more/digits", "chain"]
    words = ["--columns", "performance.accuracy,model.n_layers", "--format", "csv"]
    main(["ls", str(folder / "more"), str(folder / "chain"), "--compare", *words])
    assert reply["rows"] == list(csv.reader(io.StringIO(capsys.readouterr().out)))[1:]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("runs?columns=model.n_layer", "did you mean 'model.n_layers'?"),
        ("runs?where=heads.scor%3D1", "did you mean 'heads.score'?"),
        ("runs?where=accuracy", "where is FIELD=VALUE, got 'accuracy'"),
        ("runs?sort=acuracy", "did you mean 'accuracy'?"),
        ("runs?status=done", "status"),
        ("runs?reverse=2", "reverse"),
        ("runs?sort=step&sort=loss", "sort may be asked for once"),
        ("runs?column=step", "did you mean 'columns'?"),
        (f"runs?columns={','.join(map(str, range(41)))}", "at most 40 columns, got 41"),
        ("compare?run=0", "2 to 24 runs are compared, got 1"),
        ("compare?run=0&run=0", "got 1"),
        ("compare?run=0&run=../chain", "no run '../chain'"),
        ("compare?run=0&run=1&columns=acuracy", "did you mean 'accuracy'?"),
    ],
)
def test_what_the_table_has_not_is_said(client, path, problem):
    assert problem in read_refusal(client.get(f"/api/{path}"))


def test_the_page_of_the_table_names_all_that_can_be_asked(client):
    text = client.get(in_address("/")).text
    offered = json.loads(re.search('id="data">(.*?)</script>', text)[1])
    assert "accuracy" in offered["own"] and "model.n_layers" in offered["fields"]
    assert "heads.score" in offered["measures"] and "finished" in offered["statuses"]


def test_a_damaged_run_hides_no_other(folder, tmp_path, capsys):
    """It is named with what is wrong, and so is one whose measures are, when they are asked for."""
    shutil.copytree(folder / "chain", tmp_path / "runs/chain")
    shutil.copytree(folder / "more/digits", tmp_path / "runs/digits")
    (tmp_path / "runs/digits/measures.sqlite").write_bytes(b"nothing of the kind" * 99)
    (tmp_path / "runs/bad").mkdir()
    (tmp_path / "runs/bad/config.json").write_text("{")
    live = TestClient(build_app(tmp_path / "runs", TOKEN, None), BASE, headers={HEADER: TOKEN})
    reply = list_table(live, columns="status")
    assert [row["name"] for row in reply["rows"]] == ["chain", "digits"]
    assert [problem["name"] for problem in reply["problems"]] == ["bad"] and reply["all"] == 3
    assert "damaged" in read_refusal(live.get(in_address("/page?run=bad")))

    reply = list_table(live, columns="heads.score")
    assert [row["name"] for row in reply["rows"]] == ["chain"]
    assert [problem["name"] for problem in reply["problems"]] == ["bad", "digits"]
    assert main(["ls", str(tmp_path / "runs"), "--columns", "heads.score"]) == 2
    printed = capsys.readouterr()
    assert "chain" in printed.out and "measures.sqlite" in printed.err


def test_the_table_is_read_again_where_a_run_has_changed(folder, tmp_path):
    """Checkpoints and measures; what has not changed is not."""
    run = Run(shutil.copytree(folder / "chain", tmp_path / "runs/chain"))
    live = TestClient(build_app(tmp_path / "runs", TOKEN, None), BASE, headers={HEADER: TOKEN})
    columns = "step,performance.accuracy"
    before = list_table(live, columns=columns)["rows"][0]["texts"]
    assert before == ["6", "none"]
    toyvit.measure(run.path, images=4, analyses=["performance"], progress=False)
    run.folder.write_checkpoint(9, 9, run.weights(6), {"loss": 1.0, "accuracy": 0.5})
    step, accuracy = list_table(live, columns=columns)["rows"][0]["texts"]
    assert step == "9" and float(accuracy) >= 0


def test_runs_are_read_once_and_before_anybody_asks(folder, monkeypatch):
    """By the time that the address is open they are there; who comes sooner waits for them."""
    own = run_rows.read_record
    names: list[str] = []
    is_begun = Event()
    may_read = Event()

    def read(run):
        is_begun.set()
        may_read.wait(5)
        names.append(run.path.name)
        return own(run)

    monkeypatch.setattr(run_rows, "read_record", read)
    live = TestClient(build_app(folder, TOKEN, None), BASE, headers={HEADER: TOKEN})
    assert is_begun.wait(5)
    Timer(0.05, may_read.set).start()
    assert len(list_table(live)["rows"]) == 4
    assert sorted(names) == ["chain", "digits", "hidden", "matched"]
