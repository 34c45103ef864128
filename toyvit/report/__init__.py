"""Seeing: figures, tables and TensorBoard files made from a run folder. Nothing else imports matplotlib or tensorboard."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from toyvit.circuits.search import CircuitReport
from toyvit.config import ModelConfig
from toyvit.report import circuits, directions, dynamics, figures, grokking, heads, lenses, pictures
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_table
from toyvit.runs.table import select_main_rows

# Each figure: which runs have it (by their analyses and their model), and how it is drawn from (run, the run beside it).
FIGURES: dict[
    str, tuple[Callable[[set[str], ModelConfig], bool], Callable[[Path, Path | None], Figure]]
] = {
    "phase_transition": (
        lambda analyses, model: {"performance", "induction"} <= analyses,
        figures.draw_phase_transition,
    ),
    "learning": (
        lambda analyses, model: "performance" in analyses and "induction" not in analyses,
        figures.draw_learning,
    ),
    "strategies": (
        lambda analyses, model: {"strategies", "attention"} <= analyses,
        figures.draw_strategies,
    ),
    "grokking": (lambda analyses, model: "fourier" in analyses, grokking.draw_grokking),
    "by_factor": (
        lambda analyses, model: {"by_factor", "performance"} <= analyses,
        figures.draw_by_factor,
    ),
    "probes": (lambda analyses, model: "probes" in analyses, figures.draw_probes),
    "head_ablation": (
        lambda analyses, model: {"head_ablation", "performance"} <= analyses,
        figures.draw_head_ablation,
    ),
    "updates": (lambda analyses, model: "performance" in analyses, dynamics.draw_updates),
    "query_attention": (
        lambda analyses, model: "induction" in analyses,
        pictures.draw_query_attention,
    ),
    "attention": (lambda analyses, model: True, pictures.draw_attention),
    "reconstruction": (
        lambda analyses, model: model.readout == "pixels",
        pictures.draw_reconstruction,
    ),
    "heads": (lambda analyses, model: "heads" in analyses, heads.draw_heads),
    "directions": (lambda analyses, model: "weights" in analyses, directions.draw_directions),
    "cls_attention": (lambda analyses, model: model.cls_token, pictures.draw_cls_attention),
    "edges": (lambda analyses, model: {"edges", "performance"} <= analyses, circuits.draw_edges),
    "patching": (lambda analyses, model: "patching" in analyses, circuits.draw_patching),
    "attribution": (lambda analyses, model: "attribution" in analyses, circuits.draw_attribution),
    "attention_knockout": (
        lambda analyses, model: "attention_knockout" in analyses,
        circuits.draw_attention_knockout,
    ),
    "lens": (lambda analyses, model: "lens" in analyses, lenses.draw_lens),
    "answer_maps": (lambda analyses, model: "attribution" in analyses, lenses.draw_answer_maps),
}


def recall_comparison(path: Path, beside: Path | None) -> Path | None:
    """The run to draw beside this one: the one given, which is noted in `figures/`, else the one noted there last time."""
    note = RunFolder(path).check_exists().figures / "beside"
    if beside:
        other = RunFolder(beside).check_exists().path
        note.parent.mkdir(exist_ok=True)
        note.write_text(os.path.relpath(other, path))
    elif note.exists() and RunFolder(path / note.read_text()).config_file.is_file():
        return Path(os.path.relpath(path / note.read_text()))
    return beside


def draw_sweep(paths: list[Path], folder: Path) -> list[Path]:
    """The curves of a sweep's runs, a colour a setting: accuracy into `folder/sweep.png`, loss into `folder/sweep_loss.png`."""
    drawn = {
        folder / "sweep.png": figures.draw_sweep_bands,
        folder / "sweep_loss.png": figures.draw_sweep_losses,
    }
    for file, figure in drawn.items():
        figure(paths).savefig(file, dpi=120)
    return list(drawn)


def draw_circuit(path: Path, found: CircuitReport) -> list[Path]:
    """A circuit as a record (JSON) and as a picture of its graph, into `figures/`."""
    folder = RunFolder(path)
    folder.figures.mkdir(exist_ok=True)
    record, picture = (folder.figures / f"{found.name}.{kind}" for kind in ("json", "png"))
    found.circuit.save(record)
    size, where = (
        len(found.circuit.edges),
        found.circuit.checkpoint.split(",")[0].replace(" at ", ", step "),
    )
    title = (
        f"{found.circuit.method}, {where}: {size} of {found.n_edges} edges, faithfulness {found.faithfulness:.2f}\n"
        f"{found.circuit.metric.replace('_', ' ')}, cut edges carry: {found.circuit.ablation}; widths: EAP-IG scores"
    )
    circuits.draw_circuit_graph(
        folder.read_config().model, found.edge_mask, found.scores, title
    ).savefig(picture, dpi=120)
    return [record, picture]


def draw(path: Path, beside: Path | None = None) -> list[Path]:
    """Draw every figure that this run has the measures for into its `figures/`; `beside` is a second run to compare with."""
    folder, analyses = RunFolder(path), set(select_main_rows(load_table(path))["analysis"])
    folder.figures.mkdir(exist_ok=True)
    drawn = []
    for name, (fits, figure) in FIGURES.items():
        if fits(analyses, folder.read_config().model):
            drawn.append(folder.figures / f"{name}.png")
            figure(path, beside).savefig(drawn[-1], dpi=120)
    return drawn
