"""The page of replications, written from records alone.

Published figure, ours over seeds, the picture, the verdict and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, isnan
from pathlib import Path
from statistics import median

from toyvit.config.whole_files import remove_leftovers, write_atomically
from toyvit.errors import BadInput
from toyvit.replications.margins import (
    AGREES,
    DIFFERS,
    NOT_RUN,
    UNDECIDED,
    Finding,
    judge_checks,
    judge_result,
    summarize_checks,
)
from toyvit.replications.record import (
    Check,
    Record,
    Replication,
    load_records,
    write_record,
)
from toyvit.report.matplotlib_renderer import save_figure
from toyvit.report.panels import FigureData
from toyvit.report.replicated import draw_margins, draw_replication

PUBLISHED = """# Published results, run again

Written by `toyvit replicate --page docs` from the records in `docs/replications/`; nothing here is
written by hand. One seed of each: `make replicate`. Five, and this page: `SEEDS=5 PAGE=docs make
replicate`. Both go on where they were stopped. Five seeds are 0 to 4; of rank-one, llc and repeats
the ten are 10 to 19, run after the margins were set.

The margin within which a number agrees stands in the code beside the published figure. Trial runs
came before the margins of superposition, rank-one, fewshot and quanta; those of the coefficient in
modular-addition, and its settings, followed a calibration on seed 2, and the sizes of
double-descent and its check of features a first version. No setting is tuned for a seed. Those of
markov and belief-geometry were committed before the seeds that are shown were run.

A number *agrees* where the 90 % interval of its median over seeds lies within its margin, a result
where all its numbers do. It *differs* where a number lies outside by a sign test corrected for how
many there are (Holm). Else the seeds leave it *undecided*. Ours is the median over seeds and that
interval. Where a published figure stands is said beside it: in the source's text, read off its
plots, or from one run of its public code (one seed, no figure of the paper). What the lab states of
its own recipes stands in [Claims](claims.md).
"""
CLAIMED = """# Claims

What the lab states of its own recipes, explored on some seeds and confirmed on others. Written by
`toyvit replicate --claim all --page docs` from the records in `docs/claims/`; nothing here is
written by hand.

A claim is a small record in `toyvit/replications/claims/`: a recipe, numbers of it, and the margin
of each. It is committed before the seeds that confirm it are run, and they follow from the record's
SHA-256: who changes a margin afterwards gets other seeds. A number is *confirmed* where the 90 %
interval of its median over those seeds lies within its margin, *refuted* where the median lies
outside by a sign test corrected for how many numbers there are (Holm), else *undecided*. Confirmed
is the median and that interval, or the share of seeds in which something happens, and its own.
"""


def draw_curves(replication: Replication, seeds: Sequence[Record]) -> FigureData:
    """The figure of all seeds; BadInput where their panels are not what this version draws."""
    try:
        return draw_replication([record.panels for record in seeds], replication.title)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        message = f"the records of {replication.name} hold panels that cannot be drawn ({why})"
        raise BadInput(message) from None


def draw_numbers(replication: Replication, seeds: Sequence[Record]) -> FigureData:
    """Every number of all seeds over its margin, where it ever came to something."""
    numbers = []
    for check in replication.checks:
        values = [record.numbers.get(check.number) for record in seeds]
        there = [value for value in values if value is not None]
        if there:
            numbers.append((check.meaning, there, (check.low, check.high)))
    return draw_margins(numbers, replication.title)


@dataclass(frozen=True)
class Page:
    """One of the two pages that are written of records."""

    name: str  # of its file and of the folder of its records
    head: str
    command: str
    columns: tuple[str, str, str, str]  # over what was stated, where, its margin, and what we have
    words: Mapping[str, str]  # what it calls the verdicts
    draw: Callable[[Replication, Sequence[Record]], FigureData]


REPLICATED = Page(
    name="replications",
    head=PUBLISHED,
    command="toyvit replicate",
    columns=("published", "where that stands", "agrees", "ours"),
    words={verdict: verdict for verdict in (AGREES, DIFFERS, UNDECIDED, NOT_RUN)},
    draw=draw_curves,
)
CLAIMS = Page(
    name="claims",
    head=CLAIMED,
    command="toyvit replicate --claim",
    columns=("explored", "stated in", "margin", "confirmed"),
    words={AGREES: "confirmed", DIFFERS: "refuted", UNDECIDED: "undecided", NOT_RUN: NOT_RUN},
    draw=draw_numbers,
)


def write_page(
    replications: Iterable[Replication],
    folder: Path,
    docs: Path,
    page: Page = REPLICATED,
    foot: Callable[[Path], str] | None = None,
) -> Path:
    """Write `docs/replications.md`, with its pictures and records in `docs/replications/`.

    Records come from `folder`, and, for seeds that it does not have, from `docs/replications/`.
    The page of claims has other names, and a `foot` that is written of the folder of records.
    """
    place = docs / page.name
    file = docs / f"{page.name}.md"
    remove_leftovers(place)
    remove_leftovers(docs, file.name)
    listed = list(replications)
    records: dict[str, list[Record]] = {}
    for replication in listed:
        seeds = merge_records(replication, place, folder)
        records[replication.name] = seeds
        for record in seeds:
            write_record(place, record)
        if seeds:
            figure = page.draw(replication, seeds)
            save_figure(figure, place / f"{replication.name}.png", dpi=110)

    docs.mkdir(parents=True, exist_ok=True)
    text = format_page(listed, records, page)
    write_atomically(file, (text + f"\n{foot(place)}" if foot else text).encode())
    return file


def merge_records(replication: Replication, *folders: Path) -> list[Record]:
    """The seeds in some folders, in order; of a seed that is in several, the last folder's."""
    by_seed: dict[int, Record] = {}
    for folder in folders:
        by_seed |= {record.seed: record for record in load_records(folder, replication)}
    return [by_seed[seed] for seed in sorted(by_seed)]


def format_page(
    replications: Sequence[Replication], records: dict[str, list[Record]], page: Page = REPLICATED
) -> str:
    """The page as markdown: a function of the table and the records by name."""
    head = "| result | source | verdict | seeds | CPU minutes a seed |\n|---|---|---|---|---|"
    pairs = [(replication, records[replication.name]) for replication in replications]
    rows = [_format_row(replication, seeds, page) for replication, seeds in pairs]
    sections = [_format_section(replication, seeds, page) for replication, seeds in pairs]
    parts = [page.head, "\n".join([head, *rows]), *sections]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _format_row(replication: Replication, seeds: Sequence[Record], page: Page) -> str:
    measured = [record.minutes for record in seeds if record.minutes is not None]
    cells = [
        f"[{replication.title}](#{replication.name})",
        replication.source,
        page.words[judge_result(replication.checks, seeds)],
        f"{len(seeds)}",
        f"{median(measured):.2g}" if measured else f"about {replication.minutes:g}",
    ]
    return f"| {' | '.join(cells)} |"


def _format_section(replication: Replication, seeds: Sequence[Record], page: Page) -> str:
    lines = [
        f'<a id="{replication.name}"></a>',
        "",
        f"## {replication.title}",
        "",
        f"{replication.source} (`{page.command} {replication.name}`)",
        "",
        replication.compared,
        "",
    ]
    if not seeds:
        return "\n".join([*lines, "Not run."])

    lines += [f"| what | {' | '.join(page.columns)} |  |", "|---|---|---|---|---|---|"]
    verdicts = judge_checks(replication.checks, seeds)
    findings = summarize_checks(replication.checks, seeds)
    for check, finding, verdict in zip(replication.checks, findings, verdicts, strict=True):
        lines.append(_format_check(check, finding, page.words[verdict]))
    lines += [
        "",
        f"![{replication.title}]({page.name}/{replication.name}.png)",
        "",
        f"**{page.words[judge_result(replication.checks, seeds)].capitalize()}.** "
        f"{explain_verdict(replication, seeds)}",
    ]
    if replication.remark:
        lines += ["", replication.remark]
    return "\n".join(lines)


def _format_check(check: Check, finding: Finding, verdict: str) -> str:
    cells = [
        check.meaning,
        check.published,
        check.origin,
        format_margin(check),
        format_finding(finding),
        verdict,
    ]
    return f"| {' | '.join(cells)} |"


def format_margin(check: Check) -> str:
    """Where a number agrees: `0.1 to 0.2`, `0.98 or more`, `0`."""
    low = _format_number(check.low)
    high = _format_number(check.high)
    if check.high == inf:
        return f"{low} or more"
    if check.low == -inf:
        return f"{high} or less"
    return low if check.low == check.high else f"{low} to {high}"


def format_finding(finding: Finding) -> str:
    """The median over seeds and its interval; `never` where it mostly does not happen."""
    text = _format_number(finding.value)
    has_interval = not isnan(finding.low)
    bounds = f" ({_format_number(finding.low)} to {_format_number(finding.high)})"
    return text + bounds if has_interval else text


def _format_number(value: float) -> str:
    if isnan(value):
        return "none"
    if not isfinite(value):
        return "never"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def explain_verdict(replication: Replication, seeds: Sequence[Record]) -> str:
    """Which numbers lie elsewhere, or not surely within; that all agree, where they do."""
    verdicts = judge_checks(replication.checks, seeds)
    findings = summarize_checks(replication.checks, seeds)
    reasons = []
    for check, finding, verdict in zip(replication.checks, findings, verdicts, strict=True):
        if verdict != AGREES:
            ours = format_finding(finding)
            reasons.append(f"{check.meaning}: {ours}, margin {format_margin(check)}, {verdict}")
    return "; ".join(reasons) + "." if reasons else "All numbers lie within their margins."


def format_verdict(
    replication: Replication, seeds: Sequence[Record], page: Page = REPLICATED
) -> str:
    """The verdict and a line a number, for the terminal."""
    verdict = page.words[judge_result(replication.checks, seeds)]
    lines = [f"{replication.name}: {verdict}, {len(seeds)} seed{'s' * (len(seeds) != 1)}"]
    verdicts = judge_checks(replication.checks, seeds)
    findings = summarize_checks(replication.checks, seeds)
    for check, finding, word in zip(replication.checks, findings, verdicts, strict=True):
        ours = format_finding(finding)
        margin = format_margin(check)
        lines.append(f"  {check.meaning}: {ours}, margin {margin}: {page.words[word]}")
    return "\n".join(lines)
