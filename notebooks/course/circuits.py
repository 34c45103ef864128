"""What notebooks 03 and 04 compute and draw of circuits, at more length than a cell has."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

import toyvit
from toyvit.circuits.edges import select_strongest
from toyvit.circuits.pairs import PatchingPairs
from toyvit.data.task import Batch
from toyvit.instruments import key_value
from toyvit.instruments.attribution import attribute_neurons
from toyvit.model import ViT
from toyvit.runs.handle import Run

N_PAIRS = 128
COLOURS = ("#CC79A7", "#56B4E9", "#0072B2", "#D55E00")


def draw_changes(batch: Batch) -> Figure:
    """The first picture, and those drawn again with another query, item and label."""
    first = batch.images[0, 0]
    images = {"the picture": first}
    for name, other in batch.counterfactuals.items():
        images[f"other {name}"] = other.images[0, 0]

    figure, panels = plt.subplots(1, len(images), figsize=(10, 2.8), layout="constrained")
    for panel, (name, image) in zip(panels, images.items(), strict=True):
        panel.imshow(image, cmap="Greys")
        panel.imshow((image - first).abs() > 0.5, cmap="Oranges", alpha=0.35)
        panel.set_title(name)
        panel.axis("off")
    plt.close(figure)
    return figure


def follow_paths(run: Run, change: str, sender: str = "a0.h0") -> pd.Series:
    """Share of a change that goes from a sender into queries, keys or values of the last head.

    By port: 0 where nothing comes that way, 1 where all does.
    """
    model = run.model()
    pairs = toyvit.counterfactual_pairs(run.batch("test", 512), change, N_PAIRS)
    clean = compute_difference(toyvit.run_model(model, pairs.clean), pairs)
    corrupt = compute_difference(toyvit.run_model(model, pairs.corrupt), pairs)

    shares = {}
    for port in "qkv":
        path = [sender, f"a{model.config.n_layers - 1}.h0<{port}>", "logits"]
        patched = toyvit.patch_path(model, pairs.clean, pairs.corrupt, path)
        shares[port] = (compute_difference(patched, pairs) - clean) / (corrupt - clean)
    return pd.Series(shares, name=f"share of the change in {change}")


def compute_difference(logits: Tensor, pairs: PatchingPairs) -> float:
    """Logit of the answer minus that of the foil, a mean over pairs."""
    rows = torch.arange(len(pairs.answer))
    return (logits[rows, pairs.answer] - logits[rows, pairs.foil]).mean().item()


def judge_circuit(
    model: ViT,
    searched: PatchingPairs,
    tested: PatchingPairs,
    edge_mask: Tensor,
    n_random: int,
    ablation: str = "corrupt",
) -> dict[str, float]:
    """Faithfulness of a circuit, of the rest without it, and of random circuits of its size.

    On pairs that it was not searched on; `on its own` is faithfulness on those that it was.
    """
    own, test = (
        toyvit.CircuitEvaluator(model=model, pairs=pairs, ablation=ablation)
        for pairs in (searched, tested)
    )
    drawn = toyvit.draw_random_circuits(model, int(edge_mask.sum()), n_random)
    null = torch.tensor([test.faithfulness(other) for other in drawn])
    return {
        "edges": int(edge_mask.sum()),
        "faithfulness": test.faithfulness(edge_mask),
        "on its own": own.faithfulness(edge_mask),
        "without it": test.completeness(edge_mask),
        "random, median": null.median().item(),
        "random, 95 %": null.quantile(0.95).item(),
    }


def compare_searches(model: ViT, batch: Batch, n_random: int = 40) -> pd.DataFrame:
    """The smallest circuit by EAP-IG and the one by ACDC, for each change, and their nulls.

    Searched on different pairs: each is tested on those that the other was searched on.
    """
    graph = toyvit.build_graph(model.config)
    rows = {}
    for change in batch.counterfactuals:
        first, second = toyvit.counterfactual_pairs(batch, change).split(N_PAIRS)
        evaluator = toyvit.CircuitEvaluator(model=model, pairs=first)
        smallest = toyvit.find_smallest(evaluator, toyvit.eap(model, first, points=5))
        searches = {
            "EAP-IG": (first, second, smallest),
            "ACDC": (second, first, toyvit.acdc(model, second, 0.01)),
        }
        for method, (searched, tested, edge_mask) in searches.items():
            names = {"which": ", ".join(graph.name_edges(edge_mask))}
            verdict = judge_circuit(model, searched, tested, edge_mask, n_random)
            rows[change, method] = names | verdict
    return pd.DataFrame(rows).T.rename_axis(["change", "method"]).infer_objects().round(2)


def compare_thresholds(model: ViT, batch: Batch) -> pd.DataFrame:
    """Edges that ACDC leaves and their faithfulness on other pairs, by change and nats."""
    rows = []
    for change in batch.counterfactuals:
        searched, tested = toyvit.counterfactual_pairs(batch, change).split(64)
        evaluator = toyvit.CircuitEvaluator(model=model, pairs=tested)
        for threshold in (0.0001, 0.001, 0.01, 0.1, 1.0):
            edge_mask = toyvit.acdc(model, searched, threshold)
            faithfulness = evaluator.faithfulness(edge_mask)
            rows.append((change, threshold, int(edge_mask.sum()), faithfulness))
    frame = pd.DataFrame(rows, columns=["change", "nats", "edges", "faithfulness"])
    return frame.pivot(index="nats", columns="change").round(2)


def forbid_connections(model: ViT, batch: Batch) -> pd.Series:
    """Accuracy where attention along some connections is forbidden, by their names."""
    n = model.config.n_tokens
    prefix = model.config.n_prefix
    labels = batch.retrieval.candidates[0] + prefix
    own = torch.zeros(1, n, n, dtype=torch.bool)
    own[0, labels, labels - 1] = True
    rest = torch.zeros(1, n, n, dtype=torch.bool)
    rest[0, labels[:, None], labels - 1] = True
    query = torch.zeros(1, n, dtype=torch.bool)
    query[0, n - 1] = True
    others = toyvit.connect_tokens(query, ~query)
    answer = torch.zeros(len(batch.target), n, n, dtype=torch.bool)
    answer[torch.arange(len(answer)), n - 1, batch.retrieval.target + prefix] = True

    return _score_knockouts(
        model,
        batch,
        {
            "layer 0: label cells from the item before them": (own, [0]),
            "layer 0: label cells from all other items": (rest & ~own, [0]),
            "layer 0: query from all others": (others, [0]),
            "layer 1: query from the answering label": (answer, [1]),
            "layer 1: query from all others": (others, [1]),
        },
    )


def _score_knockouts(
    model: ViT, batch: Batch, forbidden: Mapping[str, tuple[Tensor, list[int]]]
) -> pd.Series:
    trace = toyvit.trace(model, batch.images, ["blocks.*.resid_pre", "logits"])
    silent = toyvit.editing({"blocks.0.attn.z": _silence_query})
    logits = {"nothing": trace["logits"]}
    for name, (edges, layers) in forbidden.items():
        logits[name] = toyvit.run_attention_knockout(model, trace, edges, layers)
    logits["layer 0: nothing written at the query"] = toyvit.run_model(model, batch.images, silent)
    scores = {name: toyvit.accuracy(cut, batch.target).item() for name, cut in logits.items()}
    return pd.Series(scores, name="accuracy").rename_axis("forbidden").round(3)


def _silence_query(z: Tensor) -> Tensor:
    """What heads write, without what they write at the last token."""
    silent = z.clone()
    silent[:, -1] = 0
    return silent


def draw_likeness(curves: Mapping[str, pd.DataFrame], n_edges: int) -> Figure:
    """How alike circuits of neighbouring checkpoints are, by change: a mean of five."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 3), layout="constrained", sharey=True)
    for (change, curve), colour in zip(curves.items(), COLOURS, strict=False):
        likeness = toyvit.compare_steps(curve, n_edges)
        smooth = likeness.rolling(5, center=True, min_periods=1).mean()
        for panel, quantity in zip(panels, ("jaccard", "rank"), strict=True):
            panel.plot(smooth.index, smooth[quantity], color=colour, label=f"other {change}")
            panel.set(xlabel="training step", title=quantity)
    panels[0].set_ylabel("likeness to the checkpoint before")
    panels[0].legend(fontsize="small")
    plt.close(figure)
    return figure


def draw_mean_patterns(model: ViT, batch: Batch) -> Figure:
    """The mean attention pattern of the first head of each layer, query down, key across."""
    trace = toyvit.trace(model, batch.images, ["blocks.*.attn.pattern"])
    n_layers = model.config.n_layers
    figure, panels = plt.subplots(1, n_layers, figsize=(4 * n_layers, 3.6), layout="constrained")
    for layer, panel in enumerate(panels):
        pattern = trace[f"blocks.{layer}.attn.pattern"][:, 0].mean(0)
        picture = panel.imshow(pattern, cmap="magma", vmin=0)
        panel.set(title=f"layer {layer}, mean", xlabel="key cell", ylabel="query cell")
        figure.colorbar(picture, ax=panel, shrink=0.8)
    plt.close(figure)
    return figure


def pair_digits(
    run: Run, answer: int, foil: int, n: int = 64
) -> tuple[PatchingPairs, PatchingPairs]:
    """Test pictures of one digit, each with one of another: pairs to search on, and to test on.

    At most n of each, half and half where there are fewer.
    """
    return toyvit.class_pairs(run.batch("test", 1500), answer, foil).split(n)


def draw_sizes(model: ViT, pairs: PatchingPairs, tested: PatchingPairs, scores: Tensor) -> Figure:
    """Faithfulness against the number of edges: by EAP-IG, by ACDC, and of random circuits.

    On pairs that were not searched on.
    """
    evaluator = toyvit.CircuitEvaluator(model=model, pairs=tested)
    most = len(toyvit.build_graph(model.config).edges)
    sizes = [n for n in (2, 5, 10, 15, 20, 30, 40, 50, 60, 75, 90) if n < most] + [most]
    figure, panel = plt.subplots(figsize=(7, 3.6), layout="constrained")

    strongest = [select_strongest(model, scores, n) for n in sizes]
    _plot_circuits(panel, evaluator, strongest, "o-", "strongest by EAP-IG", "#0072B2")
    pruned = [toyvit.acdc(model, pairs, nats) for nats in (0.003, 0.03, 0.3)]
    _plot_circuits(panel, evaluator, pruned, "s", "ACDC, three thresholds", "#D55E00")
    drawn = []
    for n in sizes[::2]:
        drawn += toyvit.draw_random_circuits(model, n, 8)
    _plot_circuits(panel, evaluator, drawn, ".", "random circuits", "#666666")

    panel.axhline(0.9, color="#666666", ls=":", lw=1)
    panel.set(xlabel=f"edges kept, of {most}", ylabel="faithfulness")
    panel.legend(fontsize="small")
    plt.close(figure)
    return figure


def _plot_circuits(
    panel: plt.Axes,
    evaluator: toyvit.CircuitEvaluator,
    masks: list[Tensor],
    look: str,
    label: str,
    colour: str,
) -> None:
    sizes = [int(edge_mask.sum()) for edge_mask in masks]
    values = [evaluator.faithfulness(edge_mask) for edge_mask in masks]
    panel.plot(sizes, values, look, color=colour, label=label)


def find_both_ways(model: ViT, pairs: PatchingPairs) -> dict[str, Tensor]:
    """A smallest circuit with faithfulness 0.9 for an answer against its foil, and the reverse."""
    masks = {}
    for name, these in {"there": pairs, "back": pairs.swap()}.items():
        evaluator = toyvit.CircuitEvaluator(model=model, pairs=these)
        masks[name] = toyvit.find_smallest(evaluator, toyvit.eap(model, these, points=5), 0.9)
    return masks


def tabulate_neurons(model: ViT, pairs: PatchingPairs, n: int = 4) -> pd.DataFrame:
    """Neurons of the last MLP that speak most for the answer over the foil, and most against."""
    trace = toyvit.trace(model, pairs.clean, ["blocks.*.resid_post", "blocks.*.mlp.post"])
    effect = attribute_neurons(model, trace, model.config.n_layers - 1)[:, 0]
    difference = (effect[..., pairs.answer[0]] - effect[..., pairs.foil[0]]).mean(0)
    order = difference.argsort(descending=True)
    chosen = torch.cat([order[:n], order[-n:]])
    columns = {
        "neuron": chosen,
        "logits": difference[chosen],
        "share of the MLP's effect": difference[chosen] / difference.sum(),
    }
    return pd.DataFrame(columns).round(3)


def tabulate_edits(
    run: Run, answer: int, foil: int, layer: int = 0, sizes: tuple[int, ...] = (1, 8, 32)
) -> pd.DataFrame:
    """What an edit of rank one does, made from so many pictures, beside random ones of its size.

    Shares of pictures: `efficacy` of those edited, and so on, see `key_value.evaluate_edit`.
    """
    model = run.model()
    batch = run.batch("test", 1500)
    images = batch.images[batch.target == answer]
    others = batch.images[batch.target != answer]
    training = run.task.eval_batch("train", 1000, seed=0)
    moment = key_value.second_moment(key_value.record_keys(model, layer, training.images))

    rows = {}
    for n in sizes:
        pictures = {"edited": images[:n], "alike": images[n:], "others": others}
        edited = _edit(model, layer, images[:n], foil, moment)
        before = key_value.get_down_weight(model, layer)
        size = (key_value.get_down_weight(edited, layer) - before).norm().item()
        rows[n, "none"] = key_value.evaluate_edit(model, model, foil, pictures)
        rows[n, "rank one"] = key_value.evaluate_edit(model, edited, foil, pictures)
        chance = [key_value.edit_randomly(model, layer, size, seed) for seed in range(3)]
        scores = [key_value.evaluate_edit(model, other, foil, pictures) for other in chance]
        rows[n, "random, mean of 3"] = pd.DataFrame(scores).mean().to_dict()
    return pd.DataFrame(rows).T.rename_axis(["pictures", "change"]).round(3)


def _edit(model: ViT, layer: int, images: Tensor, foil: int, moment: Tensor) -> ViT:
    keys = key_value.record_keys(model, layer, images)
    key = key_value.select_readout(keys, model).mean(0)
    value = key_value.optimize_value(model, layer, images, foil)
    return key_value.edit_mlp(model, layer, key, value, moment)


def draw_decided(run: Run) -> Figure:
    """The share of each class's pictures that is settled at the embedding, and after each block."""
    rows = run.table[run.table["step"] == run.last_step]
    rows = rows[(rows["analysis"] == "lens") & (rows["quantity"] == "decided")]
    rows = rows[rows["images"] == rows["images"].mode()[0]]
    shares = rows.pivot_table(index="label", columns="layer", values="value")
    shares.columns = [
        f"after block {layer - 1:.0f}" if layer else "at the embedding" for layer in shares.columns
    ]
    shares.index = shares.index.astype(int)

    panel = shares.plot.bar(stacked=True, color=list(COLOURS), figsize=(6, 3), rot=0)
    panel.set(xlabel="class", ylabel="share of its pictures")
    panel.legend(title="decided", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    panel.figure.tight_layout()
    plt.close(panel.figure)
    return panel.figure
