"""`python -m bench`: every subject, or one; a table on the screen and every repeat in a JSON file."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bench import batches, checkpoints, circuits, dsprites, lightning, measuring, sweeping, training
from bench.timing import Result, table
from toyvit.cli.command import Parser
from toyvit.errors import BadInput, choose

SUBJECTS: dict[str, Callable[[int | None], Iterator[Result]]] = {
    "training": training.results,
    "lightning": lightning.results,
    "checkpoints": checkpoints.results,
    "measuring": measuring.results,
    "circuits": circuits.results,
    "batches": batches.results,
    "dsprites": dsprites.results,
    "sweeping": sweeping.results,
}
PACKAGES = ("torch", "timm", "pytorch-lightning", "numpy", "safetensors")


def cpu() -> str:
    """The processor's model name; Linux knows more than `platform`."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What a number depends on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
    }


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    top = Parser(
        prog="python -m bench",
        description="Time the lab against peers and floors, one thread, interleaved.",
    )
    top.add_argument("--only", metavar="NAME", help=", ".join(SUBJECTS))
    top.add_argument(
        "--repeats", type=int, metavar="N", help="rounds (default: each subject's own number)"
    )
    top.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench.json"),
        metavar="FILE",
        help="default: runs/bench.json",
    )
    given = top.parse_args(argv)
    if given.only is not None:
        choose(given.only, SUBJECTS, "subject")
    if given.repeats is not None and given.repeats < 2:
        raise BadInput(f"--repeats must be at least 2, got {given.repeats}")
    return given


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, whether or not the bars are reached; 2 bad input."""
    try:
        given = options(argv)
    except BadInput as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    torch.manual_seed(0)
    names = [given.only] if given.only else list(SUBJECTS)
    found = {name: list(SUBJECTS[name](given.repeats)) for name in names}
    everything = [result for results in found.values() for result in results]
    print(table(everything))
    plain = machine() | {
        "subjects": {
            name: [result.to_json() for result in results] for name, results in found.items()
        }
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(plain, indent=1) + "\n")
    print(f"every repeat: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
