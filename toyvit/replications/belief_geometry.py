"""Belief geometry (after Shai 2024): the stream holds what can be believed of a hidden state."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.data.worlds.hidden_states.config import HiddenStatesConfig
from toyvit.recipes.sequences import mess3
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import TEXT, Check, Outcome, Panel, Replication, build_lines
from toyvit.runs.handle import Run

SHARE = (0.0, 1.0)
EVERY = 6  # checkpoints between two that are measured


def build_rrxor() -> RunConfig:
    """The recipe on two random bits and their XOR, with one layer more and for longer."""
    config = mess3()
    return replace(
        config,
        task=HiddenStatesConfig(process="rrxor"),
        model=replace(config.model, n_layers=3),
        train=replace(config.train, steps=4000),
    )


def run_seed(
    seed: int, folder: Path, simple: RunConfig | None = None, spread: RunConfig | None = None
) -> Outcome:
    runs = {
        name: train_and_measure(config, seed, folder / name, ["beliefs"], every=EVERY)
        for name, config in (("mess3", simple or mess3()), ("rrxor", spread or build_rrxor()))
    }
    last = {name: run.config.model.n_layers for name, run in runs.items()}
    final = runs["mess3"].curve("beliefs", "r2", layer=last["mess3"])
    together = runs["rrxor"].curve("beliefs", "r2_together")
    answer = float(runs["rrxor"].curve("beliefs", "r2_answer").iloc[-1])
    numbers = {
        "mess3_final": float(final.iloc[-1]),
        "mess3_gain": float(final.iloc[-1] - final.iloc[0]),
        "rrxor_together": float(together.iloc[-1]),
        "rrxor_over_answer": float(together.iloc[-1]) - answer,
    }
    return Outcome(numbers, [_build_panel(name, run, last[name]) for name, run in runs.items()])


def _build_panel(name: str, run: Run, n_layers: int) -> Panel:
    curves = {
        f"layer {layer}": to_points(run.curve("beliefs", "r2", layer=layer))
        for layer in range(n_layers + 1)
    }
    curves["all together"] = to_points(run.curve("beliefs", "r2_together"))
    levels = {
        "the patch and its place": float(run.curve("beliefs", "r2_patch").iloc[-1]),
        "the best next answer": float(run.curve("beliefs", "r2_answer").iloc[-1]),
    }
    return build_lines(
        name, "step", "share of the variance of beliefs", curves, levels=levels, scale="symlog"
    )


ROW = Replication(
    name="belief-geometry",
    title="Beliefs about a hidden state are linear in the residual stream",
    source="Shai 2024, Transformers Represent Belief State Geometry in their Residual Stream",
    compared=(
        "R^2, on fresh pictures, of one affine map from the residual stream at every patch to the "
        "exact beliefs of an observer about the state of the process that draws the patches: Mess3 "
        "from the final layer (recipe `mess3`), RRXOR from all layers together (3 layers, 4,000 "
        "steps). In pictures: a 4 x 4 grid of textures, a texture a token. The source says what is "
        "linear and where; the margins are ours."
    ),
    run=run_seed,
    checks=(
        Check(
            "mess3_final",
            "Mess3: variance of the beliefs that the final layer gives",
            "linear in the final layer",
            TEXT,
            0.95,
            1,
            SHARE,
        ),
        Check(
            "mess3_gain",
            "Mess3: how much of that came by training",
            "comes with training",
            TEXT,
            0.03,
            0.2,
        ),
        Check(
            "rrxor_together",
            "RRXOR: variance that all layers give together",
            "linear, spread over layers",
            TEXT,
            0.8,
            1,
            SHARE,
        ),
        Check(
            "rrxor_over_answer",
            "RRXOR: how much more than the best next answer gives",
            "beliefs are more than the next token",
            TEXT,
            0.1,
            1,
        ),
    ),
    minutes=1.6,
)
