"""What an analysis is: the record of a measure, of its quantities, and of what it needs.

A measure is a pure function `(model, batch, trace) -> {quantity: tensor}`. Its row, an `Analysis`,
stands under it and declares all that the table, the tests and the pages have to know of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.data.memo import Answer, Memo
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.model.options import count_outputs


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
Measure = Callable[[ViT, Batch, Mapping[str, Tensor]], Measures]


class Pass(dict[str, Tensor]):
    """The trace of one forward pass, with what several analyses have computed from it."""

    def __init__(self, trace: Mapping[str, Tensor]) -> None:
        super().__init__(trace)
        self.memo = Memo()


def share(
    trace: Mapping[str, Tensor], compute: Callable[[ViT, Mapping[str, Tensor]], Answer], model: ViT
) -> Answer:
    """`compute(model, trace)`, once for all the analyses of a `Pass`.

    >>> trace = Pass({"logits": torch.zeros(2)})
    >>> numbers = iter(range(9))
    >>> def count(model, trace):
    ...     return next(numbers)
    >>> share(trace, count, None), share(trace, count, None)
    (0, 0)
    """
    if isinstance(trace, Pass):
        return trace.memo.answer(compute, model, trace)
    return compute(model, trace)


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


@dataclass(frozen=True)
class Need:
    """Something that a model or a batch may have: in words, and whether it is there.

    >>> batch = Batch(torch.zeros(1, 1, 4, 4), target=torch.zeros(1))
    >>> MLP.words, MLP.is_met(ModelConfig(d_mlp=0), batch)
    ('an MLP (--model.d_mlp)', False)
    """

    words: str
    is_met: Callable[[ModelConfig, Batch], bool]


RETRIEVAL = Need("item-label pairs", lambda config, batch: batch.retrieval is not None)
CONTENT = Need("content ids of patches", lambda config, batch: batch.content is not None)
CLASSES = Need("one class a picture", lambda config, batch: batch.classes is not None)
GROUPS = Need("factors of few values", lambda config, batch: batch.groups is not None)
COUNTERFACTUALS = Need("counterfactual pairs", lambda config, batch: bool(batch.changeable))
OBJECTS = Need("objects on a canvas", lambda config, batch: batch.objects is not None)
ANSWERS = Need("pictures whose answer is known", lambda config, batch: batch.is_answered)
CHOICES = Need(
    "answers that are classes", lambda config, batch: not batch.target.is_floating_point()
)
LABELS = Need(
    "classes, of pictures or of patches",
    lambda config, batch: batch.is_answered and not batch.target.is_floating_point(),
)
MLP = Need("an MLP (--model.d_mlp)", lambda config, batch: config.d_mlp > 0)
CLS = Need("a CLS token (--model.cls_token)", lambda config, batch: config.cls_token)
REGISTERS = Need("registers (--model.n_registers)", lambda config, batch: config.n_registers > 0)
UNTURNED = Need(
    "positions that turn no queries (--model.positions other than rotary)",
    lambda config, batch: not config.is_rotary,
)
SEVERAL_UNTURNED = Need(
    "two layers and positions that turn no queries (--model.positions other than rotary)",
    lambda config, batch: config.n_layers > 1 and not config.is_rotary,
)
SEVERAL_LAYERS = Need("two layers (--model.n_layers)", lambda config, batch: config.n_layers > 1)


@dataclass(frozen=True)
class Axis:
    """An axis of a quantity: what a place on it is, and the sizes that it may have.

    `is_crowded` says that it has so many places that they are a figure's, not a curve each.
    """

    name: str
    words: str
    sizes: Callable[[ModelConfig, Batch], Collection[int]]
    is_crowded: bool = False


def _count_layers(config: ModelConfig, batch: Batch) -> tuple[int, int]:
    return config.n_layers, config.n_layers + 1


def _count_heads(config: ModelConfig, batch: Batch) -> tuple[int]:
    return (config.n_heads,)


def _count_tokens(config: ModelConfig, batch: Batch) -> tuple[int]:
    return (config.n_tokens,)


LAYER = "a block, or the stream that enters it; one more for the stream that leaves the last"
# The axes that many analyses have; an analysis may declare more of its own.
COMMON_AXES = (
    Axis("layer", LAYER, _count_layers),
    Axis("to_layer", "the later one of two layers", _count_layers),
    Axis("head", "a head of a layer", _count_heads),
    Axis("to_head", "a head of the later layer", _count_heads),
    Axis("key", "a token that is read", _count_tokens, is_crowded=True),
    Axis("token", "a token: CLS, registers, patches", _count_tokens),
    Axis("label", "a class", lambda config, batch: (count_outputs(config),)),
)


@dataclass(frozen=True)
class Quantity:
    """What a row declares of one quantity.

    axes        of its tensor, by name and in order; "" for a single number
    unit        "" for a share, a ratio or a count
    least, most its range, to rounding
    may_be_nan  NaN where there is nothing to measure; such numbers are left out of the table
    only_with   what a model or a batch must have for the quantity to be there

    >>> Quantity("layer head", unit="nats", least=0).axes.split()
    ['layer', 'head']
    """

    axes: str = ""
    unit: str = ""
    least: int | float = -inf
    most: int | float = inf
    may_be_nan: bool = False
    only_with: Need | None = None

    def is_there(self, config: ModelConfig, batch: Batch) -> bool:
        """Whether this model on this batch has it."""
        return self.only_with is None or self.only_with.is_met(config, batch)


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A measure with all that is declared of it; its row in the table of analyses.

    name        on the command line and in the table of measures
    computes    what it computes, in one line
    measure     (model, batch, trace) -> numbers by the name of their quantity, or `Tagged`
    quantities  each by its name, without tags
    own_axes    axes of its quantities that are not among `COMMON_AXES`
    sites       that it reads in the trace
    needs       what the model and the batch must have
    slow        run only when asked for: seconds a checkpoint, or thousands of rows
    most_layers of models of more layers it is slow
    cost        milliseconds a checkpoint, roughly: default model, 512 pictures, one thread
    source      who it is from
    truth       what it must give where the answer is known
    null        what it gives where there is nothing to find
    version     one more when its numbers change: what is measured is then measured again

    ValueError for a quantity on an axis that nothing declares.
    """

    extends: ClassVar[str] = "analyses"

    name: str
    computes: str
    measure: Measure
    quantities: Mapping[str, Quantity]
    own_axes: tuple[Axis, ...] = ()
    sites: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    slow: bool = False
    most_layers: int | None = None
    cost: int | float
    source: str
    truth: str
    null: str
    version: int = 1

    def __post_init__(self) -> None:
        for name, quantity in self.quantities.items():
            if unknown := set(quantity.axes.split()) - self.axes.keys():
                raise ValueError(f"{self.name}: no axis {min(unknown)!r} is declared for {name}")

    @property
    def code(self) -> Measure:
        """Where its work is done."""
        return self.measure

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes that its quantities may have, by name."""
        return {axis.name: axis for axis in (*COMMON_AXES, *self.own_axes)}

    def list_missing(self, model: ViT, batch: Batch) -> list[str]:
        """What it needs and this model or batch does not have, in words."""
        return [need.words for need in self.needs if not need.is_met(model.config, batch)]

    def explain_slow(self, model: ViT) -> str:
        """Why it is run only when asked for; empty where it is quick."""
        if self.slow:
            return "run only when asked for"
        if self.most_layers is not None and model.config.n_layers > self.most_layers:
            return f"run only when asked for on models of more than {self.most_layers} layers"
        return ""

    @property
    def rough_cost(self) -> str:
        """Its cost in words: `about 65 ms`."""
        if self.cost < 1:
            return "under 1 ms"
        if self.cost < 950:
            return f"about {self.cost:g} ms"
        return f"about {self.cost / 1000:g} s"
