"""What the figures show is what was measured: every curve is read off the table of measures anew,
every map is computed from the checkpoints anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pandas as pd
import pytest
import torch

from tests.report.test_figures import CASES
from toyvit.config import learning_rate
from toyvit.dynamics.checkpoints import compare_checkpoints, measure_progress
from toyvit.dynamics.edge_lifetimes import compute_edge_shares, date_edges
from toyvit.instruments.attribution import SITES, attribute_patches
from toyvit.instruments.lenses import RESIDUALS, apply_logit_lens, stack_residuals
from toyvit.instruments.weight_circuits import (
    find_singular_directions,
    fold_head_weights,
    project_to_pixels,
)
from toyvit.model.forward import run_model, trace
from toyvit.report import FIGURES
from toyvit.report.factors import name_values
from toyvit.report.heads import name_all_heads
from toyvit.report.panels import Curve, FigureData, MapPanel, Panel
from toyvit.report.style import call_head, call_layer
from toyvit.runs.handle import Run

Points = list[tuple[float, float]]


# ---- reading ----


def select(run: Run, analysis: str, quantity: str, **place: object) -> pd.DataFrame:
    """Rows of the table, on test pictures, at a place; there are some."""
    rows = run.table[run.table["split"] == "test"]
    wanted = {"analysis": analysis, "quantity": quantity} | place
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    assert len(rows)
    return rows


def read(run: Run, analysis: str, quantity: str, **place: object) -> Points:
    """The one number a step that a place of the table has."""
    rows = select(run, analysis, quantity, **place)
    assert rows["step"].is_unique
    return sorted(zip(rows["step"], rows["value"], strict=True))


def read_largest(run: Run, analysis: str, quantity: str, **place: object) -> Points:
    """The largest number a step."""
    largest: dict[int, float] = {}
    rows = select(run, analysis, quantity, **place)
    for step, value in zip(rows["step"], rows["value"], strict=True):
        largest[step] = max(value, largest.get(step, value))
    return sorted(largest.items())


def read_column(frame: pd.DataFrame, column: str) -> Points:
    return list(frame[column].items())


def list_points(curve: Curve) -> Points:
    return list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))


def check_curves(
    panel: Panel,
    expected: dict[str, Points],
    name_of: Callable[[str], str] = str,
    *,
    all_named: bool = True,
) -> None:
    """A panel has exactly these curves; those that have a name have their own."""
    curves = [
        (name_of(curve.label or curve.end_label), list_points(curve)) for curve in panel.curves
    ]
    assert sorted(points for _, points in curves) == sorted(expected.values())
    named = [(name, points) for name, points in curves if name]
    assert named and [expected[name] for name, _ in named] == [points for _, points in named]
    assert len(named) == len(expected) or not all_named


def check_baselines(panel: Panel, run: Run, quantity: str) -> None:
    """A panel has every baseline of the quantity as a level, and no other."""
    expected = [value for name, value in run.baselines.items() if name.split(".")[0] == quantity]
    assert expected and [level.value for level in panel.levels] == expected


def check_schedule(panel: Panel, run: Run) -> None:
    """A panel has a mark where the warm-up ends, and nowhere else, with its name."""
    marks = [(mark.place, bool(mark.label)) for mark in panel.marks]
    assert marks == [(run.config.train.warmup, True)]


def list_patterns(run: Run, step: int, n: int) -> torch.Tensor:
    """Attention patterns (layer image head query key) of the first test pictures."""
    batch = run.batch("test", n)
    patterns = trace(run.model(step, batch), batch.images, ["blocks.*.attn.pattern"])
    return torch.stack(list(patterns.values()))


def read_steps(headers: tuple[str, ...]) -> list[int]:
    """The steps that rows or columns are named after."""
    return [int(header.split()[1].rstrip(":").replace(",", "")) for header in headers]


def list_heads(run: Run) -> list[tuple[int, int]]:
    return list(product(range(run.config.model.n_layers), range(run.config.model.n_heads)))


# ---- figures of curves ----


def check_phase_transition(run: Run, data: FigureData) -> None:
    loss, accuracy, mass, previous = data.panels()
    check_curves(loss, {run.name: read(run, "performance", "loss")})
    check_curves(accuracy, {run.name: read(run, "performance", "accuracy")})
    check_curves(mass, {run.name: read_largest(run, "induction", "mass")})
    check_curves(previous, {run.name: read_largest(run, "induction", "previous_cell")})
    check_baselines(loss, run, "loss")
    check_baselines(accuracy, run, "accuracy")


def check_learning(run: Run, data: FigureData) -> None:
    for panel, quantity in zip(data.panels(), ("loss", "accuracy"), strict=True):
        check_schedule(panel, run)
        check_curves(panel, {run.name: read(run, "performance", quantity)})
        check_baselines(panel, run, quantity)


def check_strategies(run: Run, data: FigureData) -> None:
    distance, attention = data.panels()
    names = select(run, "strategies", "kl")["strategy"].unique()
    check_curves(distance, {name: read(run, "strategies", "kl", strategy=name) for name in names})
    check_curves(attention, {run.name: read_largest(run, "attention", "previous")})
    apart = {level.name: level.value for level in distance.levels}
    assert apart == {
        f"{name.removeprefix('kl.')} from truth": value
        for name, value in run.baselines.items()
        if name.startswith("kl.") and value
    }


def check_grokking(run: Run, data: FigureData) -> None:
    accuracy, loss, progress, sparsity = data.panels()
    frame = measure_progress(run)
    for panel, quantity in ((accuracy, "accuracy"), (loss, "loss")):
        check_curves(
            panel,
            {
                "sums trained on": read_column(frame, f"train_{quantity}"),
                "other sums": read_column(frame, f"test_{quantity}"),
            },
        )
    check_curves(
        progress,
        {
            "restricted, other sums (trained sums lend to it)": read_column(frame, "restricted"),
            "restricted, other sums alone": read_column(frame, "restricted_alone"),
            "excluded, sums trained on": read_column(frame, "excluded"),
        },
    )
    check_curves(
        sparsity,
        {
            "Gini, embedding": read_column(frame, "gini"),
            "key frequencies' share of the logits' variance": read_column(frame, "key_share"),
        },
    )


def check_heads(run: Run, data: FigureData) -> None:
    """A curve a type, its score above its largest null; dots where the head has the name."""
    names = name_all_heads(run)
    rows = run.table[(run.table["analysis"] == "heads") & (run.table["split"] == "test")]
    for panel, (layer, head) in zip(data.panels(), list_heads(run), strict=True):
        assert panel.title == call_head(layer, head)
        expected: dict[str, Points] = {}
        for kind, mine in rows[(rows["layer"] == layer) & (rows["head"] == head)].groupby("type"):
            is_score = mine["quantity"] == "score"
            score = mine[is_score].groupby("step")["value"].max()
            null = mine[~is_score].groupby("step")["value"].max()
            if score.empty:
                continue
            above = score - null.reindex(score.index, fill_value=0).clip(lower=0)
            expected[str(kind).replace("_", " ")] = list(above.items())

        dots = [curve for curve in panel.curves if curve.style == "none"]
        lines = [curve for curve in panel.curves if curve.style != "none"]
        check_curves(replace(panel, curves=tuple(lines)), expected, all_named=False)
        named = [line.end_label for line in lines if line.end_label]
        assert list(map(list_points, dots)) == [
            [
                (step, value)
                for step, value in expected[name]
                if name.replace(" ", "_") in names[step, layer, head]
            ]
            for name in named
        ]


def check_head_ablation(run: Run, data: FigureData) -> None:
    """A row a layer; silenced by zero at the left, by the mean at the right."""
    n_heads = run.config.model.n_heads
    places = product(range(run.config.model.n_layers), ("zero", "mean"))
    for panel, (layer, ablation) in zip(data.panels(), places, strict=True):
        expected = {"intact": read(run, "performance", "accuracy")}
        for head in range(n_heads):
            place = {"layer": layer, "head": head, "ablation": ablation}
            name = f"without {call_head(layer, head)}"
            expected[name] = read(run, "head_ablation", "accuracy", **place)
        check_curves(panel, expected)
        check_baselines(panel, run, "accuracy")


def check_by_factor(run: Run, data: FigureData) -> None:
    """Every value of every factor, and all pictures; of many values the right ones are named."""
    rows = select(run, "by_factor", "accuracy_of_value")
    factors = sorted(rows["factor"].unique())
    for panel, factor in zip(data.panels(), factors, strict=True):
        assert panel.title.endswith(f" {factor}")
        expected = {"all pictures": read(run, "performance", "accuracy")}
        for value in rows.loc[rows["factor"] == factor, "level"].unique():
            place = {"factor": factor, "level": value}
            expected[f"value {value}"] = read(run, "by_factor", "accuracy_of_value", **place)
        check_curves(
            panel, expected, lambda name: name.partition(",")[0], all_named=len(expected) <= 5
        )
        check_baselines(panel, run, "accuracy")

        means = [(curve.end_label, curve.y.mean()) for curve in panel.curves[:-1]]
        extremes = {
            ", last": min(mean for _, mean in means),
            ", first": max(mean for _, mean in means),
        }
        for end, extreme in extremes.items():
            assert {mean for name, mean in means if name.endswith(end)} <= {extreme}


def check_probes(run: Run, data: FigureData) -> None:
    """A row a factor, a column a group of tokens."""
    groups = {
        "CLS": "cls",
        "mean register": "registers",
        "mean patch": "patches",
        "last patch": "last",
    }
    (block,) = data.blocks
    places = product(block.row_headers, block.column_headers)
    for panel, (factor, header) in zip(data.panels(), places, strict=True):
        place = {"factor": factor, "group": groups[header]}
        expected = {
            call_layer(layer): read(run, "probes", "accuracy", layer=layer, **place)
            for layer in range(run.config.model.n_layers + 1)
        }
        check_curves(panel, expected)
        pixels, shuffled = panel.levels
        assert pixels.value == read_largest(run, "probes", "accuracy_pixels", factor=factor)[-1][1]
        mean = select(run, "probes", "accuracy_shuffled", **place)["value"].mean()
        assert shuffled.value == pytest.approx(mean)
    assert len(data.panels()) == len(
        select(run, "probes", "accuracy")[["factor", "group"]].drop_duplicates()
    )


def check_edges(run: Run, data: FigureData) -> None:
    """Below the loss every edge, the strongest with their names, a circle where one is born."""
    changes = select(run, "edges", "edge_score")["change"].unique()
    panels = data.panels()
    for panel in panels[: len(changes)]:
        (loss,) = panel.curves
        assert list_points(loss) == read(run, "performance", "loss")
    for panel, change in zip(panels[len(changes) :], changes, strict=True):
        rows = select(run, "edges", "edge_score", change=change)
        scores = rows.pivot(index="step", columns="edge", values="value")
        expected = {edge: read_column(scores, edge) for edge in scores}
        corrupt = read(run, "edges", "corrupt", change=change)
        clean = read(run, "edges", "clean", change=change)
        expected["all edges at once"] = [
            (step, value - before)
            for (step, value), (_, before) in zip(corrupt, clean, strict=True)
        ]
        lines = [curve for curve in panel.curves if not curve.marker]
        check_curves(replace(panel, curves=tuple(lines)), expected, all_named=False)

        named = [line.label for line in lines if line.label in scores]
        sizes = scores.abs().max()
        assert sizes[named].min() >= sizes.drop(named).max()
        births = date_edges(compute_edge_shares(run.table, change))["birth"]
        circles = [list_points(curve) for curve in panel.curves if curve.marker]
        born = [edge for edge in named if edge in births]
        assert circles == [[(births[edge], scores.loc[births[edge], edge])] for edge in born]


def check_attribution(run: Run, data: FigureData) -> None:
    """Each head, each MLP and each other part; in black their sum."""
    expected: dict[str, Points] = {}
    for layer, head in list_heads(run):
        name = call_head(layer, head)
        expected[name] = read(run, "attribution", "direct", layer=layer, head=head)
    for layer in range(run.config.model.n_layers * bool(run.config.model.d_mlp)):
        expected[f"layer {layer}, MLP"] = read(run, "attribution", "direct_mlp", layer=layer)
    for part in select(run, "attribution", "direct_part")["part"].unique():
        expected[part] = read(run, "attribution", "direct_part", part=part)

    (panel,) = data.panels()
    whole, *curves = panel.curves
    check_curves(
        replace(panel, curves=tuple(curves)),
        expected,
        lambda name: "" if name.endswith("smaller ones") else name,
        all_named=False,
    )
    parts = [[value for _, value in points] for points in expected.values()]
    assert whole.y == pytest.approx(np.sum(parts, axis=0)) and whole.label == "sum: the logit"


def check_attention_knockout(run: Run, data: FigureData) -> None:
    rows = select(run, "attention_knockout", "loss_rise")
    pairs = set(zip(rows["query_group"], rows["key_group"], strict=True))
    for layer, panel in enumerate(data.panels()):
        expected = {}
        for query, key in pairs:
            place = {"layer": layer, "query_group": query, "key_group": key}
            name = f"{query} cannot read {key}"
            expected[name] = read(run, "attention_knockout", "loss_rise", **place)
        check_curves(panel, expected)
    assert len(data.panels()) == run.config.model.n_layers


def check_updates(run: Run, data: FigureData) -> None:
    """Distances from the weights of neighbouring checkpoints, similarities of all of them."""
    top, *others = data.panels()
    expected: dict[str, list[float]] = {}
    for before, step in pairwise(run.steps):
        earlier, now = run.weights(before), run.weights(step)
        squares: dict[str, float] = dict.fromkeys(("all", *map(call_part, now)), 0.0)
        for name, weight in now.items():
            square = (weight - earlier[name]).double().square().sum().item()
            squares[call_part(name)] += square
            squares["all"] += square
        for part, square in squares.items():
            expected.setdefault(part, []).append(square**0.5 / (step - before))
    curves = {curve.label: curve for curve in top.curves}
    rate = curves.pop("every weight by the learning rate")
    assert curves.keys() == expected.keys()
    for part, values in expected.items():
        assert curves[part].x.tolist() == run.steps[1:]
        assert curves[part].y == pytest.approx(values, rel=1e-4), part

    n = sum(weight.numel() for weight in run.weights(0).values())
    rates = [
        np.mean([learning_rate(run.config.train, at) for at in range(before + 1, step + 1)])
        for before, step in pairwise(run.steps)
    ]
    assert rate.y == pytest.approx(n**0.5 * np.array(rates))

    maps = [panel for panel in others if isinstance(panel, MapPanel)]
    similarities = compare_checkpoints(run, run.batch("test", 128))
    names = {"cls": "CLS", "patches": "patches"}
    layers = [
        (f"{names[group]}, {call_layer(layer)}", values)
        for group, matrices in similarities.items()
        for layer, values in enumerate(matrices.clamp(0, 1).numpy())
    ]
    for panel, (title, values) in zip(maps, layers, strict=True):
        assert panel.title == title and panel.columns.tolist() == panel.rows.tolist() == run.steps
        assert np.array_equal(panel.values, values, equal_nan=True)

    for panel in others[: len(others) - len(maps)]:
        assert panel.y.label.startswith("gradient noise")
        assert list_points(panel.curves[0]) == read(run, "gradient_noise", "scale")


def call_part(weight: str) -> str:
    """The part of the model that a weight belongs to, as its curve is called."""
    if ".ln" in weight or weight.startswith("ln"):
        return "norms"
    block = re.match(r"blocks\.(\d+)\.(attn|mlp)", weight)
    if block:
        return f"block {block[1]}, {'attention' if block[2] == 'attn' else 'MLP'}"
    return "head" if weight.startswith("head") else "embedding"


# ---- figures of maps and pictures ----


def check_attention(run: Run, data: FigureData) -> None:
    """A row a checkpoint, a column a head: the mean of 128 pictures."""
    (block,) = data.blocks
    steps = read_steps(block.row_headers)
    assert {steps[0], steps[-1]} == {0, run.last_step}
    for step, row in zip(steps, block.panels, strict=True):
        means = list_patterns(run, step, 128).mean(1).flatten(0, 1)
        for panel, mean in zip(row, means.numpy(), strict=True):
            assert np.allclose(panel.values, mean, atol=1e-7)


def check_query_attention(run: Run, data: FigureData) -> None:
    """A row a head, a column a checkpoint: one picture's query, over its patches."""
    (block,) = data.blocks
    query = run.config.model.n_prefix + int(run.batch("test", 1).retrieval.query[0])
    for column, step in enumerate(read_steps(block.column_headers)):
        patterns = list_patterns(run, step, 1)[:, 0, :, query, run.config.model.n_prefix :]
        drawn = [row[column].overlay.values.ravel() for row in block.panels]
        assert np.allclose(drawn, patterns.flatten(0, 1).numpy(), atol=1e-7)


def check_cls_attention(run: Run, data: FigureData) -> None:
    """A block a checkpoint; in it a row a layer, a column a head; above it the answer."""
    batch = run.batch("test", 1)
    steps = read_steps(tuple(block.title for block in data.blocks))
    for step, block in zip(steps, data.blocks, strict=True):
        patterns = list_patterns(run, step, 1)[:, 0, :, 0, run.config.model.n_prefix :]
        for row, of_layer in zip(block.panels, patterns.numpy(), strict=True):
            drawn = [panel.overlay.values.ravel() for panel in row]
            assert np.allclose(drawn, of_layer, atol=1e-7)

        if batch.classes is not None:
            chances = run_model(run.model(step, batch), batch.images)[0].softmax(-1)
            answer = f"answers {int(chances.argmax())} with {chances.max():.0%}"
            assert block.title.endswith(answer)


def check_patching(run: Run, data: FigureData) -> None:
    """A row a head, a column a token: the table at the last measured step."""
    rows = select(run, "patching", "patched_head")
    rows = rows[rows["step"] == rows["step"].max()]
    panels = {panel.title: panel.values for panel in data.panels()}
    heads = list_heads(run)
    assert sum(values.size for values in panels.values()) == len(rows) > 0
    for row in rows.itertuples():
        values = panels[f"{row.direction}, another {row.change}"]
        assert values[heads.index((row.layer, row.head)), int(row.token)] == row.value


def check_directions(run: Run, data: FigureData) -> None:
    """A row a head: the two largest directions of its circuits, as pictures of a patch."""
    model = run.bare_model()
    w_q, w_k, w_v, w_o = fold_head_weights(model, 0)
    compared = find_singular_directions(w_q, w_k.mT)
    moved = find_singular_directions(w_v, w_o)
    sides = {
        "query": (compared, compared.read),
        "key": (compared, compared.written),
        "OV reads": (moved, moved.read),
    }
    (block,) = data.blocks
    for head, row in enumerate(block.panels):
        titles = []
        for panel in row:
            name, order, share = re.fullmatch(r"(.*) (\d) \((\d+)%\)", panel.title).groups()
            directions, vectors = sides[name]
            place = int(order) - 1
            titles.append((name, place))
            picture = project_to_pixels(model, vectors[head, place]).mean(0).numpy()
            assert np.array_equal(panel.picture, picture)
            sizes = directions.size[head] ** 2
            assert int(share) == pytest.approx(100 * (sizes[place] / sizes.sum()).item(), abs=0.51)
        assert sorted(titles) == sorted(product(sides, (0, 1)))


def check_lens(run: Run, data: FigureData) -> None:
    """A row a picture, a column a layer: in each patch the likeliest answer, as bold as likely."""
    (block,) = data.blocks
    batch = run.batch("test", len(block.panels))
    model = run.model(None, batch)
    residuals = stack_residuals(model, trace(model, batch.images, RESIDUALS))
    answers = apply_logit_lens(model, residuals)[:, :, run.config.model.n_prefix :].softmax(-1)
    symbols = run.task.class_images() if run.task.class_images else None
    for image, row in enumerate(block.panels):
        for layer, panel in enumerate(row):
            chances, labels = answers[layer, image].max(-1)
            right = (labels == batch.target[image]).tolist()
            marks = panel.words if symbols is None else panel.frames
            assert [mark.colour == "green" for mark in marks] == right
            if symbols is None:
                names = run.task.class_names or [str(label) for label in range(answers.shape[-1])]
                assert [words.text for words in marks] == [names[label] for label in labels]
                assert np.allclose([words.size for words in marks], 5 + 4 * chances)
            else:
                assert np.allclose([inlay.opacity for inlay in panel.inlays], chances)
                drawn = np.stack([inlay.values for inlay in panel.inlays])
                assert np.array_equal(drawn, symbols[labels].numpy())


def check_answer_maps(run: Run, data: FigureData) -> None:
    """The pictures, and below them a row a checkpoint: what each patch adds over the mean logit."""
    (block,) = data.blocks
    pictures, *rows = block.panels
    batch = run.batch("test", len(pictures))
    for panel, image in zip(pictures, batch.images, strict=True):
        assert np.array_equal(panel.picture, image.mean(0).numpy())
    for step, row in zip(read_steps(block.row_headers[1:]), rows, strict=True):
        model = run.model(step, batch)
        parts = attribute_patches(model, trace(model, batch.images, SITES))[:, 0]
        for place, panel in enumerate(row):
            of_picture = parts[place, run.config.model.n_prefix :]
            over = of_picture[:, batch.classes[place]] - of_picture.mean(1)
            assert np.allclose(panel.overlay.values.ravel(), over.numpy(), atol=1e-6)


def check_reconstruction(run: Run, data: FigureData) -> None:
    """Whole pictures, what is seen of them, and with the model's pixels where a patch is hidden."""
    (block,) = data.blocks
    batch = run.batch("test", len(block.panels[0]))
    rows = dict(zip(block.row_headers, block.panels, strict=True))
    patches = {"picture": batch.target}
    for step in read_steps(block.row_headers[2:]):
        patches[f"step {step:,}"] = run_model(run.model(step, batch), batch.images)
    for place, image in enumerate(batch.images):
        assert np.array_equal(rows["seen"][place].picture, image[0].numpy())
        for name, of_name in patches.items():
            expected = cut_patches(run, image)
            hidden = ~batch.target[place].isnan()
            expected[hidden] = of_name[place][hidden]
            drawn = torch.from_numpy(rows[name][place].picture)[None]
            assert torch.equal(cut_patches(run, drawn), expected)


def cut_patches(run: Run, image: torch.Tensor) -> torch.Tensor:
    """The pixels of a picture (channel height width) by patch: (patch pixel)."""
    side = run.config.model.stated("patch_size")
    cut = image.unfold(1, side, side).unfold(2, side, side)
    return cut.permute(1, 2, 0, 3, 4).flatten(2).flatten(0, 1)


CHECKS: dict[str, Callable[[Run, FigureData], None]] = {
    "phase_transition": check_phase_transition,
    "learning": check_learning,
    "strategies": check_strategies,
    "grokking": check_grokking,
    "reconstruction": check_reconstruction,
    "query_attention": check_query_attention,
    "heads": check_heads,
    "head_ablation": check_head_ablation,
    "cls_attention": check_cls_attention,
    "by_factor": check_by_factor,
    "probes": check_probes,
    "updates": check_updates,
    "attention": check_attention,
    "directions": check_directions,
    "edges": check_edges,
    "patching": check_patching,
    "attribution": check_attribution,
    "attention_knockout": check_attention_knockout,
    "lens": check_lens,
    "answer_maps": check_answer_maps,
}


def test_of_many_values_the_first_the_middle_and_the_last_learned_are_named():
    """In small runs many values are learned equally little: here all means differ."""
    named = name_values(pd.Series({0: 0.5, 1: 0.1, 2: 0.9, 3: 0.4, 4: 0.6}))
    assert {value: name for value, (_, name) in named.items()} == {
        1: "value 1, last",
        0: "value 0, middle",
        2: "value 2, first",
    }
    few = name_values(pd.Series({0: 0.5, 1: 0.1, 2: 0.9, 3: 0.4}))
    assert [name for _, name in few.values()] == [f"value {value}" for value in range(4)]


def test_every_figure_is_compared():
    assert CHECKS.keys() == FIGURES.keys()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figure"), CASES)
def test_a_figure_shows_what_was_measured(runs, name, figure):
    CHECKS[figure](runs[name], FIGURES[figure].draw(runs[name], None))
