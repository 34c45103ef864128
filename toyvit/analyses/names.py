"""The analyses by name, one line each: what can be listed before torch is imported.

The order is that of the table, of messages and of `toyvit measure`. A row says where its analysis
is declared: `PROBES` in `toyvit/analyses/probes.py`.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """An analysis: its name, the module of its row, what it computes; slow, only when asked for."""

    name: str
    module: str
    computes: str
    slow: bool = False


ENTRIES = (
    Entry("performance", "behaviour", "loss and accuracy of the answers"),
    Entry(
        "by_factor", "behaviour", "loss and accuracy of the pictures with each value of a factor"
    ),
    Entry("strategies", "behaviour", "distance from the answers of predictors that know the world"),
    Entry(
        "attention", "attention", "where heads look: distances, offsets, families, sinks, rollout"
    ),
    Entry("induction", "induction", "attention from the query to its match, and to previous cells"),
    Entry("composition", "composition", "how much a head reads of what an earlier head writes"),
    Entry(
        "head_ablation", "head_ablation", "loss and accuracy without a head, and without several"
    ),
    Entry("probes", "probes", "how well a linear read-out finds each factor, layer by layer"),
    Entry("beliefs", "beliefs", "how well each layer holds what can be believed of a hidden state"),
    Entry("norms", "norms", "sizes of the weights and of the residual stream"),
    Entry("object_attention", "object_attention", "what the patches of an object look at"),
    Entry("lens", "lens", "what each layer would already answer (logit lens)"),
    Entry("segmentation", "lens", "what the logit lens calls each patch, against what it shows"),
    Entry("attribution", "circuits", "what each head, MLP and token adds to the right logit"),
    Entry(
        "attention_knockout",
        "circuits",
        "rise of the loss when one group of tokens cannot read another",
        slow=True,
    ),
    Entry(
        "patching", "circuits", "how much of the answer one value at one token carries", slow=True
    ),
    Entry("edges", "circuits", "how much of the answer each edge carries (EAP-IG)", slow=True),
    Entry("weights", "weights", "QK and OV of each head: size, directions, copying, virtual heads"),
    Entry("label_copying", "weights", "heads that raise the logit of the label that they read"),
    Entry(
        "score_parts", "weights", "what the first layer's scores are read from: content, position"
    ),
    Entry("scores", "weights", "spread and advantages of the scores before the softmax"),
    Entry("heads", "heads", "scores of each head for every type, beside their nulls"),
    Entry(
        "memories", "memories", "what fires each neuron, against the class it promotes", slow=True
    ),
    Entry(
        "label_superposition", "superposition", "share of a dimension that each label has to itself"
    ),
    Entry(
        "factor_superposition",
        "superposition",
        "share of a dimension that each factor's probe directions have to themselves",
    ),
    Entry("llc", "llc", "the local learning coefficient, from Langevin chains", slow=True),
    Entry("fourier", "fourier", "how much of a modular sum is waves, and of how few frequencies"),
    Entry(
        "geometry", "geometry", "directions that a layer uses, and how alike layers are", slow=True
    ),
    Entry(
        "gradient_noise", "landscape", "batch size beyond which larger ones help little", slow=True
    ),
    Entry("hessian", "landscape", "the largest curvature of the loss", slow=True),
    Entry("in_context", "behaviour", "nats by which the context lowers the loss"),
)
NAMES = tuple(entry.name for entry in ENTRIES)
# What the command line still understands: names of version 0.1 and those of today.
RENAMED = {"flow": "attention_knockout", "knock_outs": "head_ablation"}
