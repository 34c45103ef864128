"""What happened in a run, as four questions with their answers in words."""

from __future__ import annotations

import os
from collections.abc import Sequence

from toyvit.config.run import list_differences
from toyvit.dynamics.transitions import detect_in_curve, find_window
from toyvit.errors import BadInput
from toyvit.report.curves import name_score
from toyvit.report.heads import MARGIN, collect_scores, find_since, name_all_heads
from toyvit.report.plain import Plain
from toyvit.report.rows import list_analyses
from toyvit.report.style import call_head
from toyvit.report.summary import CEILING, describe_changes, select_last
from toyvit.runs.handle import Run

MOST_NAMES = 4  # that are told; the tables have all


def tell_story(run: Run, others: Sequence[Run] = ()) -> list[Plain]:
    """(question, answer): when it changed, which heads, what rests on them, and if nothing had.

    `others` are those on the same page.
    """
    answers = {
        "When did it change?": tell_when(run),
        "Which heads?": tell_heads(run),
        "Is it more than a pattern of attention?": tell_cause(run),
        "What if nothing had happened?": tell_nothing(run, others),
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
    verdict = describe_changes(accuracy, run.config.train)
    says = f"The detector of abrupt changes, which judges the whole curve, says: {verdict}."
    rise = find_window(accuracy, run.baselines[CEILING]) if CEILING in run.baselines else None
    if rise is None:
        return f"{first} {says}"
    start, end = rise
    return (
        f"{first} Without finding the match at best {run.baselines[CEILING]:.3f} is possible: "
        f"10 % of the way from there to the end is passed at step {start:,}, 90 % at step {end:,} "
        f"(shaded). {says}"
    )


def tell_heads(run: Run) -> str:
    """What heads are called at the last measured step, in the order in which the names came.

    Where there are many, those that came last.
    """
    if "heads" not in list_analyses(run):
        return ""
    names = name_all_heads(run)
    scores = collect_scores(run)
    last = max(step for step, *_ in names)
    parts = []
    for (step, layer, head), kinds in names.items():
        if step != last:
            continue
        for kind in kinds:
            since = find_since(kind, (layer, head), names)
            score, null = scores[(step, layer, head)][kind]
            word = kind.replace("_", " ")
            text = (
                f"{call_head(layer, head)}: {word} since step {since:,}, {score:.2f} ({null:.2f})"
            )
            parts.append((since, text))
    if not parts:
        return f"At step {last:,} no head stands clear of the nulls of any type."

    parts.sort(key=lambda part: part[0])
    told = [text for _, text in parts[-MOST_NAMES:]]
    more = len(parts) - MOST_NAMES
    rest = f"; {more} earlier names in the table of heads" if more > 0 else ""
    return (
        f"{'; '.join(told)}{rest}. After each name its score at step {last:,} and, in brackets, "
        f"the largest null: what is seen where there is nothing. A name needs {MARGIN} more than "
        "that, so it comes after the score has begun to rise."
    )


def tell_cause(run: Run) -> str:
    """What is left without each head, one at a time."""
    rows = select_last(run, "head_ablation", "accuracy")
    rows = rows[rows["ablation"] == "zero"] if len(rows) else rows
    if not len(rows):
        return (
            "Not measured: a pattern shows where a head reads from, not that the answer rests on it"
            f" (`toyvit measure {name_path(run)} --analyses head_ablation`)."
        )
    worst = rows.sort_values("value").head(MOST_NAMES)
    step = int(worst["step"].iloc[0])
    whole = run.curve("performance", "accuracy").get(step)
    known = "" if whole is None else f" of {whole:.3f}"
    places = zip(worst["layer"], worst["head"], worst["value"], strict=True)
    left = [f"{value:.3f} without {call_head(layer, head)}" for layer, head, value in places]
    return (
        f"Heads are cut one at a time (their output set to zero): at step {step:,} the "
        f"{name_score(run)}{known} becomes {', '.join(left)}."
    )


def name_path(run: Run) -> str:
    """Where a run lies, seen from this folder: a page may be mailed, and says no more than that."""
    return os.path.relpath(run.path)


def tell_nothing(run: Run, others: Sequence[Run] = ()) -> str:
    """What the page would show of a run that learned nothing, and which of the others is one."""
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
        f"{score} would stay at or below what predictors that know less reach (dotted lines; the "
        f"best is {best}, {value:.3f}), nothing would be shaded, no head would get a name while it "
        f"rises, and cutting one could cost no more than that.{_name_unchanged(others)}"
    )


def _name_unchanged(others: Sequence[Run]) -> str:
    """Those runs in whose score no abrupt change is found, in a sentence."""
    names = []
    for run in others:
        try:
            accuracy = run.curve("performance", "accuracy")
        except BadInput:
            continue
        if len(accuracy) and detect_in_curve(accuracy, run.config.train) is None:
            names.append(run.name)
    return f" To compare with: no abrupt change is found in {', '.join(names)}." if names else ""


def tell_difference(run: Run, first: Run) -> str:
    """What another run of the page is: how its config differs, and what came of it."""
    lines = list_differences(first.config, run.config)
    differs = [line for line in lines if not line.startswith("recipe:")]
    shown = "; ".join(differs[:MOST_NAMES]) or "the same config"
    more = f" and {len(differs) - MOST_NAMES} more" if len(differs) > MOST_NAMES else ""
    text = f"Differs in {shown}{more}." if differs else "It has the same config."
    try:
        accuracy = run.curve("performance", "accuracy")
    except BadInput:
        return f"{text} It is not measured."
    verdict = describe_changes(accuracy, run.config.train)
    return (
        f"{text} Its {name_score(run)} ends at {accuracy.iloc[-1]:.3f}; abrupt change: {verdict}."
    )
