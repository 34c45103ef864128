"""Answers that are computed once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Memo:
    """What functions have answered, by the function and its options. A copy begins anew.

    >>> memo = Memo()
    >>> numbers = iter(range(9))
    >>> memo.answer(numbers.__next__), memo.answer(numbers.__next__)
    (0, 0)
    """

    def __init__(self) -> None:
        self._answers: dict[Hashable, Any] = {}

    def answer(
        self, compute: Callable[..., Answer], *about: object, options: Hashable = ()
    ) -> Answer:
        """`compute(*about)`; the same again for the same function and options."""
        key = (compute, options)
        if key not in self._answers:
            self._answers[key] = compute(*about)
        return self._answers[key]

    def __reduce__(self) -> tuple[type[Memo], tuple[()]]:
        return Memo, ()
