"""The table that ends a run: what it reached, when it changed, what its heads are for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.config import TrainConfig
from toyvit.dynamics.judgement import Transition, judge_transition, read_seed
from toyvit.dynamics.latent import explain_difference
from toyvit.dynamics.order import order_events
from toyvit.dynamics.transitions import find_window, judge_series, relative_width
from toyvit.errors import BadInput, escape_text
from toyvit.report.curves import name_score
from toyvit.report.factors import LEAST_PROBED
from toyvit.report.heads import format_head_types
from toyvit.report.rows import count_pictures
from toyvit.report.style import call_head
from toyvit.report.sweeps import open_settings
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

Line = tuple[str, str]
# What may change abruptly: the curves that the detector judges.
WATCHED = (
    ("performance", "accuracy"),
    ("performance", "loss"),
    ("induction", "mass"),
    ("induction", "previous_cell"),
)
CEILING = "accuracy.bag_of_labels"
REASONS = {
    "returns": "does not last",
    "spike": "is a spike",
    "no shape": "has no shape of its own",
    "unfinished": "is not over when the run ends",
    "slow": "is slow against the training before it",
    "task": "comes as the curriculum changes the task",
}


def summarize(run: Run | Path | str, beside: Run | Path | str | None = None) -> str:
    """Lines of text `what  value`; what was not measured is left out.

    A score is `final` only where it is of the last step of the config; else its step is said, and
    how far the run was trained and measured. BadInput without measures of test pictures.
    """
    run = Run.open(run)
    lines = list_facts(run, beside)
    text = "\n".join(escape_text(f"{name:40} {value}") for name, value in lines)
    if "heads" not in set(select_main_rows(run.table)["analysis"]):
        return text
    at = tell_step(run, select_last(run, "heads", "score")["step"].max())
    head = f"heads, over all cells{at}: name, score (largest null)"
    return "\n".join([text, head, format_head_types(run)])


def list_facts(run: Run, beside: Run | Path | str | None = None) -> list[Line]:
    """What a run came to, as (what, value); BadInput without measures of test pictures."""
    if missing := tell_unmeasured(run):
        raise BadInput(missing)
    analyses = set(select_main_rows(run.table)["analysis"])
    transition = {"performance", "induction"} <= analyses and CEILING in run.baselines
    lines = describe_progress(run)
    if clamps := run.config.train.clamps:
        lines.append(("clamps, in training and in these measures", ", ".join(clamps)))
    if curriculum := run.config.train.curriculum:
        text = f"{', '.join(curriculum)}; measures are of the task that it ends with"
        lines.append(("curriculum, in training alone", text))
    lines += summarize_induction(run) if transition else summarize_classification(run)
    if beside:
        lines += _accuracy_beside(Run.open(beside))
    return lines


def tell_unmeasured(run: Run) -> str:
    """That no test picture was measured, and the command that does; else nothing."""
    splits = run.table["split"].unique() if run.is_measured else ()
    if "test" in splits:
        return ""
    measured = f"measured on {', '.join(splits)} only" if len(splits) else "not measured"
    return f"{run.path} is {measured}: run `toyvit measure {run.path}`"


def describe_progress(run: Run) -> list[Line]:
    """How far a run was trained and measured, on how few pictures; nothing where all is well."""
    steps = run.config.train.steps
    lines = []
    status = run.status
    if status in ("imported", "watched"):
        lines.append(("state", f"{status}, not trained here; last step {run.last_step:,}"))
    elif status != "finished":
        lines.append(("state", f"{status}, last checkpoint at step {run.last_step:,} of {steps:,}"))
    rows = run.table[run.table["split"] == "test"]
    last = int(rows["step"].max())
    if last < steps:
        lines.append(("last measured step", f"{last:,} of {steps:,}"))
    n = count_pictures(run)
    if n < LEAST_PROBED:
        lines.append(
            ("test pictures", f"{n}, too few for probes; scores have steps of {1 / n:.2g}")
        )
    return lines


def tell_step(run: Run, step: int) -> str:
    """` at step 300`, where that is not the run's last."""
    return "" if step == run.config.train.steps else f" at step {step:,}"


def name_last(run: Run, word: str, step: int) -> str:
    """What a score of a step is called: final only where training ends there."""
    at = tell_step(run, step)
    return f"{word}{at}" if at else f"final {word}"


def _accuracy_beside(run: Run) -> list[Line]:
    if "performance" not in set(select_main_rows(run.table)["analysis"]):
        return []
    accuracy = run.curve("performance", "accuracy")
    at = tell_step(run, accuracy.index[-1])
    return [(f"accuracy of {run.name}{at}", f"{accuracy.iloc[-1]:.3f}")]


def summarize_induction(run: Run) -> list[Line]:
    """Onset, width, scores before and after, and the accuracy without the induction head."""
    accuracy = run.curve("performance", "accuracy")
    ceiling = run.baselines[CEILING]
    strongest = select_last(run, "induction", "mass").sort_values("value").iloc[-1]
    layer = int(strongest["layer"])
    head = int(strongest["head"])
    previous = run.curve("induction", "previous_cell")

    return [
        *_describe_rise(accuracy, ceiling),
        *_describe_change(run),
        ("bag-of-labels ceiling", f"{ceiling:.3f}"),
        (name_last(run, "accuracy", accuracy.index[-1]), f"{accuracy.iloc[-1]:.3f}"),
        (
            f"induction mass ({call_head(layer, head)})",
            _before_and_after(run, run.curve("induction", "mass")),
        ),
        ("previous-cell mass on label cells", _before_and_after(run, previous)),
        *_without_head(run, layer, head),
    ]


def _describe_rise(accuracy: pd.Series, ceiling: float) -> list[Line]:
    """When the accuracy leaves the ceiling, and how wide its rise is."""
    name = "first checkpoint past 10 % of the rise"
    rise = find_window(accuracy, ceiling)
    if rise is None:
        return [(name, "no rise above the ceiling")]
    width = f"{rise[1] - rise[0]} steps, {relative_width(rise):.2f} of the onset"
    return [(name, f"step {rise[0]}"), ("width, 10 % to 90 %", width)]


def _before_and_after(run: Run, values: pd.Series) -> str:
    """The first and the last value, with their steps where those are not the run's ends."""
    first, last = values.index[0], values.index[-1]
    if first == last:
        return f"{values.iloc[-1]:.3f} at step {last:,}"
    before = "before" if first == 0 else f"at step {first:,}"
    after = tell_step(run, last).strip() or "after"
    return f"{values.iloc[0]:.3f} {before}, {values.iloc[-1]:.3f} {after}"


def summarize_classification(run: Run) -> list[Line]:
    """Accuracies, baselines, probes by layer, and the head that matters most."""
    lines = _final_scores(run)
    losses = select_last(run, "head_ablation", "loss")
    lines += _probe_lines(run)
    if len(losses):
        worst = losses[losses["ablation"] == "zero"].sort_values("value").iloc[-1]
        lines += _without_head(run, int(worst["layer"]), int(worst["head"]))
    return lines


def _final_scores(run: Run) -> list[Line]:
    """The last score on each split, test first, the baselines, and the transition."""
    frame = run.table
    rows = frame[(frame["analysis"] == "performance") & (frame["quantity"] == "accuracy")]
    last = rows.groupby(["split", "images"], observed=True)["step"].transform("max")
    final = rows[rows["step"] == last]
    final = final.sort_values(["split", "images"], key=_put_test_first)
    word = name_score(run)
    lines = []
    columns = [final[name].tolist() for name in ("step", "images", "split", "value")]
    for step, images, split, value in zip(*columns, strict=True):
        name = f"{name_last(run, word, step)} on {images:,} {split} pictures"
        lines.append((name, f"{value:.4f}"))

    lines += [
        (name.replace("accuracy.", f"{word} of: "), f"{value:.3f}")
        for name, value in run.baselines.items()
        if name.startswith("accuracy")
    ]
    if final["split"].eq("test").any():
        lines += _describe_change(run)
    return lines


def _describe_change(run: Run) -> list[Line]:
    """The abrupt changes of the score, and how the loss differs where one of the two has any."""
    word = name_score(run)
    train = run.config.train
    score = run.curve("performance", "accuracy")
    lines = [(f"abrupt change in {word}", describe_changes(score, train))]
    if word == "accuracy":
        text = explain_difference(score, run.curve("performance", "loss"), train)
        lines += [("accuracy against loss", text)] * bool(text)
    return lines


def _put_test_first(column: pd.Series) -> pd.Series:
    """What the rows of a column are sorted by: the split `test` comes before all others."""
    return column.astype(object).replace("test", "")


def _probe_lines(run: Run) -> list[Line]:
    if count_pictures(run) < LEAST_PROBED:
        return []
    probes = select_last(run, "probes", "accuracy")
    lines = []
    at = tell_step(run, probes["step"].max()) if len(probes) else ""
    places = probes.groupby(["factor", "group"], observed=True) if len(probes) else ()
    for (factor, group), rows in places:
        by_layer = ", ".join(f"{value:.3f}" for value in rows.sort_values("layer")["value"])
        lines.append((f"probe of {factor} by layer, {group}{at}", by_layer))
    return lines


def summarize_events(runs: Sequence[Run | Path | str]) -> str:
    """Of each folder of seeds: whether they have a transition, and what moves first in them.

    The first where the recipe names an order parameter, the second in six seeds or more whose
    curves all change abruptly.
    """
    parts = []
    for folder, seeds in open_settings(runs).items():
        name = escape_text(folder.name)
        if verdict := judge_seeds(seeds):
            parts.append(f"a transition in {name}? {verdict}")
        order = _order_seeds(seeds)
        if order is not None:
            n_moved = order["runs"].iloc[0]
            text = order.to_string(float_format=lambda value: f"{value:.2f}", na_rep="-")
            parts.append(
                f"order of events in {name}, {n_moved} of {len(seeds)} runs "
                f"(lag in steps; the intervals hold at once in 95 %):\n{text}"
            )

    return "\n".join(parts)


def judge_seeds(seeds: Sequence[Run]) -> Transition | None:
    """Whether runs of several seeds have a transition; None without an order parameter."""
    curves = [seed for seed in map(read_seed, seeds) if seed]
    return judge_transition(curves, seeds[0].config.train) if curves else None


def _order_seeds(seeds: Sequence[Run]) -> pd.DataFrame | None:
    """The order of events, or None where too few seeds have all of them."""
    if not seeds:
        return None
    try:
        return order_events([watch_curves(run) for run in seeds], seeds[0].config.train)
    except BadInput:
        return None


def watch_curves(run: Run) -> dict[str, pd.Series]:
    """The curves of a run that the detector judges, by name."""
    curves = {
        f"{analysis}/{quantity}": run.curve(analysis, quantity) for analysis, quantity in WATCHED
    }
    return {name: values for name, values in curves.items() if len(values)}


def describe_changes(values: pd.Series, train: TrainConfig | None = None) -> str:
    """What the detector says of a curve of a run that was trained so."""
    try:
        verdict = judge_series(values, train)
    except BadInput as error:
        return f"no verdict: {error}"
    texts = [
        f"step {change.onset:.0f} to {change.end:.0f}, 10 % to 90 % of a change of "
        f"{change.size:+.2f}, confidence {change.confidence:.3f} that it is abrupt"
        for change in verdict.changes
    ]
    if texts:
        return "; then ".join(texts)
    reasons = [f"the change at step {step:.0f} {REASONS[why]}" for why, step in verdict.refused]
    return ": ".join(["none found", *reasons[:1]])


def select_last(run: Run, analysis: str, quantity: str) -> pd.DataFrame:
    """The rows of a quantity at the last step that has any."""
    frame = run.table
    rows = select_main_rows(
        frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    )
    return rows[rows["step"] == rows["step"].max()]


def _without_head(run: Run, layer: int, head: int) -> list[Line]:
    rows = select_last(run, "head_ablation", "accuracy")
    if not len(rows):
        return []
    zeroed = rows[(rows["ablation"] == "zero") & (rows["layer"] == layer) & (rows["head"] == head)]
    if not len(zeroed):
        return []
    row = zeroed.iloc[0]
    name = f"{name_score(run)} without {call_head(layer, head)}{tell_step(run, row['step'])}"
    return [(name, f"{row['value']:.3f}")]
