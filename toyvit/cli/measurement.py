"""Commands that measure what was trained: `measure`, `analyses`, `circuit`, `lens`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from toyvit.cli.arguments import add_measuring, add_run, read_analyses, read_numbers
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_analyses
from toyvit.cli.imports import importing
from toyvit.cli.output import show, show_text
from toyvit.errors import BadInput, choose
from toyvit.runs.access import check_writable

if TYPE_CHECKING:
    from toyvit.analyses import Analysis
    from toyvit.runs.measured import MeasureReport
KEPT_THERE = "what is computed is kept there, so give a copy of it"


def add_measure_arguments(parser: Parser) -> None:
    """RUN ..., what is measured, on which checkpoints and pictures, by how many workers, where."""
    add_run(parser, several=True)
    add_measuring(parser)

    parser.add_argument(
        "--steps", metavar="STEPS", help="comma-separated steps, or last (default: all)"
    )
    parser.add_argument(
        "--split",
        default="test",
        help="of the task's world, such as train or held_out (default: test)",
    )

    parser.add_argument("--jobs", type=int, default=1, help="worker processes (default: 1)")
    parser.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="where the forward passes are run: cpu, cuda or mps (default: cpu)",
    )
    parser.add_argument("--follow", action="store_true", help="go on while the run is training")
    parser.add_argument(
        "--skip-corrupt", action="store_true", help="leave out bad checkpoint files and say so"
    )


def measure(options: argparse.Namespace) -> int:
    """Run analyses on the checkpoints of one run after the other, and say what was done."""
    for path in options.run:
        report = find_done(path, options) or measure_run(path, options)
        print_measure_report(report)
        measured = f"measured {report.computed} analyses of checkpoints, {report.done} were there"
        show(f"{path}: {measured}")
    return 0


def find_done(path: Path, options: argparse.Namespace) -> MeasureReport | None:
    """The report where there is nothing to do, before torch is imported to find that out."""
    is_plain = options.device == "cpu" and not options.follow
    is_right = options.images >= 2 and options.jobs >= 1
    if "torch" in sys.modules or not (is_plain and is_right):
        return None
    from toyvit.runs.folder import RunFolder
    from toyvit.runs.measured import Request, find_measured

    folder = RunFolder(path).check_exists()
    folder.read_config()
    entries = {entry.step: entry for entry in folder.read_manifest()}
    analyses = read_analyses(options.analyses)
    request = Request(None if analyses is None else tuple(analyses), options.images, options.split)
    return find_measured(folder, entries, request, read_steps(list(entries), options.steps))


def measure_run(path: Path, options: argparse.Namespace) -> MeasureReport:
    """Measure what is missing of one run."""
    with importing():
        from toyvit.measuring import measure as measure_missing
        from toyvit.runs.handle import Run

    run = Run(path)
    return measure_missing(
        run,
        analyses=read_analyses(options.analyses),
        steps=read_steps(run.steps, options.steps),
        images=options.images,
        split=options.split,
        jobs=options.jobs,
        follow=options.follow,
        skip_corrupt=options.skip_corrupt,
        device=options.device,
    )


def read_steps(steps: list[int], text: str | None) -> list[int] | None:
    """The steps of a run that are asked for, of those that it has; None where all are."""
    if text is None:
        return None
    return steps[-1:] if text == "last" else read_numbers("--steps", text)


def print_measure_report(report: MeasureReport) -> None:
    """What was left out, and why."""
    for name, problem in sorted(report.skipped.items()):
        show(f"left out: {name} {problem}")
    for name, reason in report.unfit.items():
        show(f"not measured: {name}, {reason}")
    if report.clamps:
        clamps = ", ".join(report.clamps)
        show(f"clamps in force from their steps on, as in training: {clamps}")

    notes = (
        (report.diverged, "diverged", "and has no number there"),
        (report.not_local, "is not local", "where its value is that of the settings (docs/llc.md)"),
    )
    for steps_by_name, what, why in notes:
        for name, steps in steps_by_name.items():
            s = "s" if len(steps) > 1 else ""
            at = ", ".join(map(str, steps))
            show(f"{name} {what} at {len(steps)} checkpoint{s} {why}: step{s} {at}")


def add_analyses_arguments(parser: Parser) -> None:
    """NAME ..."""
    names = parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all)")
    complete(names, offer_analyses)


def list_analyses(options: argparse.Namespace) -> int:
    """Print what every analysis needs and computes, who it is from, and how it is known right."""
    from toyvit.analyses import registry

    analyses = registry.list_analyses()
    for name in options.names:
        choose(name, analyses, "analysis")
    for name in options.names or analyses:
        show_text(describe_analysis(analyses[name]))
    return 0


def describe_analysis(analysis: Analysis) -> str:
    """A few lines of text."""
    facts = {
        "computes": analysis.computes,
        "needs": ", ".join(need.words for need in analysis.needs) or "nothing",
        "cost": f"{analysis.rough_cost} a checkpoint",
        "source": analysis.source,
        "truth": analysis.truth,
        "null": analysis.null,
    }

    when = "  (only when asked for by name)" if analysis.slow else ""
    if analysis.most_layers:
        when = f"  (above {analysis.most_layers} layers only when asked for by name)"
    lines = [f"{analysis.name}{when}"]
    for name, text in facts.items():
        head = f"  {name:9} "
        lines.append(fill(text, 100, initial_indent=head, subsequent_indent=" " * len(head)))
    return "\n".join(lines)


def add_circuit_arguments(parser: Parser) -> None:
    """RUN, --step, and how the circuit is found and judged."""
    add_run(parser)
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the last)")
    parser.add_argument(
        "--change",
        metavar="NAME",
        help="what the corrupt pictures change: in induction query, item, label",
    )
    parser.add_argument(
        "--classes", metavar="A,B", help="instead: pictures of class A against pictures of class B"
    )
    add_circuit_methods(parser)
    add_circuit_scores(parser)
    parser.add_argument(
        "--pairs",
        type=int,
        default=64,
        help="pairs of pictures to search on, and as many others to test on (default: 64)",
    )
    parser.add_argument(
        "--null",
        type=int,
        default=50,
        help="random circuits of the size to compare with (default: 50)",
    )


def add_circuit_methods(parser: Parser) -> None:
    """--method and how far it goes."""
    parser.add_argument("--method", default="eap-ig", help="eap, eap-ig or acdc (default: eap-ig)")
    parser.add_argument(
        "--faithful",
        type=float,
        help="for eap and eap-ig: the faithfulness to reach (default: 0.9)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="for acdc: the rise of KL in nats below which it cuts (default: 0.01)",
    )


def add_circuit_scores(parser: Parser) -> None:
    """--metric, --ablation and --end."""
    parser.add_argument(
        "--metric",
        default="logit_difference",
        help="or probability, kl (acdc always cuts by KL)",
    )
    parser.add_argument(
        "--ablation",
        default="corrupt",
        help="what cut edges carry: corrupt, mean, zero (default: corrupt)",
    )
    parser.add_argument(
        "--end",
        default="clean",
        help="for eap-ig: the end of the way from clean to corrupt that is a point: clean, corrupt "
        "(as the authors' code), middle (neither) (default: clean)",
    )


def find_circuit(options: argparse.Namespace) -> int:
    """Find a circuit, print its verdict, and keep it beside the run."""
    from toyvit.circuits.search import find_circuit as search
    from toyvit.report import draw_circuit
    from toyvit.runs.handle import Run

    classes = read_numbers("--classes", options.classes) if options.classes is not None else None
    if classes is not None and len(classes) != 2:
        raise BadInput(f"--classes takes two classes such as 4,9, got {options.classes!r}")
    run = Run(options.run)
    check_writable(run.path, KEPT_THERE)
    report = search(
        run,
        step=options.step,
        change=options.change,
        classes=classes,
        method=options.method,
        faithful=options.faithful,
        threshold=options.threshold,
        metric=options.metric,
        ablation=options.ablation,
        end=options.end,
        n_pairs=options.pairs,
        n_null=options.null,
    )
    show_text(report.format())
    for path in draw_circuit(run, report):
        show(f"wrote {path}")
    return 0


def add_lens_arguments(parser: Parser) -> None:
    """RUN, --step, --images."""
    add_run(parser)
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the last)")
    parser.add_argument(
        "--images", type=int, default=512, help="training pictures to fit on (default: 512)"
    )


def fit_lens(options: argparse.Namespace) -> int:
    """Fit a tuned lens, print its distances from the answer, and keep it beside the run."""
    from toyvit.instruments.lenses import fit_tuned_lens
    from toyvit.runs.handle import Run

    run = Run(options.run)
    check_writable(run.path, KEPT_THERE)
    lens, distances = fit_tuned_lens(run, options.step, options.images)
    file = run.path / "lenses" / f"step_{lens.step:08d}.safetensors"
    file.parent.mkdir(exist_ok=True)
    lens.save(file)

    show("KL(final answer, lens) in nats, a mean over tokens: embedding, then after each block")
    for split, of_lenses in zip(("train", "test"), distances.tolist(), strict=True):
        for name, layers in zip(("logit lens", "tuned lens"), of_lenses, strict=True):
            show(f"  {split:6} {name:12} " + "  ".join(f"{value:.3f}" for value in layers))
    show(f"wrote {file}")
    return 0


COMMANDS = (
    Command(
        name="measure",
        help="run analyses on the checkpoints of runs",
        add_arguments=add_measure_arguments,
        run=measure,
    ),
    Command(
        name="analyses",
        help="list the analyses: what each computes, needs and costs, its source, truth and null",
        add_arguments=add_analyses_arguments,
        run=list_analyses,
    ),
    Command(
        name="circuit",
        help="find a circuit in a checkpoint: which edges an answer depends on, against chance",
        add_arguments=add_circuit_arguments,
        run=find_circuit,
    ),
    Command(
        name="lens",
        help="fit a tuned lens on a checkpoint and keep it beside the run",
        add_arguments=add_lens_arguments,
        run=fit_lens,
    ),
)
