"""The command line, thin: each command calls the rooms; a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.parser import build_parser
from toyvit.errors import BadInput, Diverged, Stopped, choose
from toyvit.recipes import RECIPES

if TYPE_CHECKING:
    from toyvit.data.task import Task


def train(options: argparse.Namespace, words: list[str]) -> int:
    for name in options.recipes:
        choose(name, RECIPES, "recipe")
    if options.name and len(options.recipes) > 1:
        raise BadInput(f"--name names one run, but {len(options.recipes)} recipes were given")
    if len(options.recipes) > 1:
        return _side_by_side(options, words)
    from toyvit.cli.overrides import apply_overrides

    run = apply_overrides(RECIPES[options.recipes[0]](), words)
    if options.seed is not None:
        from toyvit.config import replace_seed

        run = replace_seed(run, options.seed)
    path = options.runs / (options.name or options.recipes[0])
    from toyvit.train.fit import fit

    with _followed(path):
        fit(run, path, resume=options.resume, position=options.position)
    print(f"{path} is trained: measure it with `toyvit measure {path}`")
    return 0


def sweep(options: argparse.Namespace, words: list[str]) -> int:
    from toyvit.cli.overrides import expand_variants
    from toyvit.config import replace_seed
    from toyvit.report import draw_sweep
    from toyvit.report.summary import summarize_events
    from toyvit.runs.handle import Run
    from toyvit.sweeping import run_sweep as run_all

    recipe = RECIPES[choose(options.recipe, RECIPES, "recipe")]()
    folder = options.runs / (options.name or options.recipe)
    plan = {
        folder / variant / f"seed-{seed}": replace_seed(run, seed)
        for variant, run in expand_variants(recipe, words).items()
        for seed in _seeds(options.seeds)
    }
    if options.jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {options.jobs}")
    frame = run_all(
        plan,
        folder,
        jobs=options.jobs,
        cluster=options.cluster,
        images=options.images,
        analyses=None if options.analyses is None else options.analyses.split(","),
    )
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep=""))
    runs = [Run(path) for path in plan]
    if order := summarize_events(runs):
        print(order)
    print(f"table: {folder / 'sweep.csv'}")
    for picture in draw_sweep(runs, folder):
        print(f"figure: {picture}")
    return 0


def replicate(options: argparse.Namespace) -> int:
    from toyvit.replications import REPLICATIONS
    from toyvit.replications.loop import replicate as run_again
    from toyvit.replications.page import format_verdict, write_page
    from toyvit.replications.record import load_records

    if options.list:
        for name, one in REPLICATIONS.items():
            print(f"{name:18} {one.title} ({one.source}; about {one.minutes:g} CPU minutes)")
        return 0
    chosen = [
        REPLICATIONS[choose(name, REPLICATIONS, "replication")]
        for name in options.names or REPLICATIONS
    ]
    folder, seeds = options.runs / "replications", _seeds(options.seeds)
    run_again(chosen, seeds, folder, leave_out=not options.names)
    for one in chosen:
        if found := [record for record in load_records(folder, one) if record.seed in seeds]:
            print(format_verdict(one, found))
    if options.page:
        print(f"page: {write_page(REPLICATIONS.values(), folder, options.page)}")
    return 0


def _seeds(text: str) -> list[int]:
    """`0..9` or `0,3,7`."""
    first, dots, last = text.partition("..")
    try:
        found = (
            list(range(int(first), int(last) + 1))
            if dots
            else [int(word) for word in text.split(",")]
        )
    except ValueError:
        found = []
    if not found or min(found) < 0 or len(set(found)) < len(found):
        raise BadInput(f"--seeds takes 0..9 or 0,3,7, each seed once, got {text!r}")
    return found


def replay(options: argparse.Namespace) -> int:
    from toyvit.train import replay as train_again

    first, last = options.between
    added = train_again(options.run, first, last, options.every)
    if not added:
        print(f"{options.run}: all of these checkpoints are there already")
        return 0
    print(
        f"{options.run}: added {len(added)} checkpoints; measure them with `toyvit measure {options.run}`"
    )
    return 0


@contextmanager
def _followed(path: Path) -> Iterator[None]:
    """A process beside this one that writes TensorBoard files while the run trains; it ends when this one does."""
    words = [sys.executable, "-m", "toyvit", "follow", str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as follower:
        assert follower.stdin is not None
        with follower.stdin:
            try:
                yield
            except BadInput:
                follower.kill()  # nothing was written, so there is nothing to show
                raise


def follow(options: argparse.Namespace) -> int:
    """Write TensorBoard files of a run in training until standard input ends; a run of a moment is over before the imports."""

    def ended() -> bool:
        return bool(select.select([sys.stdin], [], [], 2.0)[0])

    os.nice(10)
    if not ended():
        from toyvit.report.tensorboard import follow as write_along

        write_along(options.run, ended)
    return 0


def _side_by_side(options: argparse.Namespace, words: list[str]) -> int:
    """One process a recipe; a signal to this one is passed on, and the first failure is the answer."""
    common = ["--runs", str(options.runs), *(["--resume"] if options.resume else [])]
    common += ["--seed", str(options.seed)] if options.seed is not None else []
    children = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "toyvit",
                "train",
                name,
                *common,
                "--position",
                str(place),
                *words,
            ]
        )
        for place, name in enumerate(options.recipes)
    ]

    def pass_on(signum: int, frame: object) -> None:
        for child in children:
            child.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, pass_on)
    codes = [child.wait() for child in children]
    return next((code for code in codes if code), 0)


def measure(options: argparse.Namespace) -> int:
    from toyvit.measuring import measure as sweep
    from toyvit.runs.handle import Run

    for path in options.run:
        steps = None
        if options.steps:
            steps = (
                Run(path).steps[-1:]
                if options.steps == "last"
                else _whole_numbers("--steps", options.steps)
            )
        done = sweep(
            path,
            analyses=None if options.analyses is None else options.analyses.split(","),
            steps=steps,
            images=options.images,
            split=options.split,
            jobs=options.jobs,
            follow=options.follow,
            skip_corrupt=options.skip_corrupt,
        )
        for name, problem in sorted(done.skipped.items()):
            print(f"left out: {name} {problem}")
        for name, reason in done.unfit.items():
            print(f"not measured: {name}, {reason}")
        if done.clamps:
            print(f"clamps in force from their steps on, as in training: {', '.join(done.clamps)}")
        for name, lost in done.diverged.items():
            s, at = "s" * (len(lost) > 1), ", ".join(map(str, lost))
            print(
                f"{name} diverged at {len(lost)} checkpoint{s} and has no number there: step{s} {at}"
            )
        print(f"{path}: measured {done.computed} cells, found {done.done} done")
    return 0


def _whole_numbers(name: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise BadInput(f"{name} takes whole numbers separated by commas, got {text!r}") from None


def circuit(options: argparse.Namespace) -> int:
    from toyvit.circuits.search import find_circuit
    from toyvit.report import draw_circuit
    from toyvit.runs.handle import Run

    classes = _whole_numbers("--classes", options.classes) if options.classes else None
    if classes and len(classes) != 2:
        raise BadInput(f"--classes takes two classes such as 4,9, got {options.classes!r}")
    run = Run(options.run)
    if not os.access(run.path, os.W_OK):
        raise BadInput(f"{options.run} cannot be written to, and what is found is kept there")
    found = find_circuit(
        run,
        step=options.step,
        change=options.change,
        classes=classes,
        method=options.method,
        faithful=options.faithful,
        threshold=options.threshold,
        metric=options.metric,
        ablation=options.ablation,
        n_pairs=options.pairs,
        n_null=options.null,
    )
    print(found.format())
    for path in draw_circuit(run, found):
        print(f"wrote {path}")
    return 0


def lens(options: argparse.Namespace) -> int:
    from toyvit.circuits.search import fit_tuned_lens

    found, distances = fit_tuned_lens(options.run, options.step, options.images)
    kept = options.run / "lenses" / f"step_{found.step:08d}.safetensors"
    kept.parent.mkdir(exist_ok=True)
    found.save(kept)
    print("KL(final answer, lens) in nats, a mean over tokens: embedding, then after each block")
    for split, both in zip(("train", "test"), distances, strict=True):
        for name, values in zip(("logit lens", "tuned lens"), both, strict=True):
            print(f"  {split:6} {name:12} " + "  ".join(f"{value:.3f}" for value in values))
    print(f"wrote {kept}")
    return 0


def report(options: argparse.Namespace) -> int:
    from toyvit.report import draw, format_figures, recall_comparison
    from toyvit.report.summary import summarize
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    run = Run(options.run)
    beside = recall_comparison(run, options.beside)
    if beside and not options.beside:
        print(f"beside {beside.path}, as the last time")
    print(summarize(run, beside))
    print(format_figures(draw(run, beside)))
    write(run)
    print(
        f"TensorBoard: make tensorboard LOGDIR={options.run.parent}, or toyvit tensorboard {options.run.parent}"
    )
    return 0


def tensorboard(options: argparse.Namespace) -> int:
    from tqdm import tqdm

    from toyvit.report.tensorboard import write
    from toyvit.runs.folder import find_runs

    found = find_runs(options.folder)
    if not found:
        raise BadInput(f"{options.folder} holds no run")
    for folder in tqdm(found, desc="writing TensorBoard files", unit="run", disable=len(found) < 2):
        write(folder.path)
    words = ["--logdir", str(options.folder), "--port", str(options.port), "--host", "localhost"]
    return subprocess.call([sys.executable, "-m", "tensorboard.main", *words])


def verify(options: argparse.Namespace) -> int:
    from toyvit.runs.folder import RunFolder

    folder = RunFolder(options.run)
    folder.read_config()  # config.json is whole
    bad = folder.verify()
    for name, problem in bad.items():
        print(f"{folder.checkpoints / name} {problem}")
    if bad:
        raise BadInput(f"{options.run} has {len(bad)} bad checkpoint file{'s' * (len(bad) > 1)}")
    print(f"{options.run}: all {len(folder.read_manifest())} checkpoints are whole")
    return 0


def ls(options: argparse.Namespace) -> int:
    from toyvit.runs.folder import find_runs

    if not options.folder.is_dir():
        raise BadInput(f"{options.folder} is not a folder")
    for folder in find_runs(options.folder):
        run, entries = folder.read_config(), folder.read_manifest()
        last = entries[-1] if entries else None
        score = f"loss {last.loss:.3f}  accuracy {last.accuracy:.3f}" if last else ""
        progress = (
            f"{len(entries)} checkpoints to step {last.step if last else 0} of {run.train.steps}"
        )
        print(f"{folder.path!s:36} {run.recipe:18} {folder.read_status():9} {progress}  {score}")
    return 0


def sites(options: argparse.Namespace) -> int:
    from toyvit.model.sites import list_sites as all_sites

    run = RECIPES[choose(options.recipe, RECIPES, "recipe")]()
    for name, site in all_sites(run.model).items():
        print(f"{name:28} {site.axes:24} {site.meaning}")
    return 0


def data(options: argparse.Namespace, words: list[str]) -> int:
    from toyvit.data import files
    from toyvit.data.baselines import N_FIT, N_SCORED
    from toyvit.data.cards import check_vacant, export_samples, hash_samples, score_baselines
    from toyvit.data.tasks import WORLDS
    from toyvit.report.previews import draw_preview

    if words and not (options.name and words[0].startswith("--task.")):
        build_parser()[1]["data"].refuse_unknown(words)
    if options.name is None:
        if options.preview or options.export:
            raise BadInput(
                f"--{'preview' if options.preview else 'export'} needs the NAME of a data set"
            )
        return _list_data()
    choose(options.name, WORLDS, "data set")
    if options.samples < 1:
        raise BadInput(f"--samples must be at least 1, got {options.samples}")
    if options.export:
        check_vacant(options.export)
    if options.name == "mnist" and files.find_mnist() is None:
        files.fetch_mnist()
    made = _with_settings(options.name, words)
    sizes = ", ".join(
        f"{split} {size if size is not None else 'endless'}"
        for split, size in made.world.sizes.items()
    )
    print(f"{options.name}: {sizes}")
    if options.preview:
        file = "_".join(["preview", *(word.removeprefix("--task.") for word in words)]) + ".png"
        print(f"preview: {draw_preview(made, files.find_prepared(options.name) / file)}")
    print(
        f"naive answers, on the first {N_SCORED:,} test pictures or all, probes fitted on {N_FIT:,} training pictures or all:"
    )
    for name, score in score_baselines(made).items():
        print(f"  {name:36} {score:.3f}")
    print(
        f"SHA-256 of the first 1,000 training pictures and their answers, byte after byte: {hash_samples(made)}"
    )
    if options.export:
        draw = partial(draw_preview, made)
        print(
            f"exported to {export_samples(options.name, made, options.export, options.samples, draw)}"
        )
    return 0


def _list_data() -> int:
    """Every data set in a line, with the recipes that train on it."""
    from toyvit.data.questions import WORLDS, name_data_set

    trained = {
        name: [recipe for recipe, made in RECIPES.items() if name_data_set(made().task) == name]
        for name in WORLDS
    }
    for name, (_, what) in WORLDS.items():
        print(f"{name:14} {what}" + f" (train {', '.join(trained[name])})" * bool(trained[name]))
    print(
        "by a factor of which a picture has one value: toyvit train classify or regress --task.world NAME --task.factor NAME; "
        "to restore pictures: toyvit train reconstruct --task.world NAME; more of one: toyvit data NAME"
    )
    return 0


def _with_settings(name: str, words: list[str]) -> Task:
    """The task of a data set, its options set by words such as `--task.hops 2`."""
    from toyvit.cli.overrides import apply_task_overrides
    from toyvit.config import ClassifyConfig
    from toyvit.data.tasks import WORLDS, build_task

    made = WORLDS[name][0]()
    if words and isinstance(made.config, ClassifyConfig):
        raise BadInput(f"{name} is collected data without settings, got {words[0]}")
    return build_task(apply_task_overrides(made.config, words)) if words else made


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 2 bad input, 3 diverged, 130 and 143 stopped by a signal and resumable."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    top, commands = build_parser()
    try:
        options, words = top.parse_known_args(argv)
        if options.command is None:
            top.print_help()
            return 0
        if options.command in ("train", "sweep", "data"):
            return globals()[options.command](options, words)
        commands[options.command].refuse_unknown(words)
        return globals()[options.command](options)
    except BadInput as error:
        print(f"toyvit: {error}", file=sys.stderr)
        return 2
    except Diverged as error:
        print(f"toyvit: {error}", file=sys.stderr)
        return 3
    except Stopped as stop:
        how = (
            "`--resume` goes on from there"
            if options.command == "train"
            else "the same command goes on"
        )
        print(f"toyvit: {stop}; {how}", file=sys.stderr)
        return 128 + stop.signum
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"toyvit: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("toyvit: stopped by SIGINT", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
