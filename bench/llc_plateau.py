"""Where the settings of the analysis `llc` lie: gamma and n beta swept on one trained checkpoint.

    python -m bench.llc_plateau RUN [--images 1095] [--to docs/llc]
    python -m bench.llc_plateau RUN --n-betas 3e5 --resolutions 0.075,0.15,0.3 --burn-in 2000
    python -m bench.llc_plateau RUN --second-order

Writes a table (`.md`) and a figure (`.png`), and prints the table. Some 15 CPU minutes for the
recipe `addition`; a run of your own with fewer weights or pictures takes less. What the
second-order value does when gamma is halved or doubled, over nine decades, takes half a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from toyvit import torchvision_guard  # noqa: F401
from toyvit.analyses.curvature import sample_spectrum
from toyvit.analyses.llc import DEFAULT, build_loss, choose_step, estimate_llc
from toyvit.analyses.sampling import LlcConfig
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.runs.handle import Run

N_BETAS = (1e4, 1e5, 2e5, 1e6)
RESOLUTIONS = (0.25, 0.5, 1.0, 2.0, 4.0)  # gamma / n beta
Places = Iterable[tuple[float, float]]  # n beta and gamma / n beta
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


def read_values(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    return tuple(map(float, text.split(",")))


def print_second_order(model: ViT, batch: Batch) -> None:
    """The regular value by gamma / n beta, and how far it moves when gamma is halved or doubled."""
    weights = dict(model.named_parameters())
    spectrum = sample_spectrum(build_loss(model, batch), weights, probes=1, iterations=100)
    for half_decade in range(-14, 6):
        resolution = 10 ** (half_decade / 2)
        less, value, more = (spectrum.regular(1, resolution * by) for by in (0.5, 1, 2))
        moves = max(less / value - 1, 1 - more / value)
        print(f"gamma / n beta {resolution:.1e}: regular {value:.1f}, moves {moves:.3f}")


def sweep(model: ViT, batch: Batch, places: Places, lengths: LlcConfig) -> pd.DataFrame:
    """A row for every n beta and gamma, each with chains of its own."""
    spectrum = sample_spectrum(build_loss(model, batch), dict(model.named_parameters()))
    rows = []
    for n_beta, resolution in places:
        gamma = n_beta * resolution
        settings = replace(lengths, n_beta=n_beta, localisation=gamma)
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
    parser.add_argument("--n-betas", type=read_values, default=N_BETAS)
    parser.add_argument("--resolutions", type=read_values, default=RESOLUTIONS)
    parser.add_argument("--burn-in", type=int, default=DEFAULT.burn_in)
    parser.add_argument("--draws", type=int, default=DEFAULT.draws)
    parser.add_argument("--second-order", action="store_true", help="the spectrum alone, no chains")
    parser.add_argument("--to", type=Path, help="where to write: PATH.md and PATH.png")
    arguments = parser.parse_args()

    run = Run.open(arguments.run)
    step = run.check_step(arguments.step)
    model = run.bare_model(step)
    batch = run.batch("train", arguments.images)
    if arguments.second_order:
        print_second_order(model, batch)
        return
    lengths = replace(DEFAULT, burn_in=arguments.burn_in, draws=arguments.draws)
    places = product(arguments.n_betas, arguments.resolutions)
    frame = sweep(model, batch, places, lengths)
    table = write_table(frame)
    print(table)
    if arguments.to:
        arguments.to.with_suffix(".md").write_text(table)
        title = f"{run.config.recipe} at step {step}"
        draw(frame, title, arguments.to.with_suffix(".png"))


if __name__ == "__main__":
    main()
