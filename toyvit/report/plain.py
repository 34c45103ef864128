"""Records of the report as plain JSON."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
from numpy.typing import NDArray

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def to_plain(value: object, digits: int | None = None) -> Plain:
    """Plain JSON: records as objects with a `kind`, arrays as lists, NaN and infinity as null.

    Numbers of arrays as they are, or with so many significant digits.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: to_plain(getattr(value, part.name), digits) for part in fields(value)}
        return {"kind": type(value).__name__, **parts}
    if isinstance(value, dict):
        return {str(key): to_plain(part, digits) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return _list_numbers(value, digits)
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, list | tuple):
        return [to_plain(part, digits) for part in value]
    if value is None or isinstance(value, bool | int | str):
        return value

    if isinstance(value, float):
        return value if np.isfinite(value) else None
    raise TypeError(f"{type(value).__name__} has no place in a figure")


def _list_numbers(values: NDArray[np.generic], digits: int | None) -> Plain:
    """An array as lists, rounded, with null for what is no number."""
    if not np.issubdtype(values.dtype, np.floating):
        return to_plain(values.tolist())
    if digits is not None:
        values = round_digits(values.astype(np.float64), digits)
    plain: Plain = values.tolist()
    return plain if np.isfinite(values).all() else to_plain(plain)


def round_digits(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """Numbers with so many significant digits.

    >>> round_digits(np.array([12345.0, 0.0012345, 0.0]), 3).tolist()
    [12300.0, 0.00123, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(values)))
    scale = 10.0 ** np.where(np.isfinite(places), places, 0)
    return np.asarray(np.round(values * scale) / scale)
