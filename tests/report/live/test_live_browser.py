"""The live view in a browser: what is pressed and drawn is what the weights answer."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.report.browser import PICTURES
from toyvit.circuits.patching import run_attention_knockout
from toyvit.model.forward import ablate_heads, run_model, trace
from toyvit.report.live.serving import serve
from toyvit.runs.handle import Run

pytestmark = pytest.mark.page
STEP, PICTURE = 6, 3
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve(folder, "127.0.0.1", 0) as (_, address):
        yield address


def speaks(message) -> bool:
    """Whether a page itself said it: without its policy a browser asks for a picture by itself."""
    return not message.location["url"].endswith("/favicon.ico")


@pytest.fixture
def visit(browser, address):
    """Opens a page of the server; at the end no page may have said anything."""
    contexts, problems = [], []

    def open_page(query: str = "", link: str = "", at: str = "", **options: object) -> object:
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: problems.append(message.text) if speaks(message) else 0)
        page.on("pageerror", lambda error: problems.append(str(error)))
        path = f"/page?{query}&" if query else "/?"
        page.goto((at or address).replace("/?", path) + link)
        page.wait_for_selector("body[data-state=ready]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def wait_for(page, words: str) -> None:
    page.locator(f"#live .reading:has-text('{words}')").wait_for(timeout=10_000)


def wait_until(page, check: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something comes true in so much time: a busy machine takes its own."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not check():
        page.wait_for_timeout(50)
    return check()


def comes_true(page, before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether the answers become these logits, see `is_shown`."""
    return wait_until(page, lambda: is_shown(page, before, after))


def is_shown(page, before: torch.Tensor, after: torch.Tensor) -> bool:
    """Whether the answers are these logits, in percent to a tenth, as it is and changed."""
    texts = page.locator("#live .both .number").all_inner_texts()
    shown = [re.findall(r"([\d.]+) %", text) for text in texts]
    shares = zip(*[100 * logits.softmax(-1) for logits in (before, after)], strict=True)
    pairs = zip(shown, shares, strict=True)
    return all(
        float(text) == pytest.approx(share.item(), abs=0.11)
        for texts, both in pairs
        for text, share in zip(texts, both, strict=True)
    )


def open_digits(visit, **options: object):
    page = visit("run=more/digits", f"#step={STEP}&picture={PICTURE}&layer=1&head=0", **options)
    wait_for(page, f"Test picture {PICTURE}, step {STEP}")
    return page


def press(page, name: str) -> None:
    page.locator("#live").get_by_role("button", name=name, exact=True).click()


def test_what_is_pressed_is_what_the_model_answers(visit, digits):
    """Heads, an edge and a block, one after the other and back."""
    page = open_digits(visit)
    images = digits.batch("test", 8).images
    model = digits.model(STEP)
    values = trace(model, images)
    plain = run_model(model, images)[PICTURE]
    assert is_shown(page, plain, plain)
    reading = page.locator("#live .reading")
    assert "changed" not in reading.inner_text()  # for nothing is
    assert re.search(r"answers \d with .* Right is \d\.$", reading.inner_text())  # no keycaps

    with page.expect_response("**/api/look"):
        press(page, "change layer 0, head 1")
    cut = ablate_heads(model, [(0, 1)], values)[PICTURE]
    assert comes_true(page, plain, cut) and not torch.allclose(plain, cut)
    assert re.search(r"answers \d with [^;]*; changed, \d with", reading.inner_text())
    assert page.locator("#live [aria-pressed=true]").first.inner_text() == "head 1"

    with page.expect_response("**/api/look"):
        press(page, "change nothing")
    with page.expect_response("**/api/look"):
        press(page, "take the output of block 1 from the other picture")
    assert comes_true(page, plain, run_model(model, images)[1])
    with page.expect_response("**/api/look"):
        press(page, "change nothing")

    edges = torch.zeros(1, *[model.config.n_tokens] * 2, dtype=torch.bool)
    edges[0, 0, 0] = True
    with page.expect_response("**/api/look"):
        press(page, "forbid")
    knocked = run_attention_knockout(model, values, edges, [1], [0])[PICTURE]
    assert comes_true(page, plain, knocked)
    assert "layer 1, head 0: CLS may not look at CLS" in page.locator("#live .edges").inner_text()
    page.locator("#live").get_by_label("allow again").click()
    page.locator("#live .edges li").wait_for(state="detached")


def test_a_digit_is_drawn(visit):
    """With the pointer; what the model sees and answers changes with every stroke."""
    page = open_digits(visit)
    page.locator("#live").get_by_label("picture", exact=True).select_option("drawn")
    wait_for(page, f"The drawn picture, step {STEP}")
    page.wait_for_timeout(300)
    empty = page.locator("#live canvas[role=application]").first.screenshot()
    pad = page.locator("#live .pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    with page.expect_response("**/api/look"):
        page.mouse.move(box["x"] + 60, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 160, box["y"] + 40, steps=4)
        page.mouse.move(box["x"] + 90, box["y"] + 190, steps=4)
        page.mouse.up()
    canvas = page.locator("#live canvas[role=application]").first
    assert wait_until(page, lambda: canvas.screenshot() != empty)
    assert page.locator("#live .both li").count() == 10
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.locator("#live").screenshot(path=PICTURES / "live.png")


def test_a_small_drawing_in_a_corner_is_brought_to_size(visit):
    """What is asked of the model fills the picture from its first row and column to its last."""
    page = open_digits(visit)
    page.locator("#live").get_by_label("picture", exact=True).select_option("drawn")
    wait_for(page, f"The drawn picture, step {STEP}")
    asked = []
    page.on("request", lambda request: asked.append(request.post_data_json))
    pad = page.locator("#live .pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 60, steps=3)
    page.mouse.up()

    def fills() -> bool:
        pictures = [question["picture"] for question in asked if question]
        if not pictures:
            return False
        ink = torch.tensor(pictures[-1]).view(8, 8) > 0
        return bool(ink.any(0)[[0, -1]].all() and ink.any(1)[[0, -1]].all())

    assert wait_until(page, fills, 10)


@pytest.mark.parametrize("is_dark_on_light", [False, True])
def test_a_file_is_read_in_the_browser(visit, digits, tmp_path, is_dark_on_light):
    """A test picture as a file, white on black or the other way, has that picture's answer."""
    image = digits.batch("test", PICTURE + 1).images[PICTURE]
    grey = ((image[0] + 1) / 2 * 255).round().to(torch.uint8)
    Image.fromarray((255 - grey if is_dark_on_light else grey).numpy()).save(tmp_path / "3.png")
    page = open_digits(visit)
    page.locator("#live").get_by_label("picture", exact=True).select_option("drawn")
    wait_for(page, "The drawn picture")
    page.locator("#picture-file").set_input_files(tmp_path / "3.png")
    logits = run_model(digits.model(STEP), image[None])[0]
    assert comes_true(page, logits, logits)


def test_it_follows_the_slider_and_the_colours(visit):
    """Any checkpoint; when the page is drawn anew the section is there again, once."""
    page = open_digits(visit)
    page.focus("#step")
    page.keyboard.press("Home")
    wait_for(page, f"Test picture {PICTURE}, step 0")
    page.locator("#live").get_by_label("on the picture").select_option("lens")
    page.emulate_media(color_scheme="dark")
    wait_for(page, f"Test picture {PICTURE}, step 0")
    assert page.locator("#live").count() == 1


def read_rows(page) -> list[list[str]]:
    """The table of runs without its first column of boxes."""
    rows = page.locator(".runs").first.locator("tbody tr").all()
    return [row.locator("td").all_inner_texts()[1:] for row in rows]


def test_runs_are_filtered_and_seen_side_by_side(visit):
    page = visit()
    assert page.locator("tbody tr").count() == 4
    page.fill("#filter", "digits finished")
    assert page.locator("tbody tr").count() == 1
    page.get_by_label("choose more/digits").check()
    page.fill("#filter", "")
    assert page.get_by_role("button", name="side by side").is_disabled()
    page.get_by_label("choose chain").check()
    page.get_by_role("button", name="side by side").click()
    page.wait_for_selector("#live .results")
    page.locator("#live").get_by_label("run", exact=True).select_option("1")
    wait_for(page, "Test picture 0")
    page.get_by_role("link", name="all runs").click()
    page.wait_for_selector("tbody tr")
    page.get_by_role("link", name="hidden").click()
    page.wait_for_selector("#live .results")
    assert "loss" in page.locator("#live .both").inner_text()


def find_presser(page, way: str) -> Callable[[str, str], None]:
    """Presses what has a role and a name with the mouse, a finger, or the enter key."""

    def press(role: str, name: str) -> None:
        element = page.get_by_role(role, name=name, exact=True)
        if way == "keyboard":
            element.focus()
            page.keyboard.press("Space" if role == "checkbox" else "Enter")
        elif way == "touch":
            element.tap()
        else:
            element.click()

    return press


@pytest.mark.parametrize("way", ["mouse", "touch", "keyboard"])
def test_the_table_takes_columns_conditions_and_an_order(visit, digits, way):
    """Of configurations and of measures; a link leads back to all of it."""
    page = visit(**(PHONE if way == "touch" else {}))
    press = find_presser(page, way)
    for name in ("model.n_layers", "heads.score"):
        page.get_by_label("column", exact=True).fill(name)
        with page.expect_response("**/api/runs**"):
            press("button", "add column")
    page.get_by_label("only runs with").fill("model.n_heads")
    page.get_by_label("=", exact=True).fill("2")
    with page.expect_response("**/api/runs**"):
        press("button", "add condition")
    for name in ("steps", "recipe"):
        with page.expect_response("**/api/runs**"):
            press("button", f"remove column {name}")
    for _ in range(2):
        with page.expect_response("**/api/runs**"):
            press("button", "sort by run")
    page.locator("th[aria-sort=descending]").wait_for()
    focused = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused == "sort by run"  # though the table was drawn anew
    for name in ("chain", "more/digits"):
        press("checkbox", f"choose {name}")
    press("button", "compare")
    page.locator("#comparison th:has-text('model.n_classes')").wait_for()

    rows = read_rows(page)
    assert [row[0] for row in rows] == ["more/digits", "hidden", "chain"]
    assert [row[4] for row in rows] == ["2", "2", "2"]
    score = digits.curve("heads", "score").iloc[-1]
    assert float(rows[0][5]) == pytest.approx(score, rel=1e-5) and rows[2][5] == "\N{EN DASH}"
    compared = page.locator("#comparison tr:has-text('accuracy')").first.inner_text()

    again = visit(link="#" + page.url.partition("#")[2])
    again.locator("#comparison th:has-text('model.n_classes')").wait_for()
    assert read_rows(again) == rows and page.url.split("#")[1] == again.url.split("#")[1]
    assert again.locator("#comparison tr:has-text('accuracy')").first.inner_text() == compared
    if way == "mouse":
        PICTURES.mkdir(parents=True, exist_ok=True)
        again.screenshot(path=PICTURES / "runs.png", full_page=True)


def test_a_column_that_there_is_not_is_said(visit):
    """With the nearest; the table stays, and the next question is answered."""
    page = visit(link="#columns=status&filter=hidden")
    rows = read_rows(page)
    page.get_by_label("column", exact=True).fill("acuracy")
    # A refusal is a failed request to the browser, which says so in its console by itself.
    page.route("**/api/runs**", lambda route: route.fulfill(response=route.fetch(), status=200))
    page.keyboard.press("Enter")
    page.get_by_role("alert").filter(has_text="did you mean 'accuracy'?").wait_for()
    assert read_rows(page) == rows and len(rows) == 1
    page.get_by_label("status", exact=True).select_option("running")
    page.locator("text=0 of 4 runs").wait_for()
    assert page.get_by_role("alert").is_hidden()


def test_new_checkpoints_are_said(visit, folder, tmp_path):
    """And the page that is loaded again has them."""
    run = Run(shutil.copytree(folder / "chain", tmp_path / "chain"))
    with serve(run.path, "127.0.0.1", 0) as (_, address):
        page = visit(at=address)
        page.wait_for_selector("#live .results")
        scores = {"loss": 1.0, "accuracy": 0.5}
        run.folder.write_checkpoint(9, 9, run.weights(STEP), scores)
        page.get_by_role("button", name=re.compile("new checkpoints.*9: reload")).click()
        page.wait_for_selector("#live .results")
        page.focus("#step")
        page.keyboard.press("End")
        page.locator("#live [data-step='9']").wait_for()
        page.close()


def test_a_run_that_cannot_be_read_any_more_is_said(browser, folder, tmp_path):
    """What is wrong, not that the server has ended; and it is asked again."""
    path = shutil.copytree(folder / "chain", tmp_path / "chain")
    manifest = path / "manifest.jsonl"
    whole = manifest.read_text()
    with serve(path, "127.0.0.1", 0) as (_, address):
        page = browser.new_page()
        page.goto(address)
        page.wait_for_selector("body[data-state=ready]")
        manifest.write_text("{}\n" + whole)
        page.get_by_role("button", name=re.compile("manifest.jsonl")).wait_for()
        manifest.write_text(whole)
        page.locator(".news[hidden]").wait_for(state="attached")
        page.close()


def test_every_head_can_be_pressed_where_it_is_narrow(visit):
    page = open_digits(visit, viewport={"width": 280, "height": 800})
    for button in page.locator("#live .interventions button").all():
        box = button.bounding_box()
        assert box is None or box["x"] + box["width"] <= 280


@pytest.mark.parametrize("query", ["", "run=more/digits"])
def test_it_is_accessible_and_fits_a_phone(visit, query):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(query, bypass_csp=True, **PHONE)
    if query:
        page.wait_for_selector("#live .results")
    script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(script) <= 0
    faults = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:120]}"
        for fault in Axe().run(page).response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"live-phone{len(query)}.png", full_page=True)
