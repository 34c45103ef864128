"""Lenses: what the model would answer from the residual stream of each layer, at every token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import save
from torch import Tensor

from toyvit.config.whole_files import write_atomically
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.taps import untouched
from toyvit.runs.handle import Run
from toyvit.runs.records import check_home, hash_tensors, read_tensors
from toyvit.stats import kl_divergence
from toyvit.surroundings import leave_inference, pin_torch

RESIDUALS = ("blocks.*.resid_pre", "blocks.*.resid_post")
Residuals = Float[Tensor, "layer image token model"]
Logits = Float[Tensor, "layer image token label"]


@pin_torch()
def stack_residuals(model: ViT, trace: Mapping[str, Tensor]) -> Residuals:
    """The residual stream entering each block and, last, leaving the last one.

    `trace` has the values at `RESIDUALS`; the result has one layer more than the model.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model.forward import trace
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> stack_residuals(model, trace(model, torch.ones(6, 1, 8, 8), RESIDUALS)).shape
    torch.Size([3, 6, 5, 64])
    """
    return torch.stack(list_residuals(model, trace))


def list_residuals(
    model: ViT, trace: Mapping[str, Tensor]
) -> list[Float[Tensor, "image token model"]]:
    """The streams of `stack_residuals`, not copied."""
    n = model.config.n_layers
    entering = [trace[f"blocks.{layer}.resid_pre"] for layer in range(n)]
    return [*entering, trace[f"blocks.{n - 1}.resid_post"]]


@pin_torch()
def apply_logit_lens(model: ViT, stream: Residuals) -> Logits:
    """The final norm and the head at every layer and token, logits (nostalgebraist 2020).

    The last layer, at the token that is read out, is the model's answer exactly; under the mean
    read-out the answer is its mean over patches (but for `pooled`, whose norm is of the mean).

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> apply_logit_lens(ViT(config), torch.ones(3, 6, 5, 64)).shape
    torch.Size([3, 6, 5, 3])
    """
    with torch.no_grad():
        return _unembed(model, stream)


def _unembed(model: ViT, stream: Residuals) -> Logits:
    return model.head(model.ln_final(stream, untouched))


def _translate(
    stream: Residuals,
    matrix: Float[Tensor, "translated model to_model"],
    offset: Float[Tensor, "translated model"],
) -> Float[Tensor, "translated image token model"]:
    """h + h A + b at every layer but the last, which is left out."""
    moves = torch.einsum("litm,lmn->litn", stream[:-1], matrix)
    return stream[:-1] + moves + offset[:, None, None]


@dataclass(frozen=True)
class TunedLens:
    """A translator a layer, h + h A + b before the final norm and the head; the last has none.

    `step` is the checkpoint that it was fitted on, `checkpoint` the SHA-256 of its file, empty for
    a model of no run. Source: Belrose 2023, section 3.1.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> lens = TunedLens(torch.zeros(2, 64, 64), torch.zeros(2, 64), step=0)
    >>> lens(ViT(config), torch.ones(3, 6, 5, 64)).shape
    torch.Size([3, 6, 5, 3])
    """

    matrix: Float[Tensor, "layer model to_model"]
    offset: Float[Tensor, "layer model"]
    step: int
    checkpoint: str = ""

    def __call__(self, model: ViT, stream: Residuals) -> Logits:
        """Logits at every layer and token."""
        translated = _translate(stream, self.matrix, self.offset)
        return apply_logit_lens(model, torch.cat([translated, stream[-1:]]))

    def save(self, path: Path) -> None:
        """Write it as safetensors with a digest, which `load_lens` reads."""
        tensors = {"matrix": self.matrix, "offset": self.offset}
        facts = {"step": str(self.step), "checkpoint": self.checkpoint}
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        check = hash_tensors({name: value.numpy() for name, value in plain.items()}, facts)
        write_atomically(path, save(plain, facts | {"check": check}))


def load_lens(path: Path, model: ViT) -> TunedLens:
    """A saved lens; BadInput where the file holds none, not what was written, or another model's.

    One in a run's `lenses/` must be of a checkpoint of that run. Files without a digest, of version
    0.2 and before, are read, which is said.
    """
    tensors, facts = read_tensors(path)
    try:
        matrix, offset = (torch.from_numpy(tensors[name]) for name in ("matrix", "offset"))
        lens = TunedLens(matrix, offset, int(facts["step"]), facts.get("checkpoint", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} holds no tuned lens: {error}") from error
    if lens.checkpoint:
        check_home(path, lens.step, lens.checkpoint)

    shape = (model.config.n_layers, model.config.d_model, model.config.d_model)
    if tuple(lens.matrix.shape) != shape:
        raise BadInput(
            f"{path} is a lens of (layers, width, width) {tuple(lens.matrix.shape)},"
            f" this model is {shape}"
        )
    return lens


@pin_torch()
def fit_lens(
    model: ViT, stream: Residuals, step: int = 0, n_steps: int = 300, learning_rate: float = 2e-3
) -> TunedLens:
    """The tuned lens of least KL(final, lens) over all tokens of these pictures, nats.

    The final answer is each token's own. Starts at the logit lens and returns the best iterate of
    each layer, so that on these pictures no layer is worse than the logit lens. Full-batch Adam:
    the same twice.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> fit_lens(ViT(config), torch.ones(3, 6, 5, 64), n_steps=2).matrix.shape
    torch.Size([2, 64, 64])
    """
    stream = leave_inference(stream)
    n_layers = model.config.n_layers
    d = model.config.d_model
    final = apply_logit_lens(model, stream[-1:]).log_softmax(-1)
    matrix = torch.zeros(n_layers, d, d, requires_grad=True)
    offset = torch.zeros(n_layers, d, requires_grad=True)
    optimizer = torch.optim.Adam([matrix, offset], learning_rate)
    least = torch.full((n_layers,), math.inf)
    best = TunedLens(matrix.detach().clone(), offset.detach().clone(), step)

    for _ in range(n_steps + 1):
        answer = _unembed(model, _translate(stream, matrix, offset)).log_softmax(-1)
        distance = kl_divergence(answer, final).mean((1, 2))
        better = distance.detach() < least
        least = torch.where(better, distance.detach(), least)
        best.matrix[better] = matrix.detach()[better]
        best.offset[better] = offset.detach()[better]

        matrix.grad, offset.grad = torch.autograd.grad(distance.sum(), [matrix, offset])
        optimizer.step()
    return best


@pin_torch()
def fit_tuned_lens(
    run: Run | Path | str, step: int | None = None, images: int = 512, n_steps: int = 300
) -> tuple[TunedLens, Float[Tensor, "split lens layer"]]:
    """A tuned lens of one checkpoint, fitted on training pictures; and KL(final, lens), nats.

    Splits are train, on which no layer is worse than the logit lens, and test; lenses are the logit
    lens and the tuned one. The last layer is the answer itself: 0. BadInput for less than 1 image.
    """
    if images < 1:
        raise BadInput(f"--images must be at least 1, got {images}")

    run = Run.open(run)
    at = run.check_unclamped(step)
    model = run.bare_model(at)
    seeds = run.config.seeds
    splits = {"train": seeds.data, "test": seeds.measure}
    batches = [run.task.eval_batch(split, images, seed) for split, seed in splits.items()]

    streams = [stack_residuals(model, trace(model, batch.images, RESIDUALS)) for batch in batches]
    lens = fit_lens(model, streams[0], at, n_steps)
    lens = replace(lens, checkpoint=run.entries[at].sha256)
    return lens, torch.stack([_compare_lenses(model, lens, stream) for stream in streams])


def _compare_lenses(model: ViT, lens: TunedLens, stream: Residuals) -> Float[Tensor, "lens layer"]:
    """KL(final, lens) in nats, of the logit lens and of the tuned one."""
    answers = (apply_logit_lens(model, stream), lens(model, stream))
    return torch.stack([kl_to_final(logits).mean((1, 2)) for logits in answers])


def kl_to_final(logits: Float[Tensor, "layer *place label"]) -> Float[Tensor, " layer *place"]:
    """KL(final, lens) of every place's own final answer, nats: 0 at the last layer.

    >>> kl_to_final(torch.zeros(3, 6, 5, 4)).abs().max()
    tensor(0.)
    """
    return kl_divergence(logits.log_softmax(-1), logits[-1:].log_softmax(-1))


def find_decision_layer(answers: Int[Tensor, "layer image"]) -> Int[Tensor, " image"]:
    """The layer from which on the lens gives the last layer's answer.

    0 is the embedding, L, the number of layers, that only the last one gives it.

    >>> find_decision_layer(torch.tensor([[3, 1, 2], [3, 2, 1], [3, 2, 2]]))
    tensor([0, 1, 2])
    """
    agrees = (answers == answers[-1]).flip(0).cumprod(0)
    return len(answers) - agrees.sum(0)


def intersection_over_union(
    answer: Int[Tensor, "image patch"], truth: Int[Tensor, "image patch"], n_labels: int
) -> Float[Tensor, ""]:
    """Mean over labels of (patches that are and are called so) / (that are or are called so).

    0 to 1; labels that are neither there nor given anywhere are left out. For n labels in random
    places, equally often, 1 / (2 n - 1).

    >>> answer = torch.tensor([[0, 0, 1, 1]])
    >>> intersection_over_union(answer, torch.tensor([[0, 1, 1, 1]]), 2).round(decimals=3)
    tensor(0.5830, dtype=torch.float64)
    """
    labels = torch.arange(n_labels)[:, None, None]
    called = answer == labels
    right = truth == labels
    both = (called & right).sum((1, 2)).double()
    either = (called | right).sum((1, 2)).double()
    return (both / either)[either > 0].mean()
