"""The page of replications, written from records alone.

Published figure, ours over seeds, the picture, the verdict and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from statistics import median

from toyvit.config.whole_files import remove_leftovers, write_atomically
from toyvit.errors import BadInput
from toyvit.replications.record import (
    Check,
    Record,
    Replication,
    judge_seed,
    load_records,
    summarize_verdict,
    write_record,
)
from toyvit.report.matplotlib_renderer import save_figure
from toyvit.report.panels import FigureData
from toyvit.report.replicated import draw_replication

HEAD = """# Published results, run again

Written by `toyvit replicate --page docs` from the records in `docs/replications/`; nothing here is
written by hand. One seed of each: `make replicate`. Five, and this page: `SEEDS=5 PAGE=docs make
replicate`. Both go on where they were stopped.

The bounds within which a number agrees stand in the code beside the published figure. Trial runs
came before the bounds of superposition, rank-one, fewshot and quanta; those of the coefficient in
modular-addition, and its settings, followed a calibration on seed 2, and the sizes of
double-descent and its check of features a first version. No setting is tuned for a seed. A seed
*agrees* where all its numbers do, is *not reached* where a number marked `*` does not, and else
*differs*. Ours is the median over seeds (over those that reach it, where some do not), with the
range in brackets. Where a published figure stands is said beside it: in the source's text, read off
its plots, from one run of its public code (one seed, no figure of the paper), or from this lab's
earlier runs: induction, addition and counting compare the lab with itself.
"""


def write_page(replications: Iterable[Replication], folder: Path, docs: Path) -> Path:
    """Write `docs/replications.md`, with its pictures and records in `docs/replications/`.

    Records come from `folder`, and, for seeds that it does not have, from `docs/replications/`.
    """
    place = docs / "replications"
    remove_leftovers(place)
    remove_leftovers(docs, "replications.md")
    listed = list(replications)
    records: dict[str, list[Record]] = {}
    for replication in listed:
        seeds = merge_records(replication, place, folder)
        records[replication.name] = seeds
        for record in seeds:
            write_record(place, record)
        if seeds:
            save_figure(_draw(replication, seeds), place / f"{replication.name}.png", dpi=110)

    docs.mkdir(parents=True, exist_ok=True)
    page = docs / "replications.md"
    write_atomically(page, format_page(listed, records).encode())
    return page


def _draw(replication: Replication, seeds: Sequence[Record]) -> FigureData:
    """The figure of all seeds; BadInput where their panels are not what this version draws."""
    try:
        return draw_replication([record.panels for record in seeds], replication.title)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        message = f"the records of {replication.name} hold panels that cannot be drawn ({why})"
        raise BadInput(message) from None


def merge_records(replication: Replication, *folders: Path) -> list[Record]:
    """The seeds in some folders, in order; of a seed that is in several, the last folder's."""
    by_seed: dict[int, Record] = {}
    for folder in folders:
        by_seed |= {record.seed: record for record in load_records(folder, replication)}
    return [by_seed[seed] for seed in sorted(by_seed)]


def format_page(replications: Sequence[Replication], records: dict[str, list[Record]]) -> str:
    """The page as markdown: a function of the table and the records by name."""
    head = "| result | source | verdict | seeds | CPU minutes a seed |\n|---|---|---|---|---|"
    rows = [_format_row(replication, records[replication.name]) for replication in replications]
    sections = [
        _format_section(replication, records[replication.name]) for replication in replications
    ]
    parts = [HEAD, "\n".join([head, *rows]), *sections]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _format_row(replication: Replication, seeds: Sequence[Record]) -> str:
    measured = [record.minutes for record in seeds if record.minutes is not None]
    cells = [
        f"[{replication.title}](#{replication.name})",
        replication.source,
        summarize_verdict(replication, seeds),
        f"{len(seeds)}",
        f"{median(measured):.2g}" if measured else f"about {replication.minutes:g}",
    ]
    return f"| {' | '.join(cells)} |"


def _format_section(replication: Replication, seeds: Sequence[Record]) -> str:
    lines = [
        f'<a id="{replication.name}"></a>',
        "",
        f"## {replication.title}",
        "",
        f"{replication.source} (`toyvit replicate {replication.name}`)",
        "",
        replication.compared,
        "",
    ]
    if not seeds:
        return "\n".join([*lines, "Not run."])

    lines += ["| what | published | where that stands | agrees | ours |", "|---|---|---|---|---|"]
    lines += [_format_check(check, seeds) for check in replication.checks]
    verdict = summarize_verdict(replication, seeds).capitalize()
    lines += [
        "",
        f"![{replication.title}](replications/{replication.name}.png)",
        "",
        f"**{verdict}.** {explain_verdict(replication, seeds)}",
    ]
    if replication.remark:
        lines += ["", replication.remark]
    return "\n".join(lines)


def _format_check(check: Check, seeds: Sequence[Record]) -> str:
    star = "`*` " if check.must else ""
    values = [record.numbers.get(check.number) for record in seeds]

    cells = [
        f"{star}{check.meaning}",
        check.published,
        check.origin,
        _format_bounds(check),
        _format_values(values),
    ]
    return f"| {' | '.join(cells)} |"


def _format_bounds(check: Check) -> str:
    low = _format_number(check.low)
    if check.high == inf:
        return f"{low} or more"
    return low if check.low == check.high else f"{low} to {_format_number(check.high)}"


def _format_values(values: Sequence[float | None]) -> str:
    """Median and range of those that there are, and how many seeds never came to it."""
    there = [value for value in values if value is not None]
    if not there:
        return "never"

    text = _format_number(median(there))
    if len(there) > 1:
        text += f" ({_format_number(min(there))} to {_format_number(max(there))})"
    n_never = len(values) - len(there)
    if n_never:
        text += f"; never in {n_never} of {len(values)} seeds"
    return text


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def explain_verdict(replication: Replication, seeds: Sequence[Record]) -> str:
    """Which numbers are out of bounds, in which seeds; that none is, where all agree."""
    failures = []
    for check in replication.checks:
        values = {record.seed: record.numbers.get(check.number) for record in seeds}
        outside = {seed: value for seed, value in values.items() if not check.agrees(value)}

        if outside:
            which = f"seed{'s' * (len(outside) > 1)} {', '.join(map(str, outside))}"
            ours = _format_values(list(outside.values()))
            bounds = _format_bounds(check)
            failures.append(f"{check.meaning}: {ours}, where {bounds} agrees ({which})")
    return "; ".join(failures) + "." if failures else "All numbers are within their bounds."


def format_verdict(replication: Replication, seeds: Sequence[Record]) -> str:
    """One line a seed for the terminal."""
    lines = []
    for record in seeds:
        verdict = judge_seed(replication, record)
        reasons = explain_verdict(replication, [record])
        lines.append(f"{replication.name}, seed {record.seed}: {verdict}; {reasons}")
    return "\n".join(lines)
