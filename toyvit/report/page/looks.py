"""What a model sees and says at every checkpoint, for the page's viewers: attention and lens.

Attention patterns are kept as logarithms of shares, in whole numbers of a stated unit; attention
scores follow from them and from what each query's scores add up to, where a pattern is the softmax
of its scores, which a clamped one is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.analyses.lens import read_lens
from toyvit.data.task import Batch
from toyvit.errors import BadInput
from toyvit.instruments.lenses import RESIDUALS, list_residuals
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.options import allowed_keys, count_outputs
from toyvit.report.emoji import find_emoji
from toyvit.report.page.measured_curves import thin_steps
from toyvit.report.page.packing import TEXT, ArrayStore
from toyvit.report.pictures import find_black, picture_of
from toyvit.report.plain import Plain
from toyvit.runs.handle import Run

SITES = ("blocks.*.attn.pattern", "blocks.*.attn.attn_scores", *RESIDUALS)
Look = dict[str, NDArray[np.generic]]
MEANT = 256  # test pictures that say what a place shows most often
CLOSE = 1e-3  # a pattern this near to the softmax of its scores is that


@dataclass(frozen=True)
class Precision:
    """How finely logarithms of shares are kept: in whole numbers of a unit (nats)."""

    kind: type[np.unsignedinteger]
    unit: float

    @property
    def most(self) -> int:
        return int(np.iinfo(self.kind).max)


FINE = Precision(np.uint16, 1 / 2048)  # shares to 0.02 %, down to e^-32
COARSE = Precision(np.uint8, log(2) / 12)  # to 3 %, down to 4e-7
# Pictures, precision and the fewest checkpoints that are worth it: the first that fits is taken.
PLANS = ((8, FINE, 60), (8, COARSE, 40), (4, COARSE, 24), (2, COARSE, 12), (1, COARSE, 1))


@dataclass(frozen=True)
class Plan:
    """What of a run is shown: so many pictures, these checkpoints, this precision."""

    pictures: int
    steps: tuple[int, ...]
    precision: Precision


def choose_plan(run: Run, room: float) -> Plan | None:
    """The most that fits into so many bytes of the page; None where no checkpoint does."""
    steps = np.array(run.steps)
    for pictures, precision, fewest in PLANS:
        left = room / TEXT / pictures - count_pixels(run)
        most = int(left / count_bytes(run, precision))
        if most >= min(fewest, len(steps)):
            chosen = steps[thin_steps(len(steps), most)] if most > 1 else steps[-1:]
            return Plan(pictures, tuple(chosen.tolist()), precision)
    return None


def count_pixels(run: Run) -> int:
    """Bytes of one picture itself."""
    height, width = run.config.model.stated("image_size")
    return int(height * width * run.config.model.stated("n_channels"))


def count_bytes(run: Run, precision: Precision) -> int:
    """Bytes of one picture at one checkpoint, before they are packed."""
    config = run.config.model
    heads = config.n_layers * config.n_heads
    allowed = int(allowed_keys(config).sum())
    attention = heads * (allowed * np.dtype(precision.kind).itemsize + 4 * config.n_tokens)
    lens = (config.n_layers + 1) * (config.n_tokens + 1) * 3
    return attention + lens + 4 * count_outputs(config)


def collect_looks(run: Run, store: ArrayStore, room: float, report: Callable[[str], None]) -> Plain:
    """Pictures of a run and what its model makes of them, checkpoint by checkpoint.

    Checkpoints that are damaged are reported and left out. None where nothing of it fits;
    DataMissing where the pictures are not here.
    """
    plan = choose_plan(run, room) if run.entries else None
    if plan is None:
        return None
    batch = run.batch("test", plan.pictures)
    looks = dict(look_at_all(run, plan, batch, report))
    if not looks:
        return None
    described = describe_looks(run, batch, list(looks.values()), plan.precision, store)
    masks = describe_masks(run, batch)
    return {"steps": list(looks), "all": len(run.steps), "masks": masks, **described}


def describe_looks(
    run: Run, batch: Batch, looks: Sequence[Look], precision: Precision, store: ArrayStore
) -> dict[str, Plain]:
    """Looks at the pictures of a batch, stacked, with what is needed to draw them."""
    config = run.config.model
    allowed = allowed_keys(config).numpy().astype(np.uint8)
    says: dict[str, Plain] = {}
    for name in looks[0]:
        says[name] = store.add(np.stack([look[name] for look in looks]))
    rows, columns = config.grid

    return {
        "pictures": store.add(draw_pictures(batch.images)),
        "tokens": config.n_tokens,
        "prefix": name_prefix(run),
        "grid": [rows, columns],
        "layers": config.n_layers,
        "heads": config.n_heads,
        "allowed": store.add(allowed),
        "unit": precision.unit,
        "most": precision.most,
        "digits": 3 if precision is FINE else 1,
        "readout": config.readout,
        "marks": mark_retrieval(run, batch),
        "answers": describe_answers(run, batch, store),
        **says,
    }


def look_at_all(
    run: Run, plan: Plan, batch: Batch, report: Callable[[str], None]
) -> Iterator[tuple[int, Look]]:
    """What a model does with the pictures at each checkpoint; one that is damaged is left out."""
    model = ViT(run.config.model)
    allowed = allowed_keys(run.config.model)
    for step in plan.steps:
        try:
            trained = run.model(step, batch, into=model)
        except BadInput as error:
            report(str(error))
            continue
        values = trace(trained, batch.images, SITES)
        answers = read_answers(trained, batch, values)
        yield step, read_attention(values, allowed, plan.precision) | answers


def read_attention(values: dict[str, Tensor], allowed: Tensor, precision: Precision) -> Look:
    """Patterns (picture layer head place), what each query's scores add up to, and whether a head's
    pattern is the softmax of its scores.

    Places are pairs of query and key that the mask allows, row by row.
    """
    patterns = _stack(values, "pattern")
    scores = _stack(values, "attn_scores")
    sums = scores.logsumexp(-1)
    is_own = (scores.softmax(-1) - patterns).abs().amax((0, -1, -2)) < CLOSE
    nats = -patterns[..., allowed].clamp(min=1e-30).log() / precision.unit
    return {
        "patterns": nats.round().clamp(max=precision.most).numpy().astype(precision.kind),
        "sums": sums.numpy().astype(np.float32),
        "own": is_own.numpy().astype(np.uint8),
    }


def _stack(values: dict[str, Tensor], site: str) -> Tensor:
    """A site of all blocks: (picture layer head query key)."""
    layers = [values[name] for name in values if name.endswith(f".{site}")]
    return torch.stack(layers, dim=1)


@torch.no_grad()
def read_answers(model: ViT, batch: Batch, values: dict[str, Tensor]) -> Look:
    """What the logit lens answers: the likeliest class and its probability (picture layer place),
    and the probabilities of all classes where the model reads out its answer, after the last layer.

    Places are the tokens, then the read-out itself. Nothing where answers are no classes.
    """
    if batch.target.is_floating_point():
        return {}
    tops = []
    for stream in list_residuals(model, values):
        answers = model.unembed_tokens(stream).softmax(-1)
        readout = read_lens(model, stream).softmax(-1)
        if readout.ndim == 2:  # one answer a picture
            answers = torch.cat([answers, readout[:, None]], dim=1)
        tops.append(answers.max(-1))

    chances = torch.stack([top.values for top in tops], dim=1)
    classes = torch.stack([top.indices for top in tops], dim=1)
    return {
        "classes": classes.numpy().astype(np.uint16),
        "chances": (chances * 255).round().numpy().astype(np.uint8),
        "final": readout.reshape(len(readout), -1).numpy().astype(np.float32),
    }


def draw_pictures(images: Tensor) -> NDArray[np.uint8]:
    """Pictures as bytes (picture row column colour), one colour where they are grey."""
    black = find_black(images)
    pictures = []
    for image in images:
        values, scale = picture_of(image, black)
        low, high = (scale.low, scale.high) if scale else (0.0, 1.0)
        shares = ((values - low) / (high - low)).clip(0, 1)
        pictures.append(shares if shares.ndim == 3 else shares[..., None])
    return (np.stack(pictures) * 255).round().astype(np.uint8)


def name_prefix(run: Run) -> list[Plain]:
    """The tokens before the patches."""
    config = run.config.model
    names: list[Plain] = ["CLS"] if config.cls_token else []
    return [*names, *(f"register {place}" for place in range(config.n_registers))]


def mark_retrieval(run: Run, batch: Batch) -> Plain:
    """The tokens of the query and of its match (picture), where the task is to find it."""
    if batch.retrieval is None:
        return None
    n = run.config.model.n_prefix
    query: list[Plain] = (batch.retrieval.query + n).tolist()
    match: list[Plain] = (batch.retrieval.target + n).tolist()
    return {"query": query, "match": match}


def describe_answers(run: Run, batch: Batch, store: ArrayStore) -> Plain:
    """Names of classes, emoji and pictures of them where there are any, and the right answers.

    None where answers are no classes.
    """
    if batch.target.is_floating_point():
        return None
    task = run.task
    n = count_outputs(run.config.model)
    names = [str(name) for name in task.class_names or range(n)]
    symbols = None
    if task.class_images is not None:
        images = task.class_images()[:, None]
        symbols = store.add(draw_pictures(images)[..., 0])
    right: list[Plain] = batch.target.reshape(len(batch.target), -1).tolist()
    return {
        "names": list(names),
        "emoji": [find_emoji(run.config.task.data_set, name) for name in names],
        "symbols": symbols,
        "right": right,
    }


def describe_masks(run: Run, batch: Batch) -> Plain:
    """The commonest class of each patch in test pictures: all that who knows places can say.

    None where the answers are not what every patch shows.
    """
    if batch.objects is None or batch.target.ndim != 2:
        return None
    target = run.batch("test", MEANT).target
    labels: list[Plain] = target.mode(0).values.tolist()
    return {"commonest": labels}
