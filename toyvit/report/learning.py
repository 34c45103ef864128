"""How well a run does against training step, beside predictors that know less."""

from __future__ import annotations

import logging

from toyvit.analyses.attention import previous_mass
from toyvit.analyses.chance import spread_evenly
from toyvit.analyses.induction import compute_induction_chances
from toyvit.dynamics.transitions import find_window
from toyvit.errors import DataMissing
from toyvit.report.curves import (
    EARLY_STEPS,
    STEPS,
    baseline_levels,
    build_curve,
    build_levels,
    compare_runs,
    mark_rate_changes,
    name_loss,
    score_axis,
    stack_panels,
)
from toyvit.report.panels import (
    Axis,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
    Level,
    Span,
)
from toyvit.report.rows import FigureRow
from toyvit.report.style import pick_shades
from toyvit.runs.handle import Run

logger = logging.getLogger(__name__)

PHASE_TRANSITION_CAPTION = Caption(
    see=(
        "Loss falls and accuracy rises past the bag of labels, the best that can be done "
        "without finding the match, while the previous-cell head and the induction head form. "
        "Shaded: 10 % to 90 % of the rise."
    ),
    otherwise=(
        "accuracy stays at or below the bag of labels, both masses where the untrained model "
        "has them, and nothing is shaded."
    ),
)


def draw_phase_transition(run: Run, beside: Run | None = None) -> FigureData:
    """Loss, accuracy, induction and previous-cell mass against step, baselines, the rise shaded."""
    labels, past = _list_even_shares(run)
    quantities = {
        ("performance", "loss"): ("loss (nats)", baseline_levels(run, "loss")),
        ("performance", "accuracy"): (
            "accuracy\n(share of pictures)",
            baseline_levels(run, "accuracy"),
        ),
        ("induction", "mass"): (
            "induction mass\n(strongest head, share)",
            labels,
        ),
        ("induction", "previous_cell"): (
            "previous-cell mass\n(label cells, strongest\nhead, share)",
            past,
        ),
    }
    panels = [
        _panel(run, compare_runs(run, beside, *quantity), name, levels)
        for quantity, (name, levels) in quantities.items()
    ]

    return FigureData(
        name="phase_transition",
        title=f"{run.name}: the induction transition",
        caption=PHASE_TRANSITION_CAPTION,
        blocks=stack_panels(panels, 2.2),
    )


def _panel(run: Run, curves: tuple[Curve, ...], name: str, levels: tuple[Level, ...]) -> CurvePanel:
    """One quantity, with the rise of the accuracy and the schedule's changes."""
    accuracy = run.curve("performance", "accuracy")
    rise = find_window(accuracy, run.baselines.get("accuracy.bag_of_labels", 0))
    spans = (Span(start=rise[0], end=rise[1], label="10 % to 90 % of the rise"),) if rise else ()

    return CurvePanel(
        x=STEPS,
        y=Axis(label=name),
        curves=curves,
        levels=levels,
        spans=spans,
        marks=mark_rate_changes(run, accuracy.index[-1]),
        legend="inside" if name.startswith("loss") else "none",
    )


def _list_even_shares(run: Run) -> tuple[tuple[Level, ...], tuple[Level, ...]]:
    """The levels of even attention for both masses; none where the pictures are not here."""
    try:
        labels, past = find_even_shares(run)
    except DataMissing as error:
        logger.warning("phase_transition is drawn without chance levels of attention: %s", error)
        return (), ()
    of_labels = Level(value=labels, name="spread over the labels", kind="chance")
    return (of_labels,), (Level(value=past, name="uniform attention", kind="chance"),)


def find_even_shares(run: Run) -> tuple[float, float]:
    """The mass of attention over the labels alone; the previous-cell mass of even attention."""
    batch = run.batch("test", 2)
    assert batch.retrieval is not None
    chances = compute_induction_chances(batch, run.config.model)
    return 1 / batch.retrieval.candidates.shape[1], chances["previous_cell_chance"].item()


PHASE_TRANSITION = FigureRow(
    name="phase_transition",
    draw=draw_phase_transition,
    needs=frozenset({"performance", "induction"}),
    is_headline=True,
)


LEARNING_CAPTION = Caption(
    see=(
        "Where the curves leave what a predictor that knows less can do (dotted, named at the "
        "right), the model has learned more than that predictor knows."
    ),
    otherwise="both curves stay at the lowest of the dotted lines.",
)


def draw_learning(run: Run, beside: Run | None = None) -> FigureData:
    """Loss and accuracy on the evaluation pictures against step, with the baselines."""
    panels = []
    for quantity, axis in (("loss", Axis(label=name_loss(run))), ("accuracy", score_axis(run))):
        curves = compare_runs(run, beside, "performance", quantity)
        panel = CurvePanel(
            x=EARLY_STEPS,
            y=axis,
            curves=curves,
            levels=baseline_levels(run, quantity),
            marks=mark_rate_changes(run, curves[0].x[-1]),
            legend="inside" if quantity == "loss" else "none",
        )
        panels.append(panel)

    return FigureData(
        name="learning",
        title=f"{run.name}: what is learned, and when",
        caption=LEARNING_CAPTION,
        blocks=stack_panels(panels, 2.5),
    )


LEARNING = FigureRow(
    name="learning",
    draw=draw_learning,
    needs=frozenset({"performance"}),
    lacks=frozenset({"induction"}),
    is_headline=True,
)


STRATEGIES_CAPTION = Caption(
    see=(
        "Whichever strategy has the lowest curve is the one whose answers the model gives; "
        "curves that come down one after the other are stages."
    ),
    otherwise="all curves stay where they begin, and no head looks at the patch before.",
)


def draw_strategies(run: Run, beside: Run | None = None) -> FigureData:
    """How far the model is from predictors that know the world, against step."""
    attention = CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="attention to the\npatch before\n(strongest head, share)"),
        curves=compare_runs(run, beside, "attention", "previous"),
        levels=(Level(value=find_even_previous(run), name="uniform attention", kind="chance"),),
    )

    return FigureData(
        name="strategies",
        title=f"{run.name}: which strategy the model is nearest to",
        caption=STRATEGIES_CAPTION,
        blocks=stack_panels([_distance_panel(run, beside), attention], 3.0, heights=(2, 1)),
    )


def _distance_panel(run: Run, beside: Run | None) -> CurvePanel:
    """KL(strategy, model) of every strategy, and of each from the truth."""
    rows = run.table[run.table["analysis"] == "strategies"]
    names = rows["strategy"].unique()
    curves = [
        build_curve(run.curve("strategies", "kl", strategy=name), name, colour=shade)
        for name, shade in zip(names, pick_shades(len(names)), strict=True)
    ]
    if beside:
        values = beside.curve("strategies", "kl", strategy="truth")
        name = f"truth, {beside.name}"
        curves.append(build_curve(values, name, colour="orange", style="dashed"))

    apart = {
        f"{name.removeprefix('kl.')} from truth": value
        for name, value in run.baselines.items()
        if name.startswith("kl.") and value > 0
    }
    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="KL(strategy, model) (nats)", low=0),
        curves=tuple(curves),
        levels=build_levels(apart),
        legend="inside",
        legend_title="strategy",
    )


def find_even_previous(run: Run) -> float:
    """Attention to the patch before where every query spreads it over all keys that it may see."""
    config = run.config.model
    return previous_mass(spread_evenly(config), config.n_prefix).item()


STRATEGIES = FigureRow(
    name="strategies",
    draw=draw_strategies,
    needs=frozenset({"strategies", "attention"}),
    is_headline=True,
)
