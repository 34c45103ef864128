"""The forward pass that serves all analyses of a checkpoint, and what it asks of the machine."""

from __future__ import annotations

import copy
from collections.abc import Collection
from contextlib import suppress

import torch
from torch import Tensor

from toyvit.analyses.analysis import Pass
from toyvit.config import ModelConfig
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.model.sites import select_sites
from toyvit.model.taps import recording
from toyvit.surroundings import read_free_memory

FLOAT = 4  # bytes
STREAMS = 3  # a layer keeps at the least: what enters it, what attention adds, the values


class _Complete(Exception):
    """All that is wanted of a pass is recorded."""


class _stopping(recording):
    """`recording`, which ends the pass behind the last site: what comes after is never formed."""

    def __call__(self, site: str, value: Tensor, /) -> Tensor:
        value = super().__call__(site, value)
        if len(self.values) == len(self.sites):
            raise _Complete
        return value


def run_pass(model: ViT, images: Tensor, sites: Collection[str], device: str = "cpu") -> Pass:
    """Values at the sites, or at those that patterns name, not copied: analyses only read.

    The pass is run no further than they need. On an accelerator it is run there and its values are
    brought back: what reads them is of one kind, and gives the numbers of the processor to the
    rounding of the pass.
    """
    if not sites:
        return Pass({})
    tap = _stopping(select_sites(sites, model.config), detach=False)
    if device != "cpu":
        model = copy.deepcopy(model).to(device)
        images = images.to(device)

    with suppress(_Complete):
        run_model(model, images, tap)
    if device == "cpu":
        return Pass(tap.values)
    return Pass({site: value.cpu() for site, value in tap.values.items()})


def list_devices() -> list[str]:
    """The devices of this machine on which a pass can be run."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return ["cpu", *(name for name, is_there in there.items() if is_there)]


def check_device(device: str, jobs: int) -> None:
    """BadInput for a device that is not here, and for several workers on one accelerator."""
    choose(device, ("cpu", "cuda", "mps"), "--device")
    here = list_devices()
    if device not in here:
        raise BadInput(f"--device {device} is not on this machine: allowed are {', '.join(here)}")
    if device != "cpu" and jobs > 1:
        raise BadInput(f"--jobs {jobs} is for --device cpu: on {device} one process measures")


def check_room(config: ModelConfig, n_images: int, n_layers: int) -> None:
    """BadInput where so many pictures and their values in so many layers need more than is free.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> check_room(config, 512, config.n_layers)
    """
    pixels = config.n_patches * config.d_patch
    of_layer = STREAMS * config.d_model + config.n_heads * config.n_tokens
    needed = FLOAT * n_images * (pixels + n_layers * config.n_tokens * of_layer)
    free = read_free_memory()
    if needed > free:
        most = max(2, n_images * free // needed)
        raise BadInput(
            f"--images {n_images:,} would need at least {needed / 1e9:,.1f} GB of memory, but "
            f"{free / 1e9:,.1f} GB are free: about {most:,} fit"
        )
