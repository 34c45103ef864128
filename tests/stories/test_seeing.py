"""Figures and TensorBoard files of small runs: what they show, and that showing it twice
changes nothing.
"""

import io
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.runs.stamping import edit
from toyvit.__main__ import main
from toyvit.cli.following import follow
from toyvit.data.task import build_task
from toyvit.dynamics.transitions import judge_series
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report import FIGURES, draw, tensorboard, updates
from toyvit.report.heads import collect_scores, format_head_types, name_all_heads
from toyvit.report.learning import draw_phase_transition
from toyvit.report.panels import CurvePanel
from toyvit.report.summary import summarize
from toyvit.report.sweeps import draw_sweep_bands, open_settings
from toyvit.runs.events import LAYOUT
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_baselines, load_table
from toyvit.runs.table_writer import MeasureTable
from toyvit.sweeping import gather_table
from toyvit.train import fit


def small(recipe: str, path: Path, steps: int = 60) -> Path:
    """A measured run of a few steps."""
    run = RECIPES[recipe]()
    training = replace(
        run.train,
        steps=steps,
        batch_size=16,
        n_validation=32,
        checkpoints=tuple(range(0, steps, 10)),
    )
    fit(replace(run, train=training), path, progress=False)
    measure(path, images=64, progress=False)
    return path


class Runs(dict[str, Path]):
    """Small runs by name, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        path = self.folder / name
        if name == "induction-control":
            shutil.copytree(self["induction"], path)
        else:
            recipes = {"induction": "induction-smoke", "digits": "digits", "filled": "reconstruct"}
            small(recipes[name], path, steps=20 if name == "filled" else 40)
        self[name] = path
        return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def read(path: Path) -> EventAccumulator:
    """What is in the TensorBoard files of a run, written anew."""
    return EventAccumulator(
        str(tensorboard.write(path)), size_guidance={"scalars": 0, "images": 0}
    ).Reload()


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard files without pictures, which take most of the time."""
    monkeypatch.setattr(tensorboard, "draw_pictures", lambda run: ())


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch, no_pictures: None) -> None:
    """Reports with a headline and an appendix of one figure each at most."""
    few = {name: FIGURES[name] for name in ("phase_transition", "learning", "probes")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)


EVERY_RUN = {"heads", "head_ablation", "probes", "attention", "directions", "updates"}
ANSWERS = {"by_factor", "attribution", "lens", "answer_maps"}  # where the answer is a class


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("induction", EVERY_RUN | ANSWERS | {"phase_transition", "query_attention"}),
        ("digits", EVERY_RUN | ANSWERS | {"learning", "cls_attention"}),
        ("filled", EVERY_RUN | {"learning", "cls_attention", "reconstruction"}),
    ],
)
def test_a_run_gets_its_figures_as_files(runs, name, figures):
    """These files and no others, each a picture."""
    run = shutil.copytree(runs[name], runs.folder / f"{name}-drawn")
    RunFolder(run).truncate(10)
    drawn = draw(run)
    expected = sorted(run / "figures" / f"{figure}.png" for figure in figures)
    assert sorted(figure.file for figure in drawn) == expected
    assert sorted((run / "figures").iterdir()) == expected

    for figure in drawn:
        pixels = Image.open(figure.file).convert("L")
        darkest, brightest = pixels.getextrema()
        assert min(pixels.size) > 200 and darkest < 50 and brightest > 200, figure.file


@pytest.mark.slow
def test_figures_are_drawn_as_vectors_on_request(runs, tmp_path, monkeypatch, as_placed):
    """A picture of curves and one of maps."""
    few = {name: FIGURES[name] for name in ("learning", "attention")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    run = shutil.copytree(runs["digits"], tmp_path / "digits")
    RunFolder(run).truncate(0)
    for kind, start in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        drawn = draw(run, kind=kind)
        assert [figure.file.name for figure in drawn] == [f"learning.{kind}", f"attention.{kind}"]
        assert all(figure.file.read_bytes().startswith(start) for figure in drawn)
    with pytest.raises(BadInput, match="unknown kind of figure 'jpg': allowed are png, svg, pdf"):
        draw(run, kind="jpg")


@pytest.mark.slow
def test_report_prints_what_the_run_came_to(runs, capsys, few_figures):
    assert main(["report", str(runs["induction"]), "--beside", str(runs["induction-control"])]) == 0
    printed = capsys.readouterr().out
    final = (
        load_table(runs["induction"])
        .query("analysis == 'performance' and quantity == 'accuracy'")["value"]
        .iloc[-1]
    )
    assert f"final accuracy {final:>28.3f}"[-5:] in printed
    for line in (
        "bag-of-labels ceiling",
        "induction mass",
        "accuracy without",
        "accuracy of induction-control",
        "figures/phase_transition.png",
        "If there were nothing to see",
        "appendix: ",
        "TensorBoard",
    ):
        assert line in printed


@pytest.mark.slow
def test_the_figure_of_updates_says_how_far_each_part_moved_and_what_stayed_alike(runs):
    """Ten steps between checkpoints; the whole is the root of the parts' squares."""
    run = Run(runs["digits"])
    ends = [
        torch.cat([weight.flatten() for weight in run.bare_model(step).parameters()])
        .detach()
        .double()
        for step in (0, 10)
    ]
    top, *layers = updates.draw_updates(run).panels()
    lines = {curve.label: curve.y for curve in top.curves}
    assert lines["all"][0] == pytest.approx((ends[1] - ends[0]).norm().item() / 10)
    parts = [
        values
        for name, values in lines.items()
        if name in ("embedding", "norms", "head") or name.startswith("block")
    ]
    assert len(parts) == 3 + 2 * run.config.model.n_layers
    assert lines["all"] == pytest.approx(np.sum(np.square(parts), axis=0) ** 0.5)
    assert len(layers) == 2 * (run.config.model.n_layers + 1), "CLS and patches"
    for panel in layers:
        values = panel.values
        assert values.shape == (len(run.steps), len(run.steps))
        if panel.title == "CLS, embedding":
            assert np.isnan(values).all(), "CLS does not vary where it enters"
        else:
            assert np.diag(values) == pytest.approx(1) and values.min() < 1 - 1e-6


@pytest.mark.slow
def test_gradient_noise_and_curvature_are_drawn_where_they_were_measured(runs, tmp_path):
    shutil.copytree(runs["digits"], tmp_path / "digits")
    measured = {
        "analyses": ["gradient_noise", "hessian"],
        "steps": [0, 20],
        "images": 64,
        "split": "train",
    }
    measure(tmp_path / "digits", **measured, progress=False)
    run = Run(tmp_path / "digits")
    panels = {panel.y.label: panel for panel in updates.draw_updates(run).panels()}
    values = run.table.query("quantity == 'top'")
    curve = panels["largest Hessian\neigenvalue (nats)"].curves[0]
    assert list(curve.x) == [0, 20] and list(curve.y) == pytest.approx(list(values["value"]))
    noise = "gradient noise\nscale (pictures)"
    assert noise in panels
    without = updates.draw_updates(Run(runs["digits"])).panels()
    assert noise not in {panel.y.label for panel in without}


def test_checkpoints_of_a_figure_are_evenly_spaced():
    assert updates.select_even([0, 1, 2, 3, 4, 8, 10, 16, 20, 30, 40], 4) == [0, 10, 20, 30, 40]
    assert updates.select_even([0, 1, 40], 4) == [0, 1, 40] and updates.select_even([7], 4) == [7]


@pytest.mark.slow
def test_the_run_beside_is_remembered(runs, tmp_path, capsys, few_figures, as_placed):
    for name in ("induction", "induction-control"):
        shutil.copytree(runs[name], tmp_path / name)
    words = ["report", str(tmp_path / "induction")]
    assert main([*words, "--beside", str(tmp_path / "induction-control")]) == 0
    both = (tmp_path / "induction/figures/phase_transition.png").read_bytes()
    printed = capsys.readouterr().out
    assert main(words) == 0
    again = capsys.readouterr().out
    assert again.endswith(printed) and "as the last time" in again
    assert (tmp_path / "induction/figures/phase_transition.png").read_bytes() == both
    shutil.rmtree(tmp_path / "induction-control")
    assert main(words) == 0
    assert "induction-control" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["no file", "empty file", "empty table"])
def test_curves_of_a_run_without_a_measure_are_shown(runs, tmp_path, rows, no_pictures):
    shutil.copytree(runs["digits"], tmp_path / "run", ignore=shutil.ignore_patterns("measures*"))
    folder = RunFolder(tmp_path / "run")
    folder.truncate(10)
    if rows == "empty file":
        folder.measures.touch()
    if rows == "empty table":
        with MeasureTable(folder):
            pass
    tags = read(folder.path).Tags()["scalars"]
    assert "Training/loss" in tags and not any(tag.startswith("Performance") for tag in tags)
    with pytest.raises(BadInput, match="no measures yet"):
        load_table(folder.path)


@pytest.mark.slow
def test_other_splits_are_shown_beside_the_test_pictures(runs, tmp_path, capsys, few_figures):
    shutil.copytree(runs["digits"], tmp_path / "run", ignore=shutil.ignore_patterns("measures*"))
    RunFolder(tmp_path / "run").truncate(20)
    words = ["measure", str(tmp_path / "run"), "--analyses", "performance", "--images", "48"]
    assert main([*words, "--split", "train"]) == 0
    assert main(["report", str(tmp_path / "run"), "--no-page"]) == 2
    assert "train only" in capsys.readouterr().err
    assert main(words) == 0
    frame = load_table(tmp_path / "run")
    values = {
        split: rows.set_index("step")["value"]
        for split, rows in frame.query("quantity == 'accuracy'").groupby("split")
    }
    assert set(values) == {"train", "test"} and not values["train"].equals(values["test"])
    assert main(["report", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    for split in values:
        assert (
            f"final accuracy on 48 {split} pictures {values[split].iloc[-1]:>14.4f}"[-6:] in printed
        )
    expected = build_task(RunFolder(tmp_path / "run").read_config().task)
    for name, value in expected.baselines(expected.eval_batch("test", 48, 0)).items():
        assert load_baselines(tmp_path / "run")[name] == value, (
            "naive answers are those to the test pictures"
        )
    tags = read(tmp_path / "run")
    assert [event.value for event in tags.Scalars("Performance/accuracy")] == pytest.approx(
        list(values["test"])
    )
    assert [
        event.value for event in tags.Scalars("Performance/accuracy/split train")
    ] == pytest.approx(list(values["train"]))
    assert main([*words, "--split", "tset"]) == 2
    assert "did you mean 'test'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def unmeasured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of ten steps."""
    config = RECIPES["induction-smoke"]()
    training = replace(config.train, steps=10, n_validation=16, checkpoints=(0, 5, 10))
    path = tmp_path_factory.mktemp("unmeasured") / "run"
    return fit(replace(config, train=training), path, progress=False).path


@pytest.mark.slow
@pytest.mark.parametrize(
    "analysis", ["performance", "attention", "induction", "probes", "head_ablation", "norms"]
)
def test_report_of_a_run_with_one_analysis_draws_what_it_can(
    unmeasured, tmp_path, capsys, no_pictures, as_placed, analysis
):
    shutil.copytree(unmeasured, tmp_path / "run")
    measure(tmp_path / "run", analyses=[analysis], images=32, progress=False)
    assert main(["report", str(tmp_path / "run"), "--all"]) == 0
    assert "attention.png" in capsys.readouterr().out


@pytest.mark.slow
def test_hidden_patches_are_shown_restored_at_every_checkpoint(runs):
    shown = read(runs["filled"]).Images("reconstruction")
    run = Run(runs["filled"])
    assert [event.step for event in shown] == run.steps
    batch = build_task(run.config.task).eval_batch("test", 16, run.config.seeds.measure)
    whole, _, made = np.asarray(
        Image.open(io.BytesIO(shown[-1].encoded_image_string)).convert("L")
    ).reshape(3, 8, 128)
    original = replace(run.config.task, hidden=0.07)  # one patch hidden
    pictures = build_task(original).world.render(
        build_task(original).world.sample(run.config.seeds.measure, "test", np.arange(16))
    )
    expected = (pictures[:, 0].permute(1, 0, 2).reshape(8, 128) + 1) * 127.5
    assert np.abs(whole - expected.numpy()).max() <= 1
    seen = (
        batch.target.isnan()
        .all(2)
        .reshape(16, 4, 4)
        .repeat_interleave(2, 1)
        .repeat_interleave(2, 2)
    )
    seen = seen.permute(1, 0, 2).reshape(8, 128).numpy()
    assert np.array_equal(whole[seen], made[seen]) and not np.array_equal(whole[~seen], made[~seen])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["induction", "digits"])
def test_tensorboard_holds_curves_and_measures_once(runs, name, monkeypatch):
    """Written twice: at first with empty pictures."""
    with monkeypatch.context() as patch:
        patch.setattr(tensorboard, "render_tiles", lambda figure: np.zeros((1, 1, 3), np.uint8))
        first = read(runs[name])
    again = read(runs[name])
    assert len(list(runs[name].glob("tensorboard/events.*"))) == 1
    assert first.Tags() == again.Tags()
    for tag in first.Tags()["scalars"]:
        points = [(event.step, event.value) for event in again.Scalars(tag)]
        assert max(Counter(step for step, _ in points).values()) == 1, tag
        assert points == [(event.step, event.value) for event in first.Scalars(tag)]
    measured = load_table(runs[name]).query("analysis == 'performance' and quantity == 'accuracy'")
    shown = {event.step: event.value for event in again.Scalars("Performance/accuracy")}
    assert shown == pytest.approx(dict(zip(measured["step"], measured["value"], strict=True)))
    assert len(again.Scalars("Training/loss")) == 40
    assert len(again.Images("attention patterns")) >= 4
    assert (
        b"no verdict: " in again.Tensors("transitions/text_summary")[0].tensor_proto.string_val[0]
    )
    assert b"n_layers" in again.Tensors("config/text_summary")[0].tensor_proto.string_val[0]
    assert (
        b"phase transition"
        in again.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    )


@pytest.fixture(scope="module")
def warmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A measured run of 50 steps whose warm-up ends at step 25."""
    config, path = RECIPES["induction-smoke"](), tmp_path_factory.mktemp("warmed") / "seed-0"
    steps = {"steps": 50, "warmup": 25, "checkpoints": tuple(range(51))}
    training = replace(config.train, **steps, batch_size=8, n_validation=8)
    fit(replace(config, train=training), path, progress=False)
    measure(path, analyses=["performance", "induction"], images=8, progress=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("onset", [25, 40])
def test_a_jump_is_told_wherever_the_warm_up_ends(warmed, tmp_path, capsys, few_figures, onset):
    """Warm-up ends at step 25; accuracies in the table are replaced by a step at 25, and at 40.

    Time is the sum of rates, so that only a bend would be the schedule's.
    """
    path = Path(shutil.copytree(warmed, tmp_path / "seeds" / "seed-0"))
    of_cells = "cell in (select id from cells where analysis = 'performance' and step {} {})"
    planted = [
        f"update numbers set value = {value} where {of_cells.format(side, onset)}"
        for value, side in ((0.1, "<"), (0.9, ">="))
    ]
    edit(RunFolder(path), *planted, restamp=True)
    run = Run(path)
    (change,) = judge_series(run.curve("performance", "accuracy"), run.config.train).changes
    assert onset - 1 <= change.onset <= change.end <= onset
    printed = f"step {change.onset:.0f} to {change.end:.0f}, 10 % to 90 % of a change of +0.80"
    board = read(path)
    shown = board.Tensors("transitions/text_summary")[0].tensor_proto.string_val[0].decode()
    marked = {
        tag: [event.step for event in board.Scalars(tag)]
        for tag in board.Tags()["scalars"]
        if tag.startswith("events/")
    }
    assert marked["events/learning_rate"] == [25]
    ends = sorted({round(change.onset), round(change.end)})
    assert marked["events/performance/accuracy"] == ends
    assert printed in shown and "step 25" in shown.split("the learning rate changes abruptly at")[1]
    assert main(["report", str(path)]) == 0
    assert printed in capsys.readouterr().out
    assert gather_table([path])["onset"][0] == change.onset
    everything, aligned = draw_sweep_bands(open_settings([path])).panels()
    assert len(everything.curves) == 2, "a seed and the median"
    assert [len(curve.x) for curve in aligned.curves] == [51]
    assert aligned.curves[0].x[0] == -change.onset
    for panel in draw_phase_transition(Run(path)).panels():
        assert isinstance(panel, CurvePanel) and [mark.place for mark in panel.marks] == [25]


@pytest.mark.slow
def test_the_page_of_charts_has_one_line_a_run_in_each(runs, no_pictures):
    import re

    tags = read(runs["induction"]).Tags()["scalars"]
    for chart, pattern in LAYOUT["phase transition, a line a run"].items():
        drawn = [tag for tag in tags if re.search(pattern, tag)]
        assert len(drawn) == 1, f"one line a run in {chart}"
    heads = {"induction/mass/layer 1, head 0", "induction/previous_cell/layer 0, head 0"}
    assert heads <= set(tags)


@pytest.mark.slow
def test_measuring_again_doubles_no_point(runs, no_pictures):
    before = len(read(runs["induction"]).Scalars("induction/mass/layer 1, head 0"))
    measure(runs["induction"], images=64, progress=False)
    assert len(read(runs["induction"]).Scalars("induction/mass/layer 1, head 0")) == before


def test_curves_are_written_while_a_run_trains(tmp_path):
    """The follower is asked three times: before there is a run, in the middle, at the end."""
    path, asked, training = tmp_path / "run", [], ExitStack()

    def ended() -> bool:
        asked.append(1)
        if len(asked) == 2:
            run = RECIPES["induction-smoke"]()
            fit(
                replace(run, train=replace(run.train, steps=20, batch_size=8, n_validation=16)),
                path,
                progress=False,
            )
            training.enter_context(RunFolder(path).lock())
        return len(asked) == 3

    with training:
        follow([path], ended)
    shown = EventAccumulator(str(path / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    assert [event.step for event in shown.Scalars("Training/loss")] == list(range(1, 21))
    assert len(asked) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glyphs", "digits"])
def test_a_preview_is_drawn(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(["data", name, "--preview"]) == 0
    picture = tmp_path / "datasets" / name / "preview.png"
    assert str(picture) in capsys.readouterr().out and picture.stat().st_size > 2000


@pytest.mark.slow
def test_every_head_gets_a_line_with_its_names(runs, tmp_path):
    """A few steps in, heads still look everywhere; what they are called is in the table."""
    trained = Run(runs["induction"])
    lines = format_head_types(trained).splitlines()
    assert summarize(trained).endswith("\n".join(lines))
    found = name_all_heads(trained)
    values = collect_scores(trained)
    assert [line.split("  ")[0] for line in lines] == ["layer 0, head 0", "layer 1, head 0"]
    last = max(step for step, _, _ in found)
    for layer, line in enumerate(lines):
        names = found[last, layer, 0]
        assert all(f"{name} {values[last, layer, 0][name][0]:.2f}" in line for name in names) and (
            names or "no name" in line
        )
    assert "uniform" in found[0, 0, 0] and "uniform" in lines[0] and "since step 0" in lines[0]
    run = RECIPES["induction-smoke"]()
    fit(
        replace(run, train=replace(run.train, steps=2, batch_size=2, n_validation=2)),
        tmp_path / "run",
        progress=False,
    )
    measure(tmp_path / "run", analyses=["performance"], images=4, progress=False)
    with pytest.raises(BadInput, match="no measures of head types"):
        format_head_types(Run(tmp_path / "run"))


@pytest.mark.slow
def test_figures_of_pairs_where_test_pictures_have_no_match(tmp_path, as_placed):
    """Few shots without bursts: `in_context`, where queries have a match, has induction."""
    run = RECIPES["fewshot"]()
    run = replace(run, task=replace(run.task, n_classes=32, p_bursty=0.0))
    training = replace(run.train, steps=4, batch_size=16, n_validation=32, checkpoints=(0, 2, 4))
    fit(replace(run, train=training), tmp_path / "run", progress=False)
    with pytest.raises(BadInput, match="'induction' needs item-label pairs"):
        measure(tmp_path / "run", images=32, analyses=["induction"], progress=False)
    measure(
        tmp_path / "run",
        images=32,
        split="in_context",
        analyses=["performance", "induction"],
        progress=False,
    )
    measure(tmp_path / "run", images=32, analyses=["performance"], progress=False)
    names = {figure.file.stem for figure in draw(tmp_path / "run")}
    assert names == {"learning", "attention", "updates"}
    assert summarize(tmp_path / "run").count("in_context pictures") == 1
