"""Runs of checkpoints from elsewhere: the same function, in everything of the lab, or one line."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from starlette.testclient import TestClient

from tests.model.foreign import draw_weights, find_error, record_blocks
from tests.model.test_families import SMALL, build_timm
from tests.report.live.asking import BASE, TOKEN, ask
from toyvit import Run
from toyvit.__main__ import main
from toyvit.bridges.fitted_heads import fit_ridge
from toyvit.bridges.importing import ImportOptions, import_run
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.report.live.app import build_app
from toyvit.report.live.security import HEADER, list_hosts
from toyvit.runs.provenance import read_provenance

STATED = {"n_heads": 4}


def save_steps(folder, n=2, **options):
    """Checkpoints of one model of timm, each a little further."""
    theirs = build_timm(**options)
    files = []
    for step in range(n):
        files.append(folder / f"net_{100 * step}.safetensors")
        save_file(theirs.state_dict(), files[-1])
        with torch.no_grad():
            for weight in theirs.parameters():
                weight.mul_(1.1)
    return files, build_timm(**options)


def test_an_imported_run_is_the_model_and_says_where_it_is_from(tmp_path):
    files, theirs = save_steps(tmp_path)
    run = import_run(files, tmp_path / "run", ImportOptions(stated=STATED))
    assert run.steps == [0, 100]
    assert run.status == "imported"
    assert run.config.model.norm_epsilon == 1e-6

    images = run.batch("test", 5).images
    answer, outputs = record_blocks(theirs, theirs.blocks, images)
    assert find_error(run.model(0), images, answer, outputs) < 1e-5

    first, *lines = read_provenance(run.folder.provenance, run.folder.hash_run())
    assert first == {"kind": "imported", "family": "timm", "head": "its own"}
    assert [line["step"] for line in lines] == [0, 100]
    assert [line["source"] for line in lines] == [str(file) for file in files]


@pytest.mark.slow
def test_everything_of_the_lab_opens_it(tmp_path, capsys):
    files, _ = save_steps(tmp_path)
    words = ["import", *map(str, files), "--name", "net", "--runs", str(tmp_path / "runs")]
    assert main([*words, "--model.n_heads", "4"]) == 0
    run = str(tmp_path / "runs/net")
    assert main(["measure", run, "--images", "16"]) == 0
    assert "performance, needs pictures whose answer is known" in capsys.readouterr().out
    for command in (["verify", run], ["ls", str(tmp_path / "runs")], ["report", run]):
        assert main(command) == 0
    assert "imported" in capsys.readouterr().out
    assert (tmp_path / "runs/net/figures/page.html").stat().st_size > 10_000

    report = measure(run, images=16, progress=False)
    assert report.computed == 0

    app = build_app(Path(run), TOKEN, list_hosts("127.0.0.1", 8000))
    client = TestClient(app, BASE, headers={HEADER: TOKEN})
    question = {"run": "net", "step": 100, "picture": 3}
    answer = ask(client, **question, heads=[[0, 1]])
    assert answer["after"]["chances"] != pytest.approx(answer["before"]["chances"], abs=1e-6)


@pytest.mark.parametrize(
    ("shown", "n_known"),
    [
        ({"world": "digits"}, 16),
        ({"world": "digits", "answers": ("zero",) * 3}, None),
        ({"world": "glyphs"}, 0),
        ({}, 0),
    ],
)
def test_what_it_is_shown_has_its_size_and_the_classes_that_are_its_own(tmp_path, shown, n_known):
    files, _ = save_steps(tmp_path, 1, num_classes=10)
    options = ImportOptions(stated=STATED, pictures=shown)
    if n_known is None:
        with pytest.raises(BadInput, match="names 3 classes of 10"):
            import_run(files, tmp_path / "run", options)
        assert not (tmp_path / "run").exists()
        return
    run = import_run(files, tmp_path / "run", options)
    batch = run.batch("test", 16)
    assert batch.images.shape == (16, 3, 12, 12)
    assert (batch.target >= 0).sum() == n_known
    assert (run.entries[0].loss is None) == (n_known == 0)


def test_mean_and_deviation_are_those_of_pictures_from_0_to_1(tmp_path):
    files, _ = save_steps(tmp_path, 1, num_classes=10)
    plain = import_run(files, tmp_path / "plain", ImportOptions(stated=STATED))
    mean, deviation = (0.5, 0.25, 0.1), (0.2, 0.5, 1.0)
    shown = {"mean": mean, "deviation": deviation}
    run = import_run(files, tmp_path / "run", ImportOptions(stated=STATED, pictures=shown))
    from_0_to_1 = (plain.batch("test", 6).images + 1) / 2
    expected = (from_0_to_1 - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[
        :, None, None
    ]
    assert torch.allclose(run.batch("test", 6).images, expected, atol=1e-6)


def test_a_model_without_a_head_gets_one_that_tells_the_photographs_apart(tmp_path):
    files, _ = save_steps(tmp_path, 1, num_classes=0)
    run = import_run(files, tmp_path / "run", ImportOptions(stated=STATED))
    assert run.task.class_names == ("china", "flower")
    batch = run.batch("test", 128)
    right = (run.model()(batch.images).argmax(1) == batch.target).float().mean()
    assert right > 0.7  # a random ViT's read-out; one photograph is darker
    first = read_provenance(run.folder.provenance, run.folder.hash_run())[0]
    assert first["head"] == "fitted"


def test_the_fitted_head_is_least_squares():
    generator = torch.Generator().manual_seed(0)
    read = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    truth = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    weight, bias = fit_ridge(read, read @ truth.T + 2)
    assert torch.allclose(weight.double(), truth, atol=0.01)
    assert torch.allclose(bias.double(), torch.full((3,), 2.0).double(), atol=0.01)
    nothing, _ = fit_ridge(read, torch.zeros(200, 3, dtype=torch.float64))
    assert nothing.abs().max() == 0


def test_what_a_training_script_saves_is_read_without_running_it(tmp_path):
    theirs = build_timm()
    saved = {"state_dict": theirs.state_dict(), "epoch": 3, "args": argparse.Namespace(lr=0.1)}
    torch.save(saved, tmp_path / "a_7.pth")
    run = import_run([tmp_path / "a_7.pth"], tmp_path / "run", ImportOptions(stated=STATED))
    assert run.steps == [0]  # a number in one name may be a size
    options = ImportOptions(stated=STATED, steps=[7])
    assert import_run([tmp_path / "a_7.pth"], tmp_path / "at", options).steps == [7]

    torch.save({"model": saved["state_dict"], "teacher": saved["state_dict"]}, tmp_path / "b.pth")
    with pytest.raises(BadInput, match="several models: give --key, one of model, teacher"):
        import_run([tmp_path / "b.pth"], tmp_path / "b", ImportOptions(stated=STATED))
    options = ImportOptions(stated=STATED, key="teacher")
    assert import_run([tmp_path / "b.pth"], tmp_path / "b", options).steps == [0]


class Trap:
    """What would write a file if it were unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return exec, (f"open({str(self.file)!r}, 'w').close()",)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": Trap(tmp_path / "ran")}, tmp_path / "trap.pth")
    with pytest.raises(BadInput, match="without running what it holds"):
        import_run([tmp_path / "trap.pth"], tmp_path / "run")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "run").exists()


def test_names_of_ones_own_are_mapped(tmp_path):
    theirs = build_timm()
    mine = {
        name.replace("blocks.", "layer_").replace("attn.qkv", "mix"): value
        for name, value in theirs.state_dict().items()
    }
    save_file(mine, tmp_path / "mine.safetensors")
    names = {
        "patch.weight": "patch_embed.proj.weight",
        "patch.bias": "patch_embed.proj.bias",
        "cls": "cls_token",
        "positions": "pos_embed",
        "ln_final.gain": "norm.weight",
        "ln_final.bias": "norm.bias",
        "head.weight": "head.weight",
        "head.bias": "head.bias",
    }
    block = {"ln1": "norm1", "ln2": "norm2", "attn.qkv": "mix", "attn.out": "attn.proj"}
    block |= {"mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
    for ours, name in block.items():
        first = "gain" if ours.startswith("ln") else "weight"
        names[f"blocks.{{layer}}.{ours}.{first}"] = f"layer_{{layer}}.{name}.weight"
        names[f"blocks.{{layer}}.{ours}.bias"] = f"layer_{{layer}}.{name}.bias"
    (tmp_path / "map.json").write_text(json.dumps(names))

    options = ImportOptions(map=tmp_path / "map.json", stated={**STATED, "norm_epsilon": 1e-6})
    run = import_run([tmp_path / "mine.safetensors"], tmp_path / "run", options)
    images = run.batch("test", 4).images
    answer, outputs = record_blocks(theirs, theirs.blocks, images)
    assert find_error(run.model(), images, answer, outputs) < 1e-5

    save_file({"a": torch.ones(2)}, tmp_path / "odd.safetensors")
    with pytest.raises(BadInput, match="of no family that is known"):
        import_run([tmp_path / "odd.safetensors"], tmp_path / "odd")


def refuse(tmp_path, words, match, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert main(["import", *words, "--runs", str(tmp_path / "runs")]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert match in error[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_words_are_one_line_and_nothing_is_written(tmp_path, capsys):
    files, _ = save_steps(tmp_path)
    first, second = map(str, files)
    heads = ["--model.n_heads", "4"]
    (tmp_path / "note.txt").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes(files[0].read_bytes()[:500])
    (tmp_path / "empty").mkdir()
    spoilt = build_timm().state_dict()
    spoilt["head.bias"][0] = torch.nan
    save_file(spoilt, tmp_path / "nan.safetensors")
    save_file(build_timm(depth=2).state_dict(), tmp_path / "net_50.safetensors")
    for words, match in (
        ([str(tmp_path / "net_1.safetensors")], "there is no file"),
        ([first], "state n_heads, which divides 32"),
        ([str(tmp_path / "nan.safetensors"), *heads], "numbers that are not finite"),
        ([first, *heads, "--task.answers", "a,a,b,c,d,e,f"], "must be different"),
        ([str(tmp_path / "note.txt")], "no file of weights: allowed are .safetensors"),
        ([str(tmp_path / "cut.safetensors")], "cannot be read as safetensors"),
        ([str(tmp_path / "empty")], "holds no weights"),
        ([first, "--family", "dino"], "unknown family 'dino'"),
        ([first, "--family", "clip", *heads], "lack"),
        ([first, "--model.n_heads", "5"], "not a multiple of n_heads"),
        ([first, "--model.d_model", "64", *heads], "the weights have d_model 32, stated is 64"),
        ([first, "--model.depth", "3"], "unknown argument '--model.depth'"),
        ([second, first, *heads], "steps must ascend"),
        ([first, second, "--steps", "1", *heads], "--steps names 1 steps"),
        ([first, str(tmp_path / "net_50.safetensors"), *heads], "of another shape"),
        ([first, "--task.world", "nowhere", *heads], "nowhere"),
        ([first, "--task.mean", "0.5", *heads], "a number for each of 3 channels"),
        ([first, "--name", "a/b", *heads], "--name takes the name of one folder"),
    ):
        refuse(tmp_path, words, match, capsys)


def test_training_does_not_go_on_with_it_and_a_second_import_is_refused(tmp_path, capsys):
    files, _ = save_steps(tmp_path)
    import_run(files, tmp_path / "net", ImportOptions(stated=STATED))
    words = ["train", "digits", "--name", "net", "--runs", str(tmp_path), "--resume"]
    assert main(words) == 2
    assert "was not trained here" in capsys.readouterr().err
    with pytest.raises(BadInput, match="exists already"):
        import_run(files, tmp_path / "net", ImportOptions(stated=STATED))


@pytest.mark.parametrize("damage", ["line", "cut", "gone"])
def test_damaged_provenance_is_seen(tmp_path, damage, capsys):
    files, _ = save_steps(tmp_path)
    run = import_run(files, tmp_path / "net", ImportOptions(stated=STATED))
    file = run.folder.provenance
    if damage == "line":
        file.write_text(file.read_text().replace("imported", "invented"))
    elif damage == "cut":
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    else:
        file.unlink()
    assert main(["verify", str(run.path)]) == 2
    assert capsys.readouterr().out
    assert SMALL["depth"] == Run(run.path).config.model.n_layers


def test_draws_are_not_all_alike():
    weights = draw_weights(build_timm()).state_dict()
    assert weights["blocks.0.norm1.weight"].std() > 0.1
