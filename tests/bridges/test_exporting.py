"""Exported folders: what goes out comes back to the bit, and what cannot go is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import toyvit
from tests.bridges.runs import write_run
from tests.laws.models import BASE, CASES, build, pictures
from toyvit.__main__ import main
from toyvit.bridges import to_onnx
from toyvit.bridges.exported import export_checkpoint
from toyvit.bridges.exporting import FORMATS, export_run
from toyvit.bridges.importing import import_run
from toyvit.bridges.model_card import write_card
from toyvit.bridges.pushing import push_folder
from toyvit.bridges.training_commands import write_command
from toyvit.config.overrides import apply_overrides
from toyvit.errors import BadInput
from toyvit.model.mappings.hugging_face import list_hugging_face_problems
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run

KEPT = Path(__file__).parents[1] / "kept"
# Models that a format can hold: everything that the lab has, or what `BASE` is and a little more.
COMMON = {
    "as it is": BASE,
    "biases everywhere": replace(BASE, attention_bias=True),
    "fixed positions": replace(BASE, positions="sincos"),
    "no biases": replace(BASE, bias=False),
    "tanh": replace(BASE, activation="gelu-tanh", norm_epsilon=1e-6),
    "CLIP's": replace(BASE, activation="quick-gelu"),
}
TIMM = COMMON | {
    "registers": replace(BASE, n_registers=2),
    "mean": replace(BASE, readout="mean", cls_token=False),
    "pooled": replace(BASE, readout="pooled"),
    "embedding normed": replace(BASE, embed_norm=True, bias=False),
}
IMPORTED = {name: c for name, c in CASES.items() if c.readout not in ("every", "pixels")}
ROUND_TRIPS = [
    *(("torch", name, config) for name, config in IMPORTED.items()),
    *(("timm", name, config) for name, config in TIMM.items()),
    *(("huggingface", name, config) for name, config in (COMMON | IMPORTED).items()),
]


def assert_same(run: Run, other: Run) -> None:
    assert other.config.model == run.config.model and other.steps == run.steps
    for step in run.steps:
        weights = run.weights(step)
        assert weights.keys() == other.weights(step).keys()
        for name, value in other.weights(step).items():
            assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize(
    ("to", "config"),
    [pytest.param(to, config, id=f"{to}, {name}") for to, name, config in ROUND_TRIPS],
)
def test_there_and_back_is_the_same_to_the_bit(to, config, tmp_path):
    run = write_run(tmp_path / "run", config)
    folder = export_run(run, to, step="all", into=tmp_path / "out")
    sources = sorted(path for path in folder.iterdir() if path.is_dir())
    assert len(sources) == 2
    assert_same(run, import_run(sources, tmp_path / "back"))


def test_a_change_is_seen(tmp_path):
    run = write_run(tmp_path / "run", BASE, steps=(7,))
    folder = export_run(run, "torch", into=tmp_path / "out")
    file = folder / "weights.safetensors"
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    weights = load_file(file)
    weights["head.bias"][0] += 1
    save_file(weights, file, metadata)
    with pytest.raises(AssertionError):
        assert_same(run, import_run([folder], tmp_path / "back"))


@pytest.mark.parametrize("to", [name for name in FORMATS if name != "onnx"])
def test_files_describe_themselves_and_name_no_path(to, tmp_path):
    run = write_run(tmp_path / "run", BASE, steps=(7,))
    folder = export_run(run, to, into=tmp_path / "out")
    files = list(folder.glob("*.safetensors"))
    assert files
    for file in files:
        with safe_open(file, "pt") as opened:
            facts = json.loads(opened.metadata()["toyvit"])
        assert facts["provenance"]["sha256"] == run.entries[7].sha256
        assert (facts["config"]["d_model"], facts["provenance"]["step"]) == (8, 7)
    for file in folder.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file


def test_imported_runs_tell_where_they_are_from(tmp_path):
    first = export_run(write_run(tmp_path / "run", BASE, (7,)), "torch", into=tmp_path / "out")
    run = import_run([first], tmp_path / "back")
    again = export_run(run, "huggingface", into=tmp_path / "again")
    text = (again / "README.md").read_text()
    with safe_open(again / "model.safetensors", "pt") as opened:
        source = json.loads(opened.metadata()["toyvit"])["provenance"]["source"]
    assert source["file"] == "weights.safetensors" and len(source["sha256"]) == 64
    assert "license: other" in text and source["sha256"] in text and str(tmp_path) not in text


def test_the_run_stays_as_it_is(tmp_path):
    run = write_run(tmp_path / "run", BASE)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    export_run(run, "torch", into=tmp_path / "out")
    assert before == {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "options", [{"norm": "rms"}, {"d_mlp": 0}, {"mask": "causal"}, {"positions": "rotary"}]
)
def test_what_timm_cannot_be_is_refused_and_nothing_is_written(options, tmp_path):
    run = write_run(tmp_path / "run", replace(BASE, **options))
    with pytest.raises(BadInput, match="timm's VisionTransformer has no such model"):
        export_run(run, "timm", into=tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_timm_computes_the_same(tmp_path):
    run = write_run(tmp_path / "run", TIMM["tanh"], steps=(7,))
    folder = export_run(run, "timm", into=tmp_path / "out")
    names = {"__file__": str(folder / "load.py"), "__name__": "load"}
    from toyvit import torchvision_guard  # noqa: F401

    exec((folder / "load.py").read_text(), names)
    ours = build(TIMM["tanh"], 8)(pictures(BASE, 4))
    theirs = names["load"]()(pictures(BASE, 4))
    assert (ours - theirs).abs().max() < 1e-5 * ours.abs().max()


def test_a_model_that_transformers_has_not_goes_with_its_own_file(tmp_path, capsys):
    write_run(tmp_path / "run", CASES["registers"])
    words = [
        "export",
        str(tmp_path / "run"),
        "--to",
        "huggingface",
        "--into",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    assert "note: transformers' ViT cannot be this model (registers)" in capsys.readouterr().out
    assert (tmp_path / "out/vit.py").exists()
    assert json.loads((tmp_path / "out/config.json").read_text())["model_type"] == "toyvit"
    assert "from vit import load" in (tmp_path / "out/README.md").read_text()


def test_hugging_face_can_be_what_it_says():
    assert list_hugging_face_problems(BASE) == []
    alien = replace(BASE, norm="rms", mask="causal", readout="last", positions="rotary")
    assert len(list_hugging_face_problems(alien)) == 4


def test_every_checkpoint_is_listed(tmp_path):
    run = write_run(tmp_path / "run", BASE)
    one = json.loads((export_run(run, "torch", 0, tmp_path / "a") / "checkpoints.json").read_text())
    assert [row["folder"] for row in one] == [".", None]
    both = export_run(run, "huggingface", "all", tmp_path / "b")
    rows = json.loads((both / "checkpoints.json").read_text())
    assert [row["folder"] for row in rows] == ["step_00000000", "step_00000100"]
    assert [row["sha256"] for row in rows] == [entry.sha256 for entry in run.entries.values()]
    index = (both / "README.md").read_text()
    assert all(row["sha256"] in index for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "tim"], "did you mean 'timm'"),
        (["--to", "torch", "--step", "5"], "the nearest is 0"),
        (["--to", "torch", "--step", "x"], "--step takes a step or all"),
        (["--to", "torch", "--sites", "logits"], "--sites is for --to onnx"),
        (["--to", "torch", "--push", "a/b"], "--push is for --to huggingface"),
        (["--to", "huggingface", "--push", "../x"], "--push takes OWNER/NAME"),
        (["--to", "torch", "--into", "."], "exists already"),
    ],
)
def test_refusals_write_nothing(words, message, tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "run", BASE)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "run", *words]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_folder_has_a_name_of_its_own(tmp_path, monkeypatch):
    write_run(tmp_path / "run", BASE)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "run", "--to", "torch"]) == 0
    assert (tmp_path / "exports/run-torch/vit.py").exists()
    assert main(["export", "run", "--to", "torch"]) == 2


def test_clamped_heads_are_refused(tmp_path):
    run = Run(shutil.copytree(KEPT / "induction", tmp_path / "run"))
    with pytest.raises(BadInput, match="is clamped at step 20"):
        export_run(run, "torch", into=tmp_path / "out")


# ---- what a file says of itself ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format=2), "format 2: allowed is 1"),
        (lambda facts: facts.pop("config"), "damaged description of itself"),
        (lambda facts: facts.update(mean=["x"]), "damaged description of itself"),
        (lambda facts: facts["config"].update(d_model="x"), "damaged description of itself"),
        (lambda facts: facts["config"].update(d_model=16), "not those of the model"),
        (lambda facts: facts["config"].update(colour=1), "unknown key 'colour'"),
    ],
)
def test_damaged_descriptions_are_refused(change, message, tmp_path):
    run = write_run(tmp_path / "run", BASE, steps=(7,))
    file = export_run(run, "torch", into=tmp_path / "out") / "weights.safetensors"
    with safe_open(file, "pt") as opened:
        facts = json.loads(opened.metadata()["toyvit"])
    change(facts)
    save_file(load_file(file), file, {"toyvit": json.dumps(facts)})
    with pytest.raises(BadInput, match=message):
        import_run([file], tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_runs_own_checkpoint_says_what_to_do(tmp_path):
    run = write_run(tmp_path / "run", BASE, steps=(7,))
    with pytest.raises(BadInput, match="toyvit export RUN --to torch"):
        import_run([run.path / "checkpoints/step_00000007.safetensors"], tmp_path / "back")


# ---- the card ----


def test_the_command_of_the_card_gives_the_config():
    for name in ("digits", "induction-smoke"):
        config = RECIPES[name]()
        words = ["--model.n_layers", "3", "--train.steps", "7", "--train.checkpoints", "none"]
        other = apply_overrides(config, [*words, "--train.curriculum", "none"])
        command = write_command(other)
        assert apply_overrides(config, command.split()[3:]) == other


def test_the_card_names_no_folder_of_the_machine():
    config = RECIPES["digits"]()
    task = replace(config.task, folder="/home/somebody/birds and bees", folder_sha256="ab")
    assert write_command(replace(config, task=task)) == (
        "toyvit train digits --task.folder 'birds and bees'"
    )


def test_the_card_has_scores_chance_and_a_command():
    text = write_kept_card("digits")
    assert "| chance: every class alike | 0.100 | 2.303 |" in text
    assert "toyvit train digits --model.n_layers 1" in text


def test_the_card_of_a_measured_run_has_its_test_scores_and_baselines(tmp_path):
    config = RECIPES["induction-smoke"]()
    few = replace(config.train, steps=4, batch_size=8, n_validation=8, checkpoints=(0, 2))
    toyvit.fit(replace(config, train=few), tmp_path / "<b>_run", progress=False)
    run = toyvit.Run(tmp_path / "<b>_run")
    toyvit.measure(run, analyses=["performance", "induction"], images=16, progress=False)
    text = write_card(export_checkpoint(run.refresh(), 2), False)
    score = run.curve("performance", "accuracy").loc[2]
    assert f"| on test pictures | {score:.3f} |" in text
    ceiling = run.baselines["accuracy.bag_of_labels"]
    assert f"| baseline `bag of labels` | {ceiling:.3f} |" in text
    assert "a verdict takes ten): undecided: 0 of 1 seeds" in text
    assert "# `<b>_run`" in text and "on training's validation pictures" in text


def test_a_score_of_numbers_is_called_so(tmp_path):
    run = write_run(tmp_path / "run", replace(BASE, n_classes=1), steps=(7,))
    text = write_card(export_checkpoint(run, 7), True)
    assert "| what | R^2 | loss |" in text and "chance" not in text


def write_kept_card(name: str) -> str:
    return write_card(export_checkpoint(Run(KEPT / name), 10), True)


# ---- ONNX without its packages ----


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(to_onnx, "find_spec", lambda name: None)
    run = write_run(tmp_path / "run", BASE)
    with pytest.raises(BadInput, match=r"onnx and onnxscript: pip install 'toyvit\[onnx\]'"):
        export_run(run, "onnx", into=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- pushing ----


class FakeHub:
    def __init__(self) -> None:
        self.calls = []

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create", repo_id, private))

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, folder_path))


class DeafHub(FakeHub):
    def upload_folder(self, **options):
        raise ConnectionError("no network\nat all")


def test_a_folder_is_pushed_to_a_private_repository(tmp_path):
    hub = FakeHub()
    assert push_folder(tmp_path, "me/first", hub) == "https://huggingface.co/me/first"
    assert hub.calls == [("create", "me/first", True), ("upload", "me/first", tmp_path)]


def test_a_push_that_fails_is_one_line(tmp_path):
    with pytest.raises(BadInput, match=r"is written, but could not be pushed to me/first: no netw"):
        push_folder(tmp_path, "me/first", DeafHub())


def test_without_the_package_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    write_run(tmp_path / "run", BASE)
    monkeypatch.chdir(tmp_path)
    assert main(["export", "run", "--to", "huggingface", "--push", "me/first"]) == 2
    assert "pip install 'toyvit[hub]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
