"""Which recipes are asked, and on which seeds."""

from __future__ import annotations

from pathlib import Path

from studies.when_not_whether.half_way import Subject

FOLDER = Path(__file__).parent
# Recipes of the lab with a plateau and then a rise, and the accuracy of their plateau.
SUBJECTS = (
    Subject("induction-smoke", 0.272),  # bag of labels
    Subject("two-pairs", 0.6),  # either of the two labels
    Subject("pointers-2hop", 0.26),  # bag of values
    Subject("induction", 0.174, n_inits=12),  # bag of labels; slow, as is the next
    Subject("odd-one-out", 1 / 6, n_inits=12),  # any of the six objects
)
