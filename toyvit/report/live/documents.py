"""What a live view serves to be looked at: the page of some runs, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from toyvit.errors import BadInput, DataMissing
from toyvit.report import compute_figures
from toyvit.report.live.answers import MEAN_OF
from toyvit.report.live.run_rows import RunRows
from toyvit.report.live.shelf import RunShelf, State, read_state
from toyvit.report.page.contents import BUDGET, describe_page
from toyvit.report.page.document import (
    SCRIPTS,
    STYLES,
    build_document,
    build_policy,
    read_script,
    read_style,
)
from toyvit.report.page.packing import ArrayStore
from toyvit.report.panels import FigureData
from toyvit.report.pictures import find_black
from toyvit.report.plain import Plain
from toyvit.report.summary import tell_unmeasured
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

MOST_PAGES = 4  # that are kept
MOST_BESIDE = 8  # runs on one page
# The live section looks at the page from outside, which begins last.
LIVE = (*SCRIPTS[:-1], "drawing.js", "live_controls.js", "live_results.js", "live.js", SCRIPTS[-1])
TABLE = ("elements.js", "run_table.js")
LIVE_STYLES = (*STYLES, "live.css")
ITSELF = "'self'"


@dataclass(frozen=True)
class Document:
    """A page, and the content-security policy that it says and is sent with."""

    text: str
    policy: str


class Documents:
    """Pages of runs, each built once for what its files are."""

    def __init__(self, shelf: RunShelf, rows: RunRows) -> None:
        self.shelf = shelf
        self.rows = rows
        self._build = lru_cache(MOST_PAGES)(self._build_page)

    def show_page(self, names: list[str]) -> Document:
        """The page of some runs, the first of which is its subject."""
        places = tuple(dict.fromkeys(self.shelf.find(name) for name in names))
        if not 1 <= len(places) <= MOST_BESIDE:
            raise BadInput(f"a page shows 1 to {MOST_BESIDE} runs, got {len(places)}")
        states = tuple(read_state(self.shelf.folders[place]) for place in places)
        return self._build(places, states)

    @pin_torch()
    def _build_page(self, places: tuple[int, ...], states: tuple[State, ...]) -> Document:
        runs = [self.shelf.open(place) for place in places]
        store = ArrayStore()
        figures = {run.path: collect_figures(run) for run in runs}
        data = describe_page(runs, figures, store, BUDGET)
        live: list[Plain] = [
            self.shelf.tell_news(place) | {"run": place} | describe_live(run)
            for place, run in zip(places, runs, strict=True)
        ]
        assert isinstance(data, dict)
        title = ", ".join(run.name for run in runs)
        whole = data | {"live": {"runs": live, "hasTable": not self.shelf.is_single}}
        return build_live(whole, store.texts, title, LIVE, LIVE_STYLES)

    def show_table(self) -> Document:
        """The page that shows the table of all runs; its rows it asks for."""
        return build_live(self.rows.describe(), [], "Runs", TABLE, LIVE_STYLES)


def build_live(
    data: Plain, arrays: Sequence[str], title: str, scripts: Sequence[str], styles: Sequence[str]
) -> Document:
    """A page whose script may ask this server."""
    text = build_document(data, arrays, title, scripts, styles, ITSELF)
    return Document(text, build_policy(read_script(scripts), read_style(styles), ITSELF))


def collect_figures(run: Run) -> list[FigureData]:
    """Every figure that the run has the measures for; none where they cannot be read."""
    try:
        return [] if tell_unmeasured(run) else [figure.data for figure in compute_figures(run)]
    except BadInput:  # the page itself says what is damaged
        return []


def describe_live(run: Run) -> dict[str, Plain]:
    """What can be asked of a run: checkpoints, test pictures, and what can be drawn for it."""
    try:
        batch = run.batch("test", MEAN_OF)
        size = run.task.world.sizes["test"]
    except (BadInput, DataMissing) as error:
        return {"checkpoints": list(run.steps), "problem": str(error)}

    config = run.config.model
    height, width = config.stated("image_size")
    is_drawable = config.n_channels == 1 and batch.classes is not None and batch.retrieval is None
    return {
        "checkpoints": list(run.steps),
        "pictures": size,
        "meanOf": len(batch.images),
        "drawn": [height, width] if is_drawable else None,
        "black": find_black(batch.images),
    }
