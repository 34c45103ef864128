"""The live view answers whom it should, what the weights say, and changes nothing."""

from __future__ import annotations

import json
import random
import re
import shutil

import pytest
import torch
from starlette.testclient import TestClient

import toyvit
from bench.fault_inputs import spoil
from tests.report.live.asking import BASE, TOKEN, ask, list_files, read_array, read_refusal
from toyvit.circuits.patching import run_attention_knockout
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing, replacing
from toyvit.report.live import answers, documents
from toyvit.report.live.app import MOST_BYTES, build_app
from toyvit.report.live.security import HEADER, list_hosts
from toyvit.runs.handle import Run

STEP, PICTURE = 6, 3
PAGES = ("/", "/page?run=0")
QUESTION = {"run": "more/digits", "step": STEP, "picture": PICTURE}


def in_address(path: str, token: str = TOKEN) -> str:
    return f"{path}{'&' if '?' in path else '?'}token={token}"


# ---- who is answered ----

STRANGERS = {
    "no token": (in_address("/", ""), {}),
    "another token": (in_address("/", TOKEN + "x"), {}),
    "no ASCII": (in_address("/", "%C3%A4"), {}),
    "a page by header": ("/", {}),
    "data by address": (in_address("/api/news"), {HEADER: ""}),
    "another host": (in_address("/"), {"host": "evil.example:8000"}),
    "another port": (in_address("/"), {"host": "127.0.0.1:8001"}),
    "a host that begins alike": (in_address("/"), {"host": "localhost:8000.evil.example"}),
    "no host": (in_address("/"), {"host": ""}),
    "another origin": ("/api/news", {"origin": "http://evil.example"}),
    "an origin that begins alike": ("/api/news", {"origin": "http://127.0.0.1:80001"}),
    "an origin without a name": ("/api/news", {"origin": "null"}),
    "another scheme": ("/api/news", {"origin": "https://127.0.0.1:8000"}),
}


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_are_refused(client, who):
    path, headers = STRANGERS[who]
    response = client.get(path, headers=headers)
    assert response.status_code == 403
    assert "address that was printed" in read_refusal(response)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"])
def test_its_own_page_is_answered(client, host):
    own = {"host": host, "origin": f"http://{host}"}
    assert client.get("/api/news?run=0", headers=own).status_code == 200
    assert client.get(in_address("/"), headers={"host": host}).status_code == 200


def test_another_host_is_served_where_it_was_asked_for():
    assert "lab.example:8000" in list_hosts("Lab.Example", 8000)
    assert "[::1]:8000" in list_hosts("::1", 8000)
    assert "localhost" in list_hosts("127.0.0.1", 80)
    assert list_hosts("0.0.0.0", 8000) is None


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_sent_with_the_policy_that_it_says(client, path):
    response = client.get(in_address(path))
    policy = response.headers["content-security-policy"]
    answered = re.search('Content-Security-Policy" content="([^"]+)"', response.text)[1]
    assert policy == f"{answered}; frame-ancestors 'none'"
    assert (
        "connect-src 'self'" in answered
        and "unsafe" not in answered
        and "default-src 'none'" in answered
    )
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store" and "set-cookie" not in response.headers
    assert TOKEN not in response.text


# ---- what cannot be asked ----

BODIES = {
    "nothing": (b"", "Expecting value"),
    "no JSON": (b"{", "what was sent is damaged"),
    "no object": (b"[]", "holds a list"),
    "no UTF-8": (b"\xff", "UTF-8"),
    "endless": (b"[" * 100_000, "nested"),
    "long number": (b'{"step": ' + b"1" * 10_000 + b"}", "damaged"),
    "no number": (b'{"step": NaN}', "NaN"),
    "twice": (b'{"step": 1, "step": 2}', "twice"),
    "no run": ({"run": None}, "run must be"),
    "a run that is true": ({"run": True}, "run must be"),
    "another run": ({"run": "more/digit"}, "did you mean 'more/digits'"),
    "a number too high": ({"run": 4}, "runs 0 to 3"),
    "a negative run": ({"run": -1}, "no run"),
    "above": ({"run": "../live/chain"}, "no run"),
    "a path": ({"run": "/etc/passwd"}, "no run"),
    "a zero byte": ({"run": "chain\x00"}, "no run 'chain\\x00'"),
    "half a letter": ({"run": "\ud800"}, "no run"),
    "a huge run": ({"run": "9" * 100_000}, "no run 999"),
    "another field": ({"head": []}, "did you mean 'heads'"),
    "no step": ({"step": None}, "step must be a whole number, got nothing"),
    "half a step": ({"step": 0.5}, "got a fraction"),
    "another step": ({"step": 5}, "the nearest is 6"),
    "a huge step": ({"step": 10**300}, "step must be"),
    "no picture": ({"picture": None}, "picture must be"),
    "past the end": ({"picture": 10**6}, "test pictures"),
    "a negative picture": ({"picture": -1}, "picture must be from 0"),
    "too few pixels": ({"picture": [0.0] * 63}, "64 pixels, got 63"),
    "no pixels": ({"picture": [None] * 64}, "pixels of picture"),
    "pixels without end": ({"picture": [10**400] * 64}, "pixels of picture"),
    "pixels too bright": ({"picture": [10_001] * 64}, "up to 10,000"),
    "true pixels": ({"picture": [True] * 64}, "pixels of picture"),
    "another ablation": ({"ablation": "zeros"}, "did you mean 'zero'"),
    "a list of ablations": ({"ablation": []}, "ablation must be a text"),
    "no list": ({"heads": {}}, "heads must be a list"),
    "half a head": ({"heads": [[0]]}, "2 numbers"),
    "no head": ({"heads": ["00"]}, "2 numbers"),
    "another head": ({"heads": [[0, 2]]}, "0 to 1, got 2"),
    "a true head": ({"heads": [[0, True]]}, "whole number"),
    "another edge": ({"edges": [[0, 0, 0, 99]]}, "got 99"),
    "too many": ({"edges": [[0, 0, 0, 0]] * 10_001}, "at most 10000"),
    "a patch of nothing": ({"patch": 1}, "patch must be an object"),
    "a patch without a picture": ({"patch": {"heads": [[0, 0]]}}, "needs the picture"),
    "a patch of no head": ({"patch": {"heads": []}}, "needs the picture"),
    "another part": ({"patch": {"block": [0]}}, "did you mean 'blocks'"),
    "another block": ({"patch": {"picture": 1, "blocks": [2]}}, "got 2"),
    "both": ({"heads": [[0, 0]], "patch": {"picture": 1, "heads": [[0, 0]]}}, "both"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_cannot_be_asked_is_refused_in_a_line(client, name):
    body, says = BODIES[name]
    content = body if isinstance(body, bytes) else json.dumps(QUESTION | body)
    response = client.post("/api/look", content=content)
    assert response.status_code == 400
    assert says in read_refusal(response)


def test_what_is_too_large_is_refused(client):
    content = b" " * (MOST_BYTES + 1)
    assert client.post("/api/look", content=content).status_code == 413
    parts = (content[:100_000] for _ in range(30))  # of a length that nobody says before
    assert "2,000,000" in read_refusal(client.post("/api/look", content=parts))
    assert client.post("/api/look", content=content[1:]).status_code == 400


OTHERS = {
    ("GET", "/api/look"): 405,
    ("PUT", "/api/look"): 405,
    ("DELETE", in_address("/page")): 405,
    ("POST", in_address("/")): 405,
    ("OPTIONS", "/api/news"): 405,
    ("GET", "/api/"): 404,
    ("GET", in_address("/config.json")): 404,
    ("GET", in_address("/..%2f..%2fetc/passwd")): 404,
    ("GET", in_address("//etc/passwd")): 404,
    ("GET", in_address("/page")): 400,
    ("GET", in_address("/page?run=../live")): 400,
    ("GET", in_address("/page?run=0%00")): 400,
    ("GET", "/api/news?run=/etc"): 400,
    ("GET", "/api/news?run=%FF"): 400,
}


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_other_requests_are_refused_in_a_line(client, method, path):
    response = client.request(method, path)
    assert response.status_code == OTHERS[method, path]
    read_refusal(response)


def test_a_fault_of_the_lab_is_a_line_too(client, monkeypatch):
    def fail(*parts: object) -> None:
        raise RuntimeError("no\nsuch luck")

    monkeypatch.setattr(answers, "see", fail)
    response = client.post("/api/look", json=QUESTION)
    assert response.status_code == 500
    assert response.json() == {"error": "RuntimeError: no\\nsuch luck"}


# ---- what is answered ----


def compute_chances(logits: torch.Tensor) -> list[float]:
    return logits.softmax(-1)[PICTURE].tolist()


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("heads", [[(0, 1)], [(1, 0)], [(0, 0), (1, 1), (1, 0)]])
def test_ablated_heads_are_the_librarys(client, digits, ablation, heads):
    images = digits.batch("test", answers.MEAN_OF).images
    model = digits.model(STEP)
    values = trace(model, images)
    answer = ask(client, **QUESTION, heads=heads, ablation=ablation)
    expected = toyvit.ablate_heads(model, heads, values, ablation)
    assert answer["after"]["chances"] == pytest.approx(compute_chances(expected), abs=1e-6)
    plain = compute_chances(run_model(model, images))
    assert answer["before"]["chances"] == pytest.approx(plain, abs=1e-6)
    assert answer["after"]["chances"] != pytest.approx(plain, abs=1e-5)


def test_forbidden_edges_are_the_librarys(client, digits):
    images = digits.batch("test", PICTURE + 1).images
    model = digits.model(STEP)
    edges = torch.zeros(1, *[model.config.n_tokens] * 2, dtype=torch.bool)
    edges[0, 0, 2:9] = True
    places = [[1, 1, 0, key] for key in range(2, 9)]
    expected = run_attention_knockout(model, trace(model, images), edges, [1], [1])
    answer = ask(client, **QUESTION, edges=places)
    assert answer["after"]["chances"] == pytest.approx(compute_chances(expected), abs=1e-6)
    assert answer["after"]["chances"] != pytest.approx(answer["before"]["chances"], abs=1e-6)


@pytest.mark.parametrize("site", ["blocks.0.resid_post", "blocks.0.attn.z"])
def test_patches_are_the_librarys(client, digits, site):
    """A block's output, and the outputs of both heads of a layer, from another picture."""
    images = digits.batch("test", 8).images
    model = digits.model(STEP)
    donor = trace(model, images[7:], site)[site].expand(8, *[-1] * (3 if "z" in site else 2))
    expected = run_model(model, images, replacing({site: donor}))
    parts = {"blocks": [0]} if "resid" in site else {"heads": [[0, 0], [0, 1]]}
    answer = ask(client, **QUESTION, patch={"picture": 7, **parts})
    assert answer["after"]["chances"] == pytest.approx(compute_chances(expected), abs=1e-6)
    assert answer["after"]["chances"] != pytest.approx(answer["before"]["chances"], abs=1e-6)


def test_a_patch_of_the_last_block_is_the_other_pictures_answer(client):
    other = ask(client, **QUESTION | {"picture": 7})["before"]["chances"]
    answer = ask(client, **QUESTION, patch={"picture": 7, "blocks": [1]})
    assert answer["after"]["chances"] == pytest.approx(other, abs=1e-6)


def test_interventions_work_together(client, digits):
    images = digits.batch("test", PICTURE + 1).images
    model = digits.model(STEP)

    def cut(pattern: torch.Tensor) -> torch.Tensor:
        pattern = pattern.clone()
        pattern[:, 0, 0, 1] = 0
        pattern[:, 0, 0] /= pattern[:, 0, 0].sum(-1, keepdim=True)
        return pattern

    def silence(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([z[:, :, 0], torch.zeros_like(z[:, :, 1])], 2)

    tap = editing({"blocks.0.attn.pattern": cut, "blocks.1.attn.z": silence})
    expected = compute_chances(run_model(model, images, tap))
    answer = ask(client, **QUESTION, heads=[[1, 1]], edges=[[0, 0, 0, 1]])
    assert answer["after"]["chances"] == pytest.approx(expected, abs=1e-6)


def test_a_drawn_picture_is_what_it_is(client, digits):
    """A test picture that is sent pixel by pixel has the answers of that picture, but no right."""
    pixels = digits.batch("test", PICTURE + 1).images[PICTURE].flatten().tolist()
    numbered = ask(client, **QUESTION, heads=[[0, 0]])
    sent = ask(client, **QUESTION | {"picture": pixels}, heads=[[0, 0]])
    assert sent["after"]["chances"] == pytest.approx(numbered["after"]["chances"], abs=1e-6)
    assert sent["picture"] is None and sent["after"]["loss"] is None
    assert numbered["after"]["loss"] > 0


def test_attention_and_lens_are_the_models(client, digits):
    """Before and after: shares of attention, and the likeliest class of each patch a layer."""
    model = digits.model(STEP)
    image = digits.batch("test", PICTURE + 1).images[PICTURE:]
    answer = ask(client, **QUESTION, edges=[[0, 1, 0, 4]])
    shares = torch.from_numpy(read_array(answer, "patterns") * -answer["looks"]["unit"]).exp()
    patterns = trace(model, image, "blocks.*.attn.pattern").values()
    before = torch.stack([value[0].flatten(1) for value in patterns])
    torch.testing.assert_close(shares[0, 0].float(), before, atol=1e-6, rtol=3e-4)
    cut = shares[1, 0, 0, 1].view(model.config.n_tokens, -1)[0]
    assert cut[4] < 1e-12 and cut.sum() == pytest.approx(1, abs=1e-3)
    classes = read_array(answer, "classes")
    final = torch.tensor(answer["after"]["chances"])
    assert classes.shape[:3] == (2, 1, 3) and classes[1, 0, 2, -1] == final.argmax()


def test_every_kind_of_answer_is_answered(client):
    """A class a patch, pixels, and a run under a clamp that knows where the match is."""
    chain = ask(client, run="chain", step=6, picture=0, heads=[[0, 0]])
    assert len(chain["after"]["chances"]) == 16 and chain["after"]["loss"] > 0
    hidden = ask(client, run="hidden", step=6, picture=0, heads=[[0, 0]])
    assert hidden["after"]["chances"] is None
    assert hidden["after"]["loss"] != hidden["before"]["loss"]


def test_a_run_under_a_clamp_is_shown_as_it_was_trained(client, folder):
    run = Run(folder / "matched")
    batch = run.batch("test", 3)
    with torch.no_grad():
        expected = run.model(6, batch)(batch.images).softmax(-1)[2].tolist()
    answer = ask(client, run="matched", step=6, picture=2, heads=[[0, 0]], ablation="mean")
    assert answer["before"]["chances"] == pytest.approx(expected, abs=1e-6)
    pixels = batch.images[2].flatten().tolist()
    response = client.post("/api/look", json={"run": "matched", "step": 6, "picture": pixels})
    assert "clamp 'match'" in read_refusal(response)


# ---- pages, news, files ----


def test_a_page_is_built_once_for_what_its_files_are(client, folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "chain", tmp_path / "chain")
    live = TestClient(build_app(tmp_path / "chain", TOKEN, None), BASE, headers={HEADER: TOKEN})
    builds = []
    describe = documents.describe_page
    monkeypatch.setattr(
        documents, "describe_page", lambda *parts: builds.append(1) or describe(*parts)
    )
    texts = [live.get(in_address("/")).text for _ in range(2)]
    assert texts[0] == texts[1] and len(builds) == 1
    before = live.get("/api/news").json()

    run = Run(tmp_path / "chain")
    weights = run.weights(6)
    run.folder.write_checkpoint(9, 9, weights, {"loss": 1.0, "accuracy": 0.5})
    after = live.get("/api/news").json()
    assert (before["lastStep"], after["lastStep"], after["accuracy"]) == (6, 9, 0.5)
    assert live.get(in_address("/")).text != texts[0] and len(builds) == 2
    assert ask(live, run=0, step=9, picture=0)["step"] == 9
    measured = live.get("/api/news").json()["measured"]
    toyvit.measure(run.path, images=4, analyses=["performance"], progress=False)
    assert live.get("/api/news").json()["measured"] != measured

    texts = [live.get(in_address("/")).text]
    run.folder.figures.mkdir(exist_ok=True)
    (run.folder.figures / "circuit.json").write_text("{}")
    assert live.get(in_address("/")).text and len(builds) == 4


def test_a_damaged_checkpoint_is_refused(folder, tmp_path):
    shutil.copytree(folder / "chain", tmp_path / "chain")
    file = tmp_path / "chain/checkpoints/step_00000006.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    live = TestClient(build_app(tmp_path / "chain", TOKEN, None), BASE, headers={HEADER: TOKEN})
    response = live.post("/api/look", json={"run": 0, "step": 6, "picture": 0})
    assert "SHA-256" in read_refusal(response)
    assert ask(live, run=0, step=0, picture=0)["step"] == 0


SPOILED = ("config.json", "manifest.jsonl", "measures.sqlite", "metrics.jsonl", "figures", "lock")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_file_is_a_page_or_a_refusal(digits, tmp_path, name, seed):
    """Garbage, other kinds of things, links: never a fault of the lab's."""
    run = shutil.copytree(digits.path, tmp_path / "runs/digits")
    spoil(run / name, random.Random(seed))
    live = TestClient(build_app(tmp_path / "runs", TOKEN, None), BASE, headers={HEADER: TOKEN})
    question = QUESTION | {"run": 0, "heads": [[0, 0]]}
    responses = [live.get(in_address(path)) for path in PAGES]
    responses += [live.get("/api/runs?columns=heads.score"), live.get("/api/compare?run=0&run=0")]
    responses += [live.get("/api/news"), live.post("/api/look", json=question)]
    assert responses[0].status_code == 200
    for response in responses:
        if response.status_code != 200:
            read_refusal(response)


def test_nothing_is_written(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "runs")
    live = TestClient(build_app(tmp_path / "runs", TOKEN, None), BASE, headers={HEADER: TOKEN})
    before = list_files(tmp_path)
    assert live.get(in_address("/page?run=3&run=0")).status_code == 200
    assert live.get(in_address("/")).status_code == 200
    ask(live, **QUESTION, heads=[[0, 0]], ablation="mean", patch={"picture": 1, "blocks": [0]})
    for body, _ in BODIES.values():
        live.post("/api/look", content=body if isinstance(body, bytes) else json.dumps(body))
    live.get("/api/news?run=more/digits")
    assert live.get("/api/runs?columns=performance.accuracy").json()["rows"]
    assert list_files(tmp_path) == before
