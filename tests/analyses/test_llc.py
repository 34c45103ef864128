"""The local learning coefficient where it is known, and settings that must give no number."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import cycle

import pytest
import torch

from tests.analyses.planted import OPTIONS, model_for
from tests.laws.models import mark_slow
from toyvit.analyses import ANALYSES
from toyvit.analyses.llc import (
    LlcConfig,
    build_loss,
    calibrate_llc,
    chance_loss,
    choose_step,
    estimate_llc,
    measure_llc,
    reduced_rank_llc,
    sample_chains,
)
from toyvit.analyses.sampling import LlcEstimate
from toyvit.data.task import Batch
from toyvit.errors import BadInput
from toyvit.model import ViT

CURVATURES = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.double)
QUADRATIC = LlcConfig(
    step_size=1e-4, n_beta=1000.0, localisation=50.0, draws=800, burn_in=400, chains=100
)


def quadratic(weights, rows):
    return (CURVATURES * weights["w"].square()).sum() / 2


def normal_crossing(a, b):
    """Squared loss of the model y = w1^a w2^b x, truth 0, for x of mean square 1."""
    return lambda weights, rows: (weights["w"][0] ** a * weights["w"][1] ** b).square()


def by_quadrature(a, b, n_beta, localisation):
    """n beta E[L] under exp(-n beta L - localisation/2 |w|^2), on a grid that holds all of it."""
    line = torch.linspace(-2, 2, 2001, dtype=torch.double)
    x, y = line[:, None], line[None]
    loss = (x**a * y**b).square()
    density = (-n_beta * loss - localisation / 2 * (x**2 + y**2)).exp()
    return n_beta * ((loss * density).sum() / density.sum()).item()


def zeros(n):
    return {"w": torch.zeros(n, dtype=torch.double)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step_size", "localisation"),
    [
        (1e-4, 50.0),
        pytest.param(3e-5, 1000.0, marks=pytest.mark.slow),
        pytest.param(1e-4, 0.0, marks=pytest.mark.slow),
    ],
)
def test_quadratic_loss(step_size, localisation):
    """Half the sum of n beta h / (n beta h + gamma).

    Steps of size eps widen each direction by 1 / (1 - eps a / 4).
    """
    settings = replace(QUADRATIC, step_size=step_size, localisation=localisation)
    if not localisation:  # without a spring the flat directions need longer
        settings = replace(settings, draws=1500, burn_in=2500)
    stiff = 1000 * CURVATURES + localisation
    exact = (1000 * CURVATURES / stiff / (1 - step_size * stiff / 4)).sum().item() / 2
    found = sample_chains(quadratic, zeros(4), 1, settings)
    assert not found.diverged
    assert found.mean == pytest.approx(exact, abs=4 * found.sd / math.sqrt(settings.chains))
    assert found.sd / math.sqrt(settings.chains) < 0.03 * exact
    assert exact == pytest.approx((1000 * CURVATURES / stiff).sum().item() / 2, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("a", "b", "published"), [(1, 1, 0.290), (2, 1, 0.124)])
def test_normal_crossings(a, b, published):
    """The same tempered and localised posterior by numerical quadrature.

    A regular minimum of two weights would have 1.
    """
    exact = by_quadrature(a, b, 1000, 10)
    assert exact == pytest.approx(published, abs=1e-3)
    settings = LlcConfig(
        step_size=3e-4, n_beta=1000.0, localisation=10.0, draws=500, burn_in=1500, chains=1000
    )
    found = sample_chains(normal_crossing(a, b), zeros(2), 1, settings)
    assert not found.diverged and found.mean == pytest.approx(exact, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "outputs", "hidden", "rank"),
    [(5, 4, 3, 1), (4, 6, 4, 2), (3, 8, 2, 2), (6, 3, 5, 0)],
)
def test_reduced_rank_regression(inputs, outputs, hidden, rank):
    """y = B A x from a truth of lower rank.

    Within 40 % of Aoyagi and Watanabe's closed form, and below half the weights.
    """
    generator = torch.Generator().manual_seed(1)
    n = 1000
    x = torch.randn(n, inputs, generator=generator, dtype=torch.double)
    a, b = (
        torch.randn(shape, generator=generator, dtype=torch.double)
        for shape in ((hidden, inputs), (outputs, hidden))
    )
    a[rank:], b[:, rank:] = 0, 0
    y = x @ a.T @ b.T + torch.randn(n, outputs, generator=generator, dtype=torch.double)

    xx, xy, yy = x.T @ x / n, x.T @ y / n, y.square().sum() / n

    def loss(weights, rows):  # half the mean of |y - B A x|^2, from the moments of the data
        product = weights["b"] @ weights["a"]
        return ((product @ xx * product).sum() - 2 * (product * xy.T).sum() + yy) / 2

    settings = LlcConfig(step_size=3e-4, localisation=1.0, draws=500, burn_in=250, chains=20)
    fitted = fit(loss, {"a": a, "b": b})
    found, exact = (
        sample_chains(loss, fitted, n, settings),
        reduced_rank_llc(inputs, outputs, hidden, rank),
    )
    assert not found.diverged and found.mean == pytest.approx(exact, rel=0.4)
    assert exact < hidden * (inputs + outputs) / 2


def fit(loss, weights):
    """The minimum near the truth, where the noise of the data puts it.

    By gradient descent along the directions that matter.
    """
    for _ in range(200):
        gradient = torch.func.grad(loss)(weights, None)
        weights = {name: weight - 0.05 * gradient[name] for name, weight in weights.items()}
    return weights


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((3, 3, 3, 3), 4.5),  # full rank: as many as y = C x has, 9 / 2
        ((2, 2, 1, 0), 1.0),  # a product of a column and a row: half the smaller side
        ((1, 1, 1, 0), 0.5),  # the normal crossing w1 w2
        ((2, 2, 5, 0), 2.0),  # more hidden units than needed: C is regular
        (
            (2, 9, 1, 1),
            5.0,
        ),  # one regular line of outputs and inputs, minus the scale that A and B share
    ],
)
def test_the_closed_form_where_it_is_plain(shape, expected):
    assert reduced_rank_llc(*shape) == expected


def test_without_noise_a_chain_is_gradient_descent():
    """Full batch: each step w -= eps n beta / 2 grad.

    A batch: plain SGD on the rows that were drawn.
    """
    data = torch.tensor([1.0, 2.0, 4.0, 9.0], dtype=torch.double)

    def loss(weights, rows):
        return (weights["w"] - (data if rows is None else data[rows])).square().mean()

    settings = LlcConfig(
        step_size=0.02, n_beta=10.0, localisation=0.0, draws=20, burn_in=0, chains=2, noise=0.0
    )
    w, expected = 0.0, []
    for _ in range(20):
        expected.append((w - data).square().mean().item())
        w -= 0.1 * 2 * (w - data.mean().item())
    found = sample_chains(loss, {"w": torch.zeros((), dtype=torch.double)}, 4, settings)
    assert found.traces[0] == pytest.approx(expected) and torch.equal(
        found.traces[0], found.traces[1]
    )
    one_a_step = sample_chains(
        loss, {"w": torch.zeros((), dtype=torch.double)}, 4, replace(settings, batch=1)
    ).traces
    assert not torch.equal(one_a_step[0], one_a_step[1])
    rows = torch.Generator().manual_seed(0)
    w = torch.zeros(2, dtype=torch.double)
    for step in range(20):
        drawn = data[torch.randint(4, (2, 1), generator=rows)[:, 0]]
        torch.randn(2, generator=rows, dtype=torch.double)  # the noise that is scaled by 0
        assert torch.allclose(one_a_step[:, step], (w - drawn).square())
        w = w - 0.1 * 2 * (w - drawn)


@pytest.mark.slow
def test_batches_and_all_samples_agree():
    data = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.double)

    def loss(weights, rows):
        return (weights["w"] - (data if rows is None else data[rows])).square().mean() / 2

    settings = LlcConfig(
        step_size=1e-3, n_beta=100.0, localisation=10.0, draws=400, burn_in=100, chains=200
    )
    start = {"w": data.mean()}
    whole, parts = (
        sample_chains(loss, start, 200, replace(settings, batch=size)) for size in (0, 50)
    )
    assert whole.mean == pytest.approx(0.5 * 100 / 110, rel=0.1)
    assert parts.mean == pytest.approx(
        whole.mean, rel=0.35
    )  # the batches' own noise adds to the sampler's

    short = replace(settings, draws=20, burn_in=0)
    first, again, other = (
        sample_chains(loss, start, 200, replace(short, seed=seed)).mean for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.slow
def test_a_loss_that_does_not_depend_on_the_weights_has_none():
    found = sample_chains(lambda weights, rows: 0 * weights["w"].sum() + 2, zeros(3), 1, QUADRATIC)
    assert found.mean == 0 and found.sd == 0


@pytest.mark.parametrize("step_size", mark_slow([1e-3, 1.0], [1e-3]))
def test_steps_that_are_too_long_are_reported_as_diverged(step_size):
    """Above eps (n beta h + gamma) = 4 every step overshoots: the trace explodes."""
    for draws in (5, 20, 500):
        found = sample_chains(
            quadratic, zeros(4), 1, replace(QUADRATIC, step_size=step_size, draws=draws, burn_in=0)
        )
        assert found.diverged and math.isnan(found.mean) and math.isnan(found.sd)


@pytest.mark.slow
def test_chains_that_leave_the_minimum_are_reported_as_diverged():
    """A well of depth 1 among plains.

    With little n beta the weights wander off, to a plateau at chance that looks settled.
    """

    def well(weights, rows):
        return 1 - (-weights["w"].square().sum() / 2).exp()

    settings = LlcConfig(
        step_size=0.02, n_beta=3.0, localisation=0.0, draws=200, burn_in=600, chains=5
    )
    found = sample_chains(well, zeros(8), 1, settings, chance=0.99)
    assert (
        found.chains.mean() == pytest.approx(3, rel=0.01)
        and found.diverged
        and math.isnan(found.mean)
    )
    fitting = replace(settings, n_beta=1000.0, step_size=1e-4, burn_in=200)
    saved = sample_chains(well, zeros(8), 1, fitting, chance=0.99)
    assert not saved.diverged and saved.mean == pytest.approx(4, rel=0.2)


@pytest.mark.slow
def test_climbing_chains_are_reported_as_diverged():
    """Forty stiff directions, in steps so short that the chains are still on their way."""

    def stiff(weights, rows):
        return 5 * weights["w"].square().sum()

    settings = replace(QUADRATIC, localisation=0.0, chains=5, draws=200, burn_in=0, step_size=1e-7)
    assert sample_chains(stiff, zeros(40), 1, settings).diverged
    assert not sample_chains(
        stiff, zeros(40), 1, replace(settings, step_size=1e-5, burn_in=200)
    ).diverged


@pytest.mark.slow
def test_a_sweep_finds_the_plateau():
    settings = replace(QUADRATIC, draws=400)
    frame = calibrate_llc(quadratic, zeros(4), 1, settings, [1e-3, 1e-7, 3e-5, 1e-4], [1000.0])
    assert list(frame["step_size"]) == [1e-7, 3e-5, 1e-4, 1e-3]
    assert frame["diverged"].iloc[-1] and math.isnan(frame["llc"].iloc[-1])
    exact = (1000 * CURVATURES / (1000 * CURVATURES + 50)).sum().item() / 2
    assert (
        frame["llc"].iloc[1] == pytest.approx(exact, rel=0.15)
        and frame["flat"].iloc[1] > frame["flat"].iloc[2]
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [*zip(cycle(["induction 4x4", "markov", "regress"]), OPTIONS, strict=False)],
)
def test_a_model_goes_through_the_same_sampler(name, options):
    """The weights that matter are all there.

    A spring that allows no movement gives 0, and nothing of the model changes.
    """
    model, batch = model_for(name, n=6, **OPTIONS[options])
    settings = LlcConfig(step_size=1e-9, n_beta=1.0, localisation=1e8, draws=4, burn_in=0, chains=2)
    found = estimate_llc(model, batch, settings)
    assert found.size == sum(weight.numel() for weight in model.parameters())
    assert found.start == pytest.approx(
        build_loss(model, batch)(dict(model.named_parameters()), None).item()
    )
    assert found.traces[:, 0] == pytest.approx([found.start] * 2, rel=1e-5)
    assert found.mean == pytest.approx(0, abs=0.05 * found.start)
    assert not torch.equal(found.traces[0], found.traces[1])
    assert all(weight.grad is None for weight in model.parameters())
    parts = estimate_llc(model, batch, replace(settings, batch=3))
    assert parts.start == found.start and not torch.equal(parts.traces[0, :1], found.traces[0, :1])


@pytest.mark.slow
def test_the_analysis_says_diverged_and_gives_no_number(monkeypatch):
    model, batch = model_for("induction 4x4", n=6)
    assert chance_loss(model, batch) == pytest.approx(math.log(16)) and ANALYSES["llc"].slow
    monkeypatch.setattr("toyvit.analyses.llc.DEFAULT", LlcConfig(step_size=1e6, draws=4, burn_in=2))
    lost = measure_llc(model, batch, {})
    assert lost["diverged"] == 1 and lost["llc"].isnan() and lost["llc_sd"].isnan()
    assert not lost["settled"] and not lost["near"] and not lost["local"]
    assert lost["moves"].isnan()
    monkeypatch.setattr(
        "toyvit.analyses.llc.DEFAULT",
        LlcConfig(step_size=1e-9, localisation=1e6, draws=4, burn_in=2),
    )
    saved = measure_llc(model, batch, {})
    assert saved["diverged"] == 0 and saved["llc"].isfinite() and saved["llc_sd"] > 0
    assert saved.keys() == ANALYSES["llc"].quantities.keys()


class Valley(ViT):
    """Nothing but weights, all 1, to plant a loss around."""

    def __init__(self, n):
        torch.nn.Module.__init__(self)
        self.w = torch.nn.Parameter(torch.ones(n))


def measure_valley(monkeypatch, curvatures, slope=0.0, **options):
    """The analysis of a loss of these curvatures around 1, chance at 1 above."""
    settings = LlcConfig(**{"n_beta": 1e4, "localisation": 100.0, "chains": 2, **options})
    monkeypatch.setattr("toyvit.analyses.llc.DEFAULT", settings)

    def quadratic_around(model, batch):
        def loss(weights, rows):
            away = weights["w"] - 1
            return (curvatures * away.square()).sum() / 2 + slope * away.sum()

        return loss

    monkeypatch.setattr("toyvit.analyses.llc.build_loss", quadratic_around)
    monkeypatch.setattr("toyvit.analyses.llc.chance_loss", lambda model, batch: 1.0)
    batch = Batch(torch.zeros(4, 1, 1, 1), torch.zeros(4))
    return measure_llc(Valley(len(curvatures)), batch, {})


@pytest.mark.slow
def test_a_spectrum_with_a_gap_is_local(monkeypatch):
    """Truth: 60 stiff directions among 200 flat ones have 30, whatever the spring."""
    curvatures = torch.cat([torch.full((60,), 1.0), torch.zeros(200)])
    values = measure_valley(monkeypatch, curvatures, draws=200, burn_in=80)
    assert values["llc"] == pytest.approx(30, rel=0.4) and values["regular"] > 28
    assert values["settled"] == values["near"] == values["local"] == 1
    assert values["downhill"] == 0 and values["moves"] < 0.2 and values["excess"] < 0.01
    expected = (200 / 100 + 60 / 10100) ** 0.5 / 260**0.5
    assert values["radius"] == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_a_spectrum_without_a_gap_is_not(monkeypatch):
    """Curvatures fall as a power over the spring's: the value is the resolution's."""
    curvatures = torch.arange(1, 400) ** -1.2
    values = measure_valley(monkeypatch, curvatures, draws=150, burn_in=60)
    assert values["near"] == 1 and values["moves"] > 0.3 and values["local"] == 0
    assert values["llc"] == pytest.approx(values["regular"].item(), rel=0.4)


@pytest.mark.slow
def test_chains_far_from_the_minimum_are_not_near(monkeypatch):
    """Little n beta: a mean loss of a tenth of the way to chance."""
    curvatures = torch.full((40,), 1.0)
    values = measure_valley(monkeypatch, curvatures, n_beta=100.0, localisation=5.0)
    assert values["excess"] > 0.1 and values["near"] == 0 and values["local"] == 0


@pytest.mark.slow
def test_a_slope_is_no_minimum(monkeypatch):
    """The same flat spectrum on a slope: the chains slide, and the value is below 0."""
    curvatures = torch.cat([torch.full((60,), 1.0), torch.zeros(200)])
    values = measure_valley(monkeypatch, curvatures, slope=0.005, draws=200, burn_in=80)
    assert values["downhill"] < -values["regular"] and values["llc"] < 0
    assert values["minimum"] == 0 and values["local"] == 0
    assert measure_valley(monkeypatch, curvatures, draws=4, burn_in=0)["minimum"] == 1


def test_short_chains_are_not_settled(monkeypatch):
    """Steps too short to get anywhere: each half lies above the one before."""
    curvatures = torch.full((40,), 1.0)
    values = measure_valley(monkeypatch, curvatures, step_size=2e-7, draws=60, burn_in=30)
    assert values["settled"] == 0 and values["trend"] > 0.1 and values["r_hat"] > 1.2


def test_split_r_hat():
    """1 where halves agree, large where they do not, none where nothing varies."""
    settings = LlcConfig(step_size=1.0, draws=1000, burn_in=0)
    drawn = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))

    def judge(traces):
        return LlcEstimate(
            settings=settings, start=0.0, traces=traces, n_beta=1.0, size=9, chance=math.inf
        )

    assert judge(drawn).r_hat == pytest.approx(1, abs=0.01)
    assert judge(drawn + 3 * torch.arange(4)[:, None]).r_hat > 2
    climbing = judge(drawn + torch.linspace(0, 4, 1000))
    assert climbing.r_hat > 1.2 and climbing.trend > 0.5
    assert math.isnan(judge(torch.zeros(4, 1000)).r_hat)
    assert math.isnan(judge(drawn).excess), "chance is unknown"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("step_size", 0.0, "> 0, got 0"),
        ("step_size", math.nan, "> 0, got nan"),
        ("n_beta", 0.0, "> 0, got 0"),
        ("localisation", -1.0, ">= 0, got -1"),
        ("draws", 1, ">= 2, got 1"),
        ("burn_in", -1, ">= 0, got -1"),
        ("chains", 0, ">= 1, got 0"),
        ("batch", -2, ">= 0, got -2"),
        ("seed", -1, ">= 0"),
        ("noise", math.inf, ">= 0, got inf"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(field, value, words):
    with pytest.raises(BadInput, match=rf"^LlcConfig\.{field} must be {words}[^\n]*$"):
        LlcConfig(**{"step_size": 1e-3, field: value})


def test_settings_need_a_step_size():
    """But for a model, whose curvature is looked up."""
    with pytest.raises(BadInput, match=r"needs a step size: LlcConfig\(step_size=...\)$"):
        sample_chains(quadratic, zeros(4), 5, LlcConfig(draws=4))
    settings = choose_step(LlcConfig(n_beta=10.0, localisation=5.0), 4, top=2.0)
    assert settings.step_size == pytest.approx(0.1 / 5)
    settings = choose_step(LlcConfig(n_beta=10.0, localisation=5.0), 4, top=9.5)
    assert settings.step_size == pytest.approx(1 / 100)
    assert choose_step(LlcConfig(n_beta=10.0, localisation=0.0), 4, top=0.0).step_size == 0.1
    model, batch = model_for("induction 4x4", n=6)
    short = LlcConfig(n_beta=10.0, localisation=1e3, draws=2, burn_in=0, chains=1)
    assert 0 < estimate_llc(model, batch, short).settings.step_size <= 1e-4
