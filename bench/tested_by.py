"""Where each module of the package is tested: the one table that `bench.mutations` goes by.

A row is a pattern of paths inside the package and the tests that are to see a fault there, the
quickest and likeliest first. The first row that matches a module counts, so what is special stands
before what is general. `tests/test_mutations.py` asks that every module has a row, that every row
has a module, and that every test named exists.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatch

MODEL_LAWS = (
    "tests/laws/test_masks.py",
    "tests/laws/test_model.py",
    "tests/laws/test_interventions.py",
    "tests/laws/test_taps.py",
)
WORLD_LAWS = (
    "tests/laws/test_worlds.py",
    "tests/laws/test_counterfactuals.py",
    "tests/laws/test_baselines.py",
    "tests/laws/test_leaks.py",
    "tests/test_cards.py",
)
ANALYSIS_LAWS = ("tests/analyses/test_table.py", "tests/test_handmade.py")
CIRCUITS = (
    "tests/circuits/test_discovery.py",
    "tests/circuits/test_recovery.py",
    "tests/analyses/test_circuits.py",
    "tests/stories/test_circuit.py",
)
TRAINING = (
    "tests/laws/test_stream.py",
    "tests/stories/test_resume.py",
    "tests/stories/test_replay.py",
    "tests/stories/test_signals.py",
    "tests/stories/test_damage.py",
    "tests/stories/test_clamps.py",
)
MEASURING = ("tests/stories/test_measuring.py", "tests/stories/test_damage.py")
SEEING = ("tests/stories/test_seeing.py", "tests/stories/test_grokking.py")
COMMANDS = (
    "tests/stories/test_command_line.py",
    "tests/stories/test_refusals.py",
    "tests/test_own_data.py",
)

TESTED_BY: dict[str, tuple[str, ...]] = {
    "__init__.py": ("tests/stories/test_command_line.py",),
    "__main__.py": (*COMMANDS, *MEASURING, *SEEING, "tests/stories/test_sweep.py"),
    "analyses/__init__.py": ("tests/analyses/test_registry.py", *ANALYSIS_LAWS),
    "analyses/analysis.py": ("tests/analyses/test_registry.py", *ANALYSIS_LAWS),
    "analyses/attention.py": ("tests/analyses/test_attention.py", *ANALYSIS_LAWS),
    "analyses/behaviour.py": ("tests/analyses/test_behaviour.py", *ANALYSIS_LAWS),
    "analyses/circuits.py": ("tests/analyses/test_circuits.py", *ANALYSIS_LAWS),
    "analyses/fourier.py": ("tests/analyses/test_fourier.py", *ANALYSIS_LAWS),
    "analyses/geometry.py": ("tests/analyses/test_geometry.py", *ANALYSIS_LAWS),
    "analyses/heads.py": ("tests/analyses/test_heads.py", *ANALYSIS_LAWS),
    "analyses/induction.py": (
        "tests/analyses/test_induction.py",
        "tests/analyses/test_composition.py",
        *ANALYSIS_LAWS,
    ),
    "analyses/landscape.py": ("tests/analyses/test_landscape.py", *ANALYSIS_LAWS),
    "analyses/lens.py": ("tests/circuits/test_lenses.py", *ANALYSIS_LAWS),
    "analyses/llc.py": ("tests/analyses/test_llc.py", *ANALYSIS_LAWS),
    "analyses/memories.py": ("tests/test_memories.py", *ANALYSIS_LAWS),
    "analyses/names.py": ("tests/analyses/test_registry.py",),
    "analyses/norms.py": ("tests/analyses/test_norms.py", *ANALYSIS_LAWS),
    "analyses/places.py": ("tests/analyses/test_heads.py", *ANALYSIS_LAWS),
    "analyses/probes.py": ("tests/analyses/test_probes.py", *ANALYSIS_LAWS),
    "analyses/registry.py": ("tests/analyses/test_registry.py", *MEASURING),
    "analyses/superposition.py": ("tests/analyses/test_superposition.py", *ANALYSIS_LAWS),
    "analyses/tokens.py": ("tests/analyses/test_probes.py", "tests/analyses/test_geometry.py"),
    "analyses/weights.py": ("tests/analyses/test_weights.py", *ANALYSIS_LAWS),
    "arguments.py": COMMANDS,
    "calibration.py": ("tests/test_transitions.py",),
    "circuits/attribution.py": (
        "tests/circuits/test_attribution.py",
        "tests/analyses/test_circuits.py",
    ),
    "circuits/clamps.py": ("tests/laws/test_clamps.py", "tests/stories/test_clamps.py"),
    "circuits/contrasts.py": ("tests/circuits/test_patching.py", *CIRCUITS),
    "circuits/forward.py": (*MODEL_LAWS, "tests/circuits/test_graph.py"),
    "circuits/graph.py": ("tests/circuits/test_graph.py", *CIRCUITS),
    "circuits/lenses.py": ("tests/circuits/test_lenses.py", *SEEING),
    "circuits/lifetimes.py": ("tests/circuits/test_lifetimes.py",),
    "circuits/memories.py": ("tests/test_memories.py",),
    "circuits/patching.py": (
        "tests/analyses/test_circuits.py",
        "tests/circuits/test_patching.py",
    ),
    "circuits/weights.py": (
        "tests/analyses/test_weights.py",
        "tests/analyses/test_composition.py",
        "tests/test_memories.py",
    ),
    "circuits/*": CIRCUITS,
    "config/clamps.py": ("tests/laws/test_config.py", "tests/laws/test_clamps.py"),
    "config/tasks.py": (
        "tests/laws/test_config.py",
        "tests/laws/test_worlds.py",
        "tests/stories/test_refusals.py",
    ),
    "config/*": (
        "tests/laws/test_config.py",
        "tests/laws/test_overrides.py",
        "tests/test_transitions.py",
        "tests/laws/test_model.py",
        "tests/stories/test_refusals.py",
    ),
    "data/addition.py": (*WORLD_LAWS, "tests/analyses/test_fourier.py"),
    "data/cards.py": ("tests/test_cards.py", "tests/test_own_data.py"),
    "data/clevr.py": ("tests/laws/test_objects.py", *WORLD_LAWS),
    "data/collected.py": ("tests/test_data.py", "tests/test_own_data.py", *WORLD_LAWS),
    "data/counting.py": ("tests/laws/test_objects.py", *WORLD_LAWS),
    "data/draws.py": ("tests/laws/test_draws.py", "tests/laws/test_stream.py", *WORLD_LAWS),
    "data/dsprites.py": ("tests/test_dsprites.py", *WORLD_LAWS),
    "data/fewshot.py": ("tests/laws/test_fewshot.py", *WORLD_LAWS),
    "data/objects.py": ("tests/laws/test_objects.py", *WORLD_LAWS),
    "data/omniglot.py": ("tests/laws/test_fewshot.py", *WORLD_LAWS),
    "data/places.py": ("tests/laws/test_objects.py",),
    "data/pointers.py": ("tests/laws/test_pointers.py", *WORLD_LAWS),
    "data/relations.py": ("tests/laws/test_relations.py", *WORLD_LAWS),
    "data/source.py": ("tests/test_data.py", "tests/laws/test_fewshot.py", *COMMANDS),
    "data/sprites.py": ("tests/test_dsprites.py", *WORLD_LAWS),
    "data/*": (*WORLD_LAWS, "tests/laws/test_stream.py", "tests/test_own_data.py"),
    "dynamics.py": ("tests/test_dynamics.py", *SEEING),
    "errors.py": ("tests/laws/test_overrides.py", "tests/laws/test_config.py", *COMMANDS),
    "measure.py": (*MEASURING, *ANALYSIS_LAWS),
    "model/timm_weights.py": ("tests/test_timm.py",),
    "model/toys.py": ("tests/test_toys.py", "tests/replications/test_results.py"),
    "model/*": (*MODEL_LAWS, "tests/laws/test_config.py", "tests/circuits/test_graph.py"),
    "overrides.py": ("tests/laws/test_overrides.py", "tests/stories/test_refusals.py"),
    "recipes.py": ("tests/laws/test_overrides.py", *WORLD_LAWS, "tests/stories/test_recipes.py"),
    "replications/*": ("tests/replications/test_loop.py", "tests/replications/test_results.py"),
    "report/previews.py": ("tests/test_cards.py",),
    "report/replicated.py": ("tests/replications/test_results.py",),
    "report/summary.py": ("tests/test_transitions.py", *SEEING),
    "report/*": ("tests/report", *SEEING, "tests/stories/test_circuit.py"),
    "results.py": ("tests/analyses/test_table.py", *MEASURING),
    "runs.py": ("tests/stories/test_damage.py", *TRAINING, *COMMANDS),
    "search.py": CIRCUITS,
    "sites.py": ("tests/laws/test_interventions.py", "tests/laws/test_taps.py", *MEASURING),
    "stats.py": (
        "tests/analyses/test_geometry.py",
        "tests/analyses/test_probes.py",
        "tests/analyses/test_superposition.py",
        "tests/analyses/test_attention.py",
        "tests/test_transitions.py",
    ),
    "sweep.py": ("tests/stories/test_sweep.py", "tests/stories/test_refusals.py"),
    "taps.py": ("tests/laws/test_interventions.py", *MODEL_LAWS),
    "threads.py": ("tests/test_threads.py",),
    "torchvision_guard.py": ("tests/test_architecture.py", "tests/test_timm.py"),
    "train/clamps.py": ("tests/laws/test_clamps.py", "tests/stories/test_clamps.py"),
    "train/*": (*TRAINING, "tests/test_transitions.py", "tests/stories/test_refusals.py"),
    "trajectory.py": (*MEASURING, "tests/test_dynamics.py", *SEEING),
    "transitions.py": ("tests/test_transitions.py",),
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
