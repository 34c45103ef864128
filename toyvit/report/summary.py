"""The short table that ends a run: what it reached, when it changed, and what is left without its important heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.errors import BadInput
from toyvit.report.figures import changes, curve, score
from toyvit.report.heads import head_types
from toyvit.results import baselines, main_rows, measured, table
from toyvit.runs import RunFolder
from toyvit.transitions import detect, found, order_of_events, relative_width, window

Line = tuple[str, str]
# What may change abruptly: the curves that the detector judges.
WATCHED = (("performance", "accuracy"), ("performance", "loss"), ("induction", "mass"), ("induction", "previous_cell"))


def summary(path: Path, beside: Path | None = None) -> str:
    """Lines of text `what  value`; what was not measured is left out. A run with induction measures gets its transition."""
    frame = table(path)
    if "test" not in set(frame["split"]):
        raise BadInput(f"{path} is measured on {', '.join(frame['split'].unique())} only: run `toyvit measure {path}`")
    transition = {"performance", "induction"} <= set(main_rows(frame)["analysis"])
    lines = induction(path, frame) if transition else classification(path, frame)
    if clamps := RunFolder(path).run().train.clamps:
        lines.insert(0, ("clamps, in training and in these measures", ", ".join(clamps)))
    if beside and "performance" in set(table(beside)["analysis"]):
        lines.append((f"accuracy of {beside.name}", f"{curve(table(beside), 'performance', 'accuracy').iloc[-1]:.3f}"))
    text = "\n".join(f"{name:40} {value}" for name, value in lines)
    if "heads" not in set(main_rows(frame)["analysis"]):
        return text
    return f"{text}\nheads, over all cells: name, score (largest null)\n{head_types(path)}"


def induction(path: Path, frame: pd.DataFrame) -> list[Line]:
    """Onset, width, accuracy and head scores before and after, and the accuracy without the induction head."""
    accuracy, mass = curve(frame, "performance", "accuracy"), curve(frame, "induction", "mass")
    previous, ceiling = curve(frame, "induction", "previous_cell"), baselines(path)["accuracy.bag_of_labels"]
    heads = _last(frame, "induction", "mass")
    strongest = heads.sort_values("value").iloc[-1]
    layer, head = strongest["layer"], strongest["head"]
    rise = window(accuracy, ceiling)
    return [
        ("first checkpoint past 10 % of the rise", f"step {rise[0]}" if rise else "no rise above the ceiling"),
        *([("width, 10 % to 90 %", f"{rise[1] - rise[0]} steps, {relative_width(rise):.2f} of the onset")] if rise else []),
        ("transition in accuracy", verdict(accuracy, changes(path))),
        ("bag-of-labels ceiling", f"{ceiling:.3f}"),
        ("final accuracy", f"{accuracy.iloc[-1]:.3f}"),
        (f"induction mass (layer {layer}, head {head})", f"{mass.iloc[0]:.3f} before, {mass.iloc[-1]:.3f} after"),
        ("previous-cell mass on label cells", f"{previous.iloc[0]:.3f} before, {previous.iloc[-1]:.3f} after"),
        *_without(path, frame, int(layer), int(head)),
    ]


def classification(path: Path, frame: pd.DataFrame) -> list[Line]:
    """Accuracy on all the pictures it was measured on, the naive answer, probes by layer, and the head that matters most."""
    performance = frame[(frame["analysis"] == "performance") & (frame["quantity"] == "accuracy")]
    final = performance[performance["step"] == performance["step"].max()]
    final = final.sort_values(["split", "images"], key=lambda column: column.replace("test", ""))  # test first
    word = score(path)
    lines = [(f"final {word} on {int(row.images):,} {row.split} pictures", f"{row.value:.4f}") for row in final.itertuples()]
    lines += [(name.replace("accuracy.", f"{word} of: "), f"{value:.3f}") for name, value in _naive(path, "accuracy").items()]
    if final["split"].eq("test").any():
        lines.append((f"transition in {word}", verdict(curve(frame, "performance", "accuracy"), changes(path))))
    probes = _last(frame, "probes", "accuracy")
    for (factor, group), rows in probes.groupby(["factor", "group"]) if len(probes) else ():
        by_layer = ", ".join(f"{value:.3f}" for value in rows.sort_values("layer")["value"])
        lines.append((f"probe of {factor} by layer, {group}", by_layer))
    losses = _last(frame, "knock_outs", "loss")
    if len(losses):
        worst = losses[losses["ablation"] == "zero"].sort_values("value").iloc[-1]
        lines += _without(path, frame, int(worst["layer"]), int(worst["head"]))
    return lines


def events(paths: list[Path]) -> str:
    """What moves first, for each folder of seeds that has at least two runs in which every watched measure has a transition."""
    parts = []
    for setting in sorted({path.parent for path in paths}):
        known = [path for path in paths if path.parent == setting and measured(path)]
        frames, at = [table(path) for path in known], changes(known[0]) if known else ()
        runs = [
            {f"{analysis}/{quantity}": curve(frame, analysis, quantity) for analysis, quantity in WATCHED} for frame in frames
        ]
        runs = [{name: values for name, values in run.items() if len(values)} for run in runs]
        moved = [run for run in runs if run and all(found(values, at) for values in run.values())]
        if len(moved) > 1:
            text = order_of_events(moved, at).to_string(float_format=lambda value: f"{value:.2f}")
            parts.append(
                f"order of events in {setting.name}, {len(moved)} of {len(runs)} runs (lag in steps, 95 % interval):\n{text}"
            )
    return "\n".join(parts)


def verdict(values: pd.Series, at: Sequence[float] = ()) -> str:
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
    return {name: value for name, value in baselines(path).items() if name.startswith(quantity)}


def _last(frame: pd.DataFrame, analysis: str, quantity: str) -> pd.DataFrame:
    """The rows of a quantity at the last step that has any."""
    rows = main_rows(frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)])
    return rows[rows["step"] == rows["step"].max()]


def _without(path: Path, frame: pd.DataFrame, layer: int, head: int) -> list[Line]:
    rows = _last(frame, "knock_outs", "accuracy")
    if not len(rows):
        return []
    zeroed = rows[(rows["ablation"] == "zero") & (rows["layer"] == layer) & (rows["head"] == head)]
    return [(f"{score(path)} without layer {layer}, head {head}", f"{zeroed['value'].iloc[0]:.3f}")]
