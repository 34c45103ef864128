"""Exercises and their checks: right, or not yet with a hint, never the answer.

The right answer is computed from the run that the reader has, so that it is right for any run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from course import solutions
from toyvit.errors import choose
from toyvit.runs.handle import Run

UNANSWERED = "No answer yet: put yours in place of the dots, and run the cell again."


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """A question of a notebook: what is right for its runs, and what helps who is wrong."""

    solve: Callable[..., object]
    hint: str
    tolerance: float = 0.0


EXERCISES = {
    "00.1": Exercise(
        solve=solutions.find_half_right,
        hint="curve.index[condition] has the steps at which a condition on a curve holds.",
    ),
    "00.2": Exercise(
        solve=solutions.score_without_first_head,
        hint="The cell above cuts out (1, 0); heads are (layer, head), counted from 0.",
        tolerance=0.02,
    ),
    "01.1": Exercise(
        solve=solutions.find_half_way,
        hint="Half way is the mean of the first and the last value of this curve, not 0.5.",
    ),
    "01.2": Exercise(
        solve=solutions.score_unseen,
        hint='Another split of the same run: run.batch("unseen", 512).',
        tolerance=0.02,
    ),
    "01.3": Exercise(
        solve=solutions.find_induction_head,
        hint="Of the rows of the last step: analysis induction, quantity mass; the largest value.",
    ),
    "02.1": Exercise(
        solve=solutions.find_needed_head,
        hint="The smallest accuracy in the column `zero` of the table above.",
    ),
    "02.2": Exercise(
        solve=solutions.find_past_pixels,
        hint="Compare the curve with run.baselines['accuracy.pixel_probe'], step by step.",
    ),
    "03.1": Exercise(
        solve=solutions.find_label_port,
        hint="Patch the path as above, with pairs of the change `label`; one letter is asked for.",
    ),
    "03.2": Exercise(
        solve=solutions.count_query_edges,
        hint="An edge mask is 1 where an edge is in the circuit, so its sum counts them.",
    ),
    "04.1": Exercise(
        solve=solutions.find_reading_layer,
        hint="The row cls, patches of the table of knock-outs; more nats cost more.",
    ),
    "04.2": Exercise(
        solve=solutions.find_strongest_edge,
        hint="Signs do not matter: take scores.abs(), and name the largest by graph.name_edges.",
    ),
    "05.1": Exercise(
        solve=solutions.find_grokked,
        hint="The column is test_accuracy; trained sums are right long before.",
    ),
    "05.2": Exercise(
        solve=solutions.count_key_frequencies,
        hint="At the step with the lowest test_loss, not at the last; 2 % is 0.02.",
    ),
    "06.1": Exercise(
        solve=solutions.find_earliest,
        hint="The smallest onset in the table; its column `run` has the name.",
    ),
    "06.2": Exercise(
        solve=solutions.find_spread,
        hint="The largest onset less the smallest, in steps; a missing one does not count.",
        tolerance=0.5,
    ),
}


def check(name: str, answer: object, *runs: Run) -> None:
    """Print whether an answer to an exercise is right for these runs."""
    print(judge_answer(name, answer, *runs))


def judge_answer(name: str, answer: object, *runs: Run) -> str:
    """One sentence: right, not yet with a hint, or that nothing was answered."""
    exercise = EXERCISES[choose(name, EXERCISES, "exercise")]
    if answer is ...:
        return UNANSWERED
    right = exercise.solve(*runs)
    return "Right." if agree(answer, right, exercise.tolerance) else f"Not yet. {exercise.hint}"


def agree(answer: object, right: object, tolerance: float = 0.0) -> bool:
    """Whether two answers are the same: words, places (layer, head), or numbers within a tolerance.

    >>> agree("K ", "k"), agree([1, 0], (1, 0)), agree(0.5, 0.51, 0.02), agree(None, 3)
    (True, True, True, False)
    """
    try:
        if isinstance(right, str):
            return str(answer).strip().lower() == right.lower()
        if isinstance(right, tuple):
            return tuple(map(float, answer)) == right and not isinstance(answer, str)
        return abs(float(answer) - float(right)) <= tolerance
    except (TypeError, ValueError, RuntimeError):  # not of the kind that was asked for
        return False
