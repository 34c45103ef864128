"""What a page is made of: arrays as text, the plan that fits, patterns, and what is missing."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.report.planted import shrink, train, write_arrays
from toyvit.__main__ import main
from toyvit.model.forward import trace
from toyvit.model.options import allowed_keys
from toyvit.report import FIGURES
from toyvit.report.lens_figures import draw_lens
from toyvit.report.live.documents import LIVE, TABLE
from toyvit.report.page import looks
from toyvit.report.page.contents import collect_head_types, describe_page
from toyvit.report.page.document import (
    SCRIPTS,
    build_document,
    hash_source,
    read_part,
    read_script,
    write_page,
)
from toyvit.report.page.looks import COARSE, FINE, PLANS, Plan, choose_plan, look_at_all
from toyvit.report.page.measured_curves import collect_curves, thin_steps
from toyvit.report.page.other_steps import draw_others
from toyvit.report.page.packing import KINDS, ArrayStore, format_json
from toyvit.report.plain import to_plain
from toyvit.runs.handle import Run

VIEWER = Path(looks.__file__).parents[1] / "viewer"


def unpack(store: ArrayStore, reference: dict) -> np.ndarray:
    """As the page's script does."""
    raw = zlib.decompress(base64.b64decode(store.texts[reference["array"]]))
    return np.frombuffer(raw, KINDS[reference["kind"]]).reshape(reference["shape"])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_an_array_comes_back_as_it_was(kind, data):
    values = data.draw(arrays(kind, array_shapes(min_side=0)))
    store = ArrayStore()
    back = unpack(store, store.add(values.T))
    np.testing.assert_array_equal(back, values.T)


@given(text=st.text())
def test_no_text_ends_an_element(text):
    written = format_json({"name": text})
    assert json.loads(written) == {"name": text}
    assert written.isascii() and not set("<>&") & set(written)


@given(n=st.integers(1, 3000), most=st.integers(0, 3000))
def test_steps_are_thinned_evenly_and_keep_their_ends(n, most):
    places = thin_steps(n, most)
    assert places[0] == 0 and places[-1] == n - 1
    assert len(places) <= max(2, most) and (len(places) == n or n > most)
    gaps = np.diff(places)
    assert not len(gaps) or (gaps.max() - gaps.min() <= 1 and gaps.min() >= 1)


def test_the_plan_takes_what_fits(runs):
    """Less room, less shown, and never more than the room; none where nothing fits."""
    run = runs["glyphs"]
    seen = []
    for room in np.geomspace(100, 1e6, 60)[::-1]:
        plan = choose_plan(run, room)
        if plan is None:
            seen.append(0)
            continue
        size = plan.pictures * len(plan.steps) * looks.count_bytes(run, plan.precision)
        assert size * looks.TEXT <= room
        assert plan.steps[-1] == run.last_step
        seen.append(plan.pictures)
    assert seen[0] == PLANS[0][0] and seen[-1] == 0 and len(set(seen)) > 3


@pytest.mark.parametrize("precision", [FINE, COARSE], ids=["fine", "coarse"])
@pytest.mark.parametrize("name", ["glyphs", "digits", "sums"])
def test_patterns_are_kept_to_their_unit(runs, name, precision):
    """Shares to half a unit of their logarithm, scores too; the counted bytes are those there."""
    run = runs[name]
    batch = run.batch("test", 3)
    plan = Plan(3, tuple(run.steps[-2:]), precision)
    allowed = allowed_keys(run.config.model)
    for step, look in look_at_all(run, plan, batch, pytest.fail):
        values = trace(run.model(step, batch), batch.images, "blocks.*.attn.*")
        for layer in range(run.config.model.n_layers):
            pattern = values[f"blocks.{layer}.attn.pattern"][..., allowed].numpy()
            nats = look["patterns"][:, layer].astype(float) * precision.unit
            shares = np.exp(-nats)
            shares[look["patterns"][:, layer] == precision.most] = 0
            np.testing.assert_allclose(shares, pattern, rtol=precision.unit, atol=1e-6)
            scores = values[f"blocks.{layer}.attn.attn_scores"]
            sums = scores.logsumexp(-1).numpy()
            np.testing.assert_allclose(look["sums"][:, layer], sums, rtol=1e-5)
            assert look["own"][layer].all()
    n_bytes = sum(part.nbytes for part in look.values())
    counted = 3 * looks.count_bytes(run, precision)
    assert n_bytes <= counted + look["own"].nbytes


def test_a_page_loads_nothing_and_runs_one_script(runs, tmp_path):
    """Its policy names that script and that style; no address is in it."""
    text = write_page([runs["digits"]], tmp_path / "page.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'{hash_source(scripts[0])}'" and len(scripts) == 1
    assert rules["style-src"] == f"'{hash_source(styles[0])}'" and len(styles) == 1
    outside = re.findall(r"https?://[^\s\"'`]+", text)
    assert set(outside) <= {"http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"}
    assert not re.search(r"<(link|img|iframe)|\b(src|href)=", text.replace(scripts[0], ""))


def test_no_script_makes_markup_of_text():
    """Names reach the page as text alone."""
    own = read_script().partition('"use strict"')[2]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in own
    assert "</script" not in read_script()


def test_lines_of_the_viewer_are_short():
    """As those of Python are; every file is a part of the page."""
    own = [file for file in VIEWER.iterdir() if file.suffix in (".js", ".css", ".html")]
    for file in own:
        longest = max(map(len, file.read_text().splitlines()))
        assert longest <= 100, file.name
    assert {file.name for file in own} >= {*SCRIPTS, "page.css", "page.html"}


def test_controls_are_called_as_the_page_about_them_says():
    text = (Path(__file__).parents[3] / "docs/page.md").read_text()
    main = (VIEWER / "main.js").read_text()
    (name,) = re.findall(r"side by side under one slider \(`(.+?)`\)", text)
    assert f'makeSelect("{name}"' in main


DECLARED = r"^(?:(?:async )?function|const|let) (\w+)"


@pytest.mark.parametrize("scripts", [LIVE, TABLE], ids=["page", "table"])
def test_no_name_of_a_page_is_declared_twice(scripts):
    """Its modules share one scope: a second constant is an error, a second function wins."""
    names = Counter(re.findall(DECLARED, "\n".join(map(read_part, scripts)), re.M))
    assert len(names) > 10 and [name for name, n in names.items() if n > 1] == []


def test_every_name_of_the_viewer_is_used():
    text = "\n".join(file.read_text() for file in sorted(VIEWER.glob("*.js")))
    names = re.findall(DECLARED, text, re.M)
    assert len(names) > 100
    assert [name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2] == []


def test_the_budget_holds(runs, tmp_path):
    """Of one run and of five, and what is left out is said."""
    many = [runs[name] for name in ("glyphs", "digits", "hidden", "chain", "sums")]
    for budget in (450_000, 1_000_000, 12_000_000):
        for chosen in (many[:1], many):
            page = write_page(chosen, tmp_path / "page.html", budget=budget)
            assert page.stat().st_size <= budget


@pytest.mark.parametrize("name", ["glyphs", "chain"])
def test_curves_and_heads_take_what_they_are_given(runs, name):
    """Fewer steps for less room, the first and the last always; no more bytes than that."""
    run = runs[name]
    for collect in (collect_curves, collect_head_types):
        store = ArrayStore()
        whole = collect(run, store, 1e9)
        reference = whole.get("values", whole.get("scores"))
        most = store.count_bytes(unpack(store, reference))
        numbers = []
        for share in (1, 0.8, 0.55, 0.1):
            store = ArrayStore()
            shown = collect(run, store, share * most)["steps"]
            numbers.append(len(shown))
            assert shown[0] == run.steps[0] and shown[-1] == run.last_step
            assert len(shown) == 2 or store.size <= share * most
        assert whole["steps"] == run.steps and numbers == [4, 3, 2, 2]


@pytest.mark.slow
def test_figures_of_one_step_are_there_at_others_as_far_as_they_fit(runs):
    """Evenly over training, each as it is drawn there; none where there is no room."""
    run = runs["glyphs"]
    figure = draw_lens(run)
    size = len(format_json(to_plain(figure, 4)))
    others = draw_others(run, figure, 9 * size, print)
    assert [other["steps"] for other in others] == [[0], [5], [10]]
    assert others[1] == to_plain(draw_lens(run, step=5), 4)
    assert [other["steps"] for other in draw_others(run, figure, 1.5 * size, print)] == [[0]]
    assert draw_others(run, figure, 0.5 * size, print) == []
    assert draw_others(run, FIGURES["learning"].draw(run, None), 9 * size, print) == []


def test_a_run_without_measures_has_a_page(tmp_path, capsys):
    """What there is, and the command that makes the rest."""
    run = train(tmp_path / "run", shrink(write_arrays(tmp_path / "own.npz")))
    assert main(["report", str(run.path)]) == 0
    printed = capsys.readouterr()
    assert f"run `toyvit measure {run.path}`" in printed.err and "page.html" in printed.out
    data = read_data((run.path / "figures" / "page.html").read_text())
    assert data["curves"] is None and data["looks"]["steps"] == run.steps
    assert "probes" in data["unmeasured"] and data["problems"] == []


def test_a_damaged_checkpoint_is_left_out_and_said(tmp_path, capsys, caplog):
    run = train(tmp_path / "run", shrink(write_arrays(tmp_path / "own.npz")))
    file = run.folder.checkpoints / run.entries[2].file
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert main(["report", str(run.path)]) == 0
    data = read_data((run.path / "figures" / "page.html").read_text())
    assert data["looks"]["steps"] == [0, 4]
    assert len(data["problems"]) == 1 and file.name in data["problems"][0]
    assert sum("not on the page" in record.getMessage() for record in caplog.records) == 1


def read_data(text: str) -> dict:
    """The first run of a page."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text)[1])["runs"][0]


def test_names_cannot_leave_their_place(runs):
    name = "</script><script>alert(1)</script><!--"
    store = ArrayStore()
    data = describe_page([runs["digits"]], {}, store, 1_000_000)
    data["runs"][0]["name"] = name
    text = build_document(data, [], name)
    assert text.count("<script>") == 1 and "<!--" not in text
    assert "&lt;/script&gt;" in text


def test_several_runs_on_one_page(runs, capsys, tmp_path):
    """The second is drawn beside the first; one that is named twice is there once."""
    first, second = (str(runs[name].path) for name in ("digits", "hidden"))
    to = tmp_path / "elsewhere"
    assert main(["report", first, second, first, "--to", str(to)]) == 0
    text = (to / "page.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert [Run(run["path"]).name for run in data["runs"]] == ["digits", "hidden"]
    nothing = [dict(run["story"])["What if nothing had happened?"] for run in data["runs"]]
    assert nothing[0].endswith(" To compare with: no abrupt change is found in hidden.")
    assert "To compare with" not in nothing[1]


def test_a_page_says_where_a_run_lies_as_seen_from_here(runs, monkeypatch):
    """Not the folders above, which name a machine and a user."""
    run = runs["digits"]
    monkeypatch.chdir(run.path.parent)
    data = describe_page([run], {}, ArrayStore(), 1_000_000)
    assert data["runs"][0]["path"] == run.path.name
    assert str(run.path.parent) not in json.dumps(data)
