"""`python -m bench`: every subject, or one; a table on the screen, every repeat in a JSON file."""

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

from bench import (
    batches,
    checkpoints,
    circuits,
    commands,
    dsprites,
    growth,
    imported,
    lightning,
    live,
    loops,
    measuring,
    starting,
    sweeping,
    table,
    training,
    viewer,
    watching,
    workers,
)
from bench.timing import Result, format_table
from toyvit.cli.command import Parser
from toyvit.cli.imports import keep_memory
from toyvit.errors import BadInput, choose

SUBJECTS: dict[str, Callable[[int | None], Iterator[Result]]] = {
    "training": training.results,
    "lightning": lightning.results,
    "checkpoints": checkpoints.results,
    "measuring": measuring.results,
    "loops": loops.results,
    "growth": growth.results,
    "circuits": circuits.results,
    "batches": batches.results,
    "dsprites": dsprites.results,
    "sweeping": sweeping.results,
    "starting": starting.results,
    "workers": workers.results,
    "commands": commands.results,
    "table": table.results,
    "viewer": viewer.results,
    "live": live.results,
    "watching": watching.results,
    "imported": imported.results,
}
PACKAGES = ("torch", "timm", "pytorch-lightning", "numpy", "safetensors")


def name_cpu() -> str:
    """The processor's model name; Linux knows more than `platform`."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def describe_machine() -> dict[str, Any]:
    """What a number depends on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": name_cpu(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
    }


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m bench",
        description="Time the lab against peers and floors, one thread, interleaved.",
    )
    parser.add_argument(
        "--only", metavar="NAMES", help=f"subjects between commas: {', '.join(SUBJECTS)}"
    )
    parser.add_argument(
        "--repeats", type=int, metavar="N", help="rounds (default: each subject's own number)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/bench.json"),
        metavar="FILE",
        help="default: runs/bench.json",
    )

    arguments = parser.parse_args(argv)
    arguments.subjects = list(SUBJECTS) if arguments.only is None else arguments.only.split(",")
    for name in arguments.subjects:
        choose(name, SUBJECTS, "subject")
    if arguments.repeats is not None and arguments.repeats < 2:
        raise BadInput(f"--repeats must be at least 2, got {arguments.repeats}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, whether or not the bars are reached; 2 bad input."""
    try:
        arguments = parse_arguments(argv)
    except BadInput as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    keep_memory()  # as commands do
    torch.set_num_threads(1)
    torch.manual_seed(0)

    plain = describe_machine()
    subjects: dict[str, list[dict[str, Any]]] = {}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.subjects:
        results = list(run_subject(name, arguments.repeats))
        subjects[name] = [result.to_json() for result in results]
        if results:
            print(format_table(results), flush=True)
        arguments.out.write_text(json.dumps(plain | {"subjects": subjects}, indent=1) + "\n")
    print(f"every repeat: {arguments.out}")
    return 0


def run_subject(name: str, repeats: int | None) -> Iterator[Result]:
    """The results of a subject, as far as what it needs is here; what is not is said."""
    try:
        yield from SUBJECTS[name](repeats)
    except BadInput as error:
        print(f"no more rows of {name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
