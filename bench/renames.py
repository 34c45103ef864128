"""Old names and new ones, one to one: what the second edition of the design renamed in what users
see and files hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Names of analyses, as they are typed and as they stand in tables of measures.
ANALYSES = {"flow": "attention_knockout", "knock_outs": "head_ablation"}
# Quantities of tables, by the new name of their analysis.
QUANTITIES: dict[tuple[str, str], str] = {("attention_knockout", "blocked"): "loss_rise"}
OPTIONS = {"--base": "--ablation"}
# Fields of circuit records.
FIELDS = {"base": "ablation", "found": "method"}
# Names of figures.
FIGURES = {"flow": "attention_knockout", "knock_outs": "head_ablation"}
# Measures that are meant to differ, and why.
MENDED: dict[str, str] = {}
# Figures that are meant to draw something else: a pattern of their files' paths, without the kind;
# what may be lost (-) and gained (+) there; and why.
MENDED_FIGURES: dict[str, tuple[str, str]] = {
    "*/heads": (
        "-image -line +line +text",
        "curves over a real axis of steps instead of maps with a column a checkpoint",
    ),
    "*/swept/sweep": (
        "-line",
        "no empty panel where no run has a transition, and no baselines drawn in it",
    ),
    "*/clamped/figures/lens": (
        "-image +image",
        "of the model as it was trained, under its clamps",
    ),
    "*/clamped/figures/answer_maps": (
        "-image +image",
        "of the model as it was trained, under its clamps",
    ),
    "*/cls_attention": ("-mesh", "that of a colour bar, which had no label"),
    "*/attention": ("+patch", "strips along the axes say which tokens are of which kind"),
    "*/head_ablation": ("+line +text", "predictors that know less are drawn and named"),
    "*/strategies": ("+line +text", "even attention is drawn and named"),
    "*/by_factor": ("+text", "values are named at their curves"),
    "*/attention_knockout": ("+text", "the line of no effect is named"),
    "*/edges": ("+text", "the line of no effect is named"),
    "*/circuit-*": (
        "-text +text +line",
        "heads are called in words; a circuit beside its random null",
    ),
}


def to_old_command(command: Sequence[str]) -> list[str]:
    """A command of today in the names of before."""
    options = {new: old for old, new in OPTIONS.items()}
    analyses = {new: old for old, new in ANALYSES.items()}
    words = []
    for place, word in enumerate(command):
        if place and command[place - 1] == "--analyses":
            word = ",".join(analyses.get(name, name) for name in word.split(","))
        words.append(options.get(word, word))
    return words


def to_new_record(record: dict[str, Any]) -> dict[str, Any]:
    """What an old tree gave, in the names of today."""
    circuits = {
        path: {FIELDS.get(name, name): value for name, value in circuit.items()}
        for path, circuit in record["circuits"].items()
    }
    return record | {
        "measures": {_rename_row(row): value for row, value in record["measures"].items()},
        "circuits": circuits,
        "figures": {_rename_figure(path): drawn for path, drawn in record["figures"].items()},
    }


def _rename_row(row: str) -> str:
    words = row.split(" ")
    words[3] = ANALYSES.get(words[3], words[3])
    words[7] = QUANTITIES.get((words[3], words[7]), words[7])
    return " ".join(words)


def _rename_figure(path: str) -> str:
    folder, _, file = path.rpartition("/")
    name, dot, kind = file.rpartition(".")
    return f"{folder}/{FIGURES.get(name, name)}{dot}{kind}"
