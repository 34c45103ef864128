"""`python -m tests.fuzz --minutes N`: the property tests, round after round of fresh examples,
until the time is over.

An example that breaks a property is kept in `tests/cases`, and `tests/house/test_cases.py` tries it
from then on. Commit it with the mend, or write it beside the test as an `@example`: a kept case
belongs to the test's source, a change there loses it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPTIONS = [
    "-q",
    "-m",
    "hypothesis and not data",
    "-n",
    "2",
    "--dist",
    "worksteal",
    "--hypothesis-profile",
    "fuzz",
]


def run_round(seconds: float) -> int:
    """Exit code of all property tests; 0 where the time is over first."""
    process = subprocess.Popen([sys.executable, "-m", "pytest", *OPTIONS], cwd=ROOT)
    with suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    process.terminate()
    process.wait()
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=5)
    end = time.monotonic() + 60 * parser.parse_args().minutes
    n_broken = 0
    while (left := end - time.monotonic()) > 0:
        n_broken += run_round(left) != 0
    print(
        f"{n_broken} rounds broke a property: what did is kept in tests/cases"
        if n_broken
        else "no property broke"
    )
    return bool(n_broken)


if __name__ == "__main__":
    sys.exit(main())
