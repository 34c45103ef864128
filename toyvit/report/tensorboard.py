"""TensorBoard files of a run, derived whole from its files: writing again doubles nothing."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from io import BytesIO
from itertools import count
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import FileWriter
from torch.utils.tensorboard.summary import custom_scalars, hparams, image, text

from toyvit.config import learning_rate
from toyvit.config.whole_files import try_lock, write_atomically
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.errors import DataMissing, escape_file_name, escape_text
from toyvit.report.attention import draw_attention
from toyvit.report.curves import schedule_events
from toyvit.report.matplotlib_renderer import render
from toyvit.report.panels import Block, FigureData, PicturePanel
from toyvit.report.picture_attention import draw_cls_attention
from toyvit.report.pictures import select_steps
from toyvit.report.reconstruction import draw_reconstruction
from toyvit.report.summary import describe_transition, watch_curves
from toyvit.report.tags import (
    LAYOUT,
    PERFORMANCE,
    STRONGEST,
    TRAINING,
    escape_part,
    iterate_curves,
)
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.table import has_measures

logger = logging.getLogger(__name__)

Pixels = NDArray[np.floating | np.uint8]
Settings = dict[str, bool | int | float | str]
Curves = dict[int, dict[str, float]]  # step -> tag -> value
EVENTS = "events.out.tfevents.*"
SERIAL = count()  # of the files that this process writes
RESTORED = 16  # pictures whose hidden patches are shown


def write(run: Run | Path | str, to: Path | None = None) -> Path:
    """Write the run's `tensorboard/`, or the folder `to`, anew; the folder.

    Curves and measures on one step axis, the layout, the config, pictures. Whole or not at all.
    Where a follower is at work on a run in training it is left to it.
    """
    run = Run.open(run)
    folder = to or run.folder.tensorboard
    with _hold(folder) as is_free:
        if is_free:
            events = Events()
            write_all(events, run)
            events.save(folder)
        else:
            logger.info("%s is in training: its TensorBoard files are being written", run.path)
    return folder


def write_all(events: Events, run: Run) -> None:
    """Everything there is to see of a run."""
    _write_head(events, run)
    curves = collect_curves(run)
    for step, values in sorted(curves.items()):
        events.add_summary(_summarize(values), step)
    for step, tag, value in list_events(run):
        events.add_summary(_summarize({tag: value}), step)
    _write_pictures(events, run)
    for part in describe_settings(run, curves):
        events.add_summary(part)


def _write_pictures(events: Events, run: Run) -> None:
    """All pictures; none, and a line that says why, where the run's data is not here."""
    try:
        for tag, pixels, step in draw_pictures(run):
            events.add_summary(image(tag, pixels, dataformats="HWC"), step)
    except DataMissing as error:
        logger.warning("no pictures for TensorBoard (%s)", error)


class Events:
    """Events in memory, as a file of TensorBoard's holds them."""

    def __init__(self) -> None:
        self.content = BytesIO()
        self.writer = RecordWriter(self.content)
        self.add_event(Event(file_version="brain.Event:2"))

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        """Curves, pictures or texts of a step."""
        self.add_event(Event(summary=summary), step)

    def add_event(self, event: Event, step: int | None = None) -> None:
        """Anything, with the time of now."""
        event.wall_time = time.time()
        if step is not None:
            event.step = step
        self.writer.write(event.SerializeToString())

    def save(self, folder: Path) -> None:
        """Into a new file in place of all that the folder has."""
        old = list(folder.glob(EVENTS))
        host = escape_file_name(socket.gethostname())
        name = f"events.out.tfevents.{time.time_ns() // 10**9:010d}.{host}.{os.getpid()}"
        file = folder / f"{name}.{next(SERIAL)}"
        write_atomically(file, self.content.getvalue())
        for path in old:
            if path != file:
                path.unlink(missing_ok=True)


def follow(path: Path | str, ended: Callable[[], bool]) -> None:
    """Write curves and measures as a run in training makes them, until `ended()`, which waits a
    while and then answers.

    Nothing is touched before the run is locked: a run that is refused keeps its files.
    """
    run = _wait_for_lock(path, ended)
    if run is None:
        return
    over = False
    written: set[tuple[int, str]] = set()

    with _hold(run.folder.tensorboard) as is_free, _follow_into(run, is_free) as writer:
        while writer and not over:
            over = ended()
            for step, values in sorted(collect_curves(run.refresh()).items()):
                new = {tag: value for tag, value in values.items() if (step, tag) not in written}
                if new:
                    writer.add_summary(_summarize(new), step)
                    written |= {(step, tag) for tag in new}
            writer.flush()


def _wait_for_lock(path: Path | str, ended: Callable[[], bool]) -> Run | None:
    """The run once it is in training, or None where it ended before."""
    folder = RunFolder(path)
    while not folder.is_locked():
        if ended():
            return None
    return Run(path)


@contextmanager
def _hold(folder: Path) -> Iterator[bool]:
    """The folder made and locked; whether it is free: False where another process writes there."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _follow_into(run: Run, is_free: bool) -> Iterator[FileWriter | None]:
    """A fresh file of events that grows, in place of the old ones; None where that is not free."""
    if not is_free:
        yield None
        return
    folder = run.folder.tensorboard
    for file in folder.glob(EVENTS):
        file.unlink()
    with closing(FileWriter(str(folder), max_queue=10_000)) as writer:
        _write_head(writer, run)
        yield writer


def _write_head(writer: FileWriter | Events, run: Run) -> None:
    """The layout, what the detector says, and the config."""
    fresh = Event(session_log=SessionLog(status=SessionLog.START))
    writer.add_event(fresh, 0)  # an open page forgets what it read
    writer.add_summary(custom_scalars(LAYOUT))
    config = json.dumps(asdict(run.config), indent=2)
    writer.add_summary(text("transitions", describe_verdicts(run)))
    writer.add_summary(text("config", "    " + config.replace("\n", "\n    ")))


def collect_curves(run: Run) -> Curves:
    """All curves: what training writes, and every measure that is one."""
    curves = _collect_training(run)
    if has_measures(run.folder):
        baselines = {
            f"baselines/{escape_part(name)}": value for name, value in run.baselines.items()
        }
        for step, tag, value in iterate_curves(run.table):
            curves[step] |= {tag: value, **baselines}
    return curves


def _collect_training(run: Run) -> Curves:
    """Curves that training itself writes."""
    curves: Curves = defaultdict(dict)
    for line in run.folder.read_metrics():
        if "status" not in line:
            step = line.pop("step")
            curves[step] = {
                f"{TRAINING}/{escape_part(name)}": value for name, value in line.items()
            }

    for step, entry in run.entries.items() if 0 in run.entries else ():
        curves[step] |= {
            f"{TRAINING}/validation loss": entry.loss,
            f"{TRAINING}/validation accuracy": entry.accuracy,
        }
    return curves


def describe_settings(run: Run, curves: Curves) -> tuple[Summary, ...]:
    """The config, field by field, and the last scores: a row of the tab of hyperparameters."""
    settings = flatten_config(asdict(run.config))
    scores: dict[str, float] = {}
    for _, values in sorted(curves.items()):
        scores |= {tag: value for tag, value in values.items() if is_score(tag)}
    return hparams(settings, scores)


def is_score(tag: str) -> bool:
    """Whether the tab of hyperparameters compares runs by a curve's last value."""
    return tag.startswith((f"{PERFORMANCE}/", f"{STRONGEST}/")) and "split" not in tag


def flatten_config(config: Mapping[str, object], before: str = "") -> Settings:
    """`model.n_layers` and the like, numbers as they are and the rest as text."""
    settings: Settings = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            settings |= flatten_config(value, f"{before}{escape_text(name)}.")
        elif name != "checkpoints":
            plain = value if isinstance(value, bool | int | float) else escape_text(str(value))
            settings[f"{before}{escape_text(name)}"] = plain
    return settings


def describe_verdicts(run: Run) -> str:
    """What the detector says of the main curves, and where the schedule changes, as a table."""
    at = schedule_events(run)
    watched = watch_curves(run) if has_measures(run.folder) else {}
    lines = ["measure | transition", "--- | ---"]
    lines += [f"{name} | {describe_transition(values, at)}" for name, values in watched.items()]
    steps = ", ".join(f"step {step}" for step in at) or "no step"
    return "\n".join([*lines, f"the learning rate changes abruptly at | {steps}"])


def list_events(run: Run) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of the onsets and ends of transitions, and of changes of the schedule."""
    at = schedule_events(run)
    watched = watch_curves(run) if has_measures(run.folder) else {}
    for name, values in watched.items():
        if change := detect_in_curve(values, at):
            for step in sorted({change.onset, change.end}):
                yield int(step), f"events/{name}", values[step]
    for step in at:
        yield step, "events/learning_rate", learning_rate(run.config.train, step)


def draw_pictures(run: Run) -> Iterator[tuple[str, Pixels, int]]:
    """(tag, pixels, step) of attention, where CLS looks, and hidden patches restored."""
    if not run.entries:
        return
    model = run.config.model
    for step in select_steps(run.steps, 6):
        yield "attention patterns", render_pixels(draw_attention(run, steps=[step])), step
        if model.cls_token:
            yield "CLS attention", render_pixels(draw_cls_attention(run, steps=[step])), step

    if model.readout == "pixels":
        for step in run.steps:
            figure = draw_reconstruction(run, steps=[step], n=RESTORED)
            yield "reconstruction", tile_pictures(figure.blocks[0]), step


def render_pixels(figure: FigureData) -> Pixels:
    """A figure without its caption as pixels (row column colour)."""
    canvas = FigureCanvasAgg(render(figure, captioned=False))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def tile_pictures(block: Block) -> Pixels:
    """The pictures of a block edge to edge, pixel by pixel, from 0 to 1 (row column colour)."""
    rows = []
    for panels in block.panels:
        pictures = [_to_shares(panel) for panel in panels if isinstance(panel, PicturePanel)]
        rows.append(np.concatenate(pictures, axis=1))
    return np.concatenate(rows)


def _to_shares(panel: PicturePanel) -> Pixels:
    """A picture as shares of red, green and blue; grey ones have three alike."""
    if panel.scale is None:
        return panel.picture
    shares = (panel.picture - panel.scale.low) / (panel.scale.high - panel.scale.low)
    return np.repeat(shares.clip(0, 1)[..., None], 3, axis=-1)


def _summarize(values: Mapping[str, float]) -> Summary:
    return Summary(
        value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )
