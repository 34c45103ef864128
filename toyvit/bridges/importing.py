"""`import_run`: a run folder from checkpoints that were trained elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from toyvit.bridges.descriptions import Description, find_family, read_description
from toyvit.bridges.fitted_heads import fit_head
from toyvit.bridges.name_maps import read_name_map
from toyvit.bridges.self_descriptions import read_facts, read_step
from toyvit.bridges.shown import N_VALIDATION, describe_run, score_known
from toyvit.bridges.weight_files import WeightFile, read_weights
from toyvit.config import ModelConfig, RunConfig
from toyvit.config.fields import build_record
from toyvit.config.whole_files import build_folder
from toyvit.data.task import build_task
from toyvit.errors import BadInput
from toyvit.model.mappings.assembly import (
    Parts,
    assemble,
    fill_head,
    infer_config,
    resize_positions,
    sort_tensors,
)
from toyvit.model.mappings.families import FAMILIES, Family
from toyvit.model.mappings.own import OWN, is_own, load_own_weights
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.provenance import IMPORTED, add_provenance
from toyvit.surroundings import pin_torch

STEP = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class ImportOptions:
    """How weights from elsewhere are read.

    family   a name in `FAMILIES`; "" finds it by the names of the tensors
    map      a JSON file that says their name for each of ours, in place of a family
    key      which of several models in a file, as `ema.model`
    steps    of the sources, in order; None reads the last number of each one's name, of one alone 0
    stated   fields of the model's config that the weights do not tell: heads, epsilon ...
    pictures fields of `LookConfig`: what the model is shown
    """

    family: str = ""
    map: Path | None = None
    key: str | None = None
    steps: Sequence[int] | None = None
    stated: Mapping[str, object] = field(default_factory=dict)
    pictures: Mapping[str, object] = field(default_factory=dict)


@pin_torch()
def import_run(
    sources: Sequence[Path | str], into: Path | str, options: ImportOptions | None = None
) -> Run:
    """A run folder with a checkpoint a source, each with where it comes from and its SHA-256.

    A source is a file of weights, or a folder of Hugging Face's or timm's with one and its config.
    A model without a head gets one that is fitted to the classes of the pictures. BadInput for
    what is no such model, and nothing is written.
    """
    options = options or ImportOptions()
    folder = RunFolder(into)
    if folder.path.exists():
        raise BadInput(f"{folder.path} exists already: give another --name")
    paths = [Path(source) for source in sources]
    files = [read_weights(path, options.key) for path in paths]
    steps = _read_steps(paths, files, options.steps)
    described = [_describe(path, file) for path, file in zip(paths, files, strict=True)]
    family = _choose_family(options, described[0], files[0])
    models = [
        _read_model(file, family, _merge_stated(options, each))
        for file, each in zip(files, described, strict=True)
    ]
    shape = models[0][1]
    for file, (_, other) in zip(files, models, strict=True):
        if other != shape:
            raise BadInput(f"{file.path} is a model of another shape than {files[0].path}")

    config = describe_run(shape, family.name, described[0], options.pictures, steps)
    with build_folder(folder.path) as beside:
        _write_run(RunFolder(beside), config, family, files, steps, [parts for parts, _ in models])
    return Run(folder.path)


def _describe(path: Path, file: WeightFile) -> Description:
    """What a source says of its model: the folder, and the file where this lab wrote it."""
    described = read_description(path) if path.is_dir() else Description()
    if file.facts is None:
        return described
    return replace(read_facts(file.facts, str(file.path)), family=described.family)


def _read_steps(
    paths: Sequence[Path], files: Sequence[WeightFile], given: Sequence[int] | None
) -> list[int]:
    """The step of each source; BadInput where they are not one each, and all different."""
    if not paths:
        raise BadInput("nothing to import: give a file of weights, or a folder with one")
    pairs = zip(paths, files, strict=True)
    guessed = [_guess_step(path, file, alone=len(paths) == 1) for path, file in pairs]
    steps = list(given) if given is not None else guessed
    if len(steps) != len(paths):
        raise BadInput(f"--steps names {len(steps)} steps, but there are {len(paths)} sources")
    if len(set(steps)) < len(steps) or steps != sorted(steps) or min(steps) < 0:
        names = ", ".join(f"{path.name}: {step}" for path, step in zip(paths, steps, strict=True))
        raise BadInput(f"steps must ascend from 0 or more ({names[:200]}): give --steps")
    return steps


def _guess_step(path: Path, file: WeightFile, alone: bool) -> int:
    """The step that a file says, or the last number in its name; of one file that may be a size."""
    step = None if file.facts is None else read_step(file.facts)
    if step is not None:
        return step
    numbers = STEP.findall(path.name.removesuffix(path.suffix))
    return int(numbers[-1]) if numbers and not alone else 0


def _choose_family(options: ImportOptions, described: Description, file: WeightFile) -> Family:
    if options.map is not None:
        if options.family:
            raise BadInput("--family and --map are both given: leave one out")
        return read_name_map(options.map)
    if is_own(file.weights) and not options.family:
        if file.facts is None:
            raise BadInput(
                f"{file.path} has this lab's weights and not what they are of: `toyvit export RUN"
                " --to torch` writes both in a file"
            )
        return OWN
    return FAMILIES[find_family(options.family or described.family, file.weights)]


def _merge_stated(options: ImportOptions, described: Description) -> dict[str, object]:
    """Fields of the model's config; BadInput where the user says other than the folder.

    But for the picture's size: another one than the folder's interpolates the positions.
    """
    for name, value in options.stated.items():
        told = described.stated.get(name, value)
        if name != "image_size" and told != value:
            raise BadInput(f"--model.{name} is {value}, but the model's own config says {told}")
    return {**described.stated, **options.stated}


def _check_finite(parts: Parts) -> None:
    """BadInput for weights that are no numbers."""
    bad = [name for name, part in parts.items() if not part.isfinite().all()]
    if bad:
        raise BadInput(f"{bad[0]} holds numbers that are not finite")


def _read_model(
    file: WeightFile, family: Family, stated: Mapping[str, object]
) -> tuple[Parts, ModelConfig]:
    try:
        parts = file.weights if family is OWN else sort_tensors(file.weights, family)
        _check_finite(parts)
        parts = {name: part.float() for name, part in parts.items()}  # what runs are measured in
        if family is OWN:
            config: ModelConfig = build_record(ModelConfig, dict(stated))
            load_own_weights(parts, config)  # refused before anything is written
            return parts, config
        config = infer_config(parts, family, stated)
        return resize_positions(parts, config, family), config
    except BadInput as error:
        raise BadInput(f"{file.path}: {error}") from None


def _write_run(
    folder: RunFolder,
    config: RunConfig,
    family: Family,
    files: Sequence[WeightFile],
    steps: Sequence[int],
    models: Sequence[Parts],
) -> None:
    task = build_task(config.task)
    batch = task.eval_batch("validation", N_VALIDATION, config.seeds.measure)
    folder.create(config)
    has_head = "head.weight" in models[0]
    facts = {"kind": IMPORTED, "family": family.name, "head": "its own" if has_head else "fitted"}
    add_provenance(folder.provenance, folder.hash_run(), facts)
    for file, step, parts in zip(files, steps, models, strict=True):
        if not has_head:
            headless = replace(config.model, bias=True)
            fill_head(parts, headless, *fit_head(parts, headless, task))
        load = load_own_weights if family is OWN else assemble
        model = load(parts, config.model)
        folder.write_checkpoint(step, 0, model.state_dict(), score_known(model, batch))
        source = {"step": step, "source": str(file.path.absolute()), "sha256": file.sha256}
        add_provenance(folder.provenance, folder.hash_run(), source)
