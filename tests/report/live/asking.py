"""Asking the live view, and reading what it answers."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from starlette.testclient import TestClient

from toyvit.runs.finding import find_runs
from toyvit.runs.verification import hash_files

TOKEN = "a-token"
BASE = "http://127.0.0.1:8000"


def ask(client: TestClient, **question: object) -> dict[str, Any]:
    """What is answered to a question that can be asked."""
    response = client.post("/api/look", json=question)
    assert response.status_code == 200, response.text
    return dict(response.json())


def read_array(answer: dict[str, Any], name: str) -> np.ndarray:
    """An array of an answer's looks."""
    reference = answer["looks"][name]
    raw = zlib.decompress(base64.b64decode(answer["arrays"][reference["array"]]))
    return np.frombuffer(raw, reference["kind"]).reshape(reference["shape"])


def read_refusal(response: Any) -> str:
    """The problem that a refusal names: one line of JSON, without a traceback."""
    assert response.status_code in range(400, 500), response.text
    assert response.text.count("\n") == 1 and "Traceback" not in response.text
    plain = json.loads(response.text)
    assert list(plain) == ["error"]
    return str(plain["error"])


def list_files(folder: Path) -> dict[str, object]:
    """Every file below a folder with its time, and the digests of all that runs know."""
    files: dict[str, object] = {
        str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))
    }
    return files | {str(run.path): list(hash_files(run)) for run in find_runs(folder)}
