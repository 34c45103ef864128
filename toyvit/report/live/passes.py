"""One pass of a model over one picture: how both are made, and what is told of it."""

from __future__ import annotations

import torch

from toyvit.data.task import Batch, loss
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.model.options import allowed_keys
from toyvit.model.sites import select_sites
from toyvit.model.taps import Tap, recording, then
from toyvit.report.live.question import Picture
from toyvit.report.page.looks import SITES, Look, Precision, read_answers, read_attention
from toyvit.report.plain import Plain
from toyvit.runs.handle import Run


def load_model(run: Run, step: int) -> ViT:
    """The bare model of a step."""
    return run.bare_model(step)


def draw_picture(run: Run, picture: Picture) -> Batch:
    """A batch of one picture: of the test split, or of these pixels, whose answer nobody knows.

    BadInput past the end of the split; DataMissing where the pictures are not here.
    """
    if isinstance(picture, int):
        return run.task.draw_batch(run.config.seeds.measure, "test", [picture])
    config = run.config.model
    shape = (1, int(config.stated("n_channels")), *config.stated("image_size"))
    images = torch.tensor(picture).view(shape)
    return Batch(images=images, target=torch.zeros_like(run.batch("test", 1).target))


def see(model: ViT, batch: Batch, tap: Tap, precision: Precision) -> tuple[dict[str, Plain], Look]:
    """What a model answers to a picture under a tap, in numbers, and what the page draws of it.

    `chances` are probabilities of classes (label), of every patch (patch label) where each has an
    answer, and nothing where answers are numbers; `loss` is None where nothing is asked.
    """
    record = recording(select_sites(SITES, model.config))
    logits = run_model(model, batch.images, then(tap, record))
    is_class = not batch.target.is_floating_point()
    chances: Plain = logits[0].softmax(-1).tolist() if is_class else None
    error = loss(logits, batch.target)
    look = read_attention(record.values, allowed_keys(model.config), precision)
    look |= read_answers(model, batch, record.values)
    says: dict[str, Plain] = {
        "chances": chances,
        "loss": error.item() if error.isfinite() else None,
    }
    return says, look
