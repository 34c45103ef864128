"""The short table that ends a run: what it reached, when it changed, and what is left without its important heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.dynamics.transitions import (
    detect,
    detect_in_curve,
    find_window,
    order_events,
    relative_width,
)
from toyvit.errors import BadInput
from toyvit.report.figures import name_score, schedule_events
from toyvit.report.heads import format_head_types
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_baselines, load_table
from toyvit.runs.table import has_measures, select_curve, select_main_rows

Line = tuple[str, str]
# What may change abruptly: the curves that the detector judges.
WATCHED = (
    ("performance", "accuracy"),
    ("performance", "loss"),
    ("induction", "mass"),
    ("induction", "previous_cell"),
)


def summarize(path: Path, beside: Path | None = None) -> str:
    """Lines of text `what  value`; what was not measured is left out. A run with induction measures gets its transition."""
    frame = load_table(path)
    if "test" not in set(frame["split"]):
        raise BadInput(
            f"{path} is measured on {', '.join(frame['split'].unique())} only: run `toyvit measure {path}`"
        )
    transition = {"performance", "induction"} <= set(select_main_rows(frame)["analysis"])
    lines = (
        summarize_induction(path, frame) if transition else summarize_classification(path, frame)
    )
    if clamps := RunFolder(path).read_config().train.clamps:
        lines.insert(0, ("clamps, in training and in these measures", ", ".join(clamps)))
    if beside and "performance" in set(load_table(beside)["analysis"]):
        lines.append(
            (
                f"accuracy of {beside.name}",
                f"{select_curve(load_table(beside), 'performance', 'accuracy').iloc[-1]:.3f}",
            )
        )
    text = "\n".join(f"{name:40} {value}" for name, value in lines)
    if "heads" not in set(select_main_rows(frame)["analysis"]):
        return text
    return f"{text}\nheads, over all cells: name, score (largest null)\n{format_head_types(path)}"


def summarize_induction(path: Path, frame: pd.DataFrame) -> list[Line]:
    """Onset, width, accuracy and head scores before and after, and the accuracy without the induction head."""
    accuracy, mass = (
        select_curve(frame, "performance", "accuracy"),
        select_curve(frame, "induction", "mass"),
    )
    previous, ceiling = (
        select_curve(frame, "induction", "previous_cell"),
        load_baselines(path)["accuracy.bag_of_labels"],
    )
    heads = _last(frame, "induction", "mass")
    strongest = heads.sort_values("value").iloc[-1]
    layer, head = strongest["layer"], strongest["head"]
    rise = find_window(accuracy, ceiling)
    return [
        (
            "first checkpoint past 10 % of the rise",
            f"step {rise[0]}" if rise else "no rise above the ceiling",
        ),
        *(
            [
                (
                    "width, 10 % to 90 %",
                    f"{rise[1] - rise[0]} steps, {relative_width(rise):.2f} of the onset",
                )
            ]
            if rise
            else []
        ),
        ("transition in accuracy", describe_transition(accuracy, schedule_events(path))),
        ("bag-of-labels ceiling", f"{ceiling:.3f}"),
        ("final accuracy", f"{accuracy.iloc[-1]:.3f}"),
        (
            f"induction mass (layer {layer}, head {head})",
            f"{mass.iloc[0]:.3f} before, {mass.iloc[-1]:.3f} after",
        ),
        (
            "previous-cell mass on label cells",
            f"{previous.iloc[0]:.3f} before, {previous.iloc[-1]:.3f} after",
        ),
        *_without(path, frame, int(layer), int(head)),
    ]


def summarize_classification(path: Path, frame: pd.DataFrame) -> list[Line]:
    """Accuracy on all the pictures it was measured on, the naive answer, probes by layer, and the head that matters most."""
    performance = frame[(frame["analysis"] == "performance") & (frame["quantity"] == "accuracy")]
    final = performance[performance["step"] == performance["step"].max()]
    final = final.sort_values(
        ["split", "images"], key=lambda column: column.replace("test", "")
    )  # test first
    word = name_score(path)
    lines = [
        (f"final {word} on {int(row.images):,} {row.split} pictures", f"{row.value:.4f}")
        for row in final.itertuples()
    ]
    lines += [
        (name.replace("accuracy.", f"{word} of: "), f"{value:.3f}")
        for name, value in _naive(path, "accuracy").items()
    ]
    if final["split"].eq("test").any():
        lines.append(
            (
                f"transition in {word}",
                describe_transition(
                    select_curve(frame, "performance", "accuracy"), schedule_events(path)
                ),
            )
        )
    probes = _last(frame, "probes", "accuracy")
    for (factor, group), rows in probes.groupby(["factor", "group"]) if len(probes) else ():
        by_layer = ", ".join(f"{value:.3f}" for value in rows.sort_values("layer")["value"])
        lines.append((f"probe of {factor} by layer, {group}", by_layer))
    losses = _last(frame, "head_ablation", "loss")
    if len(losses):
        worst = losses[losses["ablation"] == "zero"].sort_values("value").iloc[-1]
        lines += _without(path, frame, int(worst["layer"]), int(worst["head"]))
    return lines


def summarize_events(paths: list[Path]) -> str:
    """What moves first, for each folder of seeds that has at least two runs in which every watched measure has a transition."""
    parts = []
    for setting in sorted({path.parent for path in paths}):
        known = [path for path in paths if path.parent == setting and has_measures(RunFolder(path))]
        frames, at = (
            [load_table(path) for path in known],
            schedule_events(known[0]) if known else (),
        )
        runs = [
            {
                f"{analysis}/{quantity}": select_curve(frame, analysis, quantity)
                for analysis, quantity in WATCHED
            }
            for frame in frames
        ]
        runs = [{name: values for name, values in run.items() if len(values)} for run in runs]
        moved = [
            run
            for run in runs
            if run and all(detect_in_curve(values, at) for values in run.values())
        ]
        if len(moved) > 1:
            text = order_events(moved, at).to_string(float_format=lambda value: f"{value:.2f}")
            parts.append(
                f"order of events in {setting.name}, {len(moved)} of {len(runs)} runs (lag in steps, 95 % interval):\n{text}"
            )
    return "\n".join(parts)


def describe_transition(values: pd.Series, at: Sequence[float] = ()) -> str:
    """What the detector says of a curve over steps, in a few words; `at` are the steps at which the learning rate changes."""
    try:
        change, other = detect(values.index, values, at), detect(values.index, values)
    except BadInput as error:
        return f"no verdict: {error}"
    if change:
        return f"step {change.onset:.0f} to {change.end:.0f}, by {change.size:+.2f}, confidence {change.confidence:.3f}"
    if other is None:
        return "none found"
    at_that = min(at, key=lambda step: abs(step - other.onset))
    return f"a change at {other.onset:.0f}, as the learning rate changes at {at_that:.0f}: not called a transition"


def _naive(path: Path, quantity: str) -> dict[str, float]:
    return {
        name: value for name, value in load_baselines(path).items() if name.startswith(quantity)
    }


def _last(frame: pd.DataFrame, analysis: str, quantity: str) -> pd.DataFrame:
    """The rows of a quantity at the last step that has any."""
    rows = select_main_rows(
        frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    )
    return rows[rows["step"] == rows["step"].max()]


def _without(path: Path, frame: pd.DataFrame, layer: int, head: int) -> list[Line]:
    rows = _last(frame, "head_ablation", "accuracy")
    if not len(rows):
        return []
    zeroed = rows[(rows["ablation"] == "zero") & (rows["layer"] == layer) & (rows["head"] == head)]
    return [
        (f"{name_score(path)} without layer {layer}, head {head}", f"{zeroed['value'].iloc[0]:.3f}")
    ]
