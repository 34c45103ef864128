"""The optimisers of a run: what an update makes of gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn, optim

from toyvit.config import TrainConfig

Weights = Iterable[nn.Parameter]


def build_optimizer(model: nn.Module, config: TrainConfig) -> optim.Optimizer:
    """The run's optimiser on all parameters, fused.

    >>> type(build_optimizer(nn.Linear(2, 1), TrainConfig())).__name__
    'AdamW'
    """
    return _OPTIMIZERS[config.optimizer](model.parameters(), config)


def _build_adamw(weights: Weights, config: TrainConfig) -> optim.Optimizer:
    return optim.AdamW(
        weights,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        weight_decay=config.weight_decay,
        fused=True,
    )


def _build_adam(weights: Weights, config: TrainConfig) -> optim.Optimizer:
    """Without weight decay, of which TrainConfig takes none."""
    betas = (config.beta1, config.beta2)
    return optim.Adam(weights, lr=config.learning_rate, betas=betas, eps=config.epsilon, fused=True)


def _build_sgd(weights: Weights, config: TrainConfig) -> optim.Optimizer:
    """Weight decay is the gradient of its square: it passes through momentum."""
    return optim.SGD(
        weights,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        fused=True,
    )


_OPTIMIZERS: dict[str, Callable[[Weights, TrainConfig], optim.Optimizer]] = {
    "adamw": _build_adamw,
    "adam": _build_adam,
    "sgd": _build_sgd,
}
