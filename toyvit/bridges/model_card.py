"""The model card of a checkpoint: what it is, how it scores beside what knows less, its limits."""

from __future__ import annotations

from collections.abc import Sequence

from toyvit.bridges.card_scores import describe_scores, spell_score
from toyvit.bridges.exported import Exported
from toyvit.bridges.training_commands import write_command
from toyvit.config.foreign_files import JsonObject
from toyvit.dynamics.judgement import judge_transition, read_seed
from toyvit.errors import BadInput, quote_code
from toyvit.runs.handle import Run
from toyvit.version import VERSION

TAGS = ("toyvit", "vision-transformer", "interpretability")
HUGGING_FACE = """\
```python
from transformers import AutoImageProcessor, ViTForImageClassification

model = ViTForImageClassification.from_pretrained("FOLDER OR OWNER/NAME").eval()
processor = AutoImageProcessor.from_pretrained("FOLDER OR OWNER/NAME")
```

`toyvit import FOLDER` makes a run of it again, the same to the bit."""
OWN_FORMAT = """\
`transformers` has no such model. The folder has it as one file that needs nothing but torch:

```python
from vit import load

model = load()  # in the folder; `model(images)` gives logits
```

`toyvit import FOLDER` makes a run of it again, the same to the bit."""
MIT = "MIT, as ToyViT."
OTHER_LICENCE = "That of the weights that were imported: see where they are from."
LIMITS = """\
A toy: small, trained on one narrow task, and made to be looked into. It knows nothing of pictures
that are not like those of its task, and is for research and teaching alone."""


def _is_ours(exported: Exported) -> bool:
    """Whether the run was trained here."""
    return exported.facts["provenance"]["source"] is None


def write_card(exported: Exported, is_hugging_face: bool) -> str:
    """The card as Markdown; what was not measured is left out, and said to be."""
    sections = {
        "Use": HUGGING_FACE if is_hugging_face else OWN_FORMAT,
        "Pictures": _describe_pictures(exported),
        "Scores": describe_scores(exported),
        "When it learned": _describe_transition(exported.run),
        "Training": _describe_training(exported),
        "Checkpoints": _describe_checkpoints(exported),
        "Limits": LIMITS,
        "Licence": MIT if _is_ours(exported) else OTHER_LICENCE,
    }
    parts = [_write_front(exported, is_hugging_face), f"# {quote_code(exported.run.name)}"]
    parts.append(_describe_model(exported))
    for title, text in sections.items():
        if text:
            parts += [f"## {title}", text]
    return "\n\n".join(parts) + "\n"


def _write_front(exported: Exported, is_hugging_face: bool) -> str:
    """What the Hub reads."""
    library = "transformers" if is_hugging_face else "pytorch"
    licence = "mit" if _is_ours(exported) else "other"
    lines = ["---", f"license: {licence}", f"library_name: {library}"]
    if exported.facts["answers"] == "image":
        lines.append("pipeline_tag: image-classification")
    lines += ["tags:", *(f"  - {tag}" for tag in TAGS), "---"]
    return "\n".join(lines)


def _describe_model(exported: Exported) -> str:
    config = exported.config
    n = sum(parameter.numel() for parameter in exported.model.parameters())
    mlp = f"MLPs of {config.d_mlp}" if config.d_mlp else "attention alone"
    rows, columns = config.grid
    where = "trained with" if _is_ours(exported) else "imported by"
    return (
        f"A vision transformer of {n:,} parameters: layers {config.n_layers}, heads in each"
        f" {config.n_heads}, width {config.d_model}, {mlp}; {rows} x {columns} patches of"
        f" {config.patch_size} x {config.patch_size} pixels, positions `{config.positions}`, mask"
        f" `{config.mask}`, read-out `{config.readout}`. It was {where} ToyViT; this is step"
        f" {exported.step:,}. `model.safetensors` says the same in its metadata, under `toyvit`."
    )


def _describe_pictures(exported: Exported) -> str:
    task = exported.run.config.task
    height, width = exported.config.stated("image_size")
    channels = exported.config.stated("n_channels")
    mean, deviation = exported.normalization
    shown = "They are shown as they are drawn, without a mean or a deviation."
    if mean:
        means = ", ".join(f"{value:g}" for value in mean)
        deviations = ", ".join(f"{value:g}" for value in deviation)
        shown = f"Pixels from 0 to 1 are shown less {means}, over {deviations}."
    return (
        f"Pictures of {quote_code(task.data_set)} (task {quote_code(task.name)}), {height} x"
        f" {width}, {channels} channel{'s' * (channels > 1)}. {shown}"
    )


def _describe_transition(run: Run) -> str:
    """The verdict on the seed; nothing where its recipe names no order parameter, or unmeasured."""
    try:
        seed = read_seed(run) if run.is_measured else None
    except BadInput:
        return ""
    if seed is None:
        return ""
    verdict = judge_transition([seed], run.config.train)
    return f"Loss and order parameter of this seed alone (a verdict takes ten): {verdict}."


def _describe_training(exported: Exported) -> str:
    source = exported.facts["provenance"]["source"]
    if source is not None:
        return (
            f"Not here: the weights are from {quote_code(source['file'])}, SHA-256"
            f" `{source['sha256']}`."
        )
    command = write_command(exported.run.config)
    if command is None:
        recipe = quote_code(exported.run.config.recipe)
        return f"By the recipe {recipe}, which this version of ToyViT does not have."
    fence = f"```sh\n{command}\n```"
    return f"One command, with ToyViT {VERSION}, trains it again from its seeds:\n\n{fence}"


def _describe_checkpoints(exported: Exported) -> str:
    sha256 = exported.facts["provenance"]["sha256"]
    return (
        f"The checkpoint of the run has SHA-256 `{sha256}`. `checkpoints.json` lists every"
        " checkpoint of the run: step, SHA-256, validation scores."
    )


def write_index(exported: Exported, is_hugging_face: bool, rows: Sequence[JsonObject]) -> str:
    """The card of a folder of all checkpoints of a run, of which this is the last."""
    lines = []
    for row in rows:
        scores = f"{spell_score(row['accuracy'])} | {spell_score(row['loss'])}"
        lines.append(f"| {row['step']} | `{row['folder']}` | `{row['sha256']}` | {scores} |")
    table = ["| step | folder | SHA-256 in the run | accuracy | loss |", "|---|---|---|---|---|"]
    parts = [
        _write_front(exported, is_hugging_face),
        f"# {quote_code(exported.run.name)}",
        _describe_model(exported).replace("this is step", "the last step is"),
        "Every checkpoint has a folder, with a card that says how it is used, how it scores and how"
        " it was trained. Scores here are of training's validation pictures.",
        "\n".join([*table, *lines]),
    ]
    return "\n\n".join(parts) + "\n"
