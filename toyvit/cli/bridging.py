"""Commands that take models in from elsewhere, and out: `import`, `export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from toyvit.cli.arguments import add_run, add_runs_folder, read_name, read_numbers
from toyvit.cli.command import Command, Parser
from toyvit.cli.imports import importing
from toyvit.cli.output import show
from toyvit.config import ModelConfig
from toyvit.config.overrides import read_values
from toyvit.data.question_configs import LookConfig
from toyvit.errors import BadInput, choose

EXPORTED = ("torch", "timm", "huggingface", "transformer_lens", "onnx")
EPILOG = """\
What the weights do not tell can be stated: --model.n_heads 6 --model.norm_epsilon 1e-6
--model.image_size 112,112 (positions are interpolated). What the model is shown:
--task.folder DIR, --task.npz FILE or --task.world NAME (default: two photographs),
--task.mean 0.485,0.456,0.406 --task.deviation 0.229,0.224,0.225 --task.answers cat,dog.
"""


def add_import_arguments(parser: Parser) -> None:
    """SOURCE ..., how its tensors are named, and where the run goes."""
    text = "a file of weights (.safetensors, .pth ...), or a folder of Hugging Face's or timm's"
    parser.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help=text)
    text = "timm, vit, deit, dinov2, clip or torchvision (default: found by the names of tensors)"
    parser.add_argument("--family", metavar="NAME", help=text)
    text = "JSON of our names of tensors to theirs, for a model of no family"
    parser.add_argument("--map", type=Path, metavar="FILE", help=text)
    parser.add_argument("--key", metavar="NAME", help="which of several models in a file")
    text = "step of each source (default: the last number in its name; of one alone 0)"
    parser.add_argument("--steps", metavar="STEPS", help=text)
    parser.add_argument("--name", help="name of the run folder (default: the first source's)")
    add_runs_folder(parser, "where run folders go (default: runs)")


def import_weights(options: argparse.Namespace) -> int:
    """Make a run folder of checkpoints from elsewhere."""
    values = read_values({"model": ModelConfig, "task": LookConfig}, options.words)
    first: Path = options.sources[0]
    name = first.name.removesuffix(first.suffix) if options.name is None else options.name
    path = options.runs / read_name("--name", name)
    steps = None if options.steps is None else read_numbers("--steps", options.steps)

    with importing():
        from toyvit.bridges.importing import ImportOptions, import_run
        from toyvit.runs.provenance import read_provenance

    read = ImportOptions(
        family=options.family or "",
        map=options.map,
        key=options.key,
        steps=steps,
        stated=values["model"],
        pictures=values["task"],
    )
    run = import_run(options.sources, path, read)
    model = run.config.model
    show(
        f"{model.n_layers} layers of {model.n_heads} heads, "
        f"norms with epsilon {model.norm_epsilon:g}"
    )
    if read_provenance(run.folder.provenance, run.folder.hash_run())[0]["head"] == "fitted":
        show("note: the model has no head: one was fitted to the classes of its pictures")
    for notice in run.task.list_notices():
        show(f"note: {notice}")
    show(
        f"{path} holds {len(run)} checkpoints: measure it with `toyvit measure {path} --images 64`"
    )
    return 0


def add_export_arguments(parser: Parser) -> None:
    """RUN, --to, --step, --into, --sites, --push."""
    add_run(parser)
    names = ", ".join(EXPORTED)
    parser.add_argument("--to", required=True, metavar="FORMAT", help=f"one of {names}")
    text = "a step that has a checkpoint, or all of them (default: the last)"
    parser.add_argument("--step", metavar="N|all", help=text)
    text = "a new folder (default: exports/NAME-FORMAT)"
    parser.add_argument("--into", type=Path, metavar="DIR", help=text)
    text = "with onnx: sites whose values are outputs too, as blocks.*.attn.pattern"
    parser.add_argument("--sites", metavar="NAMES", help=text)
    text = "with huggingface: upload the folder to this repository, OWNER/NAME"
    parser.add_argument("--push", metavar="REPO", help=text)


def export_weights(options: argparse.Namespace) -> int:
    """Write checkpoints of a run in another program's format, into a new folder."""
    choose(options.to, EXPORTED, "--to")
    for option, value, needed in (
        ("--sites", options.sites, "onnx"),
        ("--push", options.push, "huggingface"),
    ):
        if value is not None and options.to != needed:
            raise BadInput(f"{option} is for --to {needed}, got --to {options.to}")
    step = _read_step(options.step)

    with importing():
        from toyvit.bridges.exporting import ExportOptions, write_export
        from toyvit.bridges.pushing import check_pushing, push_folder

    if options.push is not None:
        check_pushing(options.push)
    sites = () if options.sites is None else options.sites.split(",")
    folder, notices = write_export(
        options.run, options.to, step, options.into, ExportOptions(sites=sites)
    )
    for notice in notices:
        show(f"note: {notice}")
    show(f"{folder} holds {', '.join(sorted(path.name for path in folder.iterdir()))}")
    if options.push is not None:
        show(f"pushed to {push_folder(folder, options.push)}")
    return 0


def _read_step(text: str | None) -> int | str | None:
    """A step, `all`, or None where nothing was given."""
    if text is None or text == "all":
        return text
    if not text.isascii() or not text.isdigit():
        raise BadInput(f"--step takes a step or all, got {text!r}")
    return int(text)


COMMANDS = (
    Command(
        name="import",
        help="make a run of checkpoints that were trained elsewhere",
        add_arguments=add_import_arguments,
        run=import_weights,
        takes_fields=True,
        write_epilog=lambda: EPILOG,
        how_to_go_on="nothing was written",
    ),
    Command(
        name="export",
        help="write checkpoints for torch, timm, transformers, TransformerLens or ONNX",
        add_arguments=add_export_arguments,
        run=export_weights,
        how_to_go_on="nothing was written",
    ),
)
