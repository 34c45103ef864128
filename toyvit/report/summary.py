"""The short table that ends a run: when it changed, from what to what, and what happens without its induction head."""

from __future__ import annotations

from pathlib import Path

from toyvit.errors import BadInput
from toyvit.report.figures import curve, window
from toyvit.results import baselines, table


def summary(path: Path, control: Path | None = None) -> str:
    """Onset, width, accuracy and head scores before and after, as lines of text. Needs a measured induction run."""
    frame = table(path)
    accuracy, mass = curve(frame, "performance", "accuracy"), curve(frame, "induction", "mass")
    previous, naive = curve(frame, "induction", "previous_cell"), baselines(path)
    if not len(accuracy) or not len(mass):
        raise BadInput(
            f"{path} has no measures of `performance` and `induction`: `toyvit report` needs an induction run with both"
        )
    ceiling = naive["accuracy.bag_of_labels"]
    rise = window(accuracy, ceiling)
    heads = frame[(frame["step"] == frame["step"].max()) & (frame["quantity"] == "mass")]
    layer, head = heads.loc[heads["value"].idxmax(), ["layer", "head"]]
    lines = [
        ("transition", f"step {rise[0]} to {rise[1]}, width / onset {(rise[1] - rise[0]) / rise[0]:.2f}" if rise else "none"),
        ("final accuracy", f"{accuracy.iloc[-1]:.3f}"),
        ("bag-of-labels ceiling", f"{ceiling:.3f}"),
        ("induction mass, first to last", f"{mass.iloc[0]:.3f} to {mass.iloc[-1]:.3f} (layer {layer}, head {head})"),
        ("previous-cell mass on label cells", f"{previous.iloc[0]:.3f} to {previous.iloc[-1]:.3f}"),
    ]
    without = frame[
        (frame["analysis"] == "knock_outs") & (frame["quantity"] == "accuracy") & (frame["step"] == frame["step"].max())
    ]
    if len(without):
        zeroed = without[(without["ablation"] == "zero") & (without["layer"] == layer) & (without["head"] == head)]
        lines.append(("accuracy without that head", f"{zeroed['value'].iloc[0]:.3f}"))
    if control:
        lines.append((f"accuracy of {control.name}", f"{curve(table(control), 'performance', 'accuracy').iloc[-1]:.3f}"))
    return "\n".join(f"{name:36} {value}" for name, value in lines)
