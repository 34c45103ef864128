"""Seeing: figures, tables and TensorBoard files made from a run folder. Nothing else imports matplotlib or tensorboard."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from toyvit.config import ModelConfig
from toyvit.report import circuits, directions, dynamics, figures, grokking, heads, lenses, pictures
from toyvit.results import main_rows, table
from toyvit.runs import RunFolder
from toyvit.search import Found

# Each figure: which runs have it (by their analyses and their model), and how it is drawn from (run, the run beside it).
FIGURES: dict[str, tuple[Callable[[set[str], ModelConfig], bool], Callable[[Path, Path | None], Figure]]] = {
    "phase_transition": (lambda analyses, model: {"performance", "induction"} <= analyses, figures.phase_transition),
    "learning": (lambda analyses, model: "performance" in analyses and "induction" not in analyses, figures.learning),
    "strategies": (lambda analyses, model: {"strategies", "attention"} <= analyses, figures.strategies),
    "grokking": (lambda analyses, model: "fourier" in analyses, grokking.grokking),
    "by_factor": (lambda analyses, model: {"by_factor", "performance"} <= analyses, figures.by_factor),
    "probes": (lambda analyses, model: "probes" in analyses, figures.probes),
    "knock_outs": (lambda analyses, model: {"knock_outs", "performance"} <= analyses, figures.knock_outs),
    "updates": (lambda analyses, model: "performance" in analyses, dynamics.updates),
    "query_attention": (lambda analyses, model: "induction" in analyses, pictures.query_attention),
    "attention": (lambda analyses, model: True, pictures.attention),
    "reconstruction": (lambda analyses, model: model.readout == "pixels", pictures.reconstruction),
    "heads": (lambda analyses, model: "heads" in analyses, heads.heads),
    "directions": (lambda analyses, model: "weights" in analyses, directions.first_layer),
    "cls_attention": (lambda analyses, model: model.cls_token, pictures.cls_attention),
    "edges": (lambda analyses, model: {"edges", "performance"} <= analyses, circuits.edges),
    "patching": (lambda analyses, model: "patching" in analyses, circuits.patching),
    "attribution": (lambda analyses, model: "attribution" in analyses, circuits.attribution),
    "flow": (lambda analyses, model: "flow" in analyses, circuits.flow),
    "lens": (lambda analyses, model: "lens" in analyses, lenses.lens),
    "answer_maps": (lambda analyses, model: "attribution" in analyses, lenses.answer_maps),
}


def remembered(path: Path, beside: Path | None) -> Path | None:
    """The run to draw beside this one: the one given, which is noted in `figures/`, else the one noted there last time."""
    note = RunFolder(path).existing().figures / "beside"
    if beside:
        other = RunFolder(beside).existing().path
        note.parent.mkdir(exist_ok=True)
        note.write_text(os.path.relpath(other, path))
    elif note.exists() and RunFolder(path / note.read_text()).config_file.is_file():
        return Path(os.path.relpath(path / note.read_text()))
    return beside


def draw_sweep(paths: list[Path], folder: Path) -> list[Path]:
    """The curves of a sweep's runs, a colour a setting: accuracy into `folder/sweep.png`, loss into `folder/sweep_loss.png`."""
    drawn = {folder / "sweep.png": figures.bands, folder / "sweep_loss.png": figures.losses}
    for file, figure in drawn.items():
        figure(paths).savefig(file, dpi=120)
    return list(drawn)


def draw_circuit(path: Path, found: Found) -> list[Path]:
    """A circuit as a record (JSON) and as a picture of its graph, into `figures/`."""
    folder = RunFolder(path)
    folder.figures.mkdir(exist_ok=True)
    record, picture = (folder.figures / f"{found.name}.{kind}" for kind in ("json", "png"))
    found.circuit.save(record)
    size, where = len(found.circuit.edges), found.circuit.checkpoint.split(",")[0].replace(" at ", ", step ")
    title = (
        f"{found.circuit.found}, {where}: {size} of {found.n_edges} edges, faithfulness {found.faithfulness:.2f}\n"
        f"{found.circuit.metric.replace('_', ' ')}, cut edges carry: {found.circuit.base}; widths: EAP-IG scores"
    )
    circuits.circuit(folder.run().model, found.kept, found.scores, title).savefig(picture, dpi=120)
    return [record, picture]


def draw(path: Path, beside: Path | None = None) -> list[Path]:
    """Draw every figure that this run has the measures for into its `figures/`; `beside` is a second run to compare with."""
    folder, analyses = RunFolder(path), set(main_rows(table(path))["analysis"])
    folder.figures.mkdir(exist_ok=True)
    drawn = []
    for name, (fits, figure) in FIGURES.items():
        if fits(analyses, folder.run().model):
            drawn.append(folder.figures / f"{name}.png")
            figure(path, beside).savefig(drawn[-1], dpi=120)
    return drawn
