"""The look of all figures: colours told apart by readers who see few, and common words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from toyvit.report.panels import Dash

# Okabe & Ito's palette, and greys.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "pink": "#CC79A7",
    "sky": "#56B4E9",
    "yellow": "#F0E442",
    "grey": "#666666",
    "pale": "#bbbbbb",
    "faint": "#cccccc",
    "black": "#000000",
    "white": "#ffffff",
}
# In the order in which curves of unordered things take them.
CYCLE = ("blue", "orange", "green", "pink", "sky", "yellow")
SETTINGS = ("blue", "orange", "green", "pink", "sky", "grey")
DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted", "dashdot")


def pick_shades(n: int) -> list[str]:
    """Colours of n ordered things, dark to light, as places on a scale: `viridis 0.85`."""
    return [f"viridis {0.85 * place / max(1, n - 1)!r}" for place in range(n)]


def call_head(layer: int, head: int) -> str:
    """What a head is called wherever people read; a1.h0 is the name of a node in a graph."""
    return f"layer {layer}, head {head}"


def call_layer(layer: int) -> str:
    """What a place of the residual stream is called: 0 is the embedding, 1 after block 0."""
    return f"after block {layer - 1}" if layer else "embedding"


NODES = (
    "In names of nodes a1.h0 is layer 1, head 0, and m1 the MLP of layer 1; "
    "<q>, <k> and <v> are a head's queries, keys and values."
)


def list_looks(n: int, colours: Sequence[str] = CYCLE) -> list[tuple[str, Dash]]:
    """Colour and line style of n unordered things: all colours in one style, then in the next."""
    styles = DASHES * (1 + n // (len(colours) * len(DASHES)))
    looks = [(colour, dash) for dash, colour in product(styles, colours)]
    return looks[:n]
