"""The page in a browser: first paint, pointing and stepping at 257 tokens x 12 heads, its size."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.large_run import make_large_run
from bench.timing import Result
from toyvit.report.page.document import write_page

PAINT_BAR = 1_500  # milliseconds
POINT_BAR = 50
STEP_BAR = 80
SIZE_BAR = 12.0  # MB
STEPS = tuple(range(0, 400, 10))
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
EMPTY = "<!doctype html><title>empty</title><p>nothing</p>"
# Milliseconds from a change to the frame that shows it.
TIMER = """async (change) => {
  const begun = performance.now();
  change();
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - begun;
}"""
POINT = f"""async (place) => ({TIMER})(() => {{
  const canvas = document.querySelector('#attention canvas[role=application]');
  const box = canvas.getBoundingClientRect();
  const at = {{ clientX: box.left + place * box.width, clientY: box.top + 0.6 * box.height }};
  canvas.dispatchEvent(new PointerEvent('pointermove', at));
}})"""
STEP = f"""async (at) => ({TIMER})(() => {{
  const slider = document.getElementById('step');
  slider.value = at;
  slider.dispatchEvent(new Event('input'));
}})"""
IDLE = f"async () => ({TIMER})(() => 0)"


def find_browser() -> str | None:
    """The browser's program: `CHROMIUM`, or what the system has."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")


def time_paint(browser: Any, file: Path) -> float:
    """Milliseconds until something of a file is on the screen."""
    page = browser.new_page()
    page.goto(file.as_uri())
    script = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    while (painted := page.evaluate(script)) is None:
        page.wait_for_timeout(10)
    page.close()
    return float(painted)


def results(repeats: int | None) -> Iterator[Result]:
    path = find_browser()
    if path is None:
        print("the page is not timed: there is no Chromium (set CHROMIUM)", file=sys.stderr)
        return
    from playwright.sync_api import sync_playwright

    rounds = repeats or 30
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        folder = Path(place)
        file = write_page([make_large_run(folder / "run", STEPS)], folder / "page.html")
        empty = folder / "empty.html"
        empty.write_text(EMPTY)
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        times = time_all(browser, file, empty, rounds)
        browser.close()
        size = [file.stat().st_size / 1e6] * 2

    rows = (
        ("first paint of a page of 12 MB", "paint", "empty", "an empty page", PAINT_BAR),
        ("pointing, 257 tokens x 12 heads", "point", "idle", "a frame", POINT_BAR),
        ("a step of the slider, 257 x 12", "step", "idle", "a frame", STEP_BAR),
    )
    for name, ours, peer, peer_name, bar in rows:
        yield Result(
            name=name,
            ours=times[ours],
            peer=times[peer][: len(times[ours])],
            peer_name=peer_name,
            bar=bar,
            barred="median",
        )
    yield Result(
        name="page of 257 tokens x 12 heads, size",
        ours=size,
        peer=[SIZE_BAR] * 2,
        peer_name="MB allowed",
        bar=SIZE_BAR,
        barred="median",
        unit="MB",
    )


def time_all(browser: Any, file: Path, empty: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every kind of change, round by round."""
    times: dict[str, list[float]] = {
        name: [] for name in ("paint", "empty", "point", "step", "idle")
    }
    for _ in range(max(3, rounds // 5)):
        times["paint"].append(time_paint(browser, file))
        times["empty"].append(time_paint(browser, empty))

    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("body[data-state=ready]")
    n = int(page.evaluate("document.getElementById('step').max")) + 1
    for turn in range(rounds):
        times["idle"].append(page.evaluate(IDLE))
        times["point"].append(page.evaluate(POINT, ((7 * turn) % 16 + 0.5) / 16))
        times["step"].append(page.evaluate(STEP, (turn + 1) % n))
    return times
