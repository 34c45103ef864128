"""The page in a browser: what it shows is what was measured, and everything can be reached."""

from __future__ import annotations

import html
import re
from itertools import cycle

import pytest
import torch

import toyvit
from tests.report.browser import PICTURES
from toyvit.instruments.lenses import (
    RESIDUALS,
    apply_logit_lens,
    intersection_over_union,
    stack_residuals,
)
from toyvit.model.forward import trace
from toyvit.report.heads import collect_scores
from toyvit.report.page.contents import describe_page
from toyvit.report.page.document import build_document, write_page
from toyvit.report.page.packing import ArrayStore

pytestmark = pytest.mark.page
SECTIONS = ("headline", "curves", "attention", "lens", "heads", "figures")
DARK = {"color_scheme": "dark"}


def test_it_loads_from_disk_alone(open_page, glyphs_page):
    """Every section is there; the fixture fails for any request, message or error."""
    page = open_page(glyphs_page)
    for section in SECTIONS:
        assert page.page.locator(f"section#{section}").count() == 1
    assert page.text("h1") == "glyphs"
    page.ask("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    page.settle()
    assert page.page.locator("#figures figure").count() > 8


def test_nothing_but_its_own_script_runs(open_page, glyphs_page):
    page = open_page(glyphs_page)
    element = "Object.assign(document.createElement('script'), {text: 'window.ran = 1'})"
    page.ask(f"document.body.append({element})")
    assert page.ask("window.ran") is None
    assert "Content Security Policy" in page.problems.pop()


@pytest.mark.parametrize("at", range(4))
def test_numbers_are_those_of_the_table(open_page, glyphs_page, glyphs, at):
    """At every checkpoint: the score, what is left without a head, types of heads."""
    step = glyphs.steps[at]
    page = open_page(glyphs_page, link=f"#step={step}&layer=1&head=0")
    accuracy = glyphs.curve("performance", "accuracy")[step]
    assert page.text(".now-score") == f"accuracy {accuracy:.3f}"
    cut = glyphs.curve("head_ablation", "accuracy", ablation="zero", layer=1, head=0)[step]
    words = page.text("#attention .viewer")
    assert f"At step {step} the accuracy is {accuracy:.3f}, and {cut:.3f} without" in words

    scores = collect_scores(glyphs)[step, 1, 0]
    best = max(scores, key=lambda kind: scores[kind][0] - scores[kind][1])
    score, null = scores[best]
    row = page.text("#heads tbody tr:nth-child(2)")
    assert f"{best.replace('_', ' ')} {score:.2f} ({null:.2f})" in row


@pytest.mark.parametrize("way", ["from", "to"])
def test_attention_is_the_models(open_page, glyphs_page, glyphs, way):
    """Shares and scores of the three strongest, of the model at that step on that picture."""
    step, picture, token = glyphs.steps[-1], 2, 9
    link = f"#step={step}&layer=1&head=0&picture={picture}&token={token}&way={way}"
    page = open_page(glyphs_page, link=link)
    batch = glyphs.batch("test", picture + 1)
    values = trace(glyphs.model(step), batch.images, "blocks.1.attn.*")
    patterns = values["blocks.1.attn.pattern"][picture, 0]
    scores = values["blocks.1.attn.attn_scores"][picture, 0]
    shares = patterns[token] if way == "from" else patterns[:, token]
    top = shares.topk(3).indices
    shown = re.findall(r"\(([\d.e-]+) %, score (-?[\d.]+)\)", page.text("#attention .reading"))
    assert len(shown) == 3
    even = f"Spread evenly: 1/{token + 1}, "  # the mask is causal
    assert (even in page.text("#attention .reading")) == (way == "from")
    for (share, score), other in zip(shown, top.tolist(), strict=True):
        pair = (token, other) if way == "from" else (other, token)
        assert float(share) / 100 == pytest.approx(patterns[pair].item(), rel=0.05, abs=0.005)
        assert float(score) == pytest.approx(scores[pair].item(), abs=0.01)


def test_answers_are_the_models(open_page, glyphs_page, glyphs):
    step = glyphs.steps[-1]
    page = open_page(glyphs_page, link=f"#step={step}&picture=1")
    batch = glyphs.batch("test", 2)
    with torch.no_grad():
        chances = glyphs.model(step)(batch.images)[1].softmax(-1)
    best = int(chances.argmax())
    words = page.text("#attention .viewer")
    assert f"answers {best} with" in words
    last = page.text("#lens .readout li:last-child")
    assert f"after block 1: {best}, " in last
    right = int(batch.target[1])
    assert ("✓" in last) == (right == best)


def test_settled_answers_are_those_of_the_table(open_page, glyphs_page, glyphs):
    """The mean over classes, layer by layer."""
    rows = toyvit.load_table(glyphs, analyses=["lens"])
    rows = rows[(rows["quantity"] == "decided") & (rows["step"] == glyphs.last_step)]
    shares = rows[rows["images"] == rows["images"].max()].groupby("layer")["value"].mean()
    shown = open_page(glyphs_page).page.locator("#lens .decided .number").all_inner_texts()
    values = [float(text.removesuffix(" %")) / 100 for text in shown]
    assert values == pytest.approx(list(shares), abs=0.006) and max(shares) > 0.5


def test_the_lens_stands_beside_the_true_mask(open_page, masks, tmp_path):
    """Their overlap in the picture, that of places alone, and what was measured of many."""
    page = open_page(write_page([masks], tmp_path / "page.html"), link="#step=10&picture=2&lens=1")
    batch = masks.batch("test", 3)
    n = masks.config.model.stated("n_classes")
    model = masks.model(10)
    streams = stack_residuals(model, trace(model, batch.images, RESIDUALS))
    answers = apply_logit_lens(model, streams)[1, 2:].argmax(-1)
    commonest = masks.batch("test", 256).target.mode(0).values[None]
    expected = [
        intersection_over_union(answers, batch.target[2:], n),
        intersection_over_union(commonest, batch.target[2:], n),
        masks.curve("segmentation", "iou", layer=1).iloc[-1],
        masks.curve("segmentation", "iou_of_position").iloc[-1],
    ]
    words = page.text("#lens .segmentation .reading")
    numbers = [f"{float(value):.4g}" for value in expected]
    assert f"in this picture, after block 0: {numbers[0]}; chance" in words
    assert f"shows most often: {numbers[1]}." in words
    assert f"step 10: {numbers[2]}, chance {numbers[3]}." in words
    assert page.text("#lens .segmentation li") == "no object"
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.page.locator("#lens").screenshot(path=PICTURES / "segmentation.png")


def test_the_slider_moves_everything(open_page, glyphs_page, glyphs):
    """By keyboard; the link remembers it."""
    page = open_page(glyphs_page, link="#step=0")
    page.page.focus("#step")
    for step in glyphs.steps[1:]:
        page.page.keyboard.press("ArrowRight")
        page.settle()
        assert page.step() == step
        assert page.text("#attention .reading").startswith(f"Step {step},")
        assert page.text("#heads caption") == f"Step {step}"
    page.wait_until("location.hash.includes('step=20')")
    page.page.reload()
    page.page.wait_for_selector("body[data-state=ready]")
    assert page.step() == 20


def test_a_click_on_a_curve_moves_the_slider(open_page, glyphs_page, glyphs):
    for chart in ("#headline", "#curves"):
        page = open_page(glyphs_page, link="#step=0")
        over = page.page.locator(f"{chart} .u-over").first
        over.scroll_into_view_if_needed()
        box = over.bounding_box()
        over.dblclick(position={"x": box["width"] - 2, "y": 40})  # that shows all of the axis
        page.page.wait_for_timeout(400)
        assert page.step() == 0
        over.click(position={"x": box["width"] - 2, "y": 40})
        last = f"document.querySelector('.steps output').textContent === '{glyphs.steps[-1]}'"
        page.wait_until(last)  # not at once: it might become a double click
        page.page.locator(f"{chart} .chart").first.focus()
        page.page.keyboard.press("ArrowLeft")
        page.settle()
        assert page.step() == glyphs.steps[-2]


def test_values_are_read_under_the_pointer(open_page, glyphs_page, glyphs):
    """Of both runs, at the step pointed at."""
    page = open_page(glyphs_page, link="#step=0")
    over = page.page.locator("#headline .u-over").first
    over.scroll_into_view_if_needed()
    over.hover(position={"x": over.bounding_box()["width"] - 2, "y": 40})
    page.settle()
    accuracy = glyphs.curve("performance", "accuracy").iloc[-1]
    assert page.text("#headline .values").startswith(f"training step 20: glyphs {accuracy:.4g}")


def test_a_step_that_is_not_there_becomes_the_nearest(open_page, glyphs_page, glyphs):
    assert open_page(glyphs_page, link="#step=99999").step() == glyphs.steps[-1]


def test_play_goes_to_the_end(open_page, glyphs_page, glyphs):
    page = open_page(glyphs_page, link="#step=20")
    page.page.click("#play")
    page.wait_until("document.getElementById('play').textContent.includes('play')")
    assert page.step() == glyphs.steps[-1]


@pytest.mark.parametrize("means", ["mouse", "touch", "keyboard"])
def test_a_patch_is_chosen(open_page, glyphs_page, means):
    page = open_page(glyphs_page, link="#token=0", has_touch=means == "touch")
    canvas = page.page.locator("#attention canvas[role=application]").first
    canvas.scroll_into_view_if_needed()
    place = {"x": 100.0, "y": 10.0}  # the second of five patches across 340 pixels
    if means == "mouse":
        canvas.hover(position=place)
        page.settle()
        assert "patch in row 1, column 2 attends" in page.text("#attention .reading")
        canvas.click(position=place)
    elif means == "touch":
        canvas.tap(position=place)
    else:
        canvas.focus()
        page.page.keyboard.press("ArrowRight")
    page.settle()
    assert "patch in row 1, column 2 attends" in page.text("#attention .reading")
    page.wait_until("location.hash.includes('token=1&')")


def test_every_control_can_be_used(open_page, glyphs_page):
    """Every choice of every control, without an error."""
    page = open_page(glyphs_page, link="#step=20&beside=1&layer=1")
    shot = "main"
    for select in page.page.locator("select").all():
        values = select.evaluate("(select) => [...select.options].map((option) => option.value)")
        if len(values) < 2:
            continue
        before = select.input_value()
        other = next(value for value in reversed(values) if value != before)
        select.select_option(other)
        page.settle()
        assert select.input_value() == other
        select.select_option(before)
        page.settle()
    buttons = page.page.locator("#attention .multiples button")
    buttons.first.click()
    page.settle()
    assert page.text("#attention .reading").startswith("Step 20, layer 0, head 0")
    page.page.locator("#attention .pictures button").nth(3).click()
    page.wait_until("location.hash.includes('picture=3')")
    assert page.page.locator(shot).count() == 1


def test_all_figures_are_printed_on_light_paper(open_page, glyphs_page):
    """Drawn at once, in dark too; afterwards they are closed again."""
    page = open_page(glyphs_page, **DARK)
    printed, after = page.ask(
        """() => {
          const drawn = () => document.querySelectorAll('#figures figure').length;
          window.dispatchEvent(new Event('beforeprint'));
          const printed = drawn();
          window.dispatchEvent(new Event('afterprint'));
          return [printed, drawn()];
        }"""
    )
    assert printed > 8 and after == 0
    page.page.emulate_media(media="print", color_scheme="dark")
    assert len(page.page.pdf()) > 100_000


def test_two_runs_share_the_slider(open_page, glyphs_page, runs):
    page = open_page(glyphs_page, link="#step=10&beside=1")
    assert page.page.locator("#attention .viewer h3").all_inner_texts() == ["glyphs", "digits"]
    assert all(
        words.startswith("Step 10,")
        for words in page.page.locator("#attention .reading:nth-of-type(1)").all_inner_texts()
    )


def test_every_token_has_a_place_in_the_small_maps(open_page, mixed_page, prefixed):
    """CLS and six registers above patches in four columns: two rows, one pixel each."""
    token = 3
    page = open_page(mixed_page, link=f"#run=2&token={token}")
    canvas = page.page.locator("#attention .multiples canvas").first
    opacity = canvas.evaluate(
        """(canvas) => {
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          return Array.from({ length: width * height }, (_, pixel) => data[4 * pixel + 3]);
        }"""
    )
    images = prefixed.batch("test", 1).images
    pattern = trace(prefixed.model(20), images, "blocks.0.attn.pattern")["blocks.0.attn.pattern"]
    shares = pattern[0, 0, token].tolist()
    assert len(opacity) == 16 and opacity[7] == 0  # nothing after the seventh
    for pixel, share in zip(opacity[:7] + opacity[8:], shares, strict=True):
        assert pixel == pytest.approx(255 * 0.85 * share**0.5, abs=1.5)


def test_arrows_begin_at_the_last_token_where_there_are_fewer(open_page, mixed_page):
    page = open_page(mixed_page, link="#run=1&beside=2&token=15")
    page.page.locator("#attention canvas[role=application]").nth(1).focus()
    for key, place in (("Left", (2, 3)), ("Up", (1, 3)), ("Down", (2, 3)), ("Down", (2, 3))):
        page.page.keyboard.press(f"Arrow{key}")
        page.settle()
        words = page.page.locator("#attention .reading:nth-of-type(1)").all_inner_texts()
        assert "patch in row {}, column {} attends".format(*place) in words[1]


def test_a_patch_is_framed_where_it_lies(open_page, mixed_page):
    """The last of two rows and four columns, below the strip of CLS and registers."""
    page = open_page(mixed_page, link="#run=2&token=14")
    colours = page.page.locator("#attention canvas[role=application]").evaluate(
        """(canvas) => {
          const { data } = canvas.getContext("2d").getImageData(250, 157, 10, 1);
          return [1, 6].map((x) => [...data.slice(4 * x, 4 * x + 3)]);
        }"""
    )
    assert colours[0] != [0xD5, 0x5E, 0x00] == colours[1]  # the patch begins at 255


def test_a_finger_that_leaves_the_picture_points_at_nothing(open_page, mixed_page):
    page = open_page(mixed_page, link="#run=2&token=2")
    before = page.text("#attention .reading")
    canvas = page.page.locator("#attention canvas[role=application]").first
    box = canvas.bounding_box()
    for x, y in ((-20, 5), (5, -20)):
        place = {"clientX": box["x"] + x, "clientY": box["y"] + y}
        canvas.dispatch_event("pointermove", place)
        page.settle()
        assert page.text("#attention .reading") == before


@pytest.mark.parametrize("link", ["#beside=1", "#beside=9&run=7&step=3&curve=none"])
def test_a_link_of_another_page_leads_to_what_there_is(open_page, large_page, link):
    page = open_page(large_page, link=link)
    assert page.page.locator("#attention .viewer").count() == 1


def test_a_link_to_another_curve_is_taken_only_if_it_is_there(open_page, glyphs_page):
    page = open_page(glyphs_page)
    measure = page.page.get_by_label("measure", exact=True)
    for curve, shown in (("performance|loss|test", "loss"), ("none", "loss")):
        page.ask(f"location.hash = '#curve={curve}'")
        page.settle()
        assert page.text("#curves h4") == f"performance: {shown}"
        assert measure.input_value() == f"performance|{shown}|test"


COUNT_COLOURS = """() => {
  const drawn = document.querySelector("#curves canvas");
  const { width, height } = drawn;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const counts = {};
  for (let at = 0; at < data.length; at += 4) {
    const key = data.slice(at, at + 4).join();
    counts[key] = (counts[key] || 0) + 1;
  }
  return Object.keys(counts).filter((key) => counts[key] > 40);
}"""


def list_colours(page) -> set[tuple[int, ...]]:
    """The colours that much of a chart of curves has now."""
    keys = [tuple(map(int, key.split(","))) for key in page.ask(COUNT_COLOURS)]
    return {key[:3] for key in keys if key[3] == 255}


BLUE, ORANGE, GREEN, PINK = (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)


def test_many_heads_are_told_apart(open_page, heads_page):
    """The outstanding ones in colour, named; the one that is pointed at alone, by any means."""
    page = open_page(heads_page, link="#curve=attention|corner|test")
    legend = page.page.locator("#curves .legend button")
    shown = ["layer 0, head 0", "layer 0, head 1", "layer 1, head 2", "layer 1, head 3"]
    assert legend.all_inner_texts() == shown
    assert "4 more in grey" in page.text("#curves .legend li:last-child")
    page.settle()
    assert list_colours(page) >= {BLUE, ORANGE, GREEN, PINK}
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.page.locator("#curves").screenshot(path=PICTURES / "heads.png")

    legend.nth(2).click()
    legend.nth(2).blur()
    page.page.mouse.move(0, 0)
    page.settle()
    assert legend.nth(2).get_attribute("aria-pressed") == "true"
    colours = list_colours(page)
    assert GREEN in colours and not {BLUE, PINK} & colours
    legend.nth(2).click()
    legend.nth(2).blur()

    page.page.locator("#curves .chart").focus()
    page.page.keyboard.press("ArrowDown")
    page.settle()
    assert page.text("#curves .values") == "training step 4: layer 1, head 3 0.9"
    page.page.keyboard.press("ArrowDown")
    page.settle()
    assert page.text("#curves .values") == "training step 4: layer 1, head 2 0.8"
    over = page.page.locator("#curves .u-over")
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    over.hover(position={"x": box["width"] - 2, "y": box["height"] - 12})
    page.settle()
    assert page.text("#curves .values") == "training step 4: layer 0, head 0 0.1"
    colours = list_colours(page)
    assert BLUE in colours and not {GREEN, PINK} & colours


def test_heads_are_chosen_by_layer_or_one_by_one(open_page, heads_page):
    page = open_page(heads_page, link="#curve=attention|corner|test")
    heads = page.page.locator("#curves .filters").get_by_label("heads")
    legend = page.page.locator("#curves .legend li")
    heads.select_option(label="all of layer 1")
    assert legend.all_inner_texts() == [f"layer 1, head {head}" for head in range(4)]
    heads.select_option(label="layer 0, head 2")
    assert legend.all_inner_texts() == ["layer 0, head 2"]
    heads.select_option(label="all")
    assert legend.count() == 5


def test_lines_to_compare_with_are_named_below_the_chart(open_page, glyphs_page, glyphs):
    """From the top, each with its value; no name lies on a curve."""
    names = {
        name.removeprefix("accuracy."): value
        for name, value in glyphs.baselines.items()
        if name.startswith("accuracy.")
    }
    order = sorted(names, key=lambda name: -names[name])
    words = [f"{name.replace('_', ' ')} {names[name]:.3g}" for name in order]
    page = open_page(glyphs_page)
    for section in ("#headline", "#curves"):
        keys = page.text(f"{section} .legend")
        assert f"from the top: {', '.join(words)}" in keys
        assert "the learning rate bends or jumps" in keys


def open_figure(page, name: str):
    """A figure that was closed."""
    page.page.locator(f"#figure-{name} summary").click()
    page.settle()
    return page.page.locator(f"#figure-{name}")


def test_maps_say_what_their_rows_and_strips_are(open_page, glyphs_page):
    """Kinds of tokens, and of which checkpoints a map is, with a line at the slider's step."""
    page = open_page(glyphs_page, link="#step=0")
    patterns = open_figure(page, "attention")
    keys = patterns.locator(".block .legend li").all_inner_texts()
    assert keys == ["strips:", "patches, row by row", "labels", "the query"]
    updates = open_figure(page, "updates")
    assert "training step across, 0 to 20; training step up, 0 to 20" in (
        updates.locator(".map canvas").first.get_attribute("aria-label")
    )
    line = updates.locator(".map .now").first
    places = []
    for step in (0, 20):
        page.ask(f"location.hash = '#step={step}'")
        page.settle()
        box, whole = line.bounding_box(), updates.locator(".map").first.bounding_box()
        places.append((box["x"] - whole["x"]) / whole["width"])
    assert places[0] < 0.5 and places[1] > 0.75


def test_figures_of_some_steps_say_which_and_mark_the_nearest(open_page, glyphs_page):
    page = open_page(glyphs_page, link="#step=0")
    figure = open_figure(page, "attention")
    assert figure.locator(".of-steps").inner_text().startswith("Steps 0, 10, 20: the nearest")
    marked = figure.locator("[aria-current=step]")
    assert marked.all_inner_texts() == ["step 0"]
    figure.get_by_role("button", name="step 10").click()
    page.settle()
    assert page.step() == 10 and marked.all_inner_texts() == ["step 10"]


def test_figures_of_one_step_follow_the_slider(open_page, glyphs_page, glyphs):
    """Each is drawn at the checkpoint that the page has nearest to it."""
    page = open_page(glyphs_page, link="#step=20")
    for name in ("lens", "directions"):
        figure = open_figure(page, name)
        for step in glyphs.steps:
            page.ask(f"location.hash = '#step={step}'")
            page.settle()
            assert f"step {step}:" in figure.locator("summary").inner_text()
            words = figure.locator(".of-steps").inner_text()
            assert words == f"Step {step}: of 0, 5, 10, 20 the nearest to the slider."
    titles = figure.locator(".panel h4").all_inner_texts()
    page.ask("location.hash = '#step=0'")
    page.settle()
    assert figure.locator(".panel h4").all_inner_texts() != titles


def test_what_was_chosen_of_a_curve_is_forgotten_with_it(open_page, glyphs_page):
    page = open_page(glyphs_page, link="#curve=head_ablation|accuracy|test")
    page.page.locator("#curves .filters").get_by_label("heads").select_option("1")
    assert page.page.locator("#curves .legend li").count()
    page.ask("location.hash = '#curve=performance|loss|test'")
    page.settle()
    assert "glyphs" in page.text("#curves .legend")


def test_a_page_that_is_built_anew_leaves_nothing_running(open_page, glyphs_page):
    """When colours change: neither the timer of the player nor what charts listen with."""
    page = open_page(glyphs_page, link="#step=0")
    page.ask(
        """() => {
          const begin = setInterval, end = clearInterval;
          window.running = new Set();
          window.setInterval = (job, time) => {
            const timer = begin(job, 1e6);
            running.add(timer);
            return timer;
          };
          window.clearInterval = (timer) => (running.delete(timer), end(timer));
          window.charts = [...document.querySelectorAll(".uplot")];
        }"""
    )
    page.page.click("#play")
    assert page.ask("running.size") == 1 and page.ask("charts.length") > 1
    page.page.emulate_media(color_scheme="dark")
    page.wait_until("document.getElementById('play').textContent.includes('play')")
    assert page.ask("running.size") == 0
    assert page.ask("charts.every((chart) => chart.parentElement === null)")


def test_patch_by_patch_the_lens_says_whose_answer_is_right(open_page, mixed_page):
    each, one = "the patch's own right answer", "Only the read-out is asked"
    for run, words, others in ((1, each, one), (2, one, each)):
        text = open_page(mixed_page, link=f"#run={run}").text("#lens .viewer")
        assert words in text and others not in text


def test_runs_unlike_each_other_are_told_apart(open_page, mixed_page, runs):
    """Scores with their names, none on the other's axis; a section says that it has nothing."""
    page = open_page(mixed_page, link="#step=20&beside=1")
    scores = [runs[name].curve("performance", "accuracy")[20] for name in ("hidden", "chain")]
    assert page.text(".now-score") == f"R^2 {scores[0]:.3f} / accuracy {scores[1]:.3f}"
    assert page.page.locator("#headline .legend li").all_inner_texts()[0] == "hidden"
    assert "chain" not in page.text("#headline .legend")
    page.page.get_by_label("compare with").select_option("2")
    page.settle()
    assert page.text(".now-score") == f"R^2 {scores[0]:.3f} / accuracy \u2013"
    page.page.get_by_label("compare with").select_option("-1")
    page.settle()
    assert page.text("#lens .missing").startswith("The lens shows classes")


@pytest.mark.parametrize("options", [{}, DARK], ids=["light", "dark"])
def test_it_is_accessible(open_page, glyphs_page, options):
    """axe-core finds no serious fault."""
    from axe_playwright_python.sync_playwright import Axe

    page = open_page(glyphs_page, link="#beside=1", bypass_csp=True, **options)
    results = Axe().run(page.page)
    faults = [
        f"{fault['id']}: {fault['nodes'][0]['html'][:120]}"
        for fault in results.response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []


LOOKS = {
    "light": {},
    "dark": DARK,
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize("name", [*LOOKS, "print"])
def test_it_fits(open_page, glyphs_page, name):
    """Nothing is wider than the screen; pictures of it are kept."""
    page = open_page(glyphs_page, link="#beside=1&step=20", **LOOKS.get(name, {}))
    if name == "print":
        page.page.emulate_media(media="print")
        page.settle()
    wide = page.ask("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def test_many_tokens_are_pointed_at(open_page, large_page):
    """257 tokens, 12 heads in 2 layers: CLS and the last patch, both ways."""
    page = open_page(large_page, link="#token=0")
    assert page.text("#attention .reading").startswith("Step 10, layer 0, head 0: CLS attends")
    canvas = page.page.locator("#attention canvas[role=application]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    canvas.hover(position={"x": box["width"] - 3, "y": box["height"] - 3})
    page.settle()
    assert "patch in row 16, column 16 attends" in page.text("#attention .reading")
    page.page.select_option("#attention select >> nth=2", "to")
    page.settle()
    assert "is attended to most by" in page.text("#attention .reading")
    assert page.page.locator("#attention .multiples button").count() == 24


def test_in_a_notebook_the_step_goes_in_and_out(open_page, glyphs_page, tmp_path):
    """In a frame without an address, as the widget has it."""
    file = tmp_path / "notebook.html"
    source = html.escape(glyphs_page.read_text())
    file.write_text(f'<!doctype html><meta charset=utf-8><iframe srcdoc="{source}"></iframe>')
    page = open_page(file, wait=False)
    frame = page.page.frames[1]
    frame.wait_for_selector("body[data-state=ready]")
    shown = frame.evaluate(
        """() => new Promise((done) => {
          window.addEventListener("toyvit-state", (event) => done(event.detail.step));
          window.dispatchEvent(new CustomEvent("toyvit-change", { detail: { step: 9 } }));
        })"""
    )
    assert shown == 10 and frame.locator(".steps output").inner_text() == "10"


HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(1)<script>",
    "a‮b‏c",
    "'\"; alert(1) //",
)


def test_hostile_names_run_nothing(open_page, runs, tmp_path):
    """In the name of a run, of a quantity, of a factor and of a class."""
    file = write_hostile_page(runs["digits"], tmp_path)
    page = open_page(file)
    assert page.text("h1").startswith("<img src=x")
    page.ask("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    page.settle()
    shown = page.ask("document.body.textContent")
    assert "<img src=x onerror" in shown
    assert page.page.locator("#page img, #page script").count() == 0


def write_hostile_page(run, tmp_path):
    """Every text of the page's data ends in something hostile, but for those that are words of its
    own.
    """
    store = ArrayStore()
    data = describe_page([run], {}, store, 3_000_000)
    hostile = cycle(HOSTILE)
    own = {"kind", "readout"}
    rows = {"analysis", "quantity", "split"}

    def poison(value, key=""):
        if isinstance(value, dict):
            return {name: poison(part, name) for name, part in value.items()}
        if isinstance(value, list):
            return [poison(part, key) for part in value]
        if isinstance(value, str) and key not in own | rows:
            return next(hostile) + value
        return value

    poisoned = poison(data)
    poisoned["runs"][0]["name"] = HOSTILE[0]
    for group in poisoned["runs"][0]["curves"]["groups"][::7]:
        group["quantity"] += next(hostile)
    file = tmp_path / "page.html"
    file.write_text(build_document(poisoned, store.texts, HOSTILE[1]))
    return file
