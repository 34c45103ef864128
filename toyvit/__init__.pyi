# Written by `python -m bench.stub` from the table in __init__.py.
from toyvit.analyses import (
    ANALYSES as ANALYSES,
)
from toyvit.circuits.circuit import (
    Circuit as Circuit,
)
from toyvit.circuits.circuit import (
    load_circuit as load_circuit,
)
from toyvit.circuits.edges import (
    acdc as acdc,
)
from toyvit.circuits.edges import (
    eap as eap,
)
from toyvit.circuits.evaluate import (
    CircuitEvaluator as CircuitEvaluator,
)
from toyvit.circuits.evaluate import (
    draw_random_circuits as draw_random_circuits,
)
from toyvit.circuits.graph import (
    build_graph as build_graph,
)
from toyvit.circuits.graph import (
    cache_nodes as cache_nodes,
)
from toyvit.circuits.graph import (
    patch_path as patch_path,
)
from toyvit.circuits.graph import (
    run_edges as run_edges,
)
from toyvit.circuits.pairs import (
    PatchingPairs as PatchingPairs,
)
from toyvit.circuits.pairs import (
    class_pairs as class_pairs,
)
from toyvit.circuits.pairs import (
    counterfactual_pairs as counterfactual_pairs,
)
from toyvit.circuits.patching import (
    patch_activations as patch_activations,
)
from toyvit.circuits.patching import (
    run_attention_knockout as run_attention_knockout,
)
from toyvit.circuits.search import (
    find_circuit as find_circuit,
)
from toyvit.circuits.search import (
    fit_tuned_lens as fit_tuned_lens,
)
from toyvit.config import (
    Clamp as Clamp,
)
from toyvit.config import (
    ModelConfig as ModelConfig,
)
from toyvit.config import (
    RunConfig as RunConfig,
)
from toyvit.config import (
    Seeds as Seeds,
)
from toyvit.config import (
    TrainConfig as TrainConfig,
)
from toyvit.config.extensions import (
    register as register,
)
from toyvit.data.task import (
    Batch as Batch,
)
from toyvit.data.task import (
    Retrieval as Retrieval,
)
from toyvit.data.task import (
    Task as Task,
)
from toyvit.data.task import (
    build_task as build_task,
)
from toyvit.data.worlds import (
    WorldEntry as WorldEntry,
)
from toyvit.dynamics.transitions import (
    Transition as Transition,
)
from toyvit.dynamics.transitions import (
    detect as detect,
)
from toyvit.dynamics.transitions import (
    order_events as order_events,
)
from toyvit.errors import (
    BadInput as BadInput,
)
from toyvit.errors import (
    Diverged as Diverged,
)
from toyvit.errors import (
    Stopped as Stopped,
)
from toyvit.instruments.attribution import (
    attribute_components as attribute_components,
)
from toyvit.instruments.attribution import (
    attribute_sources as attribute_sources,
)
from toyvit.instruments.lenses import (
    apply_logit_lens as apply_logit_lens,
)
from toyvit.instruments.lenses import (
    stack_residuals as stack_residuals,
)
from toyvit.measuring import (
    measure as measure,
)
from toyvit.model.forward import (
    ablate_heads as ablate_heads,
)
from toyvit.model.forward import (
    run_from as run_from,
)
from toyvit.model.forward import (
    run_model as run_model,
)
from toyvit.model.forward import (
    trace as trace,
)
from toyvit.model.mappings.timm import (
    convert_from_timm as convert_from_timm,
)
from toyvit.model.mappings.timm import (
    convert_to_timm as convert_to_timm,
)
from toyvit.model.sites import (
    list_sites as list_sites,
)
from toyvit.model.sites import (
    select_sites as select_sites,
)
from toyvit.model.taps import (
    editing as editing,
)
from toyvit.model.taps import (
    recording as recording,
)
from toyvit.model.taps import (
    replacing as replacing,
)
from toyvit.model.vit import (
    ViT as ViT,
)
from toyvit.recipes import (
    RECIPES as RECIPES,
)
from toyvit.runs.folder import (
    find_runs as find_runs,
)
from toyvit.runs.handle import (
    Run as Run,
)
from toyvit.runs.handle import (
    load_baselines as load_baselines,
)
from toyvit.runs.handle import (
    load_table as load_table,
)
from toyvit.runs.table import (
    select_curve as select_curve,
)
from toyvit.sweeping import (
    run_sweep as run_sweep,
)
from toyvit.train.fit import (
    fit as fit,
)
from toyvit.train.replay import (
    replay as replay,
)

PUBLIC: dict[str, tuple[str, ...]]
MODULES: dict[str, str]
__version__: str
