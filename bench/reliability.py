"""`python -m bench.reliability [CURVES]`: the detector's stated chances against the truth.

Draws `docs/stated_chances.png` from the table `docs/stated_chances.csv`; with a number of curves a
family the table is measured first (1,000 take some 15 CPU minutes).
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from toyvit.dynamics.calibration import REPORT, judge_families, measure_rates, measure_reliability
from toyvit.report.matplotlib_renderer import save_figure
from toyvit.report.reliability import draw_reliability

DOCS = Path(__file__).parents[1] / "docs"
TABLE = DOCS / "stated_chances.csv"
PICTURE = DOCS / "stated_chances.png"
DIGITS = 5


def main(words: list[str]) -> None:
    """Measure where a number is given, and draw."""
    if words:
        frame = judge_families(int(words[0]), REPORT)
        print(measure_rates(frame).round(3).to_string(index=False, na_rep=""), end="\n\n")
        measure_reliability(frame).round(DIGITS).to_csv(TABLE, index=False)
    table = pd.read_csv(TABLE)
    print(table.to_string(index=False))
    save_figure(draw_reliability(table), PICTURE)


if __name__ == "__main__":
    main(sys.argv[1:])
