"""What heads of layer 0 look for: singular directions of QK and OV as pictures of a patch."""

from __future__ import annotations

from torch import Tensor

from toyvit.instruments.weight_circuits import (
    SingularDirections,
    find_singular_directions,
    fold_head_weights,
    project_to_pixels,
)
from toyvit.model import ViT
from toyvit.report.panels import (
    Block,
    Caption,
    ColourScale,
    FigureData,
    PicturePanel,
    lay_out,
)
from toyvit.report.rows import FigureRow
from toyvit.runs.handle import Run

N_SHOWN = 2  # directions of each circuit
OF_A_DIRECTION = ColourScale(
    kind="diverging", low=-1, high=1, label="weight of a pixel (share of\nthe picture's largest)"
)


DIRECTIONS_CAPTION = Caption(
    see=(
        "Bars, edges or whole shapes: a head that compares, or reads, these. A direction is "
        "blue against red or the other way round; in brackets its share of the circuit."
    ),
    otherwise="noise without shape, and directions of about equal shares.",
)


def draw_directions(run: Run, beside: Run | None = None, step: int | None = None) -> FigureData:
    """Each head of layer 0 at one checkpoint (default: the last): the largest directions of its QK
    circuit, query and key, and of its OV.

    A patch goes along a direction by the sum over its pixels of pixel times picture (blue positive,
    red negative; each picture has a scale of its own). The sign of a pair is arbitrary: a query and
    a key attract where both go the same way.
    """
    at = run.check_step(step)
    model = run.bare_model(at)
    columns = list_columns(model)
    heads = range(run.config.model.n_heads)

    return FigureData(
        name="directions",
        title=f"{run.name}, step {at:,}: what layer 0 looks for in a patch",
        caption=DIRECTIONS_CAPTION,
        steps=(at,),
        blocks=(
            Block(
                panels=lay_out(
                    heads, columns, lambda head, column: _direction_panel(model, *column, head)
                ),
                row_headers=tuple(f"head {head}" for head in heads),
                cell=(1.25, 1.45),
                margin=(0.6, 0.1),
                scale=OF_A_DIRECTION,
            ),
        ),
    )


def list_columns(model: ViT) -> list[tuple[str, SingularDirections, Tensor, int]]:
    """Name, circuit, (head direction weight) and order of each direction that is shown.

    Of OV alone under rotary positions, which turn what is compared.
    """
    w_q, w_k, w_v, w_o = fold_head_weights(model, 0)
    compared = find_singular_directions(w_q, w_k.mT)
    moved = find_singular_directions(w_v, w_o)
    columns = []
    for order in range(0 if model.config.is_rotary else N_SHOWN):
        columns.append(("query", compared, compared.read, order))
        columns.append(("key", compared, compared.written, order))
    return columns + [("OV reads", moved, moved.read, order) for order in range(N_SHOWN)]


def _direction_panel(
    model: ViT,
    name: str,
    directions: SingularDirections,
    rows: Tensor,
    order: int,
    head: int,
) -> PicturePanel:
    sizes = directions.size[head].square()
    share = (sizes[order] / sizes.sum()).item()
    picture = project_to_pixels(model, rows[head, order]).mean(0).numpy()
    top = float(abs(picture).max()) or 1.0
    return PicturePanel(
        picture=picture,
        scale=ColourScale(kind="diverging", low=-top, high=top),
        title=f"{name} {order + 1} ({share:.0%})",
    )


DIRECTIONS = FigureRow(
    name="directions",
    draw=draw_directions,
    needs=frozenset({"weights"}),
    at_step=lambda run, step: draw_directions(run, step=step),
)
