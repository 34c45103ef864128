"""Heads held to a hand-built pattern or output while a model trains (after Singh 2024).

Causal claims about learning: what would be learned if this head did that from the start? A clamp of
`PATTERNS` replaces a head's attention pattern in the forward pass (before any dropout), so that
nothing flows back to its queries and keys. `copy` and `carry` are put into the weights
(`toyvit/clamps/weight_clamps.py`): the head writes what it attends to, as it is or into directions
of its own. Checkpoints hold the bare model; `apply_clamps` gives the model as it was trained, and
that is what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import PATHS, Clamp, ModelConfig, TrainConfig
from toyvit.data.task import Retrieval
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.model.shapes import AllowedKeys, Logits, Residual
from toyvit.model.taps import Tap, editing, then, untouched

Pattern = Float[Tensor, "image head query key"]


def previous(
    pattern: Pattern, allowed: AllowedKeys, n_prefix: int, retrieval: Retrieval | None
) -> Float[Tensor, "query key"]:
    """Every patch attends to the one before it in raster order.

    The first patch, CLS and registers attend to themselves.
    """
    keys = torch.arange(len(allowed), device=pattern.device)
    keys[n_prefix + 1 :] -= 1
    return F.one_hot(keys, len(allowed)).to(pattern.dtype)


def identity(
    pattern: Pattern, allowed: AllowedKeys, n_prefix: int, retrieval: Retrieval | None
) -> Float[Tensor, "query key"]:
    """Every token attends to itself."""
    return torch.eye(len(allowed), dtype=pattern.dtype, device=pattern.device)


def uniform(
    pattern: Pattern, allowed: AllowedKeys, n_prefix: int, retrieval: Retrieval | None
) -> Float[Tensor, "query key"]:
    """Every token attends evenly to all that the mask allows."""
    share = allowed.to(pattern.dtype).to(pattern.device)
    return share / share.sum(-1, keepdim=True)


def match(
    pattern: Pattern, allowed: AllowedKeys, n_prefix: int, retrieval: Retrieval | None
) -> Float[Tensor, "image 1 query key"]:
    """The query cell attends to the label that answers, every other token to itself.

    ValueError where the model is given other pictures than `retrieval` is about.
    """
    assert retrieval is not None
    n_images = len(pattern)
    if len(retrieval.target) != n_images:
        raise ValueError(
            f"the clamp 'match' knows {len(retrieval.target)} pictures,"
            f" the model was given {n_images}"
        )

    matched = identity(pattern, allowed, n_prefix, retrieval).repeat(n_images, 1, 1, 1)
    queries = retrieval.query.to(pattern.device) + n_prefix
    keys = retrieval.target.to(pattern.device) + n_prefix
    attention = F.one_hot(keys, len(allowed)).to(pattern.dtype)
    matched[torch.arange(n_images), 0, queries] = attention
    return matched


def frozen(
    pattern: Pattern, allowed: AllowedKeys, n_prefix: int, retrieval: Retrieval | None
) -> Pattern:
    """The head's own pattern, taken as given: queries and keys stop learning, nothing else."""
    return pattern.detach()


# (pattern so far, what the mask allows, tokens before the patches, retrieval) -> what is held.
PATTERNS: dict[str, Callable[[Tensor, Tensor, int, Retrieval | None], Tensor]] = {
    "previous": previous,
    "match": match,
    "uniform": uniform,
    "identity": identity,
    "frozen": frozen,
}
NEED_PAIRS = ("match",)
CLAMPS = (*PATTERNS, "copy", "carry")


def active_clamps(clamps: Sequence[str], step: int) -> list[Clamp]:
    """The clamps that hold a model after `step` updates.

    >>> [str(clamp) for clamp in active_clamps(["0.1:previous", "1:copy@50"], step=49)]
    ['0.1:previous']
    """
    return [clamp for clamp in map(Clamp.parse, clamps) if step >= clamp.start]


def needs_retrieval(clamps: Sequence[str]) -> bool:
    """Whether some clamp has to know where each picture's match is.

    >>> needs_retrieval(["0.1:previous"]), needs_retrieval(["1.0:match@50"])
    (False, True)
    """
    return any(Clamp.parse(text).what in NEED_PAIRS for text in clamps)


def choose_path(config: TrainConfig) -> str:
    """How a training computes its logits, a key of `PATHS`.

    BadInput for the `read` path under a clamp that holds a pattern, which it forms for one token.

    >>> choose_path(TrainConfig()), choose_path(TrainConfig(clamps=("0.1:previous",)))
    ('read', 'full')
    """
    clamped = [text for text in config.clamps if Clamp.parse(text).what in PATTERNS]
    if config.path is None:
        return "full" if clamped else "read"
    if choose(config.path, PATHS, "train.path") == "read" and clamped:
        raise BadInput(f"train.path is 'read', but the clamp {clamped[0]!r} needs 'full'")
    return config.path


def build_clamp_tap(
    clamps: Sequence[str], step: int, config: ModelConfig, retrieval: Retrieval | None
) -> Tap:
    """The tap that puts the patterns active at `step` in place; `untouched` where none is.

    Of two clamps of one head the later in the list counts. `retrieval` is that of the pictures that
    the model will be given, needed by `match` only.
    """
    by_layer: dict[int, list[Clamp]] = {}
    for clamp in active_clamps(clamps, step):
        if clamp.what in PATTERNS:
            by_layer.setdefault(clamp.layer, []).append(clamp)
    if not by_layer:
        return untouched

    allowed = allowed_keys(config)

    def edit(clamps_here: list[Clamp], pattern: Pattern) -> Pattern:
        new = pattern.clone()
        for clamp in clamps_here:
            build = PATTERNS[clamp.what]
            new[:, clamp.heads] = build(
                pattern[:, clamp.heads], allowed, config.n_prefix, retrieval
            )
        return new

    sites = {layer: f"blocks.{layer}.attn.pattern" for layer in by_layer}
    return editing({sites[layer]: partial(edit, here) for layer, here in by_layer.items()})


class ClampedViT(ViT):
    """A model under clamps.

    Every forward pass, whoever makes it, goes through `clamp_tap` before it reaches the caller's
    tap.
    """

    clamp_tap: Tap = untouched

    def answer_from(self, x: Residual, first: int) -> Logits:
        return self.unembed(self.run_blocks(x, first))  # a clamp is a tap

    def run_blocks(
        self, x: Tensor, first: int = 0, tap: Tap = untouched, stop: int | None = None
    ) -> Residual:
        return super().run_blocks(x, first, then(self.clamp_tap, tap), stop)


def apply_clamps(model: ViT, clamps: Sequence[str], step: int, retrieval: Retrieval | None) -> ViT:
    """The model as it was trained at `step`: a copy under the clamps, itself where none is active.

    `retrieval` is that of the pictures that it will be shown; with `match` it can be shown no
    others, and without a retrieval `match` is BadInput.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> apply_clamps(model, ["0.0:previous@50"], 49, None) is model
    True
    >>> type(apply_clamps(model, ["0.0:previous@50"], 50, None)).__name__
    'ClampedViT'
    """
    tap = build_clamp_tap(clamps, step, model.config, retrieval)
    if tap is untouched:
        return model
    if retrieval is None and any(clamp.what in NEED_PAIRS for clamp in active_clamps(clamps, step)):
        raise BadInput(
            "the run was trained under the clamp 'match', but some of these pictures have no match:"
            " another --split"
        )

    clamped = ClampedViT(model.config)
    clamped.load_state_dict(model.state_dict())
    clamped.clamp_tap = tap
    return clamped.eval()
