"""The right answers to the exercises, each computed from the runs that the reader has."""

from __future__ import annotations

import toyvit
from toyvit.analyses import fourier
from toyvit.dynamics.checkpoints import measure_progress
from toyvit.dynamics.transitions import find_first_step
from toyvit.runs.handle import Run

Place = tuple[int, int]  # layer, head


def find_half_right(run: Run) -> int | None:
    """The first step at which more than half of the test pictures are right."""
    return find_first_step(run.curve("performance", "accuracy") > 0.5)


def score_without_first_head(run: Run) -> float:
    """Accuracy at the last step without layer 0, head 0."""
    batch = run.batch("test", 512)
    model = run.model()
    trace = toyvit.trace(model, batch.images, ["blocks.*.resid_pre", "blocks.*.attn.z"])
    return toyvit.accuracy(toyvit.ablate_heads(model, [(0, 0)], trace), batch.target).item()


def find_half_way(run: Run) -> int | None:
    """The first step at which previous-cell attention is half way."""
    curve = run.curve("induction", "previous_cell")
    return find_first_step(curve > (curve.iloc[0] + curve.iloc[-1]) / 2)


def score_unseen(run: Run) -> float:
    """Accuracy at the last step on item glyphs that were never trained."""
    batch = run.batch("unseen", 512)
    return toyvit.accuracy(toyvit.run_model(run.model(), batch.images), batch.target).item()


def find_induction_head(run: Run) -> Place:
    """The head with the largest induction mass at the last step."""
    rows = run.table[run.table["step"] == run.last_step]
    rows = rows[(rows["analysis"] == "induction") & (rows["quantity"] == "mass")]
    strongest = rows.loc[rows["value"].idxmax()]
    return int(strongest["layer"]), int(strongest["head"])


def find_needed_head(run: Run) -> Place:
    """The head without which, at zero, the accuracy of the last step is lowest."""
    rows = run.table[run.table["step"] == run.last_step]
    rows = rows[(rows["analysis"] == "head_ablation") & (rows["quantity"] == "accuracy")]
    rows = rows[rows["ablation"] == "zero"]
    worst = rows.loc[rows["value"].idxmin()]
    return int(worst["layer"]), int(worst["head"])


def find_past_pixels(run: Run) -> int | None:
    """The first step at which the probe of CLS after the last layer beats the one of the pixels."""
    curve = run.curve(
        "probes", "accuracy", group="cls", layer=run.config.model.n_layers, factor="class"
    )
    return find_first_step(curve > run.baselines["accuracy.pixel_probe"])


def find_label_port(run: Run) -> str:
    """Into what of the last head another label goes from the input: its q, k or v."""
    from course.circuits import follow_paths

    shares = follow_paths(run, "label", "input")
    return shares.abs().idxmax()


def count_query_edges(run: Run) -> int:
    """Edges of the smallest circuit for another query."""
    pairs = toyvit.counterfactual_pairs(run.batch("test", 512), "query", 128)
    model = run.model()
    evaluator = toyvit.CircuitEvaluator(model=model, pairs=pairs)
    return int(toyvit.find_smallest(evaluator, toyvit.eap(model, pairs, points=5)).sum())


def find_reading_layer(run: Run) -> int:
    """The layer in which it costs most that CLS cannot read the patches."""
    rows = toyvit.load_table(run, analyses=["attention_knockout"])
    rows = rows[(rows["step"] == run.last_step) & (rows["query_group"] == "cls")]
    rows = rows[rows["key_group"] == "patches"]
    return int(rows.loc[rows["value"].idxmax(), "layer"])


def find_strongest_edge(run: Run) -> str:
    """The edge with the largest EAP-IG score for 4 against 9."""
    from course.circuits import pair_digits

    model = run.model()
    pairs, _ = pair_digits(run, 4, 9)
    scores = toyvit.eap(model, pairs, points=5).abs()
    (edge,) = toyvit.build_graph(model.config).name_edges((scores == scores.max()).float())
    return edge


def find_grokked(*runs: Run) -> int | None:
    """The first step at which the first run has 0.9 of the sums that it was not trained on."""
    return find_first_step(measure_progress(runs[0])["test_accuracy"] > 0.9)


def count_key_frequencies(*runs: Run) -> int:
    """Frequencies with 2 % of the logits' variance or more, in the first run where it is best."""
    run = runs[0]
    best = int(measure_progress(run)["test_loss"].idxmin())
    images = run.batch("test", 1).operand_table.images
    logits = toyvit.run_model(run.model(best), images).double()
    return int(fourier.find_key_frequencies(logits).sum())


def find_earliest(*runs: Run) -> str:
    """The name of the run whose transition comes first."""
    from toyvit.sweeping import gather_table  # what trains is slow to import

    frame = gather_table(runs)
    return str(frame.loc[frame["onset"].idxmin(), "run"])


def find_spread(*runs: Run) -> float:
    """Steps between the first and the last onset."""
    from toyvit.sweeping import gather_table  # what trains is slow to import

    onsets = gather_table(runs)["onset"]
    return float(onsets.max() - onsets.min())
