"""A user's arrays: trained on where they fit, refused with a reason where they do not.

And what `--export` writes.
"""

from __future__ import annotations

import pickle
import re
from contextlib import nullcontext
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from toyvit.__main__ import main
from toyvit.cli import single_runs
from toyvit.config import ClassifyConfig, PointersConfig
from toyvit.data.task import build_task
from toyvit.recipes import RECIPES


def good() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 50, (60, 8, 12, 3), dtype=np.uint8)
    images[np.arange(60), :, :4] += (70 * labels[:, None, None, None]).astype(
        np.uint8
    )  # the class is how bright the left is
    return {"images": images, "labels": labels, "factor_odd": labels % 2}


def saved(tmp_path, **changed: object) -> str:
    arrays = {name: values for name, values in {**good(), **changed}.items() if values is not None}
    np.savez(tmp_path / "own.npz", **arrays)
    return str(tmp_path / "own.npz")


@pytest.mark.slow
def test_a_run_on_own_arrays(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(single_runs, "start_follower", nullcontext)  # it is tested by itself
    options = {
        "--runs": str(tmp_path),
        "--task.npz": saved(tmp_path),
        "--model.n_layers": "1",
        "--model.n_heads": "2",
        "--train.steps": "60",
        "--train.checkpoints": "0,60",
        "--train.batch_size": "16",
        "--train.learning_rate": "0.003",
        "--train.n_validation": "6",
    }
    assert main(["train", "classify", *chain.from_iterable(options.items())]) == 0
    measure = ["measure", str(tmp_path / "classify"), "--steps", "last"]
    assert main([*measure, "--analyses", "performance,by_factor,probes"]) == 0
    assert main(["report", str(tmp_path / "classify")]) == 0
    assert main(measure) == 0
    printed = capsys.readouterr().out
    assert "final accuracy on 6 test pictures        1.0000" in printed


def test_every_picture_is_in_one_split_with_its_own_label(tmp_path):
    made = build_task(ClassifyConfig(npz=saved(tmp_path), factor="odd"))
    batches = [made.draw_batch(0, split, range(size)) for split, size in made.world.sizes.items()]
    assert [len(batch.target) for batch in batches] == [48, 6, 6]
    shown = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1)
    arrays = good()
    expected = torch.from_numpy(arrays["images"]).float() / 127.5 - 1
    order = [(shown - picture).abs().amax((1, 2, 3)).argmin().item() for picture in expected]
    assert sorted(order) == list(range(60)) and torch.allclose(shown[order], expected, atol=1e-6)
    assert (
        torch.cat([batch.target for batch in batches])[order].tolist()
        == arrays["factor_odd"].tolist()
    )
    assert (
        torch.cat([batch.factors["class"] for batch in batches])[order].tolist()
        == arrays["labels"].tolist()
    )


BAD = {
    "no labels": ({"labels": None}, ["no array 'labels'", "images"]),
    "too few labels": ({"labels": np.zeros(59, int)}, ["labels", "60 whole numbers", "(59,)"]),
    "fractions": ({"labels": np.linspace(0, 2, 60)}, ["labels", "whole numbers", "float64"]),
    "negative": ({"labels": np.arange(60) - 1}, ["numbered 0 to", "got -1"]),
    "far": ({"factor_odd": np.arange(60) * 1000}, ["factor_odd", "59000"]),
    "gaps": (
        {"labels": np.arange(60) % 2 * 30},
        ["go to 30, but no picture has 1, 2, 3, 4, 5 and so on", "without gaps"],
    ),
    "from 1": ({"labels": 1 + np.arange(60) % 3}, ["no picture has 0:", "numpy.unique"]),
    "huge": (
        {"images": np.full((60, 8, 12), 1e300)},
        ["5760 numbers that are not finite as float32"],
    ),
    "one class": ({"labels": np.zeros(60, int)}, ["all 0", "two classes"]),
    "shape": ({"images": np.zeros((60, 8), np.uint8)}, ["(60, 8)", "height, width"]),
    "kind": ({"images": np.zeros((60, 8, 12), int)}, ["uint8 or floats", "int64"]),
    "channels first": (
        {"images": np.zeros((60, 3, 8, 12), np.uint8)},
        ["channels last", "got (60, 3, 8, 12)"],
    ),
    "infinite": ({"images": np.full((60, 8, 12), np.nan)}, ["5760 numbers that are not finite"]),
    "few": (
        {"images": np.zeros((9, 8, 12), np.uint8), "labels": np.arange(9), "factor_odd": None},
        ["9 pictures", "at least 20"],
    ),
    "stranger": ({"targets": np.zeros(60, int)}, ["'targets'", "allowed are images, labels"]),
    "pickled": ({"factor_odd": np.array([{}] * 60, object)}, ["pickled objects", "never loaded"]),
    "patches": ({"images": np.zeros((60, 9, 12), np.uint8)}, ["4 x 4", "9 x 12", "do not tile"]),
}


@pytest.mark.parametrize("case", BAD)
def test_arrays_that_do_not_fit_are_refused(tmp_path, capsys, case):
    changed, says = BAD[case]
    path = saved(tmp_path, **changed)
    assert main(["train", "classify", "--runs", str(tmp_path / "runs"), "--task.npz", path]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and all(part in printed for part in says), printed
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "content", [b"", b"no archive at all", b"PK\x03\x04 cut off", pickle.dumps(print)]
)
def test_a_file_that_is_no_npz_is_refused(tmp_path, capsys, content):
    (tmp_path / "own.npz").write_bytes(content)
    for path in (tmp_path / "own.npz", tmp_path / "nowhere.npz"):
        assert (
            main(["train", "classify", "--runs", str(tmp_path / "runs"), "--task.npz", str(path)])
            == 2
        )
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1 and path.name in printed and "pickled" not in printed


def test_a_world_and_a_file_are_not_both_taken(tmp_path, capsys):
    words = [
        "train",
        "classify",
        "--runs",
        str(tmp_path / "runs"),
        "--task.npz",
        saved(tmp_path),
        "--task.world",
        "digits",
    ]
    assert main(words) == 2
    assert "leave one out" in capsys.readouterr().err


def test_an_export_can_be_trained_on_and_holds_the_card(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets/digits").mkdir(parents=True)
    (tmp_path / "datasets/digits/README.md").write_text("# the card\n")
    assert main(["data", "digits", "--export", "out", "--samples", "100"]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md",
        "preview.png",
        "test.npz",
        "train.npz",
        "validation.npz",
    ]
    text = (tmp_path / "out/README.md").read_text()
    assert (
        text.startswith("# the card\n")
        and "`train.npz` 100, `validation.npz` 100, `test.npz` 100" in text
    )
    assert (
        "| `images` | float32 | sample x 8 x 8 | -1 | 1 |\n| `labels` | int64 | sample | 0 | 9 |"
        in text
    )
    made, original = (
        build_task(ClassifyConfig(npz="out/train.npz")),
        build_task(ClassifyConfig()).eval_batch("train", 100, 0),
    )
    everything = [
        made.draw_batch(0, split, range(size)) for split, size in made.world.sizes.items()
    ]
    images = torch.cat([batch.images for batch in everything])
    order = [
        (images - picture).abs().amax((1, 2, 3)).argmin().item() for picture in original.images
    ]
    assert sorted(order) == list(range(100)) and torch.equal(images[order], original.images)
    assert torch.equal(torch.cat([batch.target for batch in everything])[order], original.target)
    capsys.readouterr()
    assert main(["data", "digits", "--export", "out"]) == 2
    assert "out exists already" in capsys.readouterr().err


@pytest.mark.slow
def test_an_export_from_elsewhere_has_the_projects_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "addition", "--export", "out", "--samples", "5"]) == 0
    assert (Path(__file__).parents[2] / "datasets/addition/README.md").read_text()[:500] in (
        tmp_path / "out/README.md"
    ).read_text()
    assert (tmp_path / "out/exports.md").exists()


@pytest.mark.slow
def test_an_export_that_is_stopped_leaves_nothing_and_touches_nothing(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/thesis.txt").write_text("precious")

    def stopped(made, path):
        assert list(path.parent.glob("*.npz"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("toyvit.report.previews.draw_preview", stopped)
        assert main(["data", "addition", "--export", "out", "--samples", "5"]) == 130
    assert "stopped by SIGINT" in capsys.readouterr().err
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        "out.part",
        "out.part/thesis.txt",
    ]
    assert main(["data", "addition", "--export", "out", "--samples", "5"]) == 0
    assert (tmp_path / "out/train.npz").exists() and (
        tmp_path / "out.part/thesis.txt"
    ).read_text() == "precious"
    assert (
        main(["data", "--export", "out"]) == 2
        and "--export needs the NAME" in capsys.readouterr().err
    )


def test_a_run_that_diverges_before_its_first_checkpoint_says_so(tmp_path, capsys, caplog):
    """Numbers near the largest that float32 holds: the loss of step 0 is none.

    What is odd about them was said when training started.
    """
    images = np.full((60, 8, 12), 3e38) * (-1.0) ** np.arange(12)
    words = [
        "train",
        "classify",
        "--runs",
        str(tmp_path),
        "--task.npz",
        saved(tmp_path, images=images),
        "--train.steps",
        "3",
    ]
    for again in ([], ["--resume"]):
        assert main([*words, *again]) == 3
        printed = capsys.readouterr().err.splitlines()[-1]
        assert "at step 0; training stopped" in printed
        assert printed.endswith("there is no checkpoint")
        assert not list(tmp_path.glob("classify*")), "what blocks no name"
    told = [record.getMessage().partition(": ")[2] for record in caplog.records]
    assert "all pictures are the same" in told
    assert any(notice.startswith("images are floats from -3e+38 to 3e+38,") for notice in told)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pointers", "fewshot"])
def test_no_link_of_an_export_leads_out_of_it(tmp_path, monkeypatch, name):
    """Cards lead to each other; what they lead to comes along.

    The licence of the digits is among it.
    """
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["data", name, "--export", str(tmp_path / "out"), "--samples", "5"]) == 0
    pages = {page.name: page.read_text() for page in (tmp_path / "out").glob("*.md")}
    assert {"README.md", "glyphs.md", "mnist.md", "exports.md"} <= set(
        pages
    ) and "CC BY-SA" in pages["mnist.md"]
    for page, text in pages.items():
        links = re.findall(r"\]\((?!http)([^)]+)\)", text)
        assert all((tmp_path / "out" / link).is_file() for link in links), (page, links)
    assert "](mnist.md)" in pages["README.md"] and "# pointers" not in pages["mnist.md"]


@pytest.mark.slow
def test_a_link_to_a_card_that_is_not_there_is_left_as_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "datasets/digits").mkdir(parents=True)
    (tmp_path / "datasets/digits/README.md").write_text(
        "see [the\nother](../other/README.md) and [a page](https://a.page)\n"
    )
    assert main(["data", "digits", "--export", "out", "--samples", "20"]) == 0
    assert (
        (tmp_path / "out/README.md")
        .read_text()
        .startswith("see the\nother and [a page](https://a.page)\n")
    )


@pytest.mark.slow
def test_an_export_of_another_form_says_which(tmp_path, capsys):
    assert (
        main(
            [
                "data",
                "pointers",
                "--task.hops",
                "2",
                "--samples",
                "30",
                "--export",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    made = build_task(PointersConfig(hops=2))
    for split in made.world.sizes:
        with np.load(tmp_path / f"out/{split}.npz") as arrays:
            batch = made.eval_batch(split, 30, 0)
            assert np.array_equal(arrays["images"], batch.images[:, 0]) and np.array_equal(
                arrays["labels"], batch.target
            )
            assert len(arrays["world_split"]) == 30
    assert f"`{made.config}`" in (tmp_path / "out/README.md").read_text()
    told = (Path(__file__).parents[2] / "datasets/exports.md").read_text()
    read: dict[str, np.ndarray] = {}
    exec(told.split("```python\n")[1].split("```")[0].replace("DIR", str(tmp_path / "out")), read)
    assert np.array_equal(read["images"], made.eval_batch("train", 30, 0).images[:, 0])
    assert np.array_equal(read["pointer"], made.eval_batch("train", 30, 0).factors["pointer"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pointers", "--task.hop", "2"], "did you mean '--task.hops'"),
        (["pointers", "--task.hops", "3"], "--task.hops must be >= 1 and <= 2, got 3"),
        (["pointers", "--previw"], "did you mean '--preview'"),
        (["digits", "--task.world", "mnist"], "digits is collected data without settings"),
        (["--task.hops=2"], "unknown argument '--task.hops=2'"),
    ],
)
def test_a_form_that_cannot_be_made_is_refused(capsys, words, says):
    assert main(["data", *words]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and says in printed


def test_data_lists_every_set_and_its_recipes(capsys):
    from toyvit.data import worlds

    assert main(["data"]) == 0
    *printed, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == list(worlds.NAMES)
    told = [
        recipe
        for line in printed
        if "(train " in line
        for recipe in line.split("(train ")[1].rstrip(")").split(", ")
    ]
    assert sorted(told) == sorted(RECIPES) and "--task.world NAME" in last
