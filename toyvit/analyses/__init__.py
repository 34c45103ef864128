"""The measures of the lab: one frozen record each, one literal table.

To add a measure, write a pure function `(model, batch, trace) -> {quantity: tensor}` and add one row. A quantity may carry
tags, `accuracy[factor=label,group=cls]`, which become columns of the table of results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from toyvit.analyses import (
    attention,
    behaviour,
    circuits,
    fourier,
    geometry,
    heads,
    induction,
    landscape,
    lens,
    llc,
    memories,
    norms,
    probes,
    superposition,
    weights,
)
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.errors import BadInput, choose
from toyvit.model import ViT

RESIDUALS = ("blocks.*.resid_pre", "blocks.*.resid_post")


# What an analysis may need: in words, and whether it is there.
NEEDS: dict[str, tuple[str, Callable[[ModelConfig, Batch], bool]]] = {
    "pairs": ("item-label pairs", lambda config, batch: batch.retrieval is not None),
    "content": ("content ids of patches", lambda config, batch: batch.content is not None),
    "strategies": (
        "predictors that know the world",
        lambda config, batch: batch.strategies is not None,
    ),
    "classes": ("one class a picture", lambda config, batch: batch.classes is not None),
    "groups": ("factors of few values", lambda config, batch: batch.groups is not None),
    "counterfactuals": ("counterfactual pairs", lambda config, batch: bool(batch.changeable)),
    "objects": ("objects on a canvas", lambda config, batch: batch.objects is not None),
    "labels": (
        "classes, of pictures or of patches",
        lambda config, batch: not batch.target.is_floating_point(),
    ),
    "masks": (
        "the class of every patch",
        lambda config, batch: batch.objects is not None and batch.target.ndim == 2,
    ),
    "vocabulary": (
        "cells that name a class",
        lambda config, batch: weights.find_vocabulary(batch) is not None,
    ),
    "context": (
        "item-label pairs, or a class a patch and a causal mask",
        lambda config, batch: batch.retrieval is not None or behaviour.asks_in_order(config, batch),
    ),
    "addition": ("all pairs of an addition", lambda config, batch: batch.operand_table is not None),
    "mlp": ("an MLP (--model.d_mlp)", lambda config, batch: config.d_mlp > 0),
}


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """A measure: what it computes, the axes of each quantity, the sites it reads, what it needs, its source, truth and null."""

    name: str
    measure: Callable[[ViT, Batch, Mapping[str, Tensor]], dict[str, Tensor]]
    axes: dict[str, str]  # quantity (without tags) -> axes of its tensor; "" is a single number
    sites: tuple[str, ...] = ()
    needs: str = ""  # names in NEEDS
    slow: bool = False  # run only when asked for by name: it takes seconds a checkpoint, or makes thousands of rows
    source: str
    truth: str
    null: str
    version: int = 1

    def missing(self, model: ViT, batch: Batch) -> list[str]:
        """What this analysis needs and this model or batch does not have, in words."""
        return [
            words
            for words, there in map(NEEDS.__getitem__, self.needs.split())
            if not there(model.config, batch)
        ]


ANALYSES = {
    analysis.name: analysis
    for analysis in (
        Analysis(
            name="performance",
            measure=behaviour.measure_performance,
            axes={"loss": "", "accuracy": ""},
            sites=("logits",),
            source="cross-entropy and accuracy; naive baselines stand beside them",
            truth="logits that answer right: accuracy 1; uniform logits: loss ln(classes)",
            null="the task's naive baselines",
        ),
        Analysis(
            name="by_factor",
            measure=behaviour.measure_by_factor,
            axes={"loss_of_value": "level", "accuracy_of_value": "level"},
            sites=("logits",),
            needs="classes groups",
            source="Michaud 2023, section 4: which groups of samples are learned when",
            truth="a model that is right for one value: 1 there, 0 elsewhere",
            null="the mean over values is the score of all pictures",
        ),
        Analysis(
            name="strategies",
            measure=behaviour.measure_strategies,
            axes={"kl": ""},
            sites=("logits",),
            needs="strategies",
            source="Edelman 2024",
            truth="a model that says what a strategy says: 0",
            null="the strategies' distances from each other",
        ),
        Analysis(
            name="attention",
            measure=attention.measure_attention,
            axes={
                **dict.fromkeys(
                    [
                        "entropy",
                        "distance",
                        "offset",
                        "offset_row",
                        "offset_column",
                        "previous",
                        "sink",
                        "sink_token",
                    ],
                    "layer head",
                ),
                **dict.fromkeys(["same_row", "same_column", "edge", "corner"], "layer head"),
                **dict.fromkeys(["cls_mass", "cls_to_patches", "register_mass"], "layer head"),
                "rollout": "key",
            },
            sites=("blocks.*.attn.pattern",),
            source="Raghu 2021 (distance), Abnar & Zuidema 2020 (rollout); offsets and families are this lab's",
            truth="planted patterns: one-hot, identity, a fixed shift",
            null="uniform attention: entropy ln T, 1/T at every offset",
        ),
        Analysis(
            name="induction",
            measure=induction.measure_induction,
            axes=dict.fromkeys(
                [
                    "mass",
                    "strength",
                    "prefix_matching",
                    "prefix_matching_raw",
                    "previous_cell",
                    "previous_cell_everywhere",
                ],
                "layer head",
            ),
            sites=("blocks.*.attn.pattern",),
            needs="pairs content",
            source="Olsson 2022 (prefix matching), Singh 2024 (strength)",
            truth="planted patterns: 1",
            null="uniform attention: strength and prefix matching 0, mass 1/T",
        ),
        Analysis(
            name="composition",
            measure=induction.measure_composition,
            axes={"copying": "layer head"}
            | {
                f"{kind}_composition{z}": "layer head to_layer to_head"
                for kind in "qkv"
                for z in ("", "_z")
            },
            source="Elhage 2021",
            truth="identity OV: copying 1; rank-one heads: an absolute cosine",
            null="random heads: copying 0, composition 1/sqrt(d), given as a z-score",
        ),
        Analysis(
            name="head_ablation",
            measure=behaviour.measure_head_ablation,
            axes={
                "loss": "layer head",
                "accuracy": "layer head",
                "cumulative_loss": "count",
                "cumulative_accuracy": "count",
            },
            sites=("logits", "blocks.*.resid_pre", "blocks.*.attn.z"),
            source="ablation by zero and by mean",
            truth="a head with W_O = 0: no change at all",
            null="the other heads of the same layer",
        ),
        Analysis(
            name="probes",
            measure=probes.measure_probes,
            axes={"accuracy": "layer", "accuracy_shuffled": "layer", "accuracy_pixels": ""},
            sites=RESIDUALS,
            source="Alain & Bengio 2016",
            truth="a planted linear feature: 1",
            null="shuffled labels: chance; raw pixels; the untrained network (step 0)",
        ),
        Analysis(
            name="norms",
            measure=norms.measure_norms,
            axes={"weight": "", "weight_total": "", "residual": "layer"},
            sites=RESIDUALS,
            source="Euclidean norms",
            truth="scaling a weight scales its norm",
            null="step 0",
        ),
        Analysis(
            name="object_attention",
            measure=attention.measure_object_attention,
            axes={"share": "layer head"},
            sites=("blocks.*.attn.pattern",),
            needs="objects",
            source="after Lepori & Tartaglini 2024",
            truth="planted patterns: the share of their group is 1",
            null="uniform attention: each group's share of the tokens",
        ),
        Analysis(
            name="lens",
            measure=lens.measure_lens,
            axes={
                **dict.fromkeys(
                    ["accuracy_of_layer", "accuracy_of_position", "kl", "kl_of_patches"], "layer"
                ),
                "decided": "label layer",
            },
            sites=lens.SITES,
            needs="labels",
            source="nostalgebraist 2020",
            truth="the last layer is the model's answer",
            null="a lens on the mean of all pictures, which knows positions only; the untrained network (step 0)",
        ),
        Analysis(
            name="segmentation",
            measure=lens.measure_segmentation,
            axes={"iou": "layer", "iou_of_position": ""},
            sites=lens.SITES,
            needs="masks",
            source="the logit lens at every patch against the masks of a canvas",
            truth="a lens that says what each patch shows: 1",
            null="the commonest label of each place",
        ),
        Analysis(
            name="attribution",
            measure=circuits.measure_attribution,
            axes={
                "direct": "layer head",
                "direct_patch": "key",
                "direct_mlp": "layer",
                "direct_part": "",
            },
            sites=circuits.SITES,
            needs="classes",
            source="Elhage 2021; Gandelsman 2024 (spatial)",
            truth="the parts sum to the logits",
            null="step 0",
        ),
        Analysis(
            name="attention_knockout",
            measure=circuits.measure_attention_knockout,
            axes={"loss_rise": "layer"},
            sites=("logits", "blocks.*.resid_pre"),
            needs="labels",
            slow=True,
            source="attention knock-out, Geva 2023",
            truth="all edges into CLS blocked: a constant answer",
            null="blocking a group that nobody reads: 0",
            version=2,
        ),
        Analysis(
            name="patching",
            measure=circuits.measure_patching,
            axes={"patched_head": "layer head token", "patched_stream": "layer token"},
            needs="counterfactuals",
            slow=True,
            source="Meng 2022; Heimersheim & Nanda 2024",
            truth="all that is read patched: 1",
            null="tokens that nobody reads: 0",
        ),
        Analysis(
            name="edges",
            measure=circuits.measure_edges,
            axes={"edge_score": "", "clean": "", "corrupt": ""},
            needs="counterfactuals",
            slow=True,
            source="EAP-IG, Hanna 2024",
            truth="a linear model: exact",
            null="edges whose sender says the same: 0",
        ),
        Analysis(
            name="weights",
            measure=weights.measure_weights,
            axes=dict.fromkeys(
                ["copying_z", "qk_norm", "qk_directions", "ov_norm", "ov_directions"], "layer head"
            )
            | {"virtual_copying": "layer head to_layer to_head"},
            source="Elhage 2021 (QK and OV circuits, virtual heads)",
            truth="planted singular values; two heads that undo each other: virtual copying 1",
            null="random heads: copying 0 with a spread that is 1 in z-scores, nearly all directions in use",
        ),
        Analysis(
            name="label_copying",
            measure=weights.measure_label_copying,
            axes={"copied": "layer head", "copied_chance": ""},
            sites=("patches",),
            needs="vocabulary",
            source="Olsson 2022",
            truth="a head that writes each label's own logit: 1",
            null="1 / labels, measured beside it",
        ),
        Analysis(
            name="score_parts",
            measure=weights.measure_score_parts,
            axes={
                f"{asks}_{answers}": "head"
                for asks in ("position", "content")
                for answers in ("position", "content")
            },
            source="after Elhage 2021: terms of the first layer's scores",
            truth="a head that reads positions only: position_position 1; the four parts sum to the scores",
            null="positions or pixels without weight: their parts are 0",
        ),
        Analysis(
            name="scores",
            measure=weights.measure_scores,
            axes={"spread": "layer head", "advantage": "layer head"},
            sites=("blocks.*.attn.attn_scores",),
            source="statistics of `attention` before the softmax",
            truth="planted scores; the softmax of centred scores is the pattern",
            null="uniform attention: 0",
        ),
        Analysis(
            name="heads",
            measure=heads.measure_heads,
            axes={"score": "layer head", "null": "layer head"},
            sites=("patches", "blocks.*.attn.pattern"),
            source="families named by Elhage 2021, Olsson 2022 and Prisma; scores and nulls are this lab's",
            truth="a planted pattern gets its own name and no other",
            null="measured beside each score: places or content ids shuffled, patterns averaged over images, random heads",
        ),
        Analysis(
            name="memories",
            measure=memories.measure_memories,
            axes=dict.fromkeys(["promoted", "agreement", "correlation"], "layer neuron")
            | dict.fromkeys(["agreement_mean", "agreement_chance", "correlation_mean"], "layer"),
            sites=("blocks.*.mlp.post",),
            needs="mlp classes",
            slow=True,  # quick, but a row of the table for every neuron
            source="Geva 2021",
            truth="a planted key-value pair: its class, agreement and correlation 1",
            null="shuffled classes: agreement_chance, correlation 0; step 0",
        ),
        Analysis(
            name="label_superposition",
            measure=superposition.measure_label_superposition,
            axes={"dimensionality": "label", "dimensionality_random": ""},
            source="Elhage 2022, feature dimensionality; of the head's rows it is this lab's use",
            truth="antipodal pair 1/2, triangle 2/3, square 1/2, pentagon 2/5",
            null="random directions: 1 / (1 + (k - 1) / d)",
        ),
        Analysis(
            name="factor_superposition",
            measure=superposition.measure_factor_superposition,
            axes={"dimensionality": "layer", "dimensionality_random": ""},
            sites=RESIDUALS,
            needs="groups",
            source="Elhage 2022, feature dimensionality; of probe directions it is this lab's use",
            truth="factors planted in coordinates of their own: (n - 1) / n for n values",
            null="random directions: 1 / (1 + (k - 1) / d)",
        ),
        Analysis(
            name="llc",
            measure=llc.measure_llc,
            axes={"llc": "", "llc_sd": "", "diverged": ""},
            slow=True,
            source="Lau 2023; meant for the training pictures (--split train), with this lab's settings (llc.DEFAULT)",
            truth="closed forms: quadratic loss, normal crossings, reduced-rank regression",
            null="a loss that does not depend on the weights: 0",
        ),
        Analysis(
            name="fourier",
            measure=fourier.measure_fourier,
            axes={
                "restricted_loss": "",
                "restricted_alone": "",
                "excluded_loss": "",
                "key_share": "",
                "gini": "",
            }
            | dict.fromkeys(["power", "is_key"], "frequency"),
            needs="addition",
            source="Nanda 2023, sections 4 and 5; which frequencies are key (2 % of the variance) is this lab's rule",
            truth="hand-built trigonometric logits: restricted loss unchanged, excluded ln p, share 1",
            null="random logits and embeddings: share 0, excluded loss unchanged, Gini near 0",
        ),
        Analysis(
            name="geometry",
            measure=geometry.measure_geometry,
            axes=dict.fromkeys(
                [
                    "effective_rank",
                    "participation_ratio",
                    "alpha",
                    "alpha_last",
                    "samples_per_feature",
                ],
                "layer",
            )
            | {"cka": "layer to_layer"},
            sites=RESIDUALS,
            slow=True,
            source="Roy & Vetterli 2007 (effective rank), Agrawal 2022 (alpha-ReQ), Song 2012 and Raghu 2021 (unbiased CKA)",
            truth="n equal directions: rank n; exact power laws; a layer and its rotation: CKA 1",
            null="white noise: alpha 0.26 at 1,000 samples of 64 features, CKA 0",
        ),
        Analysis(
            name="gradient_noise",
            measure=landscape.measure_gradient_noise,
            axes={"noise": "", "signal": "", "scale": ""},
            slow=True,
            source="McCandlish 2018, simple noise scale (eq. 2.9, appendix A.1); meant for the training pictures",
            truth="a loss whose samples' gradients have a known mean and covariance",
            null="samples that agree: noise and scale 0",
        ),
        Analysis(
            name="hessian",
            measure=landscape.measure_hessian,
            axes={"top": ""},
            slow=True,
            source="Lanczos on Hessian-vector products; meant for the training pictures",
            truth="a quadratic loss with known eigenvalues",
            null="a linear loss: 0",
        ),
        Analysis(
            name="in_context",
            measure=behaviour.measure_in_context,
            axes={"score": ""},
            sites=("logits",),
            needs="context",
            source="Olsson 2022 (by position, sign turned); by context is this lab's",
            truth="predictors that know the world; a model that looks only at the query: 0",
            null="a model that says the same everywhere: 0",
        ),
    )
}


def select_analyses(names: list[str] | None, batch: Batch, model: ViT) -> list[Analysis]:
    """The analyses asked for; by default all quick ones that fit. One asked for by name that does not fit is refused."""
    if names is None:
        return [
            analysis
            for analysis in ANALYSES.values()
            if not analysis.slow and not analysis.missing(model, batch)
        ]
    picked = [ANALYSES[choose(name, ANALYSES, "analysis")] for name in names]
    for analysis in picked:
        if missing := analysis.missing(model, batch):
            raise BadInput(
                f"analysis {analysis.name!r} needs {' and '.join(missing)}, which this run does not have"
            )
    return picked


def explain_skipped(batch: Batch, model: ViT) -> dict[str, str]:
    """Why an analysis is not among the default ones."""
    reasons = {name: analysis.missing(model, batch) for name, analysis in ANALYSES.items()}
    slow = {name: "run only when asked for" for name, analysis in ANALYSES.items() if analysis.slow}
    return {
        name: "needs " + " and ".join(missing) for name, missing in reasons.items() if missing
    } | {name: why for name, why in slow.items() if not reasons[name]}
