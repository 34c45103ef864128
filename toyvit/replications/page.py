"""The page of replications, written from records alone: published figure, ours over seeds, the picture, the verdict and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from statistics import median

from toyvit.replications.record import (
    Check,
    Record,
    Replication,
    judge_seed,
    load_records,
    summarize_verdict,
    write_record,
)
from toyvit.report.matplotlib_renderer import render
from toyvit.report.replicated import draw_replication
from toyvit.runs.folder import write_atomically

HEAD = """# Published results, run again

Written by `toyvit replicate --page docs` from the records in `docs/replications/`; nothing here is written by hand. One seed of
each: `make replicate`. Five, and this page: `SEEDS=5 PAGE=docs make replicate`. Both go on where they were stopped.

The bounds within which a number agrees stand in the code beside the published figure. Trial runs came before the bounds of
superposition, rank-one, fewshot and quanta; those of the coefficient in modular-addition, and its settings, followed a
calibration on seed 2, and the sizes of double-descent and its check of features a first version. No setting is tuned for a
seed. A seed *agrees* where all its numbers do, is *not reached* where a number marked `*` does not, and else
*differs*. Ours is the median over seeds (over those that reach it, where some do not), with the range in brackets. Where a
published figure stands is said beside it: in the
source's text, read off its plots, from one run of its public code (one seed, no figure of the paper), or from this lab's
earlier runs: induction, addition and counting compare the lab with itself.
"""


def write_page(replications: Iterable[Replication], folder: Path, docs: Path) -> Path:
    """Write `docs/replications.md`, with its pictures and the records that it is made of in `docs/replications/`.

    Records come from `folder`, and, for seeds that it does not have, from `docs/replications/`.
    """
    kept = docs / "replications"
    found: dict[str, list[Record]] = {}
    everything = list(replications)
    for one in everything:
        known = {
            record.seed: record for place in (kept, folder) for record in load_records(place, one)
        }
        found[one.name] = [known[seed] for seed in sorted(known)]
        for record in found[one.name]:
            write_record(kept, record)
        if found[one.name]:
            figure = draw_replication([record.panels for record in found[one.name]], one.title)
            render(figure).savefig(kept / f"{one.name}.png", dpi=110)
    docs.mkdir(parents=True, exist_ok=True)
    write_atomically(docs / "replications.md", format_page(everything, found).encode())
    return docs / "replications.md"


def format_page(replications: Sequence[Replication], found: dict[str, list[Record]]) -> str:
    """The page as markdown: a function of the table and the records."""
    head = "| result | source | verdict | seeds | CPU minutes a seed |\n|---|---|---|---|---|"
    rows = [_row(one, found[one.name]) for one in replications]
    parts = [
        HEAD,
        "\n".join([head, *rows]),
        *(_section(one, found[one.name]) for one in replications),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _row(one: Replication, seeds: Sequence[Record]) -> str:
    known = [record.minutes for record in seeds if record.minutes is not None]
    minutes = f"{median(known):.2g}" if known else f"about {one.minutes:g}"
    return f"| [{one.title}](#{one.name}) | {one.source} | {summarize_verdict(one, seeds)} | {len(seeds)} | {minutes} |"


def _section(one: Replication, seeds: Sequence[Record]) -> str:
    lines = [
        f'<a id="{one.name}"></a>',
        "",
        f"## {one.title}",
        "",
        f"{one.source} (`toyvit replicate {one.name}`)",
        "",
        one.compared,
        "",
    ]
    if not seeds:
        return "\n".join([*lines, "Not run."])
    lines += ["| what | published | where that stands | agrees | ours |", "|---|---|---|---|---|"]
    lines += [_line(check, seeds) for check in one.checks]
    lines += [
        "",
        f"![{one.title}](replications/{one.name}.png)",
        "",
        f"**{summarize_verdict(one, seeds).capitalize()}.** {explain_verdict(one, seeds)}",
    ]
    return "\n".join([*lines, *(["", one.remark] if one.remark else [])])


def _line(check: Check, seeds: Sequence[Record]) -> str:
    star = "`*` " if check.must else ""
    values = [record.numbers.get(check.number) for record in seeds]
    return f"| {star}{check.meaning} | {check.published} | {check.origin} | {_bounds(check)} | {_values(values)} |"


def _bounds(check: Check) -> str:
    if check.high == inf:
        return f"{_number(check.low)} or more"
    return (
        _number(check.low)
        if check.low == check.high
        else f"{_number(check.low)} to {_number(check.high)}"
    )


def _values(values: Sequence[float | None]) -> str:
    """Median and range of those that there are, and how many seeds never came to it."""
    there = [value for value in values if value is not None]
    never = len(values) - len(there)
    if not there:
        return "never"
    band = f" ({_number(min(there))} to {_number(max(there))})" if len(there) > 1 else ""
    return (
        _number(median(there))
        + band
        + (f"; never in {never} of {len(values)} seeds" if never else "")
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def explain_verdict(one: Replication, seeds: Sequence[Record]) -> str:
    """Which numbers are out of bounds, in which seeds; that none is, where all agree."""
    failed = []
    for check in one.checks:
        out = [
            record.seed for record in seeds if not check.agrees(record.numbers.get(check.number))
        ]
        if out:
            values = _values(
                [record.numbers.get(check.number) for record in seeds if record.seed in out]
            )
            which = f"seed{'s' * (len(out) > 1)} {', '.join(map(str, out))}"
            failed.append(f"{check.meaning}: {values}, where {_bounds(check)} agrees ({which})")
    return "; ".join(failed) + "." if failed else "All numbers are within their bounds."


def format_verdict(one: Replication, seeds: Sequence[Record]) -> str:
    """One line a seed for the terminal."""
    return "\n".join(
        f"{one.name}, seed {record.seed}: {judge_seed(one, record)}; {explain_verdict(one, [record])}"
        for record in seeds
    )
