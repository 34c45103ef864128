"""TensorBoard's files without torch or pandas: events, and what training itself has to show."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import BinaryIO

import google_crc32c
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.custom_scalar.layout_pb2 import (
    Category,
    Chart,
    Layout,
    MultilineChartContent,
)

from toyvit.config import RunConfig
from toyvit.config.whole_files import try_lock
from toyvit.errors import escape_file_name, escape_text
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry

Curves = dict[int, dict[str, float]]  # step -> tag -> value
EVENTS = "events.out.tfevents.*"
SERIAL = count()  # of the files that this process writes
PERFORMANCE = "Performance"
STRONGEST = "Strongest head"
TRAINING = "Training"
# Charts of the custom-scalars page, one line a run each: regular expressions of tags.
LAYOUT = {
    "phase transition, a line a run": {
        "accuracy on test pictures": f"^{PERFORMANCE}/accuracy$",
        "loss on test pictures": f"^{PERFORMANCE}/loss$",
        "induction mass, strongest head": f"^{STRONGEST}/induction mass$",
        "previous-cell mass, strongest head": f"^{STRONGEST}/previous-cell mass$",
    }
}


class Events:
    """A file of TensorBoard's that is written event by event."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.add_event(Event(file_version="brain.Event:2"))

    def add_summary(self, summary: Summary, step: int | None = None) -> None:
        """Curves, pictures or texts of a step."""
        self.add_event(Event(summary=summary), step)

    def add_event(self, event: Event, step: int | None = None) -> None:
        """Anything, with the time of now."""
        event.wall_time = time.time()
        if step is not None:
            event.step = step
        write_record(self.file, event.SerializeToString())

    def write_head(self, config: RunConfig, verdicts: str) -> None:
        """The layout, what the detector says, and the config."""
        fresh = Event(session_log=SessionLog(status=SessionLog.START))
        self.add_event(fresh, 0)  # an open page forgets what it read
        self.add_summary(build_layout(LAYOUT))
        plain = json.dumps(asdict(config), indent=2)
        self.add_summary(build_text("transitions", verdicts))
        self.add_summary(build_text("config", "    " + plain.replace("\n", "\n    ")))


def write_record(file: BinaryIO, content: bytes) -> None:
    """A record of a file of events: length and content, each with its masked CRC-32C.

    TensorBoard's own writer computes the sums byte by byte in Python: most of what it takes.
    """
    length = struct.pack("<Q", len(content))
    sums = (struct.pack("<I", mask_sum(google_crc32c.value(part))) for part in (length, content))
    file.write(length + next(sums) + content + next(sums))


def mask_sum(crc: int) -> int:
    """As TensorFlow keeps a CRC: rotated right by 15 bits, plus a constant, modulo 2^32."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def name_events() -> str:
    """The name of a new file of events, as TensorBoard looks for it."""
    host = escape_file_name(socket.gethostname())
    seconds = time.time_ns() // 10**9
    return f"events.out.tfevents.{seconds:010d}.{host}.{os.getpid()}.{next(SERIAL)}"


@contextmanager
def hold(folder: Path) -> Iterator[bool]:
    """The folder made and locked; whether it is free: False where another process writes there."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


def build_scalars(values: Mapping[str, float]) -> Summary:
    """One value a tag."""
    return Summary(
        value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
    )


def build_text(tag: str, text: str) -> Summary:
    """A text in Markdown."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    return _build_plugin_value("text", f"{tag}/text_summary", text.encode(), shape)


def build_layout(layout: Mapping[str, Mapping[str, str]]) -> Summary:
    """The page of custom scalars: categories of charts, each with a regular expression of tags."""
    categories = []
    for category, charts in layout.items():
        lines = [
            Chart(title=title, multiline=MultilineChartContent(tag=[tags]))
            for title, tags in charts.items()
        ]
        categories.append(Category(title=category, chart=lines))
    content = Layout(category=categories).SerializeToString()
    tag = "custom_scalars__config__"
    return _build_plugin_value("custom_scalars", tag, content, TensorShapeProto())


def _build_plugin_value(plugin: str, tag: str, content: bytes, shape: TensorShapeProto) -> Summary:
    """Bytes that one of TensorBoard's plugins reads."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin))
    tensor = TensorProto(dtype=DT_STRING, string_val=[content], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def escape_part(text: str) -> str:
    """A text that may come from elsewhere as one part of a tag, which slashes part."""
    return escape_text(text).replace("/", r"\x2f")


def collect_training(folder: RunFolder, entries: Sequence[ManifestEntry]) -> Curves:
    """Curves that training itself writes: its metrics, and the scores of these checkpoints."""
    curves: Curves = defaultdict(dict)
    for line in folder.read_metrics():
        if "status" not in line:
            step = line.pop("step")
            curves[step] = {
                f"{TRAINING}/{escape_part(name)}": value for name, value in line.items()
            }

    if not entries or entries[0].step:
        return curves
    for entry in entries:
        scores = {"validation loss": entry.loss, "validation accuracy": entry.accuracy}
        curves[entry.step] |= {
            f"{TRAINING}/{name}": value for name, value in scores.items() if value is not None
        }
    return curves


def format_verdicts(transitions: Mapping[str, str], at: Sequence[int]) -> str:
    """What the detector says of curves, and the steps where the schedule changes, as a table."""
    lines = ["measure | transition", "--- | ---"]
    lines += [f"{name} | {transition}" for name, transition in transitions.items()]
    steps = ", ".join(f"step {step}" for step in at) or "no step"
    return "\n".join([*lines, f"the learning rate changes abruptly at | {steps}"])
