"""Taps: callables `tap(site, value) -> value` that read or change what flows through the model.

A tap may carry an attribute `sites`, the collection of names it cares about: the model then skips values that are
costly to form (per-head inputs and results) where nobody asks, and refuses a name it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Tap(Protocol):
    def __call__(self, site: str, value: Tensor, /) -> Tensor: ...


class _Untouched:
    """The tap that does nothing and asks for nothing."""

    sites: Collection[str] = ()

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return value


untouched = _Untouched()


def list_wanted(tap: Tap) -> Collection[str] | None:
    """The sites a tap cares about; None for a bare callable, which is offered all of them."""
    return getattr(tap, "sites", None)


def wants(tap: Tap, site: str) -> bool:
    names = list_wanted(tap)
    return names is None or site in names


class recording:
    """Keep the value of each named site in `values`; `detach=False` keeps the graph for gradients."""

    def __init__(self, sites: Collection[str], detach: bool = True) -> None:
        self.sites, self.detach = frozenset(sites), detach
        self.values: dict[str, Tensor] = {}

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site in self.sites:
            self.values[site] = value.detach() if self.detach else value
        return value


class editing:
    """Pass each named site's value through a function of the user's."""

    def __init__(self, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        self.edits, self.sites = dict(edits), frozenset(edits)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.edits[site](value) if site in self.edits else value


class replacing:
    """Put a given tensor at each named site; it must have the shape of what it replaces."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values, self.sites = dict(values), frozenset(values)

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
    """Add a zero that asks for a gradient at each named site: `nudges[site].grad` is d(output)/d(site)."""

    def __init__(self, sites: Collection[str]) -> None:
        self.sites = frozenset(sites)
        self.nudges: dict[str, Tensor] = {}

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        if site not in self.sites:
            return value
        self.nudges[site] = torch.zeros_like(value, requires_grad=True)
        return value + self.nudges[site]


class settling:
    """A tap whose replacements lie in memory as what they replace does.

    A matrix product rounds by how its factors lie (strides, and where the first number stands between cache lines), so a
    read-out that is a slice of the tokens and a copy of it give other last bits on some processors. Here equal numbers give
    equal bits; what is not replaced is not touched.
    """

    def __init__(self, tap: Tap) -> None:
        self.tap, self.sites = tap, list_wanted(tap)

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        new = self.tap(site, value)
        return new if new is value else laid_out_like(value, new)


CACHE_LINE = 16  # float32 numbers in 64 bytes


def laid_out_like(value: Tensor, new: Tensor) -> Tensor:
    """`new` with the strides of `value` and its place between cache lines; unchanged if shapes differ or memory is shared."""
    repeated = any(
        size > 1 and stride == 0 for size, stride in zip(value.shape, value.stride(), strict=True)
    )
    if new.shape != value.shape or repeated or not value.numel():
        return new
    start = value.storage_offset() % CACHE_LINE
    if new.stride() == value.stride() and new.storage_offset() % CACHE_LINE == start:
        return new

    last = sum(
        (size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)
    )
    room = new.new_empty(start + last + 1).as_strided(value.shape, value.stride(), start)
    return room.detach().copy_(new)


class within:
    """A tap seen from inside a part of the model: `within("blocks.0.", tap)("resid_pre", x)`."""

    def __init__(self, prefix: str, tap: Tap) -> None:
        self.prefix, self.tap = prefix, tap
        names = list_wanted(tap)
        self.sites = (
            None
            if names is None
            else frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
        )

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.tap(self.prefix + site, value)


class then:
    """One tap after another: the second sees what the first returned."""

    def __init__(self, first: Tap, second: Tap) -> None:
        self.first, self.second = first, second
        names = [list_wanted(first), list_wanted(second)]
        self.sites = (
            None
            if None in names
            else frozenset().union(*(name for name in names if name is not None))
        )

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        return self.second(site, self.first(site, value))
