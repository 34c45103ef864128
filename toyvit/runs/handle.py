"""`Run`, an opened run: its config, its checkpoints as models, its pictures and its measures."""

from __future__ import annotations

import html
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
from torch import Tensor

from toyvit.clamps.patterns import PATTERNS, active_clamps, apply_clamps
from toyvit.config import RunConfig
from toyvit.config.extensions import Extension, install, list_extensions
from toyvit.data.task import Batch, Task, build_task
from toyvit.errors import BadInput, DataMissing, escape_text
from toyvit.model import ViT
from toyvit.runs.folder import RunFolder
from toyvit.runs.frames import build_table, select_rows
from toyvit.runs.manifest import ManifestEntry
from toyvit.runs.table import (
    find_baselines,
    has_measures,
    read_analyses,
    read_whole,
    select_baselines,
    select_curve,
)
from toyvit.surroundings import pin_torch


class Run:
    """A run folder, opened once and handed down; iterating gives (step, model) in order.

    The config and the manifest are read when it is opened; `refresh` sees checkpoints and measures
    that came later. A run pickles as its path and is opened again where it arrives. BadInput for a
    folder that holds no run, a damaged config or a damaged manifest.

    Here a run whose only checkpoint is an untrained model:

    >>> from tempfile import TemporaryDirectory
    >>> from toyvit.data.task import resolve_config
    >>> from toyvit.recipes import RECIPES
    >>> config = resolve_config(RECIPES["induction-smoke"]())
    >>> place = TemporaryDirectory()
    >>> folder = RunFolder(f"{place.name}/smoke")
    >>> folder.create(config)
    >>> scores = {"loss": 2.3, "accuracy": 0.1}
    >>> _ = folder.write_checkpoint(0, 0, ViT(config.model, seed=0).state_dict(), scores)
    >>> run = Run(f"{place.name}/smoke")
    >>> run.name, run.steps, run.status
    ('smoke', [0], 'stopped')
    >>> run.model(0)(run.batch("test", 5).images).shape
    torch.Size([5, 16])
    >>> place.cleanup()
    """

    def __init__(self, path: RunFolder | Path | str) -> None:
        self.folder = RunFolder.open(path).check_exists()
        self.refresh()

    @classmethod
    def open(cls, run: Run | RunFolder | Path | str) -> Run:
        """The run itself if it is open, else the one at this path."""
        return run if isinstance(run, Run) else cls(run)

    def refresh(self) -> Run:
        """Read the manifest anew, and the measures when they are next asked for.

        And the config, where the run was lengthened.
        """
        self.config: RunConfig = self.folder.read_config()
        entries = self.folder.read_manifest()
        self.entries: dict[int, ManifestEntry] = {entry.step: entry for entry in entries}
        for name in ("_measures", "baselines"):
            self.__dict__.pop(name, None)
        self._parts: dict[tuple[str, ...], pd.DataFrame] = {}
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Its path, and what it needs from outside the package: a worker may not know it yet."""
        return _reopen, (self.path.absolute(), list_extensions())

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.name

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, ascending."""
        return list(self.entries)

    @property
    def last_step(self) -> int:
        """The last step that has a checkpoint; BadInput where there is none yet."""
        if not self.entries:
            raise BadInput(f"{self.path} has no finished checkpoint yet")
        return max(self.entries)

    def check_step(self, step: int | None) -> int:
        """The step itself if it has a checkpoint, the last for None; else BadInput."""
        last = self.last_step
        if step is None:
            return last
        if step not in self.entries:
            closest = min(self.entries, key=lambda other: abs(other - step))
            raise BadInput(f"no checkpoint at step {step} in {self.path}; the nearest is {closest}")
        return step

    def check_unclamped(self, step: int | None) -> int:
        """A step (default: the last) at which the bare model is what was trained.

        BadInput where heads are clamped to patterns there.
        """
        at = self.check_step(step)
        active = active_clamps(self.config.train.clamps, at)
        patterns = [str(clamp) for clamp in active if clamp.what in PATTERNS]
        if patterns:
            raise BadInput(
                f"{self.path} is clamped at step {at} by {', '.join(patterns)}:"
                " its bare model is not what was trained"
            )
        return at

    def weights(self, step: int) -> dict[str, Tensor]:
        """The weights of a step, by name; BadInput where the file is not the manifest's."""
        return self.folder.read_checkpoint(self.entries[self.check_step(step)])

    @pin_torch()
    def bare_model(self, step: int | None = None, *, into: ViT | None = None) -> ViT:
        """The model of a step without the run's clamps, in evaluation mode.

        A new model, or `into`, a model of this run's shape whose weights are overwritten: cheaper.
        """
        at = self.check_step(step)
        model = into if into is not None else ViT(self.config.model)
        weights = self.weights(at)

        try:
            model.load_state_dict(weights)
        except RuntimeError:
            file = self.folder.checkpoints / self.entries[at].file
            message = f"checkpoint {file} does not fit this run's model: it is a foreign file"
            raise BadInput(message) from None
        return model.eval()

    @pin_torch()
    def model(
        self, step: int | None = None, batch: Batch | None = None, *, into: ViT | None = None
    ) -> ViT:
        """The model of a step (default: the last) as it was trained: under the clamps active there.

        A run under the clamp `match` needs the batch whose pictures the model will be shown: it
        holds where each picture's match is. Else BadInput.
        """
        at = self.check_step(step)
        retrieval = None if batch is None else batch.retrieval
        bare = self.bare_model(at, into=into)
        return apply_clamps(bare, self.config.train.clamps, at, retrieval)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[int, ViT]]:
        return self.items()

    def items(self, batch: Batch | None = None) -> Iterator[tuple[int, ViT]]:
        """(step, model as it was trained) in order, a new model each time."""
        for step in self.steps:
            yield step, self.model(step, batch)

    @cached_property
    def task(self) -> Task:
        """The task that the run learns; DataMissing where its pictures are not here."""
        try:
            return build_task(self.config.task.find_beside(self.path))
        except DataMissing:
            raise
        except (BadInput, OSError) as error:
            raise DataMissing(str(error)) from None

    @pin_torch()
    def batch(self, split: str = "test", n: int = 512) -> Batch:
        """The first n pictures of a split, of the run's own evaluation seed."""
        return self.task.eval_batch(split, n, self.config.seeds.measure)

    @cached_property
    def _measures(self) -> tuple[pd.DataFrame, dict[str, float]]:
        """The whole table, read once, and its baselines."""
        contents = read_whole(self.folder)
        table = build_table(self.folder, contents, self.entries.values())
        return table, select_baselines(contents)

    @property
    def is_measured(self) -> bool:
        """Whether its table holds any number; BadInput where the file is no table."""
        return "_measures" in self.__dict__ or bool(self._parts) or has_measures(self.folder)

    @property
    def table(self) -> pd.DataFrame:
        """Every measured number, see `build_table`.

        BadInput where nothing is measured, the file is no table, or a cell of it is damaged.
        """
        return self._measures[0]

    @cached_property
    def baselines(self) -> dict[str, float]:
        """What predictors that know less score on the test pictures, by name."""
        baselines = None if "_measures" in self.__dict__ else find_baselines(self.folder)
        return self._measures[1] if baselines is None else baselines

    def curve(
        self, analysis: str, quantity: str, how: str = "max", split: str = "test", **where: object
    ) -> pd.Series:
        """One value a step of a measured quantity, see `select_curve`.

        Of the table only the cells of the analysis are read, and compared with their digests, where
        it was not read yet.
        """
        frame = self.read([analysis])
        if not where.keys() <= set(frame):  # an axis of other analyses, or of none
            frame = self.table
        return select_curve(frame, analysis, quantity, how, split, **where)

    def read(self, analyses: Collection[str]) -> pd.DataFrame:
        """Rows of the table, those of some analyses among them: read once, as few as will do."""
        if "_measures" in self.__dict__:
            return self.table
        names = tuple(sorted(set(analyses)))
        if names not in self._parts:
            contents = read_analyses(self.folder, names)
            self._parts[names] = build_table(self.folder, contents, self.entries.values())
        return self._parts[names]

    @property
    def status(self) -> str:
        """`running`, `finished`, `diverged` or `stopped`, as the files say now."""
        return self.folder.read_status(self.config)

    def __repr__(self) -> str:
        steps = f"steps 0 to {self.last_step}" if self.entries else "no checkpoint yet"
        facts = f"{self.config.recipe}, {self.status}, {len(self)} checkpoints, {steps}"
        return f"Run({str(self.path)!r}): {escape_text(facts)}"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        model = self.config.model
        kind = f"{model.n_layers} layers, {model.n_heads} heads, width {model.d_model}"
        lines = {
            "run": str(self.path),
            "recipe": self.config.recipe,
            "model": kind + (f", MLP {model.d_mlp}" if model.d_mlp else ", attention only"),
            "status": self.status,
            "checkpoints": f"{len(self)}",
        }
        if self.entries:
            last = self.entries[self.last_step]
            lines["checkpoints"] += f", to step {last.step:,}"
            if last.loss is not None and last.accuracy is not None:
                lines["last scores"] = f"loss {last.loss:.3f}, accuracy {last.accuracy:.3f}"

        rows = (
            f"<tr><th>{name}</th><td>{html.escape(escape_text(value))}</td></tr>"
            for name, value in lines.items()
        )
        return f"<table>{''.join(rows)}</table>"


def load_table(
    run: Run | Path | str,
    *,
    analyses: Collection[str] | None = None,
    quantities: Collection[str] | None = None,
) -> pd.DataFrame:
    """Every measured number of a run, or of the run at a path: see `Run.table`.

    Or the rows of some analyses and quantities, each one name or several, with the axes and tags
    that these have. With `analyses` little more than their cells is read, and compared with its
    digests. BadInput for a name that was not measured, with the nearest that was.
    """
    run = Run.open(run)
    wanted = _list_names(analyses)
    frame = run.table if wanted is None else run.read(wanted)
    if not set(wanted or ()) <= set(frame["analysis"]):
        frame = run.table  # which names all that there is
    return select_rows(frame, f"{run.path}", wanted, _list_names(quantities))


def _list_names(names: Collection[str] | None) -> list[str] | None:
    """Names, or one name alone."""
    return [names] if isinstance(names, str) else (None if names is None else list(names))


def load_baselines(run: Run | Path | str) -> dict[str, float]:
    """What predictors that know less score, of a run or of one at a path: see `Run.baselines`."""
    return Run.open(run).baselines


def _reopen(path: Path, extensions: tuple[Extension, ...]) -> Run:
    install(extensions)
    return Run(path)
