"""Pictures through lenses: what each patch would answer, and where an answer comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.instruments.attribution import SITES, attribute_patches
from toyvit.instruments.lenses import RESIDUALS, apply_logit_lens, stack_residuals
from toyvit.model.forward import trace
from toyvit.report.panels import (
    Block,
    Caption,
    ColourScale,
    FigureData,
    Frame,
    Inlay,
    Overlay,
    PicturePanel,
    Words,
    lay_out,
)
from toyvit.report.pictures import ink_of, name_answer, scale_both_ways, select_steps
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_layer
from toyvit.runs.handle import Run

LENS_CAPTION = Caption(
    see=(
        "From left to right: at which layer, and in which patch, the right answer (green) first "
        "stands. Bolder: likelier."
    ),
    otherwise="faint answers, as often right as chance has it, in every patch of every layer.",
)


def draw_lens(
    run: Run, beside: Run | None = None, step: int | None = None, images: int = 3
) -> FigureData:
    """What the logit lens calls every patch, by layer, on a few test pictures at one checkpoint
    (default: the last).

    In each patch the likeliest class: its symbol where classes are pictures themselves (labels that
    are glyphs), else its name. Fainter where it is less likely; green where it is the answer,
    orange where not.
    """
    config = run.config.model
    at = run.check_step(step)
    batch = run.batch("test", images)
    answers = read_answers(run, at, batch)
    names = [_name_row(run, target, place) for place, target in enumerate(batch.target)]
    size = max(2.2, 0.4 * config.grid[1])
    height = size * config.grid[0] / config.grid[1]

    return FigureData(
        name="lens",
        title=f"{run.name}, step {at:,}: what each patch would answer",
        caption=LENS_CAPTION,
        steps=(at,),
        blocks=(
            Block(
                panels=lay_out(
                    range(len(batch.target)),
                    range(len(answers)),
                    lambda image, layer: _lens_panel(run, batch, image, answers[layer, image]),
                ),
                row_headers=tuple(names),
                column_headers=tuple(call_layer(layer) for layer in range(len(answers))),
                cell=(size, height),
                margin=(0.4, 0.1),
            ),
        ),
    )


def read_answers(run: Run, step: int | None, batch: Batch) -> Tensor:
    """What the logit lens answers: probabilities (layer image patch label), as it was trained."""
    model = run.model(step, batch)
    residuals = stack_residuals(model, trace(model, batch.images, RESIDUALS))
    return apply_logit_lens(model, residuals)[:, :, run.config.model.n_prefix :].softmax(-1)


def _name_row(run: Run, target: Tensor, place: int) -> str:
    is_class = target.ndim == 0
    return f"answer {name_answer(run.task, int(target))}" if is_class else f"picture {place}"


def _lens_panel(run: Run, batch: Batch, image: int, answers: Tensor) -> PicturePanel:
    """One picture and the likeliest answer (patch label) in each of its patches."""
    picture, scale = ink_of(batch.images[image])
    target = batch.target[image].expand(run.config.model.n_patches)
    symbols = run.task.class_images() if run.task.class_images else None
    frames: list[Frame] = []
    inlays: list[Inlay] = []
    words: list[Words] = []
    for patch, (chance, label) in enumerate(zip(*answers.max(-1), strict=True)):
        colour = "green" if int(label) == int(target[patch]) else "orange"
        if symbols is None:
            words.append(_write_answer(run, patch, int(label), float(chance), colour))
        else:
            inlay, frame = _draw_symbol(run, patch, symbols[label], float(chance), colour)
            inlays.append(inlay)
            frames.append(frame)

    return PicturePanel(
        picture=picture,
        scale=scale,
        opacity=0.35 if symbols is None else 0.15,
        inlays=tuple(inlays),
        frames=tuple(frames),
        words=tuple(words),
    )


def _corner(run: Run, patch: int) -> tuple[float, float, int]:
    """Left and upper edge of a patch, and its side, in pixels."""
    side = run.config.model.stated("patch_size")
    row, column = divmod(patch, run.config.model.grid[1])
    return column * side - 0.5, row * side - 0.5, side


def _write_answer(run: Run, patch: int, label: int, chance: float, colour: str) -> Words:
    """The name of a class in a patch, the larger the likelier."""
    left, top, side = _corner(run, patch)
    name = name_answer(run.task, label)
    size = 5 + 4 * chance
    return Words(x=left + side / 2, y=top + side / 2, text=name, colour=colour, size=size)


def _draw_symbol(
    run: Run, patch: int, symbol: Tensor, chance: float, colour: str
) -> tuple[Inlay, Frame]:
    """The picture of a class in a patch, and a frame around it, the bolder the likelier."""
    left, top, side = _corner(run, patch)
    inlay = Inlay(
        values=symbol.numpy(),
        left=left + 1,
        top=top + 1,
        width=side - 2,
        height=side - 2,
        opacity=chance,
    )

    frame = Frame(
        left=left + 0.5,
        top=top + 0.5,
        width=side - 1,
        height=side - 1,
        colour=colour,
        weight=1.5,
        opacity=chance,
    )
    return inlay, frame


LENS = FigureRow(
    name="lens",
    draw=draw_lens,
    needs=frozenset({"lens"}),
    at_step=lambda run, step: draw_lens(run, step=step),
)


ANSWER_MAPS_CAPTION = Caption(
    see="Blue patches speak for the answer, red ones against it, by what heads read there.",
    otherwise="all patches are equally pale.",
)


def draw_answer_maps(
    run: Run, beside: Run | None = None, steps: Sequence[int] | None = None, images: int = 5
) -> FigureData:
    """What all heads add to the answer's logit from each patch (Gandelsman 2024)."""
    batch = run.batch("test", images)
    assert batch.classes is not None
    steps = steps or select_steps(run.steps, 4)
    maps = {step: map_answer(run, step, batch) for step in steps}
    top = max(float(abs(values).max()) for values in maps.values())
    scale = scale_both_ways(top, "added to the answer's logit,\nover the mean logit (logits)")
    rows = [tuple(_plain_panel(image) for image in batch.images)]
    for step in steps:
        pairs = zip(batch.images, maps[step], strict=True)
        rows.append(tuple(_map_panel(image, values, scale) for image, values in pairs))

    return FigureData(
        name="answer_maps",
        title=f"{run.name}: from which patches the answer comes",
        caption=ANSWER_MAPS_CAPTION,
        steps=tuple(steps),
        blocks=(
            Block(
                panels=tuple(rows),
                row_headers=("picture", *(f"step {step:,}" for step in steps)),
                column_headers=tuple(
                    f"answer {name_answer(run.task, int(label))}" for label in batch.classes
                ),
                cell=(1.5, 1.5),
                margin=(0.6, 0.1),
                scale=scale,
            ),
        ),
    )


def map_answer(run: Run, step: int, batch: Batch) -> np.ndarray:
    """What each patch adds to the answer's logit over the mean logit: (image row column)."""
    config = run.config.model
    model = run.model(step, batch)
    parts = attribute_patches(model, trace(model, batch.images, SITES))[:, 0, config.n_prefix :]
    assert batch.classes is not None
    labels = batch.classes[:, None, None].expand(-1, config.n_patches, 1)
    over = parts.gather(2, labels)[..., 0] - parts.mean(2)
    return over.reshape(-1, *config.grid).numpy()


def _plain_panel(image: Tensor) -> PicturePanel:
    picture, scale = ink_of(image)
    return PicturePanel(picture=picture, scale=scale)


def _map_panel(image: Tensor, values: np.ndarray, scale: ColourScale) -> PicturePanel:
    picture, ink = ink_of(image)
    overlay = Overlay(values=values, scale=scale, opacity=0.7)
    return PicturePanel(picture=picture, scale=ink, opacity=0.4, overlay=overlay)


ANSWER_MAPS = FigureRow(name="answer_maps", draw=draw_answer_maps, needs=frozenset({"attribution"}))
