"""TensorBoard files of a run, derived whole from its metrics and its measures: writing them again doubles nothing."""

from __future__ import annotations

import fcntl
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from einops import rearrange
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import custom_scalars, image, text

from toyvit.config import learning_rate
from toyvit.data.task import build_task
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.report import pictures
from toyvit.report.figures import schedule_events
from toyvit.report.summary import WATCHED, describe_transition
from toyvit.runs.folder import RunFolder, read_lines
from toyvit.runs.handle import Run, load_baselines, load_table
from toyvit.runs.table import has_measures, select_curve, select_main_rows

logger = logging.getLogger(__name__)

# Charts of the custom-scalars page: regular expressions of tags, drawn together in one chart.
LAYOUT = {
    "phase transition": {
        "loss (nats)": [
            "Multiline",
            ["^train/loss$", "^validation/loss$", "^performance/loss$", "^naive/loss"],
        ],
        "accuracy": [
            "Multiline",
            ["^validation/accuracy$", "^performance/accuracy$", "^naive/accuracy"],
        ],
        "induction and previous-cell mass": [
            "Multiline",
            ["^induction/mass/", "^induction/previous_cell/"],
        ],
        "accuracy, induction, previous cell": [
            "Multiline",
            ["^performance/accuracy$", "^induction/mass/", "^induction/previous_cell/"],
        ],
        "probes": ["Multiline", ["^probes/accuracy/"]],
    }
}
TOO_MANY = ("key", "count", "level", "neuron")  # axes whose quantities are figures, not curves


def write(path: Path | str) -> Path:
    """Write the run's `tensorboard/` anew: curves and measures on one step axis, the layout, the config, attention pictures.

    Where a follower is at work on a run in training it is left to it.
    """
    folder = RunFolder(path).check_exists()
    with _writer(folder) as writer:
        if writer is None:
            logger.info("%s is in training: its TensorBoard files are being written", folder.path)
            return folder.tensorboard
        for step, values in sorted(_scalars(folder).items()):
            writer.add_summary(_summary(values), step)
        for step, tag, value in _events(folder):
            writer.add_summary(_summary({tag: value}), step)
        for tag, figure, step in _pictures(folder):
            writer.add_summary(image(tag, _pixels(figure), dataformats="HWC"), step)
        for step, grid in _reconstructions(folder):
            writer.add_summary(image("reconstruction", grid, dataformats="HW"), step)
    return folder.tensorboard


def follow(path: Path | str, ended: Callable[[], bool]) -> None:
    """Write curves and measures as a run in training makes them, until `ended()`, which waits a while and then answers.

    Nothing is touched before the run is locked: a run that is refused keeps its files.
    """
    folder, over = RunFolder(path), False
    while not (folder.is_locked() or over):
        over = ended()
    if over:
        return
    written: set[tuple[int, str]] = set()
    with _writer(folder) as writer:
        while writer and not over:
            over = ended()
            for step, values in sorted(_scalars(folder).items()):
                new = {tag: value for tag, value in values.items() if (step, tag) not in written}
                if new:
                    writer.add_summary(_summary(new), step)
                    written |= {(step, tag) for tag in new}
            writer.flush()


@contextmanager
def _writer(folder: RunFolder) -> Iterator[FileWriter | None]:
    """A fresh file of events, holding the layout and the config, in place of the old one; None where another process writes."""
    folder.tensorboard.mkdir(exist_ok=True)
    with (folder.tensorboard / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        for file in folder.tensorboard.glob("events.*"):
            file.unlink()
        with closing(FileWriter(str(folder.tensorboard), max_queue=10_000)) as writer:
            writer.add_event(
                Event(session_log=SessionLog(status=SessionLog.START)), 0
            )  # an open page forgets what it read
            writer.add_summary(custom_scalars(LAYOUT))
            config = json.dumps(json.loads(folder.config_file.read_text()), indent=2)
            writer.add_summary(text("transitions", _verdicts(folder)))
            writer.add_summary(text("config", "    " + config.replace("\n", "\n    ")))
            yield writer


def _training(folder: RunFolder) -> dict[int, dict[str, float]]:
    """Curves that training itself writes: step -> tag -> value."""
    out: dict[int, dict[str, float]] = defaultdict(dict)
    entries = {entry.step: entry for entry in folder.read_manifest()}
    for line in read_lines(folder.metrics):
        if "status" not in line:
            out[line["step"]] = {
                f"train/{name}": value for name, value in line.items() if name != "step"
            }
    for step in entries if 0 in entries else ():
        out[step] |= {
            "validation/loss": entries[step].loss,
            "validation/accuracy": entries[step].accuracy,
        }
    return out


def _scalars(folder: RunFolder) -> dict[int, dict[str, float]]:
    """All curves: step -> tag -> value."""
    out = _training(folder)
    if has_measures(folder):
        naive = {f"naive/{name}": value for name, value in load_baselines(folder.path).items()}
        for step, tag, value in iterate_curves(load_table(folder.path)):
            out[step] |= {tag: value, **naive}
    return out


def iterate_curves(frame: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of every measure that is a curve, on most images of each split.

    A tag is analysis/quantity/axes: `induction/mass/layer 1 head 0`; of another split than test with its name at the end.
    """
    frame = pd.concat([select_main_rows(frame, split) for split in frame["split"].unique()])
    many = frame[[axis for axis in TOO_MANY if axis in frame]].notna().any(axis=1)
    kept = frame[~many].assign(split=frame["split"].where(frame["split"] != "test"))
    axes = [
        name
        for name in frame.columns
        if name not in ("run", "step", "analysis", "quantity", "images", "value")
    ]
    places = (
        kept[["analysis", "quantity", *axes]]
        .astype(object)
        .where(lambda cells: cells.notna(), None)
    )
    tags = {place: _tag(axes, place) for place in set(places.itertuples(index=False, name=None))}
    for step, place, value in zip(
        kept["step"], places.itertuples(index=False, name=None), kept["value"], strict=True
    ):
        yield int(step), tags[place], float(value)


def _tag(axes: list[str], place: tuple) -> str:
    analysis, quantity, *at = place
    where = " ".join(
        f"{axis} {value}" for axis, value in zip(axes, at, strict=True) if value is not None
    )
    return "/".join(part for part in (analysis, quantity, where) if part)


def _watched(folder: RunFolder) -> Iterator[tuple[str, pd.Series]]:
    """The curves that the detector judges, by name."""
    if not has_measures(folder):
        return
    frame = load_table(folder.path)
    for analysis, quantity in WATCHED:
        values = select_curve(frame, analysis, quantity)
        if len(values):
            yield f"{analysis}/{quantity}", values


def _verdicts(folder: RunFolder) -> str:
    """A table of what the detector says of the run's main curves, and of where the schedule changes."""
    at = schedule_events(folder.path)
    lines = ["measure | transition", "--- | ---"]
    lines += [f"{name} | {describe_transition(values, at)}" for name, values in _watched(folder)]
    steps = ", ".join(f"step {step}" for step in at) or "no step"
    return "\n".join([*lines, f"the learning rate changes abruptly at | {steps}"])


def _events(folder: RunFolder) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value): each main curve at the onset and at the end of its transition, the learning rate where it changes."""
    at, config = schedule_events(folder.path), folder.read_config().train
    for name, values in _watched(folder):
        if change := detect_in_curve(values, at):
            yield from (
                (int(step), f"events/{name}", values[step])
                for step in sorted({change.onset, change.end})
            )
    yield from ((step, "events/learning_rate", learning_rate(config, step)) for step in at)


def _summary(values: Mapping[str, float]) -> Summary:
    return Summary(
        value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )


def _pictures(folder: RunFolder) -> Iterator[tuple[str, Figure, int]]:
    """Attention patterns at the steps that tell the story."""
    if not folder.read_manifest():
        return
    run = Run(folder.path)
    for step in pictures.select_steps(run.steps, 6):
        yield "attention patterns", pictures.draw_attention(folder.path, steps=[step]), step
        if run.config.model.cls_token:
            yield "CLS attention", pictures.draw_cls_attention(folder.path, steps=[step]), step


def _reconstructions(folder: RunFolder) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """At every checkpoint, test pictures in a row: whole, as the model sees them, and as it restores them (0 to 1)."""
    if not folder.read_manifest() or folder.read_config().model.readout != "pixels":
        return
    run = Run(folder.path)
    batch = build_task(run.config.task).eval_batch("test", 16, run.config.seeds.measure)
    whole, model = pictures.restore_patches(batch, batch.target.nan_to_num()), ViT(run.config.model)
    for step in run.steps:
        made = pictures.restore_patches(
            batch, run_model(run.bare_model(step, into=model), batch.images)
        )
        grid = rearrange(
            [whole, batch.images, made],
            "row image channel height width -> channel (row height) (image width)",
        )
        yield step, grid[0].add(1).div(2).clamp(0, 1).numpy()


def _pixels(figure: Figure) -> NDArray[np.uint8]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]
