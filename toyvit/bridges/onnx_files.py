"""Weights of an ONNX file that PyTorch has written, under the names that they had in the module.

Such a file has lost the names of matrices, and of what was folded into constants; the nodes that
read them are still called by their module: `/encoder/layer.0/mlp/fc1/MatMul`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.errors import BadInput, escape_text

ANONYMOUS = "onnx::"
Values = NDArray[np.generic]
Arrays = dict[str, Values]


class Node(Protocol):
    """What is read of a node of the graph."""

    name: str
    op_type: str
    input: Sequence[str]


class Tensors(Protocol):
    """What is read of a tensor of the graph."""

    name: str


class Graph(Protocol):
    """What is read of a graph."""

    node: Sequence[Node]
    initializer: Sequence[Tensors]


def read_onnx(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors of an ONNX file by name; BadInput where it is none, or the reader is not here.

    The matrix of a node `/a/b/MatMul` is `a.b.weight`, its rows the outputs. Nameless tensors of
    three axes that nodes of one module read are the positions of its tokens, cut in two as Hugging
    Face's models do: `a.position_embeddings`, CLS first.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise BadInput(f"{path} needs the package onnx: pip install 'toyvit[onnx]'") from None
    try:
        graph: Graph = onnx.load_model_from_string(content).graph
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    except Exception as error:  # whatever a damaged file does to its reader
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise BadInput(f"{path} cannot be read as ONNX: {escape_text(why)}") from None

    named = {name: values for name, values in arrays.items() if not name.startswith(ANONYMOUS)}
    named |= _name_matrices(graph, arrays) | _join_positions(graph, arrays)
    floats = {name: values for name, values in named.items() if values.dtype.kind == "f"}
    return {name: torch.from_numpy(values.copy()) for name, values in floats.items()}


def _name_matrices(graph: Graph, arrays: Arrays) -> Arrays:
    named = {}
    for node in graph.node:
        if node.op_type == "MatMul" and len(node.input) == 2 and node.input[1] in arrays:
            module = _name_module(node.name)
            named[f"{module}.weight"] = arrays[node.input[1]].T
    return named


def _join_positions(graph: Graph, arrays: Arrays) -> Arrays:
    parts: dict[str, list[Values]] = {}
    for node in graph.node:
        for name in node.input:
            if name.startswith(ANONYMOUS) and name in arrays and arrays[name].ndim == 3:
                parts.setdefault(_name_module(node.name), []).append(arrays[name])
    joined = {}
    for module, pieces in parts.items():
        pieces.sort(key=lambda piece: piece.shape[1])
        joined[f"{module}.position_embeddings"] = np.concatenate(pieces, axis=1)
    return joined


def _name_module(node: str) -> str:
    """The module that a node is of: `/a/b/MatMul` is of `a.b`."""
    return node.strip("/").rpartition("/")[0].replace("/", ".")
