"""A run that goes on beyond its end is to the bit the longer run, whatever happened on the way."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import count, islice, pairwise

import pytest

from tests.stories.processes import contents, finish, kill, n_lines, train, train_here, wait_for
from toyvit.__main__ import main
from toyvit.config import TrainConfig, plan_checkpoints, plan_states
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report.page.contents import describe_model
from toyvit.runs import config_file, folder as folders
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.verification import list_problems
from toyvit.train import fit, replay, snapshots, states
from toyvit.train.stream import BatchStream

BITS = ("checkpoints/*", "metrics.jsonl", "states/*")


def plan_run(steps, dropout=0.0, **training):
    run = RECIPES["induction-smoke"]()
    small = {"batch_size": 8, "n_validation": 16, "warmup": 4, **training}
    train = replace(run.train, steps=steps, **small)
    return replace(run, train=train, model=replace(run.model, dropout=dropout))


def go_on(path, steps, **options):
    return fit(plan_run(steps, **options), path, resume=True, progress=False)


def check_prefix(path, fresh):
    """Every checkpoint and every update is that of the run that had the longer end from the start.

    And the folder is whole.
    """
    longer = Run(path)
    assert longer.status == "finished" and longer.last_step == fresh.last_step
    common = longer.entries.keys() & fresh.entries.keys()
    assert {0, fresh.last_step} <= common
    assert len(common) > len(fresh) / 2
    for step in common:
        assert longer.entries[step] == fresh.entries[step], step
    assert longer.folder.read_metrics() == fresh.folder.read_metrics()
    assert list_problems(longer.folder, list(longer.entries.values())) == {}


def list_due(*ends):
    """What is planned up to each end, by hand."""
    due = set(plan_checkpoints(TrainConfig(steps=ends[0])))
    for before, end in pairwise(ends):
        due |= {step for step in plan_checkpoints(TrainConfig(steps=end)) if step > before}
    return sorted(due)


@pytest.fixture(scope="module", params=[0.0, 0.2])
def dropout(request):
    return request.param


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, dropout):
    """A run of 300 steps from the start, whose checkpoints are every third step there."""
    folder = tmp_path_factory.mktemp("fresh") / "run"
    return Run(fit(plan_run(300, dropout), folder, progress=False))


@pytest.fixture(scope="module")
def short(tmp_path_factory, dropout):
    folder = tmp_path_factory.mktemp("short") / "run"
    return fit(plan_run(30, dropout), folder, progress=False).path


@pytest.fixture
def path(short, tmp_path):
    return shutil.copytree(short, tmp_path / "run")


@pytest.mark.slow
def test_a_finished_run_goes_on_and_keeps_what_it_has(path, fresh, dropout):
    before = contents(path, *BITS)
    go_on(path, 300, dropout=dropout)
    after = contents(path, *BITS)
    metrics = before.pop("metrics.jsonl")
    assert {name: after[name] for name in before} == before
    assert after["metrics.jsonl"].startswith(metrics)
    check_prefix(path, fresh)
    assert Run(path).steps == list_due(30, 300)
    go_on(path, 300, dropout=dropout)  # nothing to do
    assert contents(path, *BITS) == after


@pytest.mark.slow
def test_lengthened_twice_and_stopped_on_the_way(path, fresh, dropout, monkeypatch):
    for steps, n in ((100, 5), (100, 30), (200, 60), (300, 1)):
        break_after(n, steps, path, dropout, monkeypatch)
        assert Run(path).status == "stopped"
    go_on(path, 300, dropout=dropout)
    check_prefix(path, fresh)
    assert Run(path).steps == list_due(30, 100, 200, 300)
    record = json.loads((path / "config.json").read_text())["lengthened"]
    assert record["steps"] == [30, 100, 200, 300]
    lines = [json.loads(line) for line in (path / "sessions.jsonl").read_text().splitlines()]
    assert [line["steps"] for line in lines] == [30, 100, 100, 200, 300, 300]


def break_after(n, steps, path, dropout, monkeypatch):
    batches = BatchStream.__iter__

    def breaks(self):
        yield from islice(batches(self), n)
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "__iter__", breaks)
        with pytest.raises(RuntimeError, match="broken"):
            fit(plan_run(steps, dropout), path, resume=path.exists(), progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 14, 29])
def test_a_run_that_was_stopped_goes_on_to_a_later_end(tmp_path, fresh, dropout, at, monkeypatch):
    path = tmp_path / "run"
    break_after(at, 30, path, dropout, monkeypatch)
    go_on(path, 300, dropout=dropout)
    check_prefix(path, fresh)
    assert Run(path).steps == list_due(30, 300)
    filed = [int(file.stem.removeprefix("step_")) for file in (path / "states").iterdir()]
    assert sorted(filed) == [*range(0, 31, 3), *range(60, 301, 30)]


class Killed(BaseException):
    """The process ends at a write: nothing after it is done."""


WRITERS = ((folders, "write_atomically"), (states, "write_atomically"), (folders, "flush_to_disk"))


@pytest.mark.slow
@pytest.mark.parametrize("is_after", [False, True])
def test_ended_at_any_write_it_goes_on(tmp_path, monkeypatch, is_after):
    """Before and after each write of a run from 6 to 10 steps, the first of which is the config."""
    short = fit(plan_run(6), tmp_path / "short", progress=False).path
    fresh = Run(fit(plan_run(10), tmp_path / "fresh", progress=False))
    for n in count():
        path = shutil.copytree(short, tmp_path / f"run-{n}")
        with monkeypatch.context() as patch:
            end_at_write(patch, n, is_after)
            try:
                go_on(path, 10)
            except Killed:
                is_killed = True
            else:
                is_killed = False
        go_on(path, 10)
        check_prefix(path, fresh)
        if not is_killed:
            break
    assert n > 15


def end_at_write(patch, n, is_after):
    """Count the writes of all modules, and end at number n."""
    written = count()
    for module, name in WRITERS:
        write = getattr(module, name)

        def ends(*args, write=write, **options):
            is_end = next(written) == n
            if is_end and not is_after:
                raise Killed
            write(*args, **options)
            if is_end:
                raise Killed

        patch.setattr(module, name, ends)


@pytest.mark.slow
def test_killed_while_it_goes_on(tmp_path):
    """The processes themselves, by SIGKILL, and on the command line."""
    path = train_here(tmp_path / "run", "--train.steps", 30)
    fresh = Run(train_here(tmp_path / "fresh", "--train.steps", 200))
    for at in (31, 90, 150):
        process = train(path, "--train.steps", 200)
        wait_for(lambda at=at: n_lines(path / "metrics.jsonl") >= at, process)
        kill(process)
    code, error = finish(train(path, "--train.steps", 200))
    assert code == 0, error
    check_prefix(path, fresh)


@pytest.mark.slow
def test_measures_stay_and_what_is_new_is_measured(path, dropout, capsys):
    first = measure(path, analyses=["performance", "norms"], images=16, progress=False)
    run = Run(path)
    before = run.table
    n_before = len(run)
    go_on(path, 60, dropout=dropout)
    again = measure(path, analyses=["performance", "norms"], images=16, progress=False)
    run = run.refresh()
    n_new = len(run) - n_before
    assert first.computed == 2 * n_before and again.computed == 2 * n_new > 0
    assert again.done == first.computed
    old = run.table[run.table["step"] <= 30].reset_index(drop=True)
    assert old.equals(before)
    assert run.config.train.steps == 60 and list_problems(run.folder, run.entries.values()) == {}

    assert main(["ls", str(path.parent), "--columns", "step,steps,status"]) == 0
    assert capsys.readouterr().out.split()[-3:] == ["60", "60", "finished"]
    assert "60 steps of" in describe_model(run)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "last"), [(13, 17), (25, 40), (45, 48)])
def test_replay_is_exact_before_and_after_the_old_end(path, dropout, tmp_path, first, last):
    dense = tuple(range(61))
    every = Run(fit(plan_run(60, dropout, checkpoints=dense), tmp_path / "all", progress=False))
    go_on(path, 60, dropout=dropout)
    for step in range(30, 61, 5):  # fewer, so that there is something to replay
        assert step in Run(path).entries
    thin = RunFolder(path)
    rest = [entry for entry in thin.read_manifest() if entry.step not in range(first, last)]
    removed = [entry for entry in thin.read_manifest() if entry not in rest]
    thin.manifest.write_text("".join(entry.line for entry in rest))
    for entry in removed:
        (thin.checkpoints / entry.file).unlink()
    assert replay(path, first, last, progress=False) == list(range(first, last))
    run = Run(path)
    assert all(run.entries[step] == every.entries[step] for step in run.steps)
    assert list_problems(run.folder, run.entries.values()) == {}


def test_clamps_and_curricula_go_on_too(tmp_path):
    """Their steps are counted from the first, so they do not move."""
    clamps = ("0.0:previous@5", "1.0:copy@3")
    path = fit(plan_run(8, clamps=clamps), tmp_path / "run", progress=False).path
    go_on(path, 12, clamps=clamps)
    fresh = Run(fit(plan_run(12, clamps=clamps), tmp_path / "fresh", progress=False))
    check_prefix(path, fresh)


def test_where_it_cannot_go_on_it_is_refused_in_a_line(tmp_path, capsys):
    """The recipe's own steps, fewer, a decay that knew its end, any change: nothing is written."""
    words = ["train", "induction-smoke", "--runs", str(tmp_path), "--unfollowed"]
    words += ["--train.n_validation", "16", "--train.batch_size", "8", "--train.warmup", "2"]
    cosine = ["--name", "cosine", "--train.decay", "cosine"]
    assert main([*words, "--train.steps", "5"]) == 0
    assert main([*words, *cosine, "--train.steps", "5"]) == 0
    before = contents(tmp_path)
    for more, problem in {
        (): "is a run of 5 steps, the recipe has 500: give --train.steps 5, or more",
        ("--train.steps", "4"): "is a run of 5 steps, which cannot become one of 4",
        (*cosine, "--train.steps", "9"): "under decay 'cosine' .* from step 3 on",
        ("--train.steps", "9", "--train.clip", "2"): "clip: 1.0 -> 2.0; train.steps: 5 -> 9",
    }.items():
        capsys.readouterr()
        assert main([*words, *more, "--resume"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert re.search(problem, error), error
    assert main([*words, "--train.steps", "9"]) == 2  # without --resume
    assert {name: contents(tmp_path)[name] for name in before} == before


@pytest.mark.slow
@pytest.mark.parametrize("warmup", [30, 29])
def test_a_decay_that_has_not_begun_is_no_hindrance(tmp_path, warmup):
    path = fit(plan_run(30, decay="linear", warmup=warmup), tmp_path / "run", progress=False).path
    if warmup == 29:
        with pytest.raises(BadInput, match="from step 30 on"):
            go_on(path, 40, decay="linear", warmup=warmup)
        return
    go_on(path, 40, decay="linear", warmup=warmup)
    fresh = fit(plan_run(40, decay="linear", warmup=warmup), tmp_path / "fresh", progress=False)
    check_prefix(path, Run(fresh))


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain["run"]["train"].update(steps=13),
        lambda plain: plain["lengthened"].update(steps=[6, 13]),
        lambda plain: plain["lengthened"].update(steps=[5, 12]),
        lambda plain: plain["lengthened"].pop("check"),
        lambda plain: plain.pop("lengthened"),
        lambda plain: plain.update(lengthened=[6, 12]),
        lambda plain: plain.update(lengthened={"steps": []}),
    ],
)
@pytest.mark.slow
def test_a_config_that_was_altered_is_found_out(lengthened, tmp_path, change, capsys):
    path = shutil.copytree(lengthened, tmp_path / "run")
    assert main(["verify", str(path)]) == 0
    plain = json.loads((path / "config.json").read_text())
    change(plain)
    (path / "config.json").write_text(json.dumps(plain))
    capsys.readouterr()
    assert main(["verify", str(path)]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def lengthened(tmp_path_factory):
    path = fit(plan_run(6), tmp_path_factory.mktemp("six") / "run", progress=False).path
    return go_on(path, 12).path


def test_an_open_run_sees_that_it_was_lengthened(lengthened, tmp_path):
    """Its folder by itself, its config when it is refreshed; others wrote the file meanwhile."""
    path = fit(plan_run(6), tmp_path / "run", progress=False).path
    run = Run(path)
    digest = run.folder.hash_run()
    go_on(path, 12)
    assert run.folder.read_config().train.steps == 12 and run.status == "finished"
    assert run.refresh().config.train.steps == 12
    assert run.folder.hash_run() == digest == RunFolder(lengthened).hash_run()
    assert config_file.stamp_file(tmp_path / "nothing") is None


def test_states_are_kept_as_they_were_planned():
    assert plan_states(100, [20]) == {*range(0, 21, 2), *range(30, 101, 10)}
    assert snapshots.plan_states is plan_states
