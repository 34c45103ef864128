"""`python -m bench.page_picture RUN`: a looping picture of a run's page, its slider moving on.

A frame a checkpoint, more of them where the score changes: the curve of the score, where a head
looks on a picture, and its pattern. Needs Chromium.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.viewer import FLAGS, find_browser
from toyvit.cli.command import Parser
from toyvit.errors import BadInput
from toyvit.report import compute_figures
from toyvit.report.page.document import write_page
from toyvit.runs.handle import Run

FRAMES = 36
MILLISECONDS = 140  # of a frame
PAUSE = 2_000  # at the end
COLOURS = 96
WIDTH = 740  # pixels of the picture
VIEWPORT = {"width": 740, "height": 1500}
PARTS = ("#headline .split > div:last-child .panel", "#attention .views", "nav.steps")


def choose_steps(run: Run) -> list[int]:
    """Checkpoints, evenly along the curve of the score: time and change count alike."""
    accuracy = run.curve("performance", "accuracy")
    steps = accuracy.index.to_numpy(float)
    times = np.diff(steps) / (steps[-1] - steps[0])
    changes = np.abs(np.diff(accuracy.to_numpy()))
    weights = times + changes / max(changes.sum(), 1e-9)
    place = np.concatenate([[0], np.cumsum(weights)]) / weights.sum()
    goals = np.linspace(0, 1, FRAMES)
    return sorted({int(steps[np.abs(place - goal).argmin()]) for goal in goals})


def shoot(page: Any, step: int) -> Image.Image:
    """The parts of the page that tell the story, one below the other, at a step."""
    page.evaluate(
        """async (step) => {
          location.hash = `step=${step}`;
          await new Promise((done) => setTimeout(done, 60));
        }""",
        step,
    )
    shots = [page.locator(part).first.screenshot() for part in PARTS]
    parts = [Image.open(BytesIO(shot)).convert("RGB") for shot in shots]
    width = max(part.width for part in parts)
    whole = Image.new("RGB", (width, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    return whole.resize((WIDTH, round(whole.height * WIDTH / width)), Image.Resampling.LANCZOS)


def draw_loop(run: Run, file: Path) -> None:
    """Write the picture."""
    browser_path = find_browser()
    if browser_path is None:
        raise BadInput("there is no Chromium: install it, or set CHROMIUM to its program")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        figures = [figure.data for figure in compute_figures(run, headlines_only=True)]
        source = write_page([run], Path(place) / "page.html", {run.path: figures})
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(FLAGS))
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(source.as_uri())
        page.wait_for_selector("body[data-state=ready]")
        frames = [shoot(page, step) for step in choose_steps(run)]
        browser.close()

    palette = frames[-1].quantize(COLOURS)
    plain = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [MILLISECONDS] * (len(plain) - 1) + [PAUSE]
    plain[0].save(file, save_all=True, append_images=plain[1:], duration=times, loop=0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m bench.page_picture", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--to", type=Path, default=Path("docs/page.gif"), metavar="FILE")
    options: argparse.Namespace = parser.parse_args(argv)
    try:
        draw_loop(Run(options.run), options.to)
    except BadInput as error:
        print(f"bench.page_picture: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.to}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
