"""Where each module of the package is tested: the one table that `bench.mutations` goes by.

A row is a pattern of paths inside the package and the tests that are to see a fault there, the
quickest and likeliest first. The first row that matches a module counts, so what is special stands
before what is general. `tests/house/test_mutations.py` asks that every module has a row, that every
row has a module, and that every test named exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

MODEL = (
    "tests/laws/test_masks.py",
    "tests/laws/test_model.py",
    "tests/laws/test_views.py",
    "tests/laws/test_interventions.py",
    "tests/laws/test_taps.py",
)
WORLDS = (
    "tests/laws/test_field_ranges.py",
    "tests/laws/test_worlds.py",
    "tests/laws/test_counterfactuals.py",
    "tests/laws/test_baselines.py",
    "tests/data/test_registry.py",
    "tests/data/test_cards.py",
)
ANALYSES = ("tests/analyses/test_table.py", "tests/circuits/test_handmade.py")
CIRCUITS = (
    "tests/cli/test_defaults.py",
    "tests/circuits/test_discovery.py",
    "tests/circuits/test_recovery.py",
    "tests/analyses/test_circuits.py",
    "tests/stories/test_circuit.py",
)
TRAINING = (
    "tests/laws/test_stream.py",
    "tests/laws/test_paths.py",
    "tests/stories/test_damage.py",
    "tests/stories/test_resume.py",
    "tests/stories/test_replay.py",
    "tests/stories/test_signals.py",
    "tests/stories/test_clamps.py",
    "tests/train/test_lengthening.py",
    "tests/train/test_lightning.py",
)
MEASURING = ("tests/stories/test_measuring.py", "tests/stories/test_damage.py")
SEEING = ("tests/report", "tests/stories/test_seeing.py", "tests/stories/test_grokking.py")
COMMANDS = (
    "tests/cli",
    "tests/stories/test_command_line.py",
    "tests/stories/test_refusals.py",
    "tests/data/test_own_arrays.py",
)
CONFIG = (
    "tests/laws/test_config.py",
    "tests/laws/test_field_ranges.py",
    "tests/laws/test_overrides.py",
    "tests/laws/test_field_types.py",
)

TESTED_BY: dict[str, tuple[str, ...]] = {
    "__init__.py": ("tests/house/test_face.py",),
    "__main__.py": COMMANDS,
    "version.py": ("tests/house/test_face.py",),
    "errors.py": ("tests/laws/test_config.py", "tests/stories/test_refusals.py"),
    "stats.py": ("tests/analyses", "tests/house/test_examples.py"),
    "surroundings.py": ("tests/house/test_surroundings.py",),
    "torchvision_guard.py": ("tests/data/test_files.py", "tests/house/test_architecture.py"),
    "measuring.py": (
        "tests/cli/test_defaults.py",
        "tests/cli/test_kept_folders.py",
        "tests/analyses/test_registry.py",
        *MEASURING,
        "tests/stories/test_circuit.py",
    ),
    "sweeping.py": (
        "tests/cli/test_defaults.py",
        "tests/stories/test_sweep.py",
        "tests/house/test_extensions.py",
    ),
    "analyses/__init__.py": ("tests/analyses/test_registry.py",),
    "analyses/analysis.py": ("tests/analyses/test_registry.py", *ANALYSES),
    "analyses/lens.py": ("tests/instruments/test_lenses.py", *ANALYSES),
    "analyses/memories.py": ("tests/instruments/test_key_value.py", *ANALYSES),
    "analyses/names.py": ("tests/analyses/test_registry.py",),
    "analyses/registry.py": ("tests/analyses/test_registry.py", *MEASURING),
    "analyses/behaviour.py": (
        "tests/analyses/test_behaviour.py",
        "tests/analyses/test_registry.py",
        *ANALYSES,
    ),
    "analyses/*.py": ("tests/analyses", "tests/circuits/test_handmade.py"),
    "instruments/attribution.py": ("tests/instruments/test_attribution.py", *CIRCUITS),
    "instruments/lenses.py": ("tests/instruments/test_lenses.py", *SEEING),
    "instruments/key_value.py": ("tests/instruments/test_key_value.py",),
    "instruments/weight_circuits.py": (
        "tests/analyses/test_weights.py",
        "tests/instruments/test_key_value.py",
    ),
    "instruments/__init__.py": ("tests/house/test_architecture.py",),
    "circuits/graph.py": ("tests/circuits/test_graph.py", *CIRCUITS),
    "circuits/matching.py": ("tests/circuits/test_matching.py",),
    "circuits/pairs.py": ("tests/circuits/test_patching.py", *CIRCUITS),
    "circuits/patching.py": ("tests/circuits/test_patching.py", *CIRCUITS),
    "circuits/*.py": CIRCUITS,
    "clamps/*.py": ("tests/laws/test_clamps.py", "tests/stories/test_clamps.py"),
    "cli/experiments.py": (*COMMANDS, "tests/stories/test_sweep.py"),
    "cli/following.py": ("tests/cli/test_following.py",),
    "cli/single_runs.py": (*COMMANDS, *TRAINING),
    "cli/measurement.py": (*COMMANDS, *MEASURING, "tests/stories/test_circuit.py"),
    "cli/*.py": (*COMMANDS, *SEEING),
    "config/picture_folders.py": ("tests/data/test_own_folders.py",),
    "config/extensions.py": ("tests/house/test_extensions.py",),
    "config/clamps.py": (*CONFIG, "tests/laws/test_clamps.py"),
    "config/schedule.py": ("tests/dynamics/test_transitions.py", *CONFIG, *TRAINING),
    "config/*.py": (*CONFIG, "tests/data/test_registry.py"),
    "data/random.py": ("tests/laws/test_draws.py",),
    "data/placement.py": ("tests/laws/test_objects.py", *WORLDS),
    "data/files.py": ("tests/data/test_files.py", "tests/data/test_dsprites.py"),
    "data/own_arrays.py": (
        "tests/data/test_own_arrays.py",
        "tests/data/test_own_extras.py",
        "tests/data/test_hostile_arrays.py",
    ),
    "data/own_folders.py": ("tests/data/test_own_folders.py",),
    "data/own_pictures.py": ("tests/data/test_own_folders.py", "tests/data/test_own_extras.py"),
    "data/own_notices.py": ("tests/data/test_hostile_arrays.py", "tests/data/test_own_folders.py"),
    "data/own_loading.py": ("tests/data/test_own_folders.py", "tests/data/test_own_arrays.py"),
    "data/picture_files.py": ("tests/data/test_picture_files.py", "tests/data/test_own_folders.py"),
    "data/picture_stack.py": ("tests/data/test_picture_files.py", "tests/data/test_own_folders.py"),
    "data/picture_pairs.py": ("tests/data/test_own_folders.py",),
    "data/dataset_*.py": ("tests/data/test_dataset_arrays.py",),
    "data/npz_files.py": ("tests/data/test_hostile_arrays.py",),
    "data/baselines.py": ("tests/laws/test_leaks.py", *WORLDS),
    "data/cards.py": ("tests/data/test_cards.py", "tests/data/test_own_arrays.py"),
    "data/exports.py": ("tests/data/test_cards.py", "tests/data/test_own_arrays.py"),
    "data/worlds/__init__.py": (*WORLDS, "tests/house/test_extensions.py"),
    "data/worlds/dsprites/*.py": ("tests/data/test_dsprites.py", *WORLDS),
    "data/worlds/omniglot/*.py": ("tests/laws/test_fewshot.py", *WORLDS),
    "data/worlds/fewshot/*.py": ("tests/laws/test_fewshot.py", *WORLDS),
    "data/worlds/objects/*.py": ("tests/laws/test_objects.py", *WORLDS),
    "data/worlds/sort_of_clevr/*.py": ("tests/laws/test_objects.py", *WORLDS),
    "data/worlds/counting/*.py": ("tests/laws/test_objects.py", *WORLDS),
    "data/worlds/pointers/*.py": ("tests/laws/test_pointers.py", *WORLDS),
    "data/worlds/relations/*.py": ("tests/laws/test_relations.py", *WORLDS),
    "data/worlds/mnist/*.py": ("tests/data/test_files.py", *WORLDS),
    "data/worlds/digits/*.py": ("tests/data/test_files.py", *WORLDS),
    "data/*.py": (*WORLDS, "tests/laws/test_stream.py"),
    "dynamics/checkpoints.py": ("tests/dynamics/test_checkpoints.py",),
    "dynamics/edge_lifetimes.py": ("tests/dynamics/test_edge_lifetimes.py",),
    "dynamics/*.py": ("tests/dynamics/test_transitions.py",),
    "model/mappings/*.py": ("tests/model/test_families.py", "tests/model/test_timm.py"),
    "model/toys.py": ("tests/model/test_toys.py", "tests/replications"),
    "model/forward.py": (*MODEL, "tests/circuits/test_graph.py"),
    "model/*.py": MODEL,
    "recipes/*.py": ("tests/recipes/test_recipes.py", "tests/stories/test_recipes.py"),
    "replications/*.py": ("tests/replications",),
    "bridges/watching.py": ("tests/bridges/test_watching.py",),
    "bridges/trainer_callbacks.py": ("tests/bridges/test_watching.py",),
    "bridges/modules.py": ("tests/bridges/test_watching.py",),
    "bridges/*.py": ("tests/bridges/test_importing.py", "tests/bridges/test_watching.py"),
    "report/summary.py": SEEING,
    "report/heads.py": SEEING,
    "report/*.py": (*SEEING, "tests/data/test_cards.py"),
    "runs/events.py": ("tests/cli/test_following.py", *SEEING),
    "runs/*.py": ("tests/runs", "tests/stories/test_damage.py", *MEASURING),
    "train/memory.py": ("tests/laws/test_memory.py", "tests/stories/test_refusals.py"),
    "train/*.py": TRAINING,
}


def find_row(module: str, table: Mapping[str, tuple[str, ...]]) -> str | None:
    """The pattern of the first row that matches a module's path, if there is one.

    >>> find_row("report/figures.py", TESTED_BY)
    'report/*'
    """
    return next((pattern for pattern in table if fnmatch(module, pattern)), None)


def list_tests(module: str, table: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The tests of a module, each once, in the row's order; none if no row matches."""
    row = find_row(module, table)
    return tuple(dict.fromkeys(table[row])) if row is not None else ()
