"""ToyViT: a training and circuits lab for tiny vision transformers.

The names below are imported when they are first used, so that `import toyvit` costs next to
nothing:

>>> import toyvit
>>> toyvit.ModelConfig(n_layers=1).d_head
64

`dir(toyvit)` lists them; `toyvit/__init__.pyi` says the same to editors and type checkers.
"""

from importlib import import_module

from toyvit.version import VERSION

__version__ = VERSION

# Every public name, by the module that defines it.
PUBLIC = {
    "toyvit.analyses.analysis": ("Analysis", "Axis", "Quantity", "Tagged"),
    "toyvit.analyses.registry": ("ANALYSES",),
    "toyvit.bridges.exporting": ("ExportOptions", "export_run"),
    "toyvit.bridges.importing": ("ImportOptions", "import_run"),
    "toyvit.bridges.trainer_callbacks": ("HuggingFaceWatch", "WatchCallback"),
    "toyvit.bridges.watching": ("watch",),
    "toyvit.circuits.circuit": ("Circuit", "load_circuit"),
    "toyvit.circuits.edges": ("acdc", "eap"),
    "toyvit.circuits.evaluate": ("CircuitEvaluator", "draw_random_circuits"),
    "toyvit.circuits.graph": ("build_graph", "cache_nodes", "patch_path", "run_edges"),
    "toyvit.circuits.matching": ("compare_circuits", "match_heads"),
    "toyvit.circuits.pairs": ("PatchingPairs", "class_pairs", "counterfactual_pairs"),
    "toyvit.circuits.patching": (
        "connect_tokens",
        "patch_activations",
        "run_attention_knockout",
    ),
    "toyvit.circuits.search": ("find_circuit", "find_smallest"),
    "toyvit.config": ("Clamp", "ModelConfig", "RunConfig", "Seeds", "TrainConfig"),
    "toyvit.config.extensions": ("register",),
    "toyvit.data.dataset_arrays": ("from_dataset",),
    "toyvit.data.task": ("Batch", "Retrieval", "Task", "accuracy", "build_task"),
    "toyvit.data.worlds": ("WorldEntry",),
    "toyvit.dynamics.edge_lifetimes": (
        "compare_steps",
        "compute_edge_shares",
        "date_edges",
        "pivot_edge_scores",
    ),
    "toyvit.dynamics.hidden_states": ("TrainingMap", "fit_states"),
    "toyvit.dynamics.judgement": ("Transition", "judge_transition"),
    "toyvit.dynamics.order": ("order_events",),
    "toyvit.dynamics.sharpening": ("Sharpening", "compare_sizes"),
    "toyvit.dynamics.transitions": ("AbruptChange", "detect", "judge_curve"),
    "toyvit.errors": ("BadInput", "Diverged", "Stopped"),
    "toyvit.instruments.attribution": ("attribute_components", "attribute_sources"),
    "toyvit.instruments.lenses": ("apply_logit_lens", "fit_tuned_lens", "stack_residuals"),
    "toyvit.instruments.weight_circuits": ("fold_norms",),
    "toyvit.measuring": ("measure",),
    "toyvit.model.forward": ("ablate_heads", "run_from", "run_model", "trace"),
    "toyvit.model.mappings.timm": ("convert_from_timm", "convert_to_timm"),
    "toyvit.model.sites": ("list_sites", "select_sites"),
    "toyvit.model.taps": ("editing", "recording", "replacing"),
    "toyvit.model.vit": ("ViT",),
    "toyvit.recipes": ("RECIPES",),
    "toyvit.report": ("FIGURES",),
    "toyvit.report.notebook": ("show_attention", "show_lens", "view"),
    "toyvit.runs.finding": ("find_runs",),
    "toyvit.runs.handle": ("Run", "load_baselines", "load_table"),
    "toyvit.runs.table": ("select_curve",),
    "toyvit.sweeping": ("run_sweep",),
    "toyvit.train.datamodule": ("ViTDataModule",),
    "toyvit.train.fit": ("fit",),
    "toyvit.train.module": ("ViTModule",),
    "toyvit.train.replay": ("replay",),
    "toyvit.train.run_writer": ("RunWriter",),
}
MODULES = {name: module for module, names in PUBLIC.items() for name in names}
__all__ = sorted(MODULES)


def __getattr__(name: str) -> object:
    if name not in MODULES:
        raise AttributeError(f"module 'toyvit' has no attribute {name!r}")
    value = getattr(import_module(MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *MODULES])
