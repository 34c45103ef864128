"""What a measure returns: numbers by the name of their quantity and its tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, init=False)
class Tagged:
    """The name of a quantity with tags, each a name and a text: `accuracy` of a factor, of a group.

    Tags become columns of the table of measures, in their order; their texts may be any.

    >>> key = Tagged("accuracy", factor="label", group="cls")
    >>> key
    accuracy[factor=label,group=cls]
    >>> key["factor"], key == Tagged("accuracy", factor="label", group="cls")
    ('label', True)
    """

    quantity: str
    tags: tuple[tuple[str, str], ...]

    def __init__(self, quantity: str, /, **tags: str) -> None:
        object.__setattr__(self, "quantity", quantity)
        object.__setattr__(self, "tags", tuple(tags.items()))

    def __getitem__(self, tag: str) -> str:
        return dict(self.tags)[tag]

    def __repr__(self) -> str:
        return f"{self.quantity}[{','.join(f'{name}={text}' for name, text in self.tags)}]"


Key = str | Tagged
Measures = dict[Key, Tensor]


def split_key(key: Key) -> tuple[str, Mapping[str, str]]:
    """The name of a quantity, and its tags.

    >>> split_key(Tagged("kl", strategy="bigram")), split_key("loss")
    (('kl', {'strategy': 'bigram'}), ('loss', {}))
    """
    return (key.quantity, dict(key.tags)) if isinstance(key, Tagged) else (key, {})


def stack_layers(layers: Sequence[Measures]) -> Measures:
    """What every layer has measured, by name with a first axis for the layer.

    >>> stack_layers([{"mass": torch.zeros(2)}, {"mass": torch.ones(2)}])["mass"].shape
    torch.Size([2, 2])
    """
    measures: Measures = {}
    for key in layers[0]:
        measures[key] = torch.stack([layer[key] for layer in layers])
    return measures
