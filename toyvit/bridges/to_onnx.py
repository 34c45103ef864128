"""`--to onnx`: the model as a graph, with the logits and the values at some sites as outputs."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from toyvit.bridges.exported import Exported
from toyvit.bridges.self_descriptions import KEY
from toyvit.bridges.to_torch import write_facts
from toyvit.config.whole_files import write_atomically
from toyvit.errors import NotInstalled
from toyvit.model import ViT
from toyvit.model.sites import list_sites, rename_site, select_sites
from toyvit.model.taps import recording

if TYPE_CHECKING:
    from toyvit.bridges.exporting import ExportOptions

MODEL = "model.onnx"
NEEDED = ("onnx", "onnxscript")
LOGITS = "logits"
N_EXAMPLES = 2  # one would be taken for a fixed number of pictures


class Tapped(nn.Module):
    """A model whose outputs are the logits and the values at some sites."""

    def __init__(self, model: ViT, sites: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.tapped = tuple(sites)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        tap = recording(self.tapped, detach=False)
        logits = self.model(images, tap)
        return logits, *(tap.values[site] for site in self.tapped)


def write_onnx(folder: Path, exported: Exported, options: ExportOptions) -> list[str]:
    """`model.onnx` for any number of pictures, and `model.json`, which names its outputs.

    BadInput for an unknown site; NotInstalled without the packages of the extra `onnx`.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise NotInstalled(
            f"--to onnx needs the package{'s' * (len(missing) > 1)} {' and '.join(missing)}:"
            " pip install 'toyvit[onnx]'"
        )
    selected = map(rename_site, select_sites(options.sites, exported.config))
    sites = [site for site in dict.fromkeys(selected) if site != LOGITS]
    outputs = {site: list_sites(exported.config)[site].axes for site in (LOGITS, *sites)}
    config = exported.config
    shape = (N_EXAMPLES, config.stated("n_channels"), *config.stated("image_size"))
    with _silence():
        # Strict: read off the code, so that the number of pictures stays free.
        program = torch.export.export(
            Tapped(exported.model, sites).eval(),
            (torch.zeros(shape),),
            dynamic_shapes={"images": {0: torch.export.Dim("image")}},
            strict=True,
        )
        graph = torch.onnx.export(
            program, input_names=["images"], output_names=list(outputs), verbose=False
        )
    assert graph is not None
    write_atomically(folder / MODEL, _encode(graph, exported))
    write_facts(folder, exported, outputs=outputs)
    return []


def _encode(graph: torch.onnx.ONNXProgram, exported: Exported) -> bytes:
    """The file, with what it says of itself and without where this machine has its sources."""
    proto = graph.model_proto
    for part in (proto.graph, *proto.functions):
        for item in (part, *part.node, *part.value_info):
            item.ClearField("metadata_props")
            item.ClearField("doc_string")
    for item in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        item.ClearField("metadata_props")
    proto.metadata_props.add(key=KEY, value=json.dumps(exported.facts))
    return proto.SerializeToString(deterministic=True)


@contextmanager
def _silence() -> Iterator[None]:
    """Without what torch and onnxscript say of their own work."""
    names = ("torch.onnx", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
