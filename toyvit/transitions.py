"""Where a curve rises: the steps at which it has gone 10 % and 90 % of its way."""

from __future__ import annotations

import pandas as pd

LEAST_RISE = 0.1


def window(values: pd.Series, ceiling: float) -> tuple[int, int] | None:
    """Steps at 10 % and 90 % of the way from a ceiling to the last value (first crossings); `values` is indexed by step.

    None where the last value is less than 0.1 above the ceiling. Says nothing about how abrupt the rise is.
    """
    final = values.iloc[-1]
    if final < ceiling + LEAST_RISE:
        return None
    first, last = (int(values.index[values > ceiling + share * (final - ceiling)][0]) for share in (0.1, 0.9))
    return first, last


def relative_width(rise: tuple[int, int]) -> float:
    """(step90 - step10) / step10; a rise from step 0 has none (infinite)."""
    return (rise[1] - rise[0]) / rise[0] if rise[0] else float("inf")
