"""TensorBoard files of runs in training, written along by one process for all of them.

It is light while nothing is measured: torch and pandas are imported where there are measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from toyvit.config import find_events
from toyvit.runs.events import (
    EVENTS,
    Curves,
    Events,
    build_scalars,
    collect_training,
    format_verdicts,
    hold,
    name_events,
)
from toyvit.runs.folder import RunFolder


def follow(paths: Sequence[Path], ended: Callable[[], bool]) -> None:
    """Write curves and measures as runs in training make them, until `ended()`, which waits a
    while and then answers.

    Nothing is touched before a run is locked: one that is refused keeps its files.
    """
    waiting = [RunFolder(path) for path in paths]
    followers: list[Follower] = []
    over = False

    with ExitStack() as opened:
        while not over:
            over = ended()
            begun = [folder for folder in waiting if folder.is_locked()]
            waiting = [folder for folder in waiting if folder not in begun]
            followers += [opened.enter_context(open_follower(folder)) for folder in begun]
            for follower in followers:
                follower.write_new()


@contextmanager
def open_follower(folder: RunFolder) -> Iterator[Follower]:
    """A follower with a fresh file of events in place of the old ones, or without one where
    another process writes them.
    """
    with hold(folder.tensorboard) as is_free, ExitStack() as opened:
        if not is_free:
            yield Follower(folder, None)
            return
        for path in folder.tensorboard.glob(EVENTS):
            path.unlink()
        file = opened.enter_context((folder.tensorboard / name_events()).open("xb"))
        follower = Follower(folder, Events(file))
        follower.write_head()
        yield follower


class Follower:
    """Writes what is new of one run."""

    def __init__(self, folder: RunFolder, events: Events | None) -> None:
        self.folder = folder
        self.events = events
        self.written: set[tuple[int, str]] = set()

    def write_head(self) -> None:
        """What there is to say before the first curve."""
        if self.events is None:
            return
        config = self.folder.read_config()
        if self.folder.measures.exists():
            from toyvit.report.tensorboard import describe_verdicts
            from toyvit.runs.handle import Run

            verdicts = describe_verdicts(Run(self.folder))
        else:
            verdicts = format_verdicts({}, find_events(config.train))
        self.events.write_head(config, verdicts)

    def write_new(self) -> None:
        """Curves as they are now, without what is written already."""
        if self.events is None:
            return
        for step, values in sorted(self.collect_curves().items()):
            new = {tag: value for tag, value in values.items() if (step, tag) not in self.written}
            if new:
                self.events.add_summary(build_scalars(new), step)
                self.written |= {(step, tag) for tag in new}
        self.events.file.flush()

    def collect_curves(self) -> Curves:
        """All curves: what training writes, and every measure that is one."""
        if not self.folder.measures.exists():
            return collect_training(self.folder, self.folder.read_manifest())
        from toyvit.report.tensorboard import collect_curves
        from toyvit.runs.handle import Run

        return collect_curves(Run(self.folder))
