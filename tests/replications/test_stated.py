"""What the page says of a replication is what its code does.

Settings as its text states them, the closed forms that its records were compared with, and the
curves that it reads.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

import pandas as pd
import pytest
import torch

import toyvit
from toyvit.analyses import ANALYSES
from toyvit.recipes import RECIPES
from toyvit.replications import (
    REPLICATIONS,
    double_descent,
    fewshot,
    llc,
    omnigrok,
    quanta,
    rank_one,
    sums,
    superposition,
)
from toyvit.replications.lab import to_points
from toyvit.replications.record import load_records

PAGE = Path(__file__).parents[2] / "docs/replications"
PACKAGE = Path(toyvit.__file__).parent


def read_number(text: str) -> float:
    """A number as a page writes it: `1,000`, `2e-4`, `40 %`.

    >>> [read_number(text) for text in ("1,000", "2e-4", "40 %")]
    [1000.0, 0.0002, 0.4]
    """
    value = float(text.removesuffix("%").replace(",", ""))
    return value / 100 if text.endswith("%") else value


# What a text states, in the words around it, and the setting that it states.
STATED = {
    "omnigrok": {
        r"the (\S+) training pictures": omnigrok.PICTURES,
        r"on (\S+) test pictures": omnigrok.TESTED,
        r"weights are (\S+) times torch's": omnigrok.SCALE,
        r"AdamW at (\S+) with": omnigrok.RATE,
        r"weight decay (\S+),": omnigrok.DECAY,
        r"batches of (\S+),": omnigrok.BATCH,
        r"(\S+) steps": omnigrok.STEPS,
        r"MLP \((\d+),": omnigrok.WIDTHS[0],
        r"MLP \(784, (\d+),": omnigrok.WIDTHS[1],
        r"MLP \(784, 200, (\d+),": omnigrok.WIDTHS[2],
        r"MLP \(784, 200, 200, (\d+);": omnigrok.WIDTHS[3],
    },
    "rank-one": {
        r"(\S+) entries each": rank_one.SIZE,
        r"rate (\S+),": rank_one.RATE,
        r"(\S+) iterations": rank_one.STEPS,
        r"N\(0, (\S+)\^2\)": rank_one.SCALE,
    },
    "modular-addition": {
        r"(\d+ %) of the ordered pairs": sums.SHARE,
        r"weight decay (\S+) at": sums.DECAY,
        r"at a rate of (\S+),": sums.RATE,
        r"batches of (\S+),": sums.BATCH,
        r"(\S+) steps": sums.STEPS,
        r"at (\S+) checkpoints": sums.N_LLC,
        r"n beta (\S+),": round(sums.SAMPLER.n_beta, 1),
        r"spring (\S+)\)": sums.SAMPLER.localisation,
    },
    "double-descent": {
        r"(\S+) features in": double_descent.FEATURES,
        r"features in (\S+) dimensions": double_descent.HIDDEN,
        r"density (\S+), samples": double_descent.DENSITY,
        r"weight decay (\S+),": double_descent.DECAY,
        r"(\S+) steps\. Theirs": double_descent.STEPS,
    },
    "quanta": {
        r"each of (\S+) parities": quanta.TASKS,
        r"parities of (\S+) bits": quanta.ASKED,
        r"bits out of (\S+),": quanta.BITS,
        r"k\^-(\S+);": quanta.POWER,
        r"an MLP of (\S+) units": quanta.WIDTH,
        r"batches of (\S+),": quanta.BATCH,
        r"Adam at (\S+),": quanta.RATE,
        r"(\S+) steps\. Theirs": quanta.STEPS,
    },
    "superposition": {r"of (\S+) copies": superposition.COPIES},
    "llc": {
        r"n beta (\S+), gamma": llc.N_BETA,
        r"gamma (\S+);": llc.CROSSING.localisation,
        r"through (\S+) hidden units": llc.HIDDEN,
        r"hidden units, (\S+) inputs": llc.INPUTS,
        r"and (\S+) outputs": llc.OUTPUTS,
        r"truth of rank (\S+)\.": llc.RANK,
    },
    "fewshot": {
        r"(\S+) classes, 5": fewshot.RECIPE.task.n_classes,
        r"(\S+) labels, 2": fewshot.RECIPE.task.n_labels,
        r"(\S+) attention-only layers": fewshot.RECIPE.model.n_layers,
        r"layers of (\S+) heads": fewshot.RECIPE.model.n_heads,
        r"heads, d (\S+),": fewshot.RECIPE.model.d_model,
        r"the rate is (\S+) and": fewshot.RECIPE.train.learning_rate,
        r"the batch (\S+)\.": fewshot.RECIPE.train.batch_size,
    },
    "repeats": {
        r"period of (\S+) to": RECIPES["repeats"]().task.least,
        r"period of 8 to (\S+) that": RECIPES["repeats"]().task.most,
    },
    "markov": {
        r"chains of (\S+) symbols": RECIPES["markov"]().task.n_textures,
        r"a (\S+) x 10 grid": RECIPES["markov"]().task.rows,
        r"a 10 x (\S+) grid": RECIPES["markov"]().task.columns,
        r"(\S+) sequences\.": RECIPES["markov"]().train.steps
        * RECIPES["markov"]().train.batch_size,
    },
}
SETTINGS = [(name, words) for name, phrases in STATED.items() for words in phrases]


@pytest.mark.parametrize(("name", "words"), SETTINGS)
def test_a_setting_is_what_the_text_says(name, words):
    match = re.search(words, REPLICATIONS[name].compared)
    assert match, words
    assert read_number(match[1]) == STATED[name][words]


LAST = {
    "omnigrok": omnigrok.STEPS,
    "modular-addition": sums.STEPS,
    "quanta": quanta.STEPS,
    "rank-one": rank_one.STEPS - 1,
    "double-descent": double_descent.SIZES[-1],
    "superposition": 1 / superposition.DENSITIES[-1],
    "fewshot": fewshot.RECIPE.train.steps * fewshot.RECIPE.train.batch_size,
    "markov": RECIPES["markov"]().train.steps * RECIPES["markov"]().train.batch_size,
    "repeats": RECIPES["repeats"]().train.steps,
}


@pytest.mark.parametrize("name", LAST)
def test_curves_of_the_page_end_where_the_training_does(name):
    for record in load_records(PAGE, REPLICATIONS[name]):
        first = record.panels[0]["curves"]
        assert {x[-1] for x, _ in first.values()} == {LAST[name]}


def test_chains_of_the_page_are_as_long_as_the_samplers():
    samplers = (llc.QUADRATIC, llc.CROSSING, llc.CROSSING, llc.REGRESSION)
    lengths = [sampler.burn_in + sampler.draws for sampler in samplers]
    for record in load_records(PAGE, REPLICATIONS["llc"]):
        chains = record.panels[0]["curves"].values()
        assert [x[-1] + 1 for x, _ in chains] == lengths


RECORDED = [name for name, row in REPLICATIONS.items() if load_records(PAGE, row)]


@pytest.mark.parametrize("name", RECORDED)
def test_the_time_that_is_announced_is_what_the_page_measured(name):
    """To a third, on the machine of the page."""
    records = load_records(PAGE, REPLICATIONS[name])
    minutes = [record.minutes for record in records if record.minutes is not None]
    assert REPLICATIONS[name].minutes == pytest.approx(median(minutes), rel=0.33)


def test_points_of_a_run_are_its_steps_or_the_samples_that_it_saw():
    values = pd.Series([0.5, 0.25], [0, 10])
    assert to_points(values) == ([0, 10], [0.5, 0.25])
    assert to_points(values, 32) == ([0, 320], [0.5, 0.25])


def test_superposition_is_trained_at_the_densities_and_importances_of_the_page():
    """From always there down to one time in a hundred; ten times less and more important."""
    sparsity = [1 / density for density in superposition.DENSITIES]
    densities = superposition.MAP_DENSITIES.tolist()
    importances = superposition.IMPORTANCES.tolist()
    assert sparsity[0] == 1 and sparsity == sorted(sparsity)
    assert (densities[0], densities[-1]) == pytest.approx((0.01, 1))
    middle = len(importances) // 2
    assert [importances[k] for k in (0, middle, -1)] == pytest.approx([0.1, 1, 10])

    for record in load_records(PAGE, REPLICATIONS["superposition"]):
        by_density, _, diagram = record.panels
        for x, _ in by_density["curves"].values():
            assert x == pytest.approx(sparsity, rel=1e-4)
        assert diagram["columns"] == pytest.approx(densities, rel=1e-4)
        assert diagram["rows"] == pytest.approx(importances, rel=1e-4)


def test_sizes_of_double_descent_are_those_of_the_page():
    for record in load_records(PAGE, REPLICATIONS["double-descent"]):
        for x, _ in record.panels[0]["curves"].values():
            assert x == list(double_descent.SIZES)


def integrate_quadratic(curvature: float) -> float:
    """n beta E[L] of L = h w^2 / 2 under exp(-n beta L - gamma w^2 / 2), summed over a grid."""
    w = torch.linspace(-2, 2, 20001, dtype=torch.double)
    loss = curvature * w.square() / 2
    density = (-llc.N_BETA * loss - llc.QUADRATIC.localisation * w.square() / 2).exp()
    return llc.N_BETA * ((loss * density).sum() / density.sum()).item()


def check_records(exact: dict[str, float]) -> None:
    """Every record was compared with these closed forms."""
    records = load_records(PAGE, REPLICATIONS["llc"])
    assert records and exact
    for record in records:
        for name, value in exact.items():
            ratio = record.numbers[name] / record.numbers[f"{name}, over exact"]
            assert ratio == pytest.approx(value, rel=1e-3), name


def test_the_closed_form_of_a_quadratic_loss_is_its_integral(monkeypatch):
    monkeypatch.setattr(llc, "integrate_crossing", lambda a, b: None)
    exact = llc.compute_exact()
    integrals = [integrate_quadratic(curvature) for curvature in llc.CURVATURES.tolist()]
    assert exact["quadratic"] == pytest.approx(sum(integrals), rel=1e-6)
    check_records({name: value for name, value in exact.items() if value is not None})


@pytest.mark.slow
def test_the_quadratures_are_those_of_the_page():
    exact = llc.compute_exact()
    check_records(exact)
    for check in REPLICATIONS["llc"].checks:
        if check.published.endswith("(quadrature)"):
            assert f"{exact[check.number]:.3f}" == check.published.split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rank-one", "llc"])
def test_numbers_of_the_page_come_out_again(name, tmp_path):
    """Where a seed takes seconds; within what another machine's sums may differ by."""
    record = next(iter(load_records(PAGE, REPLICATIONS[name])))
    outcome = REPLICATIONS[name].run(record.seed, tmp_path)
    assert outcome.numbers == pytest.approx(record.numbers, rel=0.02)


@pytest.mark.parametrize(
    ("llcs", "peak", "end", "fall"),
    [
        ([4.0, 8.0, 2.0], 8, 2, 0.25),
        ([4.0, None, 2.0], 4, 2, 0.5),
        ([4.0, None], 4, None, None),
        ([None, None], None, None, None),
        ([0.0, 0.0], 0, 0, None),
    ],
)
def test_a_coefficient_falls_from_its_peak_to_its_end_where_both_were_estimated(
    llcs, peak, end, fall
):
    steps = range(0, 100, 10)
    rise = pd.Series([k / 9 for k in range(10)], steps)
    numbers = sums.summarize_curves({"training": rise, "test": rise}, llcs)
    assert [numbers[f"llc_{name}"] for name in ("peak", "end", "fall")] == [peak, end, fall]
    assert [numbers[name] for name in ("test_10", "test_95", "test_at_end")] == [10, 90, 1]
    assert numbers["training_99"] == 90


def list_reads() -> list[tuple[str, int, str, str]]:
    """File, line, analysis and quantity of each curve that the package reads by their names."""
    reads = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text()
        for node in ast.walk(ast.parse(text if ".curve(" in text else "")):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            words = [word.value for word in node.args[:2] if isinstance(word, ast.Constant)]
            if node.func.attr == "curve" and len(words) == 2:
                reads.append((str(file.relative_to(PACKAGE)), node.lineno, *words))
    return reads


def test_curves_that_are_read_are_measured():
    """By their names alone: the first an analysis, the second one of its quantities."""
    reads = list_reads()
    assert len(reads) > 30
    measured = {(name, quantity) for name in ANALYSES for quantity in ANALYSES[name].quantities}
    assert [read for read in reads if read[2:] not in measured] == []
