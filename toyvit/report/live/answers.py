"""What a model does with a picture, as it is and under interventions: prediction, lens, attention.

It computes from the weights and writes nothing. Questions are for one thread: what torch is set to
belongs to the process.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from toyvit.clamps.patterns import apply_clamps
from toyvit.data.task import Batch
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.taps import untouched
from toyvit.report.live.interventions import BLOCKS, HEADS, build_tap
from toyvit.report.live.passes import draw_picture, load_model, see
from toyvit.report.live.question import Question, read_question
from toyvit.report.live.shelf import RunShelf
from toyvit.report.page.looks import COARSE, FINE, count_bytes, describe_looks
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
        self._load = lru_cache(MOST_MODELS)(load_model)
        self._average = lru_cache(MOST_MODELS)(self._average_heads)

    def look(self, plain: dict[str, object]) -> Plain:
        """The answer to a question in JSON; BadInput where it cannot be asked."""
        name = plain.get("run")
        if isinstance(name, bool) or not isinstance(name, int | str):
            raise BadInput("run must be the number or the name of a run")
        place = self.shelf.find(str(name))
        run = self.shelf.open(place)
        question = read_question(plain, run.config.model)
        run.check_step(question.step)
        return self.answer(run, question) | {"run": self.shelf.names[place]}

    @pin_torch()
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
