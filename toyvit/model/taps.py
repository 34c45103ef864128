"""Taps: callables `tap(site, value) -> value` that read or change what flows through the model.

A tap may carry an attribute `sites`, the collection of names it cares about: the model then skips
values that are costly to form (per-head inputs and results) where nobody asks for them, and refuses
a name that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

CACHE_LINE = 16  # float32 numbers in 64 bytes


@runtime_checkable
class Tap(Protocol):
    """Anything that takes the name of a site and its value, and returns the value to go on with.

    >>> def double_logits(site, value):
    ...     return 2 * value if site == "logits" else value
    >>> isinstance(double_logits, Tap)
    True
    """

    def __call__(self, site: str, value: Tensor, /) -> Tensor: ...


class _Untouched:
    """The tap that does nothing and asks for nothing."""

    sites: Collection[str] = ()

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return value


untouched = _Untouched()


def list_wanted(tap: Tap) -> Collection[str] | None:
    """The sites a tap cares about; None for a bare callable, which is offered all of them.

    >>> sorted(list_wanted(recording(["logits", "embed"])))
    ['embed', 'logits']
    """
    return getattr(tap, "sites", None)


def wants(tap: Tap, site: str) -> bool:
    """Whether a tap is to be offered this site.

    >>> wants(recording(["logits"]), "embed"), wants(lambda site, value: value, "embed")
    (False, True)
    """
    names = list_wanted(tap)
    return names is None or site in names


def list_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Names as given; a lone string is a name, not its letters.

    >>> list_names("logits"), list_names(["embed", "logits"])
    (('logits',), ('embed', 'logits'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


class recording:
    """Record the value of each named site in `values`.

    The values are copies, detached from the graph: what is edited later, or written into them, is
    not seen elsewhere. With `detach=False` they are the values themselves, and gradients flow
    through them.

    >>> tap = recording(["logits"])
    >>> tap("logits", torch.ones(2)).shape, tap.values["logits"]
    (torch.Size([2]), tensor([1., 1.]))
    """

    def __init__(self, sites: str | Iterable[str], detach: bool = True) -> None:
        self.sites = frozenset(list_names(sites))
        self.detach = detach
        self.values: dict[str, Tensor] = {}

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site in self.sites:
            self.values[site] = value.detach().clone() if self.detach else value
        return value


class editing:
    """Pass each named site's value through a function of the user's.

    >>> editing({"logits": lambda x: 2 * x})("logits", torch.ones(2))
    tensor([2., 2.])
    """

    def __init__(self, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self.edits = dict(edits)
        self.sites = frozenset(edits)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.edits[site](value) if site in self.edits else value


class replacing:
    """Put a given tensor at each named site; ValueError where its shape is another than the site's.

    >>> replacing({"logits": torch.zeros(2)})("logits", torch.ones(2))
    tensor([0., 0.])
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = dict(values)
        self.sites = frozenset(values)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in self.values:
            return value

        new = self.values[site]
        if new.shape != value.shape:
            raise ValueError(
                f"{site} holds {tuple(value.shape)}, the replacement is {tuple(new.shape)}"
            )
        return new


class nudging:
    """Add a zero that asks for a gradient at each named site.

    After the backward pass `nudges[site].grad` is d(output)/d(site), in the site's own shape.

    >>> tap = nudging(["logits"])
    >>> tap("logits", torch.ones(2)).square().sum().backward()
    >>> tap.nudges["logits"].grad
    tensor([2., 2.])
    """

    def __init__(self, sites: str | Iterable[str]) -> None:
        self.sites = frozenset(list_names(sites))
        self.nudges: dict[str, Tensor] = {}

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in self.sites:
            return value

        self.nudges[site] = torch.zeros_like(value, requires_grad=True)
        return value + self.nudges[site]


class settling:
    """A tap whose replacements have the shape of what they replace, and lie in memory as it does.

    A matrix product rounds by how its factors lie (strides, and where the first number stands
    between cache lines), so a read-out that is a slice of the tokens and a copy of it give other
    last bits on some processors. Here equal numbers give equal bits; what is not replaced is not
    touched. ValueError for another shape.
    """

    def __init__(self, tap: Tap) -> None:
        self.tap = tap
        self.sites = list_wanted(tap)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        new = self.tap(site, value)
        if new is value:
            return new
        if new.shape != value.shape:
            shapes = f"{tuple(value.shape)}, the tap returned {tuple(new.shape)}"
            raise ValueError(f"{site} holds {shapes}")
        return match_layout(new, value)


def match_layout(new: Tensor, value: Tensor) -> Tensor:
    """`new` with the strides of `value` and its place between cache lines.

    As it is where shapes differ, or where `value` shows one place of memory several times.

    >>> columns = torch.zeros(2, 3).T
    >>> match_layout(torch.ones(3, 2), columns).stride() == columns.stride()
    True
    """
    layout = list(zip(value.shape, value.stride(), strict=True))
    repeated = any(size > 1 and stride == 0 for size, stride in layout)
    if new.shape != value.shape or repeated or not value.numel():
        return new

    start = value.storage_offset() % CACHE_LINE
    if new.stride() == value.stride() and new.storage_offset() % CACHE_LINE == start:
        return new

    last = sum((size - 1) * stride for size, stride in layout)
    room = new.new_empty(start + last + 1).as_strided(value.shape, value.stride(), start)
    return room.detach().copy_(new)


class within:
    """A tap as a part of the model sees it, names shortened by the part's own.

    >>> tap = recording(["blocks.0.resid_pre"])
    >>> x = within("blocks.0.", tap)("resid_pre", torch.ones(1))
    >>> list(tap.values)
    ['blocks.0.resid_pre']
    """

    def __init__(self, prefix: str, tap: Tap) -> None:
        self.prefix = prefix
        self.tap = tap
        self.sites: Collection[str] | None = None
        names = list_wanted(tap)
        if names is not None:
            inside = (name for name in names if name.startswith(prefix))
            self.sites = frozenset(name.removeprefix(prefix) for name in inside)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.tap(self.prefix + site, value)


class norm_within(within):
    """`within` for a norm; its site `after_gain` answers to its old name `normalized` too.

    Both for taps that name it so and for norms that offer it so. For this version.

    >>> tap = recording(["ln_final.normalized"])
    >>> norm_within("ln_final.", tap)("after_gain", torch.ones(1))
    tensor([1.])
    >>> list(tap.values)
    ['ln_final.normalized']
    """

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in ("after_gain", "normalized"):
            return super().__call__(site, value)

        value = super().__call__("after_gain", value)
        if "normalized" in (list_wanted(self) or ()):
            value = super().__call__("normalized", value)
        return value


class then:
    """One tap after another: the second sees what the first returned.

    >>> add = editing({"logits": lambda x: x + 1})
    >>> double = editing({"logits": lambda x: 2 * x})
    >>> then(add, double)("logits", torch.ones(2))
    tensor([4., 4.])
    """

    def __init__(self, first: Tap, second: Tap) -> None:
        self.first = first
        self.second = second
        self.sites: Collection[str] | None = None
        names = (list_wanted(first), list_wanted(second))
        if names[0] is not None and names[1] is not None:
            self.sites = frozenset(names[0]) | frozenset(names[1])

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.second(site, self.first(site, value))
