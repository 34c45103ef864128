"""What happened in a run, as four questions with their answers in words."""

from __future__ import annotations

from toyvit.dynamics.transitions import find_window
from toyvit.errors import BadInput
from toyvit.report.curves import name_score, schedule_events
from toyvit.report.heads import collect_scores, name_all_heads
from toyvit.report.plain import Plain
from toyvit.report.rows import list_analyses
from toyvit.report.style import call_head
from toyvit.report.summary import CEILING, describe_transition, select_last
from toyvit.runs.handle import Run

MOST_HEADS = 4  # that are named; the table of heads has all


def tell_story(run: Run) -> list[Plain]:
    """(question, answer): when it changed, which heads, what rests on them, and if nothing had."""
    answers = {
        "When did it change?": tell_when(run),
        "Which heads?": tell_heads(run),
        "Is it more than a pattern of attention?": tell_cause(run),
        "What if nothing had happened?": tell_nothing(run),
    }
    return [[question, answer] for question, answer in answers.items() if answer]


def tell_when(run: Run) -> str:
    """The rise over what needs no match, where there is one, and what the detector says."""
    try:
        accuracy = run.curve("performance", "accuracy")
    except BadInput:
        return ""
    if accuracy.empty:
        return ""
    score = name_score(run)
    first = f"{score.capitalize()} went from {accuracy.iloc[0]:.3f} to {accuracy.iloc[-1]:.3f}."
    verdict = (
        f"The detector of transitions says: {describe_transition(accuracy, schedule_events(run))}."
    )
    rise = find_window(accuracy, run.baselines[CEILING]) if CEILING in run.baselines else None
    if rise is None:
        return f"{first} {verdict}"
    start, end = rise
    best = f"{run.baselines[CEILING]:.3f}, the best without finding the match"
    return f"{first} Its rise above {best}, runs from step {start:,} to {end:,}. {verdict}"


def tell_heads(run: Run) -> str:
    """What heads are called at the last measured step, with score and null."""
    if "heads" not in list_analyses(run):
        return ""
    names = name_all_heads(run)
    scores = collect_scores(run)
    last = max(step for step, *_ in names)
    called = {key: kinds for key, kinds in names.items() if key[0] == last and kinds}
    if not called:
        return f"At step {last:,} no head stands clear of the nulls of any type."
    parts = []
    for key, kinds in called.items():
        words = []
        for kind in kinds:
            score, null = scores[key][kind]
            words.append(f"{kind.replace('_', ' ')} ({score:.2f}, largest null {null:.2f})")
        parts.append(f"{call_head(*key[1:])}: {', '.join(words)}")
    more = len(parts) - MOST_HEADS
    rest = f"; {more} more in the table of heads" if more > 0 else ""
    return f"At step {last:,}, {'; '.join(parts[:MOST_HEADS])}{rest}."


def tell_cause(run: Run) -> str:
    """What is lost without the head that matters most."""
    rows = select_last(run, "head_ablation", "accuracy")
    rows = rows[rows["ablation"] == "zero"] if len(rows) else rows
    if not len(rows):
        return (
            "Not measured: a pattern shows where a head reads from, not that the answer rests on it"
            f" (`toyvit measure {run.path} --analyses head_ablation`)."
        )
    worst = rows.sort_values("value").iloc[0]
    step = int(worst["step"])
    whole = run.curve("performance", "accuracy").loc[step]
    head = call_head(int(worst["layer"]), int(worst["head"]))
    return (
        f"Cutting heads one at a time tells: at step {step:,} the {name_score(run)} is "
        f"{whole:.3f}, and {worst['value']:.3f} without {head}, the most that any head takes away."
    )


def tell_nothing(run: Run) -> str:
    """What the page would show of a run that learned nothing."""
    known = {
        name.removeprefix("accuracy.").replace("_", " "): value
        for name, value in run.baselines.items()
        if name.startswith("accuracy.")
    }
    if not known:
        return ""
    best, value = max(known.items(), key=lambda item: item[1])
    score = name_score(run).capitalize()
    return (
        f"{score} would stay at what predictors that know less reach (dotted lines; the best is "
        f"{best}, {value:.3f}), nothing would be shaded, no head would have a name, and attention "
        "would be spread evenly or stay as it was at step 0."
    )
