"""What a page says of a run: what it is, what happened, curves, looks, figures, what is missing."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from toyvit.analyses.registry import list_analyses
from toyvit.dynamics.transitions import detect_in_curve, find_window
from toyvit.errors import BadInput, DataMissing
from toyvit.model import ViT
from toyvit.report.circuits import draw_saved_circuits
from toyvit.report.curves import name_score, schedule_events
from toyvit.report.heads import Names, collect_scores, name_all_heads
from toyvit.report.page.looks import collect_looks
from toyvit.report.page.measured_curves import collect_curves, thin_steps
from toyvit.report.page.other_steps import DIGITS, draw_others
from toyvit.report.page.packing import ArrayStore, format_json
from toyvit.report.page.story import name_path, tell_difference, tell_story
from toyvit.report.panels import FigureData
from toyvit.report.plain import Plain, to_plain
from toyvit.report.rows import list_analyses as list_measured
from toyvit.report.summary import CEILING, list_facts, watch_curves
from toyvit.runs.handle import Run

logger = logging.getLogger(__name__)

BUDGET = 12_000_000  # bytes of a page
# Shares of a run's part of the budget; looks have the rest.
OF_FIGURES = 0.3
OF_CURVES = 0.3
OF_HEADS = 0.1
OF_OTHERS = 1 / 3  # of what figures have: figures of one checkpoint at others
Part = Callable[[Run], Plain]


class Attempts:
    """Parts of a page, each made if it can be; what is missing or damaged, once each."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def make(self, part: Part, run: Run) -> Plain:
        """A part, or None."""
        try:
            return part(run)
        except (BadInput, DataMissing) as error:
            self.report(str(error))
            return None

    def list_circuits(self, run: Run) -> list[FigureData]:
        """The figure of the circuits that were found of a run, if there are any."""
        try:
            figure = draw_saved_circuits(run)
        except BadInput as error:
            self.report(str(error))
            return []
        return [] if figure is None else [figure]

    def report(self, problem: str) -> None:
        """Something that is not on the page."""
        if problem not in self.problems:
            self.problems.append(problem)
            logger.warning("not on the page: %s", problem)


def describe_page(
    runs: Sequence[Run],
    figures: Mapping[Path, Sequence[FigureData]],
    store: ArrayStore,
    budget: int,
) -> Plain:
    """The data of a page of several runs, the first of which is its subject.

    `figures` are those of each run's path. Each part is made from what there is: what is missing
    or damaged is said, with the command that makes it.
    """
    attempts = [Attempts() for _ in runs]
    plain: list[dict[str, Plain]] = []
    for run, tries in zip(runs, attempts, strict=True):
        part = describe_run(run, tries, store, runs, budget / len(runs))
        own = [*figures.get(run.path, ()), *tries.list_circuits(run)]
        part["figures"] = pack_figures(run, own, budget / len(runs) * OF_FIGURES, tries.report)
        plain.append(part)

    room = (budget - sum(len(format_json(part)) for part in plain) - store.size) / len(runs)
    for run, tries, part in zip(runs, attempts, plain, strict=True):
        look = partial(collect_looks, store=store, room=room, report=tries.report)
        part["looks"] = tries.make(look, run)
        part["problems"] = list(tries.problems)
    return {"budget": budget, "runs": list(plain)}


def describe_run(
    run: Run, tries: Attempts, store: ArrayStore, runs: Sequence[Run], budget: float
) -> dict[str, Plain]:
    """One run without figures and looks; the first of `runs` is the page's subject."""
    first, *others = runs
    parts: dict[str, Part] = {
        "verdicts": list_verdicts,
        "story": lambda run: tell_measured(run, others if run is first else ()),
        "curves": lambda run: collect_curves(run, store, budget * OF_CURVES),
        "baselines": lambda run: dict(run.baselines) if run.is_measured else {},
        "changes": list_changes,
        "headTypes": lambda run: collect_head_types(run, store, budget * OF_HEADS),
        "unmeasured": list_unmeasured,
        "score": lambda run: name_score(run) if run.is_measured else "accuracy",
        "what": describe_model,
        "task": describe_task,
        "difference": lambda run: None if run is first else tell_difference(run, first),
    }
    return {
        "name": run.name,
        "path": name_path(run),
        "status": run.status,
        "setting": hash_setting(run),
        "lastStep": max(run.steps, default=0),
        **{name: tries.make(part, run) for name, part in parts.items()},
    }


def list_verdicts(run: Run) -> Plain:
    """What it came to in numbers; nothing where nothing was measured."""
    return [list(line) for line in list_facts(run)] if run.is_measured else []


def tell_measured(run: Run, others: Sequence[Run]) -> Plain:
    """What happened, in words; nothing where nothing was measured."""
    return tell_story(run, others) if run.is_measured else []


def describe_model(run: Run) -> str:
    """What was trained on what, or where it comes from, in one sentence."""
    model = run.config.model
    layers = "1 layer" if model.n_layers == 1 else f"{model.n_layers} layers"
    heads = "1 head" if model.n_heads == 1 else f"{model.n_heads} heads"
    mlp = f"MLPs of {model.d_mlp}" if model.d_mlp else "attention only"
    rows, columns = model.grid
    return (
        f"A vision transformer of {layers} with {heads} each, width {model.d_model}, {mlp}, "
        f"mask {model.mask}, on pictures of {rows} x {columns} patches of "
        f"{run.config.task.data_set}; {describe_origin(run)}."
    )


def describe_origin(run: Run) -> str:
    """How it was trained here; or that it was elsewhere, and by which library's names."""
    train = run.config.train
    if run.folder.provenance.exists():
        return f"trained elsewhere, a model of {run.config.recipe}"
    return (
        f"task {run.config.task.name}, {train.steps:,} steps of {train.batch_size} pictures, "
        f"recipe {run.config.recipe}"
    )


def describe_task(run: Run) -> str:
    """What is asked, as the task's options say in their first paragraph."""
    text = inspect.getdoc(type(run.config.task)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def hash_setting(run: Run) -> str:
    """The same for runs that differ in their seeds alone."""
    plain = {key: value for key, value in run.config.to_json().items() if key != "seeds"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def list_changes(run: Run) -> Plain:
    """What the page shades: the rise of the score, and each abrupt change that is detected."""
    if not run.is_measured:
        return {"rise": None, "abrupt": [], "schedule": []}
    at = schedule_events(run)
    abrupt: list[Plain] = []
    watched = watch_curves(run)
    for name, values in watched.items():
        if change := detect_in_curve(values, run.config.train):
            abrupt.append({"curve": name, "start": change.onset, "end": change.end})
    accuracy = watched.get("performance/accuracy")
    rise = None
    if accuracy is not None and CEILING in run.baselines:
        rise = find_window(accuracy, run.baselines[CEILING])
    return {
        "rise": None if rise is None else [float(end) for end in rise],
        "abrupt": abrupt,
        "schedule": [float(step) for step in at],
    }


def collect_head_types(run: Run, store: ArrayStore, room: float) -> Plain:
    """Scores and nulls (step head type) of every type, and the names of each head at each step.

    At as many steps as fit into so many bytes of the page, two at least.
    """
    if not run.is_measured or "heads" not in list_measured(run):
        return None
    scores = collect_scores(run)
    names = name_all_heads(run)
    steps = sorted({step for step, *_ in scores})
    heads = sorted({(layer, head) for _, layer, head in scores})
    types = list(dict.fromkeys(chain.from_iterable(scores.values())))
    table = np.full((2, len(steps), len(heads), len(types)), np.nan, np.float32)
    for (step, *head), values in scores.items():
        row = steps.index(step), heads.index((head[0], head[1]))
        for kind, pair in values.items():
            table[:, *row, types.index(kind)] = pair

    shown = thin_steps(len(steps), int(room / store.count_bytes(table[:, :1])))
    return {
        "steps": [steps[at] for at in shown],
        "heads": [list(head) for head in heads],
        "types": list(types),
        "names": [_list_names(names, steps[at], heads) for at in shown],
        "scores": store.add(table[:, shown]),
    }


def _list_names(names: Names, step: int, heads: list[tuple[int, int]]) -> Plain:
    """What each head is called at a step."""
    return [list(names.get((step, *head), [])) for head in heads]


def list_unmeasured(run: Run) -> Plain:
    """Analyses that fit the run and were not made of it: what each computes."""
    measured = list_measured(run) if run.is_measured else frozenset()
    batch = run.batch("test", 2)
    model = ViT(run.config.model)
    return {
        name: analysis.computes
        for name, analysis in list_analyses().items()
        if name not in measured and not analysis.list_missing(model, batch)
    }


def pack_figures(
    run: Run, figures: Sequence[FigureData], most: float, report: Callable[[str], None]
) -> Plain:
    """Figures as plain data, the largest left out (by name alone) until all fit.

    Those of one checkpoint stand there at `others` too, as far as there is room.
    """
    plain = {figure.name: to_plain(figure, DIGITS) for figure in figures}
    sizes = {name: len(format_json(data)) for name, data in plain.items()}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        if sum(sizes.values()) <= most:
            break
        plain[name] = {"kind": "TooLarge", "name": name}
        sizes[name] = 0

    room = min(most - sum(sizes.values()), most * OF_OTHERS)
    for figure in figures:
        described = plain[figure.name]
        others = draw_others(run, figure, room, report) if sizes[figure.name] else []
        if others and isinstance(described, dict):
            described["others"] = others
            room -= len(format_json(others))
    return list(plain.values())
