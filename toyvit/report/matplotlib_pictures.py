"""Pictures and graphs on matplotlib axes."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from toyvit.report.matplotlib_colours import show_values
from toyvit.report.panels import Edge, GraphPanel, Node, PicturePanel
from toyvit.report.style import COLOURS


def draw_picture(axes: Axes, panel: PicturePanel) -> None:
    """A picture, what lies on it, and ticks between its cells."""
    height, width = panel.picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    show_values(axes, panel.picture, panel.scale, extent=extent, opacity=panel.opacity)
    if panel.overlay:
        over = panel.overlay
        show_values(axes, over.values, over.scale, extent=extent, opacity=over.opacity)
    for inlay in panel.inlays:
        box = (inlay.left, inlay.left + inlay.width, inlay.top + inlay.height, inlay.top)
        axes.imshow(inlay.values, cmap="Greys", extent=box, alpha=inlay.opacity)

    _draw_frames(axes, panel)
    for words in panel.words:
        axes.text(
            words.x,
            words.y,
            words.text,
            ha="center",
            va="center",
            fontsize=words.size,
            color=COLOURS[words.colour],
        )
    axes.set(xlim=extent[:2], ylim=extent[2:])
    _draw_cells(axes, panel)


def _draw_frames(axes: Axes, panel: PicturePanel) -> None:
    for frame in panel.frames:
        edge = Rectangle(
            (frame.left, frame.top),
            frame.width,
            frame.height,
            fill=False,
            clip_on=False,
            ec=COLOURS[frame.colour],
            lw=frame.weight,
            alpha=frame.opacity,
        )
        axes.add_patch(edge)


def _draw_cells(axes: Axes, panel: PicturePanel) -> None:
    """Ticks where one cell ends and the next begins, or none."""
    height, width = panel.picture.shape[:2]
    size = panel.cell
    axes.set_xticks([place - 0.5 for place in range(size, width, size)] if size else [], [])
    axes.set_yticks([place - 0.5 for place in range(size, height, size)] if size else [], [])
    axes.tick_params(length=2)
    if panel.below:
        axes.set_xlabel(panel.below, fontsize="x-small", labelpad=2)


def draw_graph(axes: Axes, panel: GraphPanel) -> None:
    """Arrows coloured by the port they run into, as wide as their weight; unused nodes pale."""
    places = {node.name: node for node in panel.nodes}
    for edge in panel.edges:
        colour = COLOURS[panel.ports[edge.port][0]]
        _draw_arrow(axes, places[edge.sender], places[edge.receiver], edge, colour)

    for node in panel.nodes:
        shade = "black" if node.used else COLOURS["pale"]
        box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": shade, "lw": 1 + 0.4 * node.used}
        axes.text(
            node.x, node.y, node.label, ha="center", va="center", fontsize=9, color=shade, bbox=box
        )
    for colour, meaning in panel.ports.values():
        axes.plot([], [], color=COLOURS[colour], lw=2.5, label=meaning)
    if panel.ports:
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
    right = max(node.x for node in panel.nodes)
    top = max(node.y for node in panel.nodes)
    left = min(node.x for node in panel.nodes)
    axes.set(xlim=(left - 0.7, right + 0.7), ylim=(-0.4, top + 0.4))
    axes.axis("off")


def _draw_arrow(axes: Axes, start: Node, end: Node, edge: Edge, colour: str) -> None:
    """Bent by its port, and round what stands in between where it passes rows."""
    passed = max(0, round(end.y - start.y) - 1)
    bend = {"q": 0.18, "k": 0.0, "v": -0.18, "": 0.08}[edge.port]
    if passed and abs(end.x - start.x) < 0.5:
        bend += -0.3 if bend < 0 else 0.3

    arrow = FancyArrowPatch(
        (start.x, start.y),
        (end.x, end.y),
        arrowstyle="-|>",
        mutation_scale=11,
        connectionstyle=f"arc3,rad={bend}",
        shrinkA=17,
        shrinkB=17,
        color=colour,
        lw=0.8 + 4 * edge.weight,
        alpha=0.35 + 0.6 * edge.weight,
    )
    axes.add_patch(arrow)
