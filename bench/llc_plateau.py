"""Where the settings of the analysis `llc` lie: gamma and n beta swept on one trained checkpoint.

    python -m bench.llc_plateau RUN [--images 1095] [--to docs/llc]

Writes a table (`.md`) and a figure (`.png`), and prints the table. Some 15 CPU minutes for the
recipe `addition`; a run of your own with fewer weights or pictures takes less.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from toyvit import torchvision_guard  # noqa: F401
from toyvit.analyses.curvature import sample_spectrum
from toyvit.analyses.llc import DEFAULT, build_loss, choose_step, estimate_llc
from toyvit.runs.handle import Run

N_BETAS = (1e4, 1e5, 2e5, 1e6)
RESOLUTIONS = (0.25, 0.5, 1.0, 2.0, 4.0)  # gamma / n beta
COLUMNS = (
    "n beta",
    "gamma",
    "gamma / n beta",
    "llc",
    "sd",
    "regular",
    "downhill",
    "radius",
    "excess",
    "R-hat",
    "trend",
)


def sweep(run: Run, step: int, images: int) -> pd.DataFrame:
    """A row for every n beta and gamma, each with chains of its own."""
    model = run.bare_model(step)
    batch = run.batch("train", images)
    spectrum = sample_spectrum(build_loss(model, batch), dict(model.named_parameters()))
    rows = []
    for n_beta, resolution in product(N_BETAS, RESOLUTIONS):
        gamma = n_beta * resolution
        settings = replace(DEFAULT, n_beta=n_beta, localisation=gamma)
        settings = choose_step(settings, len(batch.images), spectrum.top)
        estimate = estimate_llc(model, batch, settings)
        row = (
            n_beta,
            gamma,
            resolution,
            estimate.mean,
            estimate.sd,
            spectrum.regular(n_beta, gamma),
            spectrum.downhill(n_beta, gamma),
            estimate.radius,
            estimate.excess,
            estimate.r_hat,
            estimate.trend,
        )
        rows.append(row)
        print(*(f"{value:.3g}" for value in row), flush=True)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def draw(frame: pd.DataFrame, title: str, path: Path) -> None:
    """The estimate over gamma / n beta, a line for each n beta, and the second-order value."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for n_beta, rows in frame.groupby("n beta"):
        x = rows["gamma / n beta"]
        axes.errorbar(x, rows["llc"], rows["sd"], marker="o", label=f"n beta {n_beta:g}")
    axes.plot(x, rows["regular"], "k--", label="second order (regular)")
    axes.set(xscale="log", xlabel="gamma / n beta (loss per squared weight)", title=title)
    axes.set(ylabel="local learning coefficient", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


def write_table(frame: pd.DataFrame) -> str:
    """The rows as a Markdown table."""
    lines = [f"| {' | '.join(frame.columns)} |", f"|{'---|' * len(frame.columns)}"]
    for row in frame.itertuples(index=False):
        lines.append(f"| {' | '.join(f'{value:.3g}' for value in row)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--step", type=int, help="default: the last")
    parser.add_argument("--images", type=int, default=1095)
    parser.add_argument("--to", type=Path, help="where to write: PATH.md and PATH.png")
    arguments = parser.parse_args()

    run = Run.open(arguments.run)
    step = run.check_step(arguments.step)
    frame = sweep(run, step, arguments.images)
    table = write_table(frame)
    print(table)
    if arguments.to:
        arguments.to.with_suffix(".md").write_text(table)
        title = f"{run.config.recipe} at step {step}"
        draw(frame, title, arguments.to.with_suffix(".png"))


if __name__ == "__main__":
    main()
