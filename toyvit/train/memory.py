"""How much memory a training needs at least, and whether the machine has it: asked beforehand."""

from __future__ import annotations

from toyvit.config import ModelConfig, RunConfig
from toyvit.errors import BadInput
from toyvit.model.offsets import count_offsets
from toyvit.model.options import OFFSET_GRIDS, READ_TOKENS, count_outputs
from toyvit.surroundings import read_free_memory

FLOAT = 4  # bytes
MOMENTS = {"adamw": 2, "adam": 2, "sgd": 0}  # that an optimiser keeps of each weight
# Of a token in a layer, in widths of the stream, that the backward pass keeps at the least: what
# the norm gives, its query, key and value. A row of each head's pattern comes on top.
ACTIVATIONS = 4


def check_memory(config: RunConfig) -> None:
    """BadInput where a training needs more memory than the machine has free."""
    needed = estimate_memory(config)
    free = read_free_memory()
    if needed > free:
        raise BadInput(
            f"this would need at least {needed / 1e9:,.1f} GB of memory, but {free / 1e9:,.1f} GB "
            "are free: make the model smaller (--model.d_model, --model.n_layers), or the batches "
            "(--train.batch_size, --train.n_validation)"
        )


def estimate_memory(config: RunConfig) -> int:
    """Bytes that the weights with their optimiser and the activations of a batch take at least.

    A training batch keeps the activations of every layer, the validation batch those of one.

    >>> from toyvit.data.task import resolve_config
    >>> from toyvit.recipes import RECIPES
    >>> 1e6 < estimate_memory(resolve_config(RECIPES["induction"]())) < 1e8
    True
    """
    model = config.model
    moments = MOMENTS[config.train.optimizer] + bool(config.train.momentum)
    weights = (2 + moments) * count_weights(model)  # itself, its gradient, its moments
    by_token = ACTIVATIONS * model.d_model + model.d_mlp + model.n_heads * model.n_tokens
    is_read = config.train.path == "read" and model.readout in READ_TOKENS
    n_whole = model.n_layers - is_read  # blocks of which every token is formed
    of_training = config.train.batch_size * (n_whole * by_token + model.d_patch)
    of_validation = config.train.n_validation * (min(1, n_whole) * by_token + model.d_patch)
    return FLOAT * (weights + model.n_tokens * max(of_training, of_validation))


def count_weights(model: ModelConfig) -> int:
    """Numbers in the matrices of a model with learned positions; biases and norms are left out.

    Those of relative positions are counted on top.
    """
    d = model.d_model
    of_layer = 4 * d * d + 2 * d * model.d_mlp
    if lay_out := OFFSET_GRIDS.get(model.positions):
        of_layer += model.n_heads * count_offsets(lay_out(model), model.n_prefix)
    return model.n_layers * of_layer + d * (model.d_patch + model.n_tokens + count_outputs(model))
