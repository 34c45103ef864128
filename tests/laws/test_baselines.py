"""What baselines and what knowing predictors score, against brute force.

Brute force spells the definition out.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from tests.laws.worlds import CONFIGS, MADE, SPLITS, mark_splits
from toyvit.config import MarkovConfig, PointersConfig, RelationsConfig
from toyvit.data.task import Batch, Task, accuracy, loss

every_task = pytest.mark.parametrize("name", CONFIGS)


def asked(batch: Batch) -> list[tuple[int, tuple[int, ...], int]]:
    """Every question: the image, its place in the target, the answer."""
    places = (batch.target >= 0).nonzero().tolist()
    return [(place[0], tuple(place), int(batch.target[tuple(place)])) for place in places]


def uniform(made: Task, batch: Batch) -> dict[str, float]:
    return {"accuracy.uniform": 1 / made.n_classes, "loss.uniform": math.log(made.n_classes)}


def prior(made: Task, batch: Batch) -> dict[str, float]:
    counts = Counter(answer for _, _, answer in asked(batch))
    n = counts.total()
    entropy = -sum(count / n * math.log(count / n) for count in counts.values())
    return {"accuracy.majority": max(counts.values()) / n, "loss.label_prior": entropy}


def bag_of_labels(made: Task, batch: Batch) -> dict[str, float]:
    """Expected scores where each of the labels shown is as likely to be the answer."""
    right, nats = [], []
    for image, cells in enumerate(batch.retrieval.candidates.tolist()):
        labels = [int(batch.content[image, cell]) for cell in cells]
        right.append(max(labels.count(label) for label in labels) / len(labels))
        nats += [-math.log(labels.count(label) / len(labels)) for label in labels]
    return {"accuracy.bag_of_labels": np.mean(right), "loss.bag_of_labels": np.mean(nats)}


def share_of_labels(made: Task, batch: Batch) -> dict[str, float]:
    """What answering each label with its share of the context scores on the answers themselves.

    A tie is settled by lot.
    """
    right, nats = [], []
    for image, answer in enumerate(batch.target.tolist()):
        cells = batch.content[image].tolist()
        places = range(len(cells) - 2, -1, -2)[: made.config.n_pairs]
        labels = [cells[place] - made.world.n_all_classes for place in places]
        counts = Counter(labels)
        best = [label for label, count in counts.items() if count == max(counts.values())]
        right.append((answer in best) / len(best))
        nats.append(-math.log(counts[answer] / len(labels)) if counts[answer] else math.inf)
    found = {"accuracy.bag_of_labels": np.mean(right)}
    return found | ({"loss.bag_of_labels": np.mean(nats)} if max(nats) < math.inf else {})


def bag_of_glyphs(made: Task, batch: Batch) -> dict[str, float]:
    right, nats = [], []
    for image, _, answer in asked(batch):
        counts = Counter(batch.content[image].tolist())
        most = max(counts.values())
        right.append(answer == min(glyph for glyph, count in counts.items() if count == most))
        nats.append(-math.log(counts[answer] / counts.total()))
    return {"accuracy.bag_of_glyphs": np.mean(right), "loss.bag_of_glyphs": np.mean(nats)}


def strategies(made: Task, batch: Batch) -> dict[str, float]:
    found: dict[str, float] = {}
    questions = asked(batch)
    for name, words in batch.strategies.items():
        p = [words[place].double().numpy() for _, place, _ in questions]
        truth = [batch.strategies["truth"][place].double().numpy() for _, place, _ in questions]
        found[f"loss.{name}"] = np.mean(
            [-math.log(row[answer]) for row, (_, _, answer) in zip(p, questions, strict=True)]
        )
        found[f"accuracy.{name}"] = np.mean(
            [row.argmax() == answer for row, (_, _, answer) in zip(p, questions, strict=True)]
        )
        found[f"kl.{name}"] = np.mean(
            [(t * np.log(t / row)).sum() for t, row in zip(truth, p, strict=True)]
        )
    return found


def mean(made: Task, batch: Batch) -> dict[str, float]:
    """The mean of every number over the pictures in which it is asked."""
    target = batch.target.flatten(1).double().numpy()
    errors, values = [], []
    for column in target.T:
        known = column[~np.isnan(column)]
        errors += [(value - sum(known) / len(known)) ** 2 for value in known]
        values += list(known)
    return {"loss.mean": np.mean(errors), "accuracy.mean": 1 - np.mean(errors) / np.var(values)}


def question(made: Task, batch: Batch) -> dict[str, float]:
    """Every question stands for all that may be in the picture.

    All shapes, and whether the object is left and high.
    """
    n = made.config.n_objects
    right, nats = [], []
    for number in batch.factors["question"].tolist():
        worlds = (
            product(*["sc"] * n, "lr", "tb")
            if number in (1, 2, 5)
            else product("sc", repeat=6)  # any of them, there or not
        )
        answers = Counter(
            {1: world[-2], 2: world[-1], 5: world[:n].count(world[0])}.get(number, world[0])
            for world in worlds
        )
        shares = [count / answers.total() for count in answers.values()]
        right.append(max(shares))
        nats.append(-sum(share * math.log(share) for share in shares))
    return {"accuracy.question": np.mean(right), "loss.question": np.mean(nats)}


def bag_of_objects(made: Task, batch: Batch) -> dict[str, float]:
    """Each of the objects in turn is the one that answers."""
    n = made.config.n_objects
    right, nats = [], []
    columns = zip(
        *(batch.factors[name].tolist() for name in ("question", "squares", "on_left", "on_top")),
        strict=True,
    )
    for number, squares, on_left, on_top in columns:
        shapes = "s" * squares + "c" * (n - squares)
        answers = {
            1: "y" * on_left + "n" * (n - on_left),
            2: "y" * on_top + "n" * (n - on_top),
            5: [shapes.count(shape) for shape in shapes],
        }.get(number, shapes)
        shares = [count / n for count in Counter(answers).values()]
        right.append(max(shares))
        nats.append(-sum(share * math.log(share) for share in shares))
    return {"accuracy.bag_of_objects": np.mean(right), "loss.bag_of_objects": np.mean(nats)}


def position(made: Task, batch: Batch) -> dict[str, float]:
    """At each place of the target, the distribution of its classes in the batch."""
    right, nats = [], []
    for column in batch.target.T.tolist():
        counts = Counter(column)
        right.append(max(counts.values()) / len(column))
        nats.append(
            -sum(count / len(column) * math.log(count / len(column)) for count in counts.values())
        )
    return {"accuracy.position": np.mean(right), "loss.position": np.mean(nats)}


def any_object(made: Task, batch: Batch) -> dict[str, float]:
    """Every cell that is not blank is as likely to be the answer."""
    objects = [
        [cell for cell, glyph in enumerate(cells) if glyph >= 0] for cells in batch.content.tolist()
    ]
    assert all(
        answer in shown for shown, answer in zip(objects, batch.target.tolist(), strict=True)
    )
    chances = [1 / len(shown) for shown in objects]
    return {
        "accuracy.any_object": np.mean(chances),
        "loss.any_object": np.mean([-math.log(chance) for chance in chances]),
    }


def candidates_alone(made: Task, batch: Batch) -> dict[str, float]:
    """Whether the sample is alike is not seen, only how often it is.

    Whether the candidates are is read off their cells.
    """
    config, right, nats = made.config, [], []
    for cells, answer in zip(batch.content.tolist(), batch.target.tolist(), strict=True):
        rows = [
            cells[config.columns * row : config.columns * (row + 1)]
            for row in range(config.rows // 2, config.rows)
        ]
        left = {glyph for row in rows for glyph in row[: config.columns // 2] if glyph >= 0}
        says_left = config.alike if len(left) == 1 else 1 - config.alike
        right.append(answer == (0 if says_left >= 0.5 else 1))
        nats.append(-math.log([says_left, 1 - says_left][answer]))
    return {"accuracy.candidates_alone": np.mean(right), "loss.candidates_alone": np.mean(nats)}


def bag_of_values(made: Task, batch: Batch) -> dict[str, float]:
    """What every block would answer if it were the one pointed to, counted."""
    config, right, nats = made.config, [], []
    for (_, *shown), answer in zip(batch.content.tolist(), batch.target.tolist(), strict=True):
        windows = [
            [shown[(block + step) % len(shown)] for step in range(config.window)]
            for block in range(config.n_values)
        ]
        counts = Counter(sum(window) % config.n_values for window in windows)
        most = max(counts.values())
        right.append(answer == min(value for value, count in counts.items() if count == most))
        nats.append(-math.log(counts[answer] / config.n_values))
    return {"accuracy.bag_of_values": np.mean(right), "loss.bag_of_values": np.mean(nats)}


BRUTE = (
    uniform,
    prior,
    mean,
    bag_of_labels,
    share_of_labels,
    bag_of_glyphs,
    strategies,
    question,
    bag_of_objects,
    position,
)
BRUTE += (any_object, candidates_alone, bag_of_values)
MEANT = {
    prior: lambda made, batch: not batch.target.is_floating_point(),
    mean: lambda made, batch: batch.target.is_floating_point(),
    question: lambda made, batch: "question" in batch.factors,
    bag_of_objects: lambda made, batch: "question" in batch.factors,
    position: lambda made, batch: made.output_kind == "patch",
    bag_of_labels: lambda made, batch: (
        batch.retrieval is not None and made.config.name != "fewshot"
    ),
    share_of_labels: lambda made, batch: made.config.name == "fewshot",
    bag_of_glyphs: lambda made, batch: batch.content is not None and made.output_kind == "patch",
    strategies: lambda made, batch: batch.strategies is not None,
    any_object: lambda made, batch: (
        isinstance(made.config, RelationsConfig) and made.config.ask == "odd"
    ),
    candidates_alone: lambda made, batch: (
        isinstance(made.config, RelationsConfig) and made.config.ask == "match"
    ),
    bag_of_values: lambda made, batch: isinstance(made.config, PointersConfig),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "split"), mark_splits(SPLITS))
def test_baselines_agree_with_brute_force(name, split):
    """Every number that a task calls a baseline has a brute force here and is equal to it.

    It is finite; accuracies are at most 1.
    """
    made = MADE[name]
    batch = made.eval_batch(split, 60, 0)
    if not batch.is_answered:
        assert made.baselines(batch) == {}
        return
    expected: dict[str, float] = {}
    for brute in BRUTE:
        if brute not in MEANT or MEANT[brute](made, batch):
            expected |= brute(made, batch)
    found = made.baselines(batch)
    assert found and set(found) <= set(expected)
    for key, value in found.items():
        assert value == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key
        assert math.isfinite(value) and (
            value <= 1 if key.startswith("accuracy") else value >= -1e-6
        ), key


@every_task
def test_loss_and_accuracy_of_known_answers(name):
    made = MADE[name]
    batch = made.eval_batch("test", 20, 0)
    if batch.target.is_floating_point():
        assert loss(batch.target, batch.target) == 0 and accuracy(batch.target, batch.target) == 1
        nought = torch.zeros_like(batch.target)
        assert loss(nought, batch.target).item() == pytest.approx(
            batch.target.square().nanmean().item()
        )
        assert accuracy(nought, batch.target) <= 1e-6
        return
    if not batch.is_answered:
        assert loss(torch.zeros(20, made.n_classes), batch.target).isnan()
        return
    right = 50 * torch.nn.functional.one_hot(batch.target.clamp(min=0), made.n_classes).float()
    assert loss(right, batch.target) < 1e-6 and accuracy(right, batch.target) == 1
    assert accuracy(-right, batch.target) == 0
    assert loss(torch.zeros_like(right), batch.target).item() == pytest.approx(
        math.log(made.n_classes), rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CONFIGS if MADE[name].strategies])
def test_strategies_are_probabilities_where_something_is_asked(name):
    batch = MADE[name].eval_batch("test", 60, 0)
    for words in batch.strategies.values():
        given = ~words.isnan().any(-1)
        assert torch.equal(given, batch.target >= 0)
        assert (
            torch.allclose(words[given].sum(-1), torch.ones(()), atol=1e-5)
            and words[given].min() >= 0
        )
    big = MADE[name].baselines(MADE[name].eval_batch("test", 2000, 0))
    assert (
        big["kl.truth"] == 0 < big["kl.bayes"] < big["kl.unigram"]
        and big["kl.bayes"] < big["kl.uniform"]
    )
    assert big["loss.truth"] < big["loss.bayes"] < big["loss.unigram"]


def context(config: MarkovConfig, cells: list[int], place: int) -> tuple[int, ...]:
    row, column = divmod(place, config.columns)
    if config.form == "chain":
        return (cells[place - 1] if place else -1,)
    return (cells[place - 1] if column else -1, cells[place - config.columns] if row else -1)


def marginal(config: MarkovConfig, cells: list[int]) -> float:
    """Probability of a picture's cells, its rows unknown.

    Each is drawn from an urn that starts with one ball of every texture.
    """
    urns: dict[tuple[int, ...], Counter[int]] = {}
    total = 1.0
    for place, texture in enumerate(cells):
        urn = urns.setdefault(context(config, cells, place), Counter(range(config.n_textures)))
        total *= urn[texture] / urn.total()
        urn[texture] += 1
    return total


@pytest.mark.parametrize(
    "name",
    [name for name in CONFIGS if isinstance(CONFIGS[name], MarkovConfig) and name != "markov"],
)
def test_the_exact_markov_predictor(name):
    made, config = MADE[name], CONFIGS[name]
    batch = made.eval_batch("test", 12, 5)
    for image, place, _ in asked(batch):
        cells = batch.content[image].tolist()
        target = place[1] + (config.ask == "next")
        shown = cells[: target + 1] if config.ask == "next" else cells
        filled = [
            [*shown[:target], texture, *shown[target + 1 :]] for texture in range(config.n_textures)
        ]
        weights = np.array([marginal(config, one) for one in filled])
        assert np.allclose(batch.strategies["bayes"][place], weights / weights.sum(), atol=1e-5)


def test_markov_rows_are_dirichlet_and_cells_follow_them():
    world = MADE["markov"].world
    factors = world.sample(0, "test", np.arange(3000))
    rows = world.rows(factors["chain"]).reshape(-1, 3)
    assert np.allclose(rows.mean(0), 1 / 3, atol=0.01) and np.allclose(
        rows.var(0), 1 / 18, atol=0.004
    )
    p = np.take_along_axis(
        world.rows(factors["chain"]), world.contexts(factors["texture"])[..., None].repeat(3, 2), 1
    )
    shown = np.take_along_axis(p, factors["texture"][..., None], 2)
    assert abs((-np.log(shown)).mean() - (-(p * np.log(p)).sum(2)).mean()) < 0.01
