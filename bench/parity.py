"""`python -m bench.parity`: how far models of other libraries are from their imports, as a table.

Every kind that the tests compare, each weight drawn: the largest difference in the answer and in
any block, over the largest entry there. What is not installed is left out, which is said.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import toyvit.torchvision_guard  # noqa: F401

# isort: split
import torch

from tests.model.foreign import SIZES
from tests.model.test_families import KINDS, compare_timm, compare_torchvision
from tests.peers import test_hugging_face
from toyvit.cli.output import align_rows

HEADER = ("library", "kind", *SIZES)


def list_rows() -> Iterator[tuple[str, ...]]:
    """Library, kind, and the error in each precision."""
    for kind in KINDS:
        yield "timm", kind, *(f"{compare_timm(kind, size):.1e}" for size in SIZES)
    yield "torchvision", "plain", *(f"{compare_torchvision(size):.1e}" for size in SIZES)
    if find_spec("transformers") is None:
        return
    import transformers

    for kind in test_hugging_face.KINDS:
        errors = [test_hugging_face.compare(transformers, kind, size) for size in SIZES]
        yield "Hugging Face", kind, *(f"{error:.1e}" for error in errors)


def main() -> None:
    """Print the table, and what is missing."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = list(list_rows())
    print(align_rows([HEADER, *rows]))
    print("bars:", ", ".join(f"{size} {bar:g}" for size, (_, bar) in SIZES.items()))
    if find_spec("transformers") is None:
        print("transformers is not installed: its models are left out (extra peers)")


if __name__ == "__main__":
    main()
