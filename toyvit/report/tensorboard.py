"""TensorBoard files of a run, derived whole from its files: writing again doubles nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard.summary import histogram, hparams, image

from toyvit.config import RunConfig, learning_rate
from toyvit.config.whole_files import write_atomically
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.errors import BadInput, escape_text
from toyvit.report.attention import draw_attention
from toyvit.report.curves import schedule_events
from toyvit.report.panels import Block, Caption, PicturePanel
from toyvit.report.picture_attention import draw_cls_attention
from toyvit.report.pictures import select_steps
from toyvit.report.reconstruction import draw_reconstruction
from toyvit.report.summary import describe_changes, watch_curves
from toyvit.report.tags import iterate_curves
from toyvit.report.tiles import render_tiles
from toyvit.runs.events import (
    EVENTS,
    PERFORMANCE,
    STRONGEST,
    Curves,
    Events,
    build_scalars,
    collect_training,
    escape_part,
    format_verdicts,
    hold,
    name_events,
)
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

logger = logging.getLogger(__name__)

Pixels = NDArray[np.floating | np.uint8]
Settings = dict[str, int | float | str]
HISTOGRAMS = 40  # checkpoints that have them
BINS = 64
RESTORED = 16  # pictures whose hidden patches are shown


@pin_torch()
def write(
    run: Run | Path | str,
    to: Path | None = None,
    *,
    histograms: bool = False,
    differing: Collection[str] = (),
) -> Path:
    """Write the run's `tensorboard/`, or the folder `to`, anew; the folder.

    Curves and measures on one step axis, the layout, the config, pictures with captions, and
    `histograms` of the weights where they are asked for. Fields of the config that are `differing`
    between runs come first in the tab of hyperparameters. Whole or not at all. Where a follower is
    at work on a run in training it is left to it.
    """
    run = Run.open(run)
    folder = to or run.folder.tensorboard
    with hold(folder) as is_free:
        if is_free:
            content = BytesIO()
            events = Events(content)
            write_all(events, run, differing)
            if histograms:
                write_histograms(events, run)
            replace_events(folder, content.getvalue())
        else:
            logger.info("%s is in training: its TensorBoard files are being written", run.path)
    return folder


def replace_events(folder: Path, content: bytes) -> None:
    """A new file of events in place of all that the folder has."""
    old = list(folder.glob(EVENTS))
    file = folder / name_events()
    write_atomically(file, content)
    for path in old:
        if path != file:
            path.unlink(missing_ok=True)


def write_all(events: Events, run: Run, differing: Collection[str] = ()) -> None:
    """Everything there is to see of a run."""
    curves = collect_curves(run)  # first, since it reads the whole table of measures
    events.write_head(run.config, describe_verdicts(run))
    for step, values in sorted(curves.items()):
        events.add_summary(build_scalars(values), step)
    for step, tag, value in [*list_events(run), *list_onsets(run)]:
        events.add_summary(build_scalars({tag: value}), step)
    _write_pictures(events, run)
    for part in describe_settings(run, curves, differing):
        events.add_summary(part)


def _write_pictures(events: Events, run: Run) -> None:
    """All pictures; none, and a line, where the data is not here or a checkpoint is damaged."""
    try:
        for tag, pixels, step, caption in draw_pictures(run):
            summary = image(tag, pixels, dataformats="HWC")
            summary.value[0].metadata.summary_description = str(caption)
            events.add_summary(summary, step)
    except BadInput as error:
        logger.warning("no pictures for TensorBoard (%s)", error)


def write_histograms(events: Events, run: Run) -> None:
    """Every weight's values at some checkpoints."""
    for step in select_steps(run.steps, HISTOGRAMS):
        for name, weights in run.weights(step).items():
            if weights.numel():  # a model without CLS and registers has an empty prefix
                tag = f"Histograms/{escape_part(name)}"
                events.add_summary(histogram(tag, weights.numpy(), bins=BINS), step)


def collect_curves(run: Run) -> Curves:
    """All curves: what training writes, and every measure that is one."""
    curves = collect_training(run.folder, list(run.entries.values()))
    if run.is_measured:
        baselines = {
            f"baselines/{escape_part(name)}": value for name, value in run.baselines.items()
        }
        for step, tag, value in iterate_curves(run.table):
            curves[step] |= {tag: value, **baselines}
    return curves


def describe_settings(
    run: Run, curves: Curves, differing: Collection[str] = ()
) -> tuple[Summary, ...]:
    """The config, field by field, the last scores and the onsets of transitions: a row of the tab
    of hyperparameters. Its first columns are fields that are `differing`.
    """
    settings = flatten_config(asdict(run.config))
    tags = {tag for values in curves.values() for tag in values if is_score(tag)}
    onsets = [name_onset(name) for name in watch_curves(run)] if run.is_measured else []
    shown = dict.fromkeys([*sorted(tags)[:1], *onsets[:1], *sorted(tags), *onsets], 0.0)
    experiment, *rest = hparams(settings, shown)
    return mark_differing(experiment, differing), *rest


def mark_differing(experiment: Summary, differing: Collection[str]) -> Summary:
    """What declares the columns of the tab of hyperparameters, these before the others."""
    metadata = experiment.value[0].metadata.plugin_data
    plugin_data = HParamsPluginData.FromString(metadata.content)
    for field in plugin_data.experiment.hparam_infos:
        field.differs = field.name in differing
    metadata.content = plugin_data.SerializeToString()
    return experiment


def list_differing(configs: Sequence[RunConfig]) -> set[str]:
    """The fields that are not the same in all of some configs."""
    plain = [flatten_config(asdict(config)) for config in configs]
    names = set().union(*plain)
    return {name for name in names if any(row.get(name) != plain[0].get(name) for row in plain)}


def list_onsets(run: Run) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of the onset of each curve that changes abruptly: there, the step."""
    watched = watch_curves(run) if run.is_measured else {}
    for name, values in watched.items():
        if change := detect_in_curve(values, run.config.train):
            yield round(change.onset), name_onset(name), float(change.onset)


def name_onset(curve: str) -> str:
    """The tag of a curve's onset: a group of its own, after those of the measures."""
    return f"onsets/{escape_part(curve.replace('/', ' '))}"


def is_score(tag: str) -> bool:
    """Whether the tab of hyperparameters compares runs by a curve's last value."""
    return tag.startswith((f"{PERFORMANCE}/", f"{STRONGEST}/")) and "split" not in tag


def flatten_config(config: Mapping[str, object], before: str = "") -> Settings:
    """`model.n_layers` and the like, numbers as they are and the rest as text: TensorBoard shows
    true as 1.0000.
    """
    settings: Settings = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            settings |= flatten_config(value, f"{before}{escape_text(name)}.")
        elif name != "checkpoints":
            settings[f"{before}{escape_text(name)}"] = to_setting(value)
    return settings


def to_setting(value: object) -> int | float | str:
    """A number as it is, everything else as text.

    >>> to_setting(2), to_setting(True), to_setting(None)
    (2, 'True', 'None')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    return escape_text(str(value))


def describe_verdicts(run: Run) -> str:
    """What the detector says of the main curves, and where the schedule changes, as a table."""
    at = schedule_events(run)
    watched = watch_curves(run) if run.is_measured else {}
    train = run.config.train
    changes = {name: describe_changes(values, train) for name, values in watched.items()}
    return format_verdicts(changes, at)


def list_events(run: Run) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of the onsets and ends of transitions, and of changes of the schedule."""
    at = schedule_events(run)
    watched = watch_curves(run) if run.is_measured else {}
    for name, values in watched.items():
        if change := detect_in_curve(values, run.config.train):
            for step in sorted({round(change.onset), round(change.end)}):
                height = np.interp(step, values.index, values)
                yield step, f"events/{name}", float(height)
    for step in at:
        yield step, "events/learning_rate", learning_rate(run.config.train, step)


def draw_pictures(run: Run) -> Iterator[tuple[str, Pixels, int, Caption]]:
    """(tag, pixels, step, caption) of attention, where CLS looks, and hidden patches restored."""
    if not run.entries:
        return
    model = run.config.model
    for step in select_steps(run.steps, 6):
        figures = {"attention patterns": draw_attention(run, steps=[step])}
        if model.cls_token:
            figures["CLS attention"] = draw_cls_attention(run, steps=[step])
        for tag, figure in figures.items():
            yield tag, render_tiles(figure), step, figure.caption

    if model.readout == "pixels":
        for step in run.steps:
            figure = draw_reconstruction(run, steps=[step], n=RESTORED)
            yield "reconstruction", tile_pictures(figure.blocks[0]), step, figure.caption


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
