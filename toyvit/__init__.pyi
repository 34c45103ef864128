# Written by `python -m bench.stub` from the table in __init__.py.
from toyvit.analyses.analysis import (
    Analysis as Analysis,
    Axis as Axis,
    Quantity as Quantity,
    Tagged as Tagged,
)
from toyvit.analyses.registry import (
    ANALYSES as ANALYSES,
)
from toyvit.bridges.exporting import (
    ExportOptions as ExportOptions,
    export_run as export_run,
)
from toyvit.bridges.importing import (
    ImportOptions as ImportOptions,
    import_run as import_run,
)
from toyvit.bridges.trainer_callbacks import (
    HuggingFaceWatch as HuggingFaceWatch,
    WatchCallback as WatchCallback,
)
from toyvit.bridges.watching import (
    watch as watch,
)
from toyvit.circuits.circuit import (
    Circuit as Circuit,
    load_circuit as load_circuit,
)
from toyvit.circuits.edges import (
    acdc as acdc,
    eap as eap,
)
from toyvit.circuits.evaluate import (
    CircuitEvaluator as CircuitEvaluator,
    draw_random_circuits as draw_random_circuits,
)
from toyvit.circuits.graph import (
    build_graph as build_graph,
    cache_nodes as cache_nodes,
    patch_path as patch_path,
    run_edges as run_edges,
)
from toyvit.circuits.matching import (
    compare_circuits as compare_circuits,
    match_heads as match_heads,
)
from toyvit.circuits.pairs import (
    PatchingPairs as PatchingPairs,
    class_pairs as class_pairs,
    counterfactual_pairs as counterfactual_pairs,
)
from toyvit.circuits.patching import (
    connect_tokens as connect_tokens,
    patch_activations as patch_activations,
    run_attention_knockout as run_attention_knockout,
)
from toyvit.circuits.search import (
    find_circuit as find_circuit,
    find_smallest as find_smallest,
)
from toyvit.config import (
    Clamp as Clamp,
    ModelConfig as ModelConfig,
    RunConfig as RunConfig,
    Seeds as Seeds,
    TrainConfig as TrainConfig,
)
from toyvit.config.extensions import (
    register as register,
)
from toyvit.data.dataset_arrays import (
    from_dataset as from_dataset,
)
from toyvit.data.task import (
    Batch as Batch,
    Retrieval as Retrieval,
    Task as Task,
    accuracy as accuracy,
    build_task as build_task,
)
from toyvit.data.worlds import (
    WorldEntry as WorldEntry,
)
from toyvit.dynamics.edge_lifetimes import (
    compare_steps as compare_steps,
    compute_edge_shares as compute_edge_shares,
    date_edges as date_edges,
    pivot_edge_scores as pivot_edge_scores,
)
from toyvit.dynamics.hidden_states import (
    TrainingMap as TrainingMap,
    fit_states as fit_states,
)
from toyvit.dynamics.judgement import (
    Transition as Transition,
    judge_transition as judge_transition,
)
from toyvit.dynamics.order import (
    order_events as order_events,
)
from toyvit.dynamics.sharpening import (
    Sharpening as Sharpening,
    compare_sizes as compare_sizes,
)
from toyvit.dynamics.transitions import (
    AbruptChange as AbruptChange,
    detect as detect,
    judge_curve as judge_curve,
)
from toyvit.errors import (
    BadInput as BadInput,
    Diverged as Diverged,
    Stopped as Stopped,
)
from toyvit.instruments.attribution import (
    attribute_components as attribute_components,
    attribute_sources as attribute_sources,
)
from toyvit.instruments.lenses import (
    apply_logit_lens as apply_logit_lens,
    fit_tuned_lens as fit_tuned_lens,
    stack_residuals as stack_residuals,
)
from toyvit.instruments.weight_circuits import (
    fold_norms as fold_norms,
)
from toyvit.measuring import (
    measure as measure,
)
from toyvit.model.forward import (
    ablate_heads as ablate_heads,
    run_from as run_from,
    run_model as run_model,
    trace as trace,
)
from toyvit.model.mappings.timm import (
    convert_from_timm as convert_from_timm,
    convert_to_timm as convert_to_timm,
)
from toyvit.model.sites import (
    list_sites as list_sites,
    select_sites as select_sites,
)
from toyvit.model.taps import (
    editing as editing,
    recording as recording,
    replacing as replacing,
)
from toyvit.model.vit import (
    ViT as ViT,
)
from toyvit.recipes import (
    RECIPES as RECIPES,
)
from toyvit.report import (
    FIGURES as FIGURES,
)
from toyvit.report.notebook import (
    show_attention as show_attention,
    show_lens as show_lens,
    view as view,
)
from toyvit.runs.finding import (
    find_runs as find_runs,
)
from toyvit.runs.handle import (
    Run as Run,
    load_baselines as load_baselines,
    load_table as load_table,
)
from toyvit.runs.table import (
    select_curve as select_curve,
)
from toyvit.sweeping import (
    run_sweep as run_sweep,
)
from toyvit.train.datamodule import (
    ViTDataModule as ViTDataModule,
)
from toyvit.train.fit import (
    fit as fit,
)
from toyvit.train.module import (
    ViTModule as ViTModule,
)
from toyvit.train.replay import (
    replay as replay,
)
from toyvit.train.run_writer import (
    RunWriter as RunWriter,
)

PUBLIC: dict[str, tuple[str, ...]]
MODULES: dict[str, str]
__version__: str
