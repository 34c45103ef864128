"""A run that goes on beyond its end: what it may be, and what it writes down."""

from __future__ import annotations

import logging
from dataclasses import replace

from toyvit.config import RunConfig, find_rate_difference
from toyvit.errors import BadInput
from toyvit.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def check_same_or_longer(folder: RunFolder, config: RunConfig) -> None:
    """BadInput unless the config is the folder's, or the same with more steps and the same rates.

    Then what is there is the beginning of the longer run, to the bit.
    """
    train = folder.read_config().train
    steps = config.train.steps
    folder.check_same(replace(config, train=replace(config.train, steps=train.steps)), config)
    if steps < train.steps:
        raise BadInput(
            f"{folder.path} is a run of {train.steps} steps, which cannot become one of {steps}: "
            f"give --train.steps {train.steps} or more, or another --name"
        )
    step = find_rate_difference(train, config.train)
    if step is not None:
        raise BadInput(
            f"{folder.path} cannot go on to step {steps}: under decay {train.decay!r} a run of so "
            f"many steps has other learning rates from step {step} on; train it under another "
            "--name"
        )


def lengthen(folder: RunFolder, steps: int) -> None:
    """Let the run have so many steps, where it has fewer, and say so."""
    before = folder.read_config().train.steps
    if steps > before:
        folder.lengthen(steps)
        logger.info(
            "%s goes on to step %d: up to step %d its checkpoints stay those of before",
            folder.path,
            steps,
            before,
        )
