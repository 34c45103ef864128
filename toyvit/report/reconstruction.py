"""Hidden patches and what a model makes of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from toyvit.model.forward import run_model
from toyvit.report.panels import (
    Block,
    Caption,
    FigureData,
    lay_out,
)
from toyvit.report.pictures import find_black, restore_patches, select_steps, show_picture
from toyvit.report.rows import FigureRow
from toyvit.runs.handle import Run

RECONSTRUCTION_CAPTION = Caption(
    see="Patches hidden in the second row come back, step by step, as they are in the first.",
    otherwise="the hidden patches stay one grey, the mean of all pixels.",
)


def draw_reconstruction(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None, n: int = 8
) -> FigureData:
    """Test pictures, what the model sees of them, and what it makes of the hidden patches: a row
    each.
    """
    steps = steps or select_steps(run.steps, 5)
    rows = restore_pictures(run, steps, n)
    black = find_black(rows["seen"])
    places = range(len(rows["seen"]))
    panels = lay_out(rows, places, lambda name, place: show_picture(rows[name][place], black))

    return FigureData(
        name="reconstruction",
        title=f"{run.name}: hidden patches, restored",
        caption=RECONSTRUCTION_CAPTION,
        steps=tuple(steps),
        blocks=(Block(panels=panels, row_headers=tuple(rows), cell=(1.1, 1.1), margin=(0.6, 0.1)),),
    )


def restore_pictures(run: Run, steps: Sequence[int], n: int) -> dict[str, Tensor]:
    """Pictures by name: whole, as they are seen, as the model restores them at each step."""
    batch = run.batch("test", n)
    rows = {"picture": restore_patches(batch, batch.target.nan_to_num()), "seen": batch.images}
    for step in steps:
        patches = run_model(run.model(step, batch), batch.images)
        rows[f"step {step:,}"] = restore_patches(batch, patches)
    return rows


RECONSTRUCTION = FigureRow(
    name="reconstruction",
    draw=draw_reconstruction,
    fits=lambda config: config.readout == "pixels",
    is_headline=True,
)
