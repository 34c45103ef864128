"""What may be asked of a model: a checkpoint, a picture and interventions, read from JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, choose
from toyvit.model.forward import HEAD_ABLATIONS

FIELDS = ("run", "step", "picture", "ablation", "heads", "edges", "patch")
OF_PATCH = ("picture", "heads", "blocks")
MOST_PLACES = 10_000  # heads, edges or blocks that one question names
BRIGHTEST = 1e4  # of a pixel of a picture that is sent
Picture = int | tuple[float, ...]
Head = tuple[int, int]
Edge = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A pass of a model, and what is changed in it.

    picture         the number of a test picture, or the pixels of one (channel row column)
    heads           (layer, head) whose `attn.z` is replaced by zero or by its mean
    edges           (layer, head, query, key) that are forbidden
    source          the picture from which `patched_heads` and `patched_blocks` are taken
    """

    step: int
    picture: Picture
    ablation: str = "zero"
    heads: tuple[Head, ...] = ()
    edges: tuple[Edge, ...] = ()
    source: Picture | None = None
    patched_heads: tuple[Head, ...] = ()
    patched_blocks: tuple[int, ...] = ()


def read_question(plain: dict[str, object], config: ModelConfig) -> Question:
    """A question about a model of this shape; BadInput that says which part is wrong."""
    _check_fields("the question", plain, FIELDS)
    patch = plain.get("patch")
    parts = {} if patch is None else patch
    if not isinstance(parts, dict):
        raise BadInput(f"patch must be an object, got {_name_kind(parts)}")
    _check_fields("patch", parts, OF_PATCH)
    sizes = (config.n_layers, config.n_heads, config.n_tokens, config.n_tokens)
    ablation = plain.get("ablation", "zero")
    if not isinstance(ablation, str):
        raise BadInput(f"ablation must be a text, got {_name_kind(ablation)}")

    heads = _read_places("heads", plain.get("heads"), sizes[:2])
    edges = _read_places("edges", plain.get("edges"), sizes)
    patched = _read_places("patch.heads", parts.get("heads"), sizes[:2])
    blocks = _read_places("patch.blocks", parts.get("blocks"), sizes[:1])
    if parts and "picture" not in parts:
        raise BadInput("patch needs the picture that is patched from")
    if both := sorted(set(heads) & set(patched)):
        layer, head = both[0]
        raise BadInput(f"head {head} of layer {layer} is both ablated and patched")
    return Question(
        step=read_number("step", plain.get("step"), None),
        picture=read_picture("picture", plain.get("picture"), config),
        ablation=choose(ablation[:100], HEAD_ABLATIONS, "ablation"),
        heads=tuple((place[0], place[1]) for place in heads),
        edges=tuple((place[0], place[1], place[2], place[3]) for place in edges),
        source=read_picture("patch.picture", parts["picture"], config) if parts else None,
        patched_heads=tuple((place[0], place[1]) for place in patched),
        patched_blocks=tuple(place[0] for place in blocks),
    )


def read_number(name: str, value: object, n: int | None) -> int:
    """A whole number from 0, below n; BadInput for anything else."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInput(f"{name} must be a whole number, got {_name_kind(value)}")
    if value < 0 or (n is not None and value >= n) or value >= 2**40:
        allowed = "from 0" if n is None else f"0 to {n - 1}"
        raise BadInput(f"{name} must be {allowed}, got {str(value)[:20]}")
    return value


def read_picture(name: str, value: object, config: ModelConfig) -> Picture:
    """The number of a test picture, or as many finite numbers as a picture has."""
    if not isinstance(value, list):
        if isinstance(value, int) and not isinstance(value, bool):
            return read_number(name, value, None)
        raise BadInput(f"{name} must be a number or a list of pixels, got {_name_kind(value)}")

    height, width = config.stated("image_size")
    n = int(config.stated("n_channels")) * height * width
    if len(value) != n:
        raise BadInput(f"{name} must have {n} pixels, got {len(value)}")
    for pixel in value:
        is_number = isinstance(pixel, int | float) and not isinstance(pixel, bool)
        if not is_number or not abs(pixel) <= BRIGHTEST:
            raise BadInput(f"pixels of {name} must be numbers up to 10,000, got {str(pixel)[:20]}")
    return tuple(map(float, value))


def _read_places(name: str, value: object, sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Places as lists of numbers, each below its size; a lone number where there is one size."""
    values = [] if value is None else value
    if not isinstance(values, list) or len(values) > MOST_PLACES:
        raise BadInput(f"{name} must be a list of at most {MOST_PLACES} places")
    places: list[tuple[int, ...]] = []
    for item in values:
        place = [item] if len(sizes) == 1 else item
        if not isinstance(place, list) or len(place) != len(sizes):
            raise BadInput(f"each of {name} must be {len(sizes)} numbers, got {str(item)[:40]}")
        pairs = zip(place, sizes, strict=True)
        places.append(tuple(read_number(f"a number of {name}", *pair) for pair in pairs))
    return places


def _check_fields(what: str, plain: dict[str, object], allowed: Sequence[str]) -> None:
    for name in plain:
        choose(name[:100], allowed, f"field of {what}")


def _name_kind(value: object) -> str:
    """What JSON calls it.

    >>> _name_kind(None), _name_kind([1]), _name_kind({})
    ('nothing', 'a list', 'an object')
    """
    names = {type(None): "nothing", bool: "true or false", str: "a text", float: "a fraction"}
    others: dict[type, str] = {list: "a list", dict: "an object", int: "a number"}
    return (names | others)[type(value)]
