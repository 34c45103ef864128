"""What a model does with a picture, as it is and under interventions: prediction, lens, attention.

It computes from the weights and writes nothing. One question at a time: what torch is set to
belongs to the process.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock

import torch
from torch import Tensor

from toyvit.clamps.patterns import apply_clamps
from toyvit.data.task import Batch, loss
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.model.options import allowed_keys
from toyvit.model.sites import select_sites
from toyvit.model.taps import Tap, recording, then, untouched
from toyvit.report.live.interventions import BLOCKS, HEADS, build_tap
from toyvit.report.live.questions import Picture, Question, read_question
from toyvit.report.live.shelf import RunShelf
from toyvit.report.page.looks import (
    COARSE,
    FINE,
    SITES,
    Look,
    Precision,
    count_bytes,
    describe_looks,
    read_answers,
    read_attention,
)
from toyvit.report.page.packing import ArrayStore
from toyvit.report.plain import Plain
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

MOST_MODELS = 8  # that are kept
MEAN_OF = 64  # test pictures that a mean ablation averages
MOST_BYTES = 4_000_000  # of attention that is sent finely
Values = dict[str, Tensor]


class Answers:
    """Answers to questions about runs of a shelf."""

    def __init__(self, shelf: RunShelf) -> None:
        self.shelf = shelf
        self.lock = Lock()
        self._load = lru_cache(MOST_MODELS)(load_model)
        self._average = lru_cache(MOST_MODELS)(self._average_heads)

    def look(self, plain: dict[str, object]) -> Plain:
        """The answer to a question in JSON; BadInput where it cannot be asked."""
        name = plain.get("run")
        if isinstance(name, bool) or not isinstance(name, int | str):
            raise BadInput("run must be the number or the name of a run")
        place = self.shelf.find(str(name))
        with self.lock, pin_torch():
            run = self.shelf.open(place)
            question = read_question(plain, run.config.model)
            run.check_step(question.step)
            return self.answer(run, question) | {"run": self.shelf.names[place]}

    def answer(self, run: Run, question: Question) -> dict[str, Plain]:
        """What the model says and sees before and after what the question changes."""
        batch = draw_picture(run, question.picture)
        model = self.dress(run, question.step, batch)
        means: Values = {}
        if question.heads and question.ablation == "mean":
            means = self._average(run, question.step)
        tap = build_tap(question, run.config.model, means, self.trace_source(run, question))

        is_small = count_bytes(run, FINE) <= MOST_BYTES
        precision = FINE if is_small else COARSE
        before, look_before = see(model, batch, untouched, precision)
        after, look_after = see(model, batch, tap, precision)
        store = ArrayStore()
        looks = describe_looks(run, batch, [look_before, look_after], precision, store)
        is_drawn = not isinstance(question.picture, int)
        return {
            "step": question.step,
            "picture": question.picture if isinstance(question.picture, int) else None,
            "before": before | ({"loss": None} if is_drawn else {}),
            "after": after | ({"loss": None} if is_drawn else {}),
            "looks": {"steps": [question.step] * 2, **looks},
            "arrays": list(store.texts),
        }

    def trace_source(self, run: Run, question: Question) -> Values:
        """What is patched in, as it is on its own picture."""
        if question.source is None:
            return {}
        layers = {layer for layer, _ in question.patched_heads}
        sites = [HEADS.format(layer) for layer in sorted(layers)]
        sites += [BLOCKS.format(layer) for layer in question.patched_blocks]
        batch = draw_picture(run, question.source)
        return trace(self.dress(run, question.step, batch), batch.images, sites) if sites else {}

    def dress(self, run: Run, step: int, batch: Batch) -> ViT:
        """The model of a step as it was trained, its weights read once."""
        bare = self._load(run, step)
        return apply_clamps(bare, run.config.train.clamps, step, batch.retrieval)

    def _average_heads(self, run: Run, step: int) -> Values:
        """What each head writes, mean over the first test pictures, token by token."""
        batch = run.batch("test", MEAN_OF)
        values = trace(self.dress(run, step, batch), batch.images, HEADS.format("*"))
        return {site: value.mean(0, keepdim=True) for site, value in values.items()}


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
