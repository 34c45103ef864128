"""`Run`, the opened run: what it gives is what was trained, and its files are read once."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from toyvit.data.task import build_task, resolve_config
from toyvit.dynamics.checkpoints import compare_checkpoints, measure_updates, record_example_losses
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_baselines, load_table
from toyvit.runs.manifest import name_state
from toyvit.sweeping import gather_table, run_sweep
from toyvit.train import fit, replay
from toyvit.train.snapshots import CheckpointWriter

CLAMPS = ("0.1:copy@4", "1.0:match@8")
STEPS = [0, 5, 10, 12]
N = 16


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A measured run under clamps, and the logits of its validation batch as training had them."""
    recipe = RECIPES["induction-smoke"]()
    training = replace(
        recipe.train,
        steps=12,
        batch_size=8,
        n_validation=N,
        checkpoints=(5, 10),
        clamps=CLAMPS,
    )
    config = replace(recipe, train=training, model=replace(recipe.model, n_heads=2))
    logits = {}
    score = CheckpointWriter.score

    def record(writer, module):
        score(writer, module)
        module.model.eval()
        with torch.no_grad():
            batch = writer.validation
            logits[module.step] = module.compute_logits(batch.images, batch.retrieval)
        module.model.train()

    path = tmp_path_factory.mktemp("runs") / "clamped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointWriter, "score", record)
        fit(config, path, progress=False)
    measure(path, analyses=["performance", "attention"], images=N, progress=False)
    return path, logits


@pytest.fixture
def run(trained):
    return Run(trained[0])


@pytest.fixture
def copy(trained, tmp_path):
    """A run of one's own to change."""
    return Run(shutil.copytree(trained[0], tmp_path / "copy"))


@pytest.fixture
def reads(monkeypatch):
    """How often each file of a run was read, by its name."""
    counts = Counter()
    open_file = Path.open

    def count(path, mode="r", *args, **kwargs):
        counts[path.name] += mode.startswith("r")
        return open_file(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", count)
    return counts


def has_same_weights(model, other):
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return all(torch.equal(weight, same) for weight, same in pairs)


def test_what_it_says_of_itself(run, trained):
    config = run.folder.read_config()
    assert run.config == config == resolve_config(config)
    assert run.config.train.clamps == CLAMPS
    assert run.path == trained[0]
    assert run.name == "clamped"
    assert run.steps == STEPS
    assert run.last_step == 12
    assert len(run) == 4
    assert run.status == "finished"
    assert Run.open(run) is run
    assert Run.open(trained[0]).config == Run.open(str(trained[0])).config == run.config


@pytest.mark.parametrize("step", STEPS)
def test_a_model_answers_as_it_did_in_training(run, trained, step):
    """Before, between and after the steps at which its clamps begin: equal logits, to the bit."""
    batch = run.batch("validation", N)
    with torch.no_grad():
        assert torch.equal(run.model(step, batch)(batch.images), trained[1][step])


def test_the_bare_model_is_without_the_clamps_but_has_the_same_weights(run):
    batch = run.batch("validation", N)
    clamped = run.model(12, batch)
    bare = run.bare_model(12)
    assert has_same_weights(clamped, bare)
    assert not torch.equal(clamped(batch.images), bare(batch.images))
    assert not bare.training
    before = run.model(5, batch)
    assert torch.equal(before(batch.images), run.bare_model(5)(batch.images))


def test_without_a_step_it_is_the_last(run):
    batch = run.batch("validation", N)
    assert has_same_weights(run.bare_model(), run.bare_model(12))
    assert torch.equal(run.model(batch=batch)(batch.images), run.model(12, batch)(batch.images))


def test_a_model_to_overwrite_is_the_one_that_comes_back(run):
    """It is cheaper; every other call gives a model of its own."""
    spare = ViT(run.config.model)
    assert run.bare_model(5, into=spare) is spare
    assert has_same_weights(spare, run.bare_model(5))
    assert run.bare_model(5) is not run.bare_model(5)


def test_weights_are_those_of_the_file(run):
    weights = run.weights(10)
    state = run.bare_model(10).state_dict()
    assert weights.keys() == state.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def test_a_clamp_that_has_to_know_the_match_asks_for_the_pictures(run):
    with pytest.raises(BadInput, match="'match'"):
        run.model(12)
    run.model(5)  # before it begins none are needed


def test_iterating_gives_a_fresh_model_each_time(run):
    batch = run.batch("validation", N)
    items = list(run.items(batch))
    assert [step for step, _ in items] == STEPS
    assert len({id(model) for _, model in items}) == 4
    for step, model in items:
        assert torch.equal(model(batch.images), run.model(step, batch)(batch.images))
        with torch.no_grad():
            model.head.weight.zero_()  # the next one does not see it

    step, model = next(iter(run))
    assert step == 0
    assert has_same_weights(model, run.bare_model(0))


def test_pictures_are_those_of_its_own_evaluation_seed(run):
    batch = run.batch("test", 5)
    expected = build_task(run.config.task).eval_batch("test", 5, run.config.seeds.measure)
    assert torch.equal(batch.images, expected.images)
    assert torch.equal(batch.target, expected.target)
    assert len(run.batch().target) == 512


def test_measures_and_baselines(run, trained):
    assert set(run.table["analysis"]) == {"performance", "attention"}
    pd.testing.assert_frame_equal(load_table(trained[0]), run.table)
    assert load_table(run) is run.table
    assert load_baselines(trained[0]) == load_baselines(run) == run.baselines
    assert 0 < run.baselines["accuracy.bag_of_labels"] < 1


def test_a_curve_is_one_value_a_step(run):
    accuracy = run.curve("performance", "accuracy")
    batch = run.batch("test", N)
    assert list(accuracy.index) == STEPS
    right = run.model(10, batch)(batch.images).argmax(-1) == batch.target
    assert accuracy[10] == pytest.approx(right.double().mean().item())

    rows = run.table[(run.table["quantity"] == "entropy") & (run.table["layer"] == 1)]
    strongest = rows.groupby("step")["value"].max()
    curve = run.curve("attention", "entropy", layer=1)
    assert curve.to_dict() == strongest.to_dict()
    assert (run.curve("attention", "entropy", how="min", layer=1) <= curve).all()


def test_it_pickles_as_its_path_and_is_opened_where_it_arrives(trained, tmp_path, monkeypatch):
    """From a relative path, in a process that stands in another folder."""
    monkeypatch.chdir(trained[0].parent)
    content = pickle.dumps(Run("clamped"))
    assert len(content) < 1000, "neither the config nor a table travels"
    monkeypatch.chdir(tmp_path)
    arrived = pickle.loads(content)
    assert arrived.path == trained[0]
    assert arrived.steps == STEPS
    assert arrived.config == Run(trained[0]).config


def test_refresh_sees_what_came_later(copy):
    """Checkpoints and measures; until then the run is as it was opened."""
    rows = len(copy.table)
    assert replay(copy.path, 6, 7, progress=False) == [6, 7]
    measure(copy.path, analyses=["performance"], images=N, progress=False)
    assert copy.steps == STEPS
    assert len(copy.table) == rows
    assert copy.refresh() is copy
    assert copy.steps == [0, 5, 6, 7, 10, 12]
    assert set(copy.table["step"]) == set(copy.steps)


def test_replaying_an_open_run_adds_to_it(copy):
    assert replay(copy, 6, 7, progress=False) == [6, 7]
    assert copy.steps == [0, 5, 6, 7, 10, 12]
    assert copy.model(6).training is False


def test_it_is_said_in_one_line_and_shown_as_a_table(run):
    assert repr(run).startswith(f"Run({str(run.path)!r}): induction-smoke, finished, 4 checkpoints")
    assert repr(run).endswith("steps 0 to 12")
    shown = run._repr_html_()
    assert shown.count("<tr>") == shown.count("</tr>") == 6
    for text in ("2 layers, 2 heads", "attention only", "4, to step 12", "finished"):
        assert text in shown


def test_a_name_with_an_angle_bracket_is_no_markup(copy, tmp_path):
    path = tmp_path / "<b>bold & so"
    shutil.copytree(copy.path, path)
    shown = Run(path)._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;bold &amp; so" in shown
    assert "<b>bold & so" in repr(Run(path))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path, run, kind):
    with pytest.raises(BadInput, match=r"is not a run folder: there is no such folder$"):
        Run(kind(tmp_path / "nothing" / "here"))
    with pytest.raises(BadInput, match=r"is not a run folder: it has no config.json$"):
        Run(kind(tmp_path))
    with pytest.raises(BadInput, match=r"did you mean 'clamped'"):
        Run(kind(run.path.parent / "clampde"))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("deep", "there is no such folder; did you mean 'runs/deep'?"),
        ("runs", "it has no config.json; it holds 1, such as runs/deep"),
        ("runs/depe", "there is no such folder; did you mean 'deep'?"),
    ],
)
def test_a_name_or_the_folder_of_runs_is_led_to_the_run(tmp_path, monkeypatch, path, hint):
    monkeypatch.chdir(tmp_path)
    config = Path("runs/deep/config.json")
    config.parent.mkdir(parents=True)
    config.touch()
    with pytest.raises(BadInput) as refusal:
        Run(path)
    assert str(refusal.value) == f"{path} is not a run folder: {hint}"


@pytest.mark.parametrize("file", ["config.json", "manifest.jsonl"])
def test_damaged_books_are_refused_when_it_is_opened(copy, file):
    (copy.path / file).write_text('{"step": 5}\n')
    with pytest.raises(BadInput, match=file) as refusal:
        Run(copy.path)
    assert "\n" not in str(refusal.value)


def test_a_run_without_a_checkpoint_can_be_opened_but_not_loaded(tmp_path, run):
    folder = RunFolder(tmp_path / "new")
    folder.create(run.config)
    new = Run(folder)
    assert new.steps == []
    assert "no checkpoint yet" in repr(new)
    assert "<th>checkpoints</th><td>0</td>" in new._repr_html_()
    with pytest.raises(BadInput, match=r"new has no finished checkpoint yet$"):
        new.model()
    with pytest.raises(BadInput, match=r"has no measures yet: run `toyvit measure"):
        new.table  # noqa: B018


@pytest.mark.parametrize(("step", "nearest"), [(1, 0), (4, 5), (99, 12)])
def test_a_step_without_a_checkpoint_names_the_nearest(run, step, nearest):
    with pytest.raises(BadInput, match=rf"no checkpoint at step {step} .* nearest is {nearest}$"):
        run.bare_model(step)


def test_a_foreign_file_is_refused_in_one_line(copy):
    """Whole, and described by the manifest, but not weights of this run's model."""
    other = ViT(replace(copy.config.model, d_model=8)).state_dict()
    copy.folder.write_checkpoint(13, 0, other, {"loss": 1.0, "accuracy": 0.0})
    with pytest.raises(BadInput, match=r"step_00000013.* does not fit this run's model"):
        copy.refresh().bare_model(13)


def test_a_damaged_file_is_refused_in_one_line(copy):
    file = copy.folder.checkpoints / copy.entries[5].file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadInput, match=r"bytes long, the manifest says .*toyvit verify"):
        copy.weights(5)


def use_everything(run):
    """All that a run gives, and functions that take it."""
    batch = run.batch("validation", N)
    for _, model in run.items(batch):
        model(batch.images)
    assert len(run.table) and run.baselines and run.status == "finished"
    assert repr(run) and run._repr_html_() and len(run.curve("performance", "loss"))
    measure(run, analyses=["performance"], images=N, progress=False)
    measure_updates(run)
    compare_checkpoints(run, batch)
    record_example_losses(run, batch)
    gather_table([run])


def test_opened_once_it_reads_its_books_once(trained, reads):
    use_everything(Run(trained[0]))
    assert reads["config.json"] == reads["manifest.jsonl"] == 1


def verify(path):
    run = Run(path)
    assert run.folder.verify(run.entries.values()) == {}


@pytest.mark.parametrize(
    "use",
    [
        lambda path: measure(path, analyses=["performance"], images=N, progress=False),
        measure_updates,
        lambda path: gather_table([path]),
        lambda path: replay(path, 3, 4, progress=False),
        verify,
    ],
    ids=["measure", "updates", "gather", "replay", "verify"],
)
def test_a_function_that_takes_a_path_reads_its_books_once(copy, reads, use):
    use(copy.path)
    assert reads["config.json"] == reads["manifest.jsonl"] == 1


def test_training_that_goes_on_reads_its_books_once(copy, reads):
    copy.folder.truncate(10)
    shutil.copy(copy.folder.states / name_state(10), copy.folder.state)
    reads.clear()
    fit(copy.config, copy.path, resume=True, progress=False)
    assert reads["config.json"] == reads["manifest.jsonl"] == 1
    assert Run(copy.path).steps == STEPS


def test_a_sweep_over_finished_runs_reads_their_books_once(copy, reads, tmp_path):
    plan = {copy.path: copy.config}
    frame = run_sweep(plan, tmp_path, progress=False, analyses=["performance"], images=N)
    assert reads["config.json"] == reads["manifest.jsonl"] == 1
    assert frame["accuracy"].item() == copy.curve("performance", "accuracy").iloc[-1]
