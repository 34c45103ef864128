"""A run in a notebook: its page as a widget, and two quick pictures of one checkpoint."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.errors import BadInput
from toyvit.report import compute_figures
from toyvit.report.lens_figures import draw_lens
from toyvit.report.page.document import render_page
from toyvit.report.panels import FigureData
from toyvit.report.picture_attention import draw_token_attention
from toyvit.report.summary import tell_unmeasured
from toyvit.runs.handle import Run

if TYPE_CHECKING:
    from toyvit.report.page_widget import PageWidget

BUDGET = 4_000_000  # bytes of a page that a notebook keeps


def view(run: Run | Path | str, *others: Run | Path | str, height: int = 800) -> PageWidget:
    """The page of a run as a widget: drag through training, see attention, lens, heads, curves.

    `others` share the page, to be seen beside it; `height` is in pixels. The widget's `step` is
    that of the slider, and may be set. Exported, the notebook shows the same page without Python.
    Pictures and checkpoints are chosen to fit in 4 MB, a third of what the report writes. BadInput
    where anywidget is not installed.
    """
    if find_spec("anywidget") is None:
        raise BadInput("toyvit.view needs anywidget: pip install 'toyvit[notebook]'")
    from toyvit.report.page_widget import PageWidget

    runs = [Run.open(one) for one in (run, *others)]
    figures = {}
    if not tell_unmeasured(runs[0]):
        figures = {runs[0].path: [figure.data for figure in compute_figures(runs[0])]}
    return PageWidget(render_page(runs, figures, BUDGET), height)


def show_attention(
    run: Run | Path | str, step: int | None = None, picture: int = 0, token: int | None = None
) -> FigureData:
    """Where one token of a test picture looks, a row a layer and a column a head.

    At a step (default: the last). Tokens are CLS, registers, patches in raster order; the default
    is the query of the picture, else CLS, else the last. BadInput for a token that there is not.
    """
    return draw_token_attention(Run.open(run), step, picture, token)


def show_lens(run: Run | Path | str, step: int | None = None, pictures: int = 3) -> FigureData:
    """What the logit lens calls every patch, by layer, on a few test pictures at a step (default:
    the last).
    """
    return draw_lens(Run.open(run), None, step, pictures)
