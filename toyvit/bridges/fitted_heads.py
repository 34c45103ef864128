"""A head for a model that has none: a probe of its read-out, fitted to the pictures' classes."""

from __future__ import annotations

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.data.task import Task
from toyvit.errors import BadInput
from toyvit.model.mappings.assembly import Parts, assemble
from toyvit.model.taps import recording

N_FIT = 256  # training pictures
TOGETHER = 64  # pictures of a forward pass
PENALTY = 1e-3  # of the ridge, over the mean square of the read-out


def fit_head(parts: Parts, config: ModelConfig, task: Task) -> tuple[Tensor, Tensor]:
    """Weight (label model) and bias (label) of a ridge on the read-out of training pictures.

    To a one-hot class, less its mean, at a fixed penalty: in closed form, the same twice. BadInput
    where no class of the pictures is known.
    """
    batch = task.eval_batch("train", N_FIT, 0)
    asked = batch.target >= 0
    if not asked.any():
        raise BadInput("the model has no head, and of its pictures no class is known")
    n = config.stated("n_classes")
    empty = {**parts, "head.weight": torch.zeros(n, config.d_model)}
    model = assemble(empty, config)

    reads = []
    for images in batch.images[asked].split(TOGETHER):
        tap = recording(["readout"])
        with torch.no_grad():
            model(images.to(parts["patch.weight"].dtype), tap)
        reads.append(tap.values["readout"].double())
    read = torch.cat(reads)
    return fit_ridge(read, torch.nn.functional.one_hot(batch.target[asked], n).double())


def fit_ridge(read: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (label model) and bias (label) of least squares with a small penalty.

    >>> weight, bias = fit_ridge(torch.eye(2).double(), torch.eye(2).double())
    >>> (torch.eye(2) @ weight.T + bias).argmax(1)
    tensor([0, 1])
    """
    mean = read.mean(0)
    centred = read - mean
    gram = centred.T @ centred
    penalty = PENALTY * gram.diagonal().mean() * torch.eye(len(gram)).double()
    weight = torch.linalg.solve(gram + penalty, centred.T @ (answers - answers.mean(0))).T
    return weight.float(), (answers.mean(0) - weight @ mean).float()
