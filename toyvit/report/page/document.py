"""The page as one file: its data, its style and its script in an HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

from toyvit.config.whole_files import write_atomically
from toyvit.errors import escape_text
from toyvit.report.page.contents import BUDGET, describe_page
from toyvit.report.page.packing import ArrayStore, escape_texts, format_json
from toyvit.report.panels import FigureData
from toyvit.report.plain import Plain
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

PAGE = "page.html"
VENDORED = "vendor/uPlot.iife.min.js"
# In the order in which they are joined: each uses what stands above it.
SCRIPTS = (
    "arrays.js",
    "elements.js",
    "colours.js",
    "state.js",
    "lines.js",
    "keys.js",
    "charts.js",
    "maps.js",
    "panels.js",
    "headline.js",
    "curves.js",
    "tokens.js",
    "attention.js",
    "segmentation.js",
    "lens.js",
    "head_types.js",
    "figures.js",
    "main.js",
)
STYLES = ("vendor/uPlot.min.css", "page.css")


def write_page(
    runs: Sequence[Run],
    to: Path,
    figures: Mapping[Path, Sequence[FigureData]] | None = None,
    budget: int = BUDGET,
) -> Path:
    """Write the page of some runs into a file, see `render_page`; the file."""
    write_atomically(to, render_page(runs, figures, budget).encode())
    return to


@pin_torch()
def render_page(
    runs: Sequence[Run],
    figures: Mapping[Path, Sequence[FigureData]] | None = None,
    budget: int = BUDGET,
) -> str:
    """The page of some runs, the first of which is its subject, as HTML.

    `figures` are drawn ones by their run's path. The page takes at most `budget` bytes: pictures,
    checkpoints and precision are chosen to fit.
    """
    store = ArrayStore()
    frame = build_document({"runs": []}, [], "")
    data = describe_page(runs, figures or {}, store, budget - len(frame))
    return build_document(data, store.texts, ", ".join(run.name for run in runs))


def build_document(
    data: Plain,
    arrays: Sequence[str],
    title: str,
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = STYLES,
    connects: str = "'none'",
) -> str:
    """The page as text, of these modules and styles; `connects` is what its script may ask."""
    script = read_script(scripts)
    style = read_style(styles)
    parts = {
        "POLICY": build_policy(script, style, connects),
        "TITLE": escape(escape_text(title)),
        "STYLE": style,
        "DATA": format_json(escape_texts(data)),
        "ARRAYS": "\n".join(
            f'<script type="application/octet-stream" id="array-{place}">{text}</script>'
            for place, text in enumerate(arrays)
        ),
        "SCRIPT": script,
    }

    pieces = read_part("page.html").split("%%")
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def build_policy(script: str, style: str, connects: str = "'none'") -> str:
    """The content-security policy of a page: its own script and style, and nothing else."""
    return (
        f"default-src 'none'; script-src '{hash_source(script)}'; "
        f"style-src '{hash_source(style)}'; base-uri 'none'; form-action 'none'; "
        f"connect-src {connects}"
    )


def read_style(styles: Sequence[str] = STYLES) -> str:
    """The page's style."""
    return "\n".join(read_part(name) for name in styles)


def read_script(scripts: Sequence[str] = SCRIPTS) -> str:
    """The vendored library, then modules of the lab's own in one scope."""
    own = "\n".join(read_part(name) for name in scripts)
    return f'{read_part(VENDORED)}\n(() => {{\n"use strict";\n{own}\n}})();\n'


def read_part(name: str) -> str:
    """A file of the viewer."""
    return (files("toyvit.report") / "viewer" / name).read_text(encoding="utf-8")


def hash_source(text: str) -> str:
    """What a content-security policy calls a script or a style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"sha256-{digest}"
