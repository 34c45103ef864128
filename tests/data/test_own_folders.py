"""A folder of pictures: trained on as it is, or refused in one line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from tests.data import picture_trees as trees
from tests.data.picture_trees import CLASSES, N, draw_mask, draw_pixels, plant, save_pixels
from toyvit.__main__ import main
from toyvit.config import ClassifyConfig, ModelConfig, RunConfig
from toyvit.config.picture_folders import hash_folders, list_pictures
from toyvit.data import own_loading, picture_stack
from toyvit.data.own_folders import read_folder
from toyvit.data.task import Batch, Task, build_task, resolve_config
from toyvit.errors import BadInput, escape_text
from toyvit.recipes import RECIPES


def collect(task: Task) -> dict[int, tuple[str, Batch, int]]:
    """By the number of each planted picture: its split, and where it stands in which batch."""
    places = {}
    for split, size in task.world.sizes.items():
        assert size is not None
        batch = task.draw_batch(0, split, range(size))
        for place in range(size):
            pixels = ((batch.images[place] + 1) * 127.5).round().to(torch.uint8)
            (number,) = (
                number
                for number in range(N)
                if torch.equal(pixels, torch.tensor(draw_pixels(number)).permute(2, 0, 1))
            )
            places[number] = (split, batch, place)
    assert sorted(places) == list(range(N))
    return places


def test_planted_pictures_reach_the_batch_with_their_class(tmp_path):
    task = build_task(ClassifyConfig(folder=str(plant(tmp_path / "pictures"))))
    assert task.class_names == CLASSES
    assert task.world.sizes == {"train": 19, "validation": 2, "test": 3}
    for number, (_, batch, place) in collect(task).items():
        assert batch.target[place] == number % len(CLASSES)
        exact = torch.tensor(draw_pixels(number)).permute(2, 0, 1).float().sub(127.5).div(127.5)
        assert torch.equal(batch.images[place], exact)


def test_grey_pictures_have_one_channel(tmp_path):
    folder = str(plant(tmp_path / "pictures", 1))
    assert build_task(ClassifyConfig(folder=folder)).world.n_channels == 1
    three = build_task(ClassifyConfig(folder=folder, channels=3))
    images = three.eval_batch("test", 3, 0).images
    assert images.shape[1] == 3 and torch.equal(images[:, 0], images[:, 2])
    colour = str(plant(tmp_path / "colour"))
    assert build_task(ClassifyConfig(folder=colour, channels=1)).world.n_channels == 1


def test_one_picture_with_colour_gives_three_channels(tmp_path):
    folder = plant(tmp_path / "pictures", 1)
    save_pixels(folder / trees.name_picture(N - 1), draw_pixels(N - 1))
    world = build_task(ClassifyConfig(folder=str(folder))).world
    images = torch.cat([world_images(world, split) for split in world.sizes])
    has_colour = (images[:, 0] != images[:, 1]).flatten(1).any(1)
    assert world.n_channels == 3 and has_colour.sum() == 1


def world_images(world, split: str) -> torch.Tensor:
    return world.render(world.sample(0, split, np.arange(world.sizes[split])))


def test_mean_and_deviation(tmp_path):
    folder = str(plant(tmp_path / "pictures"))
    mean, deviation = (0.4, 0.5, 0.25), (0.2, 0.5, 1.0)
    plain = build_task(ClassifyConfig(folder=folder)).eval_batch("test", 3, 0).images
    task = build_task(ClassifyConfig(folder=folder, mean=mean, deviation=deviation))
    shares = (plain + 1) / 2
    expected = (shares - torch.tensor(mean)[:, None, None]) / torch.tensor(deviation)[:, None, None]
    assert torch.allclose(task.eval_batch("test", 3, 0).images, expected, atol=1e-5)
    half = build_task(ClassifyConfig(folder=folder, mean=(0.5,) * 3, deviation=(0.5,) * 3))
    assert torch.equal(half.eval_batch("test", 3, 0).images, plain)


def test_a_size_that_is_asked_for(tmp_path):
    folder = plant(tmp_path / "pictures")
    save_pixels(folder / "ant/wide.png", np.zeros((9, 20, 3), np.uint8))
    with pytest.raises(BadInput, match=r"8 x 8 pixels, .*wide\.png 9 x 20: give the size"):
        build_task(ClassifyConfig(folder=str(folder)))
    task = build_task(ClassifyConfig(folder=str(folder), size=(4, 6)))
    assert task.eval_batch("test", 2, 0).images.shape == (2, 3, 4, 6)
    assert task.world.sizes == {"train": 20, "validation": 2, "test": 3}


@pytest.mark.parametrize("validation", ["validation", "val"])
def test_folders_of_splits_are_the_splits(tmp_path, validation):
    folder = tmp_path / "pictures"
    splits = {"train": range(8), validation: range(8, 16), "test": range(16, N)}
    for split, numbers in splits.items():
        for number in numbers:
            save_pixels(folder / split / trees.name_picture(number), draw_pixels(number))
    task = build_task(ClassifyConfig(folder=str(folder)))
    assert task.class_names == CLASSES
    for number, (split, batch, place) in collect(task).items():
        assert number in splits[validation if split == "validation" else split]
        assert batch.target[place] == number % len(CLASSES)
    targets = task.eval_batch("test", 8, 0).target.tolist()
    assert targets != sorted(targets), "the first pictures of a split would be of one class"


def test_a_class_may_be_called_train(tmp_path):
    folder = plant(tmp_path / "pictures")
    (folder / "ant").rename(folder / "train")
    assert build_task(ClassifyConfig(folder=str(folder))).class_names == ("bee", "cow", "train")


def test_what_is_no_picture_of_a_class_is_left_out(tmp_path):
    folder = plant(tmp_path / "pictures")
    digest = hash_folders({"folder": str(folder)})
    (folder / "README.md").write_text("of 2024")
    (folder / ".DS_Store").write_text("x")
    (folder / "ant/.hidden.png").symlink_to("/dev/zero")
    (folder / "ant/Thumbs.db").write_text("x")
    assert len(list_pictures(folder)) == N
    assert hash_folders({"folder": str(folder)}) == digest


def brute_force(mask: np.ndarray, size: int) -> list[int]:
    objects = []
    for row in range(0, len(mask), size):
        for column in range(0, len(mask), size):
            counts = [0] * 10
            for pixel in mask[row : row + size, column : column + size].flatten():
                counts[pixel] += 1
            objects.append(counts.index(max(counts)))
    return objects


@pytest.mark.parametrize("size", [1, 2, 4])
def test_masks_are_objects_of_patches(tmp_path, size):
    folder = str(plant(tmp_path / "pictures"))
    masks = str(trees.plant_masks(tmp_path / "masks"))
    task = build_task(ClassifyConfig(folder=folder, masks=masks, patch_size=size))
    for number, (_, batch, place) in collect(task).items():
        assert batch.objects[place].tolist() == brute_force(draw_mask(number), size)


def resolve(task: ClassifyConfig, model: ModelConfig) -> RunConfig:
    return resolve_config(replace(RECIPES["classify"](), task=task, model=model))


def test_masks_take_the_patches_of_the_model(tmp_path):
    folder = str(plant(tmp_path / "pictures"))
    masks = str(trees.plant_masks(tmp_path / "masks"))
    model = RECIPES["classify"]().model
    plain = ClassifyConfig(folder=folder)
    assert resolve(plain, model).task.patch_size is None
    for size in (2, 4):
        run = resolve(replace(plain, masks=masks), replace(model, patch_size=size))
        assert run.task.patch_size == run.model.patch_size == size
        batch = build_task(run.task).eval_batch("test", 2, 0)
        assert batch.objects.shape == (2, run.model.n_patches)
    with pytest.raises(BadInput, match=r"model\.patch_size is 4, but the task classify has 2"):
        resolve(replace(plain, masks=masks, patch_size=2), model)
    with pytest.raises(BadInput, match=r"patches of 3 x 3 do not tile"):
        resolve(replace(plain, masks=masks), replace(model, patch_size=3))
    with pytest.raises(BadInput, match=r"task\.patch_size is for masks"):
        resolve(replace(plain, patch_size=2), replace(model, patch_size=2))


def test_counterparts_are_the_pairs(tmp_path):
    folder = str(plant(tmp_path / "pictures"))
    pairs = str(trees.plant_pairs(tmp_path / "pairs"))
    task = build_task(ClassifyConfig(folder=folder, pairs=pairs))
    for number, (_, batch, place) in collect(task).items():
        other = batch.counterfactuals["own"]
        assert other.target[place] == (number + 1) % len(CLASSES)
        assert torch.allclose(other.images[place], -batch.images[place], atol=1e-6)
        assert batch.changeable == ["own"]
    assert task.list_notices() == []


def test_pictures_without_a_counterpart_are_their_own(tmp_path):
    folder = str(plant(tmp_path / "pictures"))
    pairs = str(trees.plant_pairs(tmp_path / "pairs", range(20)))
    task = build_task(ClassifyConfig(folder=folder, pairs=pairs))
    for number, (_, batch, place) in collect(task).items():
        other = batch.counterfactuals["own"]
        is_same = torch.equal(other.images[place], batch.images[place])
        assert is_same == (number >= 20) == bool(other.target[place] == batch.target[place])
    (notice,) = task.list_notices()
    assert notice.endswith(": 4 of 24 pictures have no counterpart")


def test_without_masks_and_pairs_there_are_none(tmp_path):
    batch = build_task(ClassifyConfig(folder=str(plant(tmp_path / "p")))).eval_batch("test", 2, 0)
    assert batch.objects is None and batch.counterfactuals is None


def test_a_run_is_bound_to_all_that_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plant(Path("pictures"))
    trees.plant_masks(Path("masks"))
    trees.plant_pairs(Path("pairs"))
    plain = ClassifyConfig(folder="pictures", masks="masks", pairs="pairs")
    bound = plain.bind_files()
    assert bound.folder == str(tmp_path / "pictures") and len(bound.folder_sha256) == 64
    assert ClassifyConfig(folder="pictures").bind_files().folder_sha256 != bound.folder_sha256
    build_task(bound)

    shutil.move("pictures", "elsewhere")
    moved = replace(plain, folder="elsewhere").bind_files()
    assert moved.folder_sha256 == bound.folder_sha256 and bound.move_files(moved) == moved
    assert replace(bound, folder_sha256="").move_files(moved) == moved
    for change in CHANGES:
        shutil.rmtree("changed", ignore_errors=True)
        shutil.copytree(tmp_path, "changed", ignore=lambda *_: ["changed"])
        change(Path("changed"))
        names = {name: f"changed/{name}" for name in ("masks", "pairs")}
        other = ClassifyConfig(folder="changed/elsewhere", **names)
        assert bound.move_files(other.bind_files()) == bound
        with pytest.raises(BadInput, match="is not the folder that the run was begun with"):
            build_task(replace(other, folder_sha256=bound.folder_sha256))


CHANGES: list[Callable[[Path], object]] = [
    lambda folder: (folder / "elsewhere/ant/00.png").rename(folder / "elsewhere/ant/000.png"),
    lambda folder: (folder / "elsewhere/ant/00.png").rename(folder / "elsewhere/bee/00.png"),
    lambda folder: save_pixels(folder / "elsewhere/ant/00.png", draw_pixels(99)),
    lambda folder: save_pixels(folder / "masks/ant/00.png", draw_mask(99)),
    lambda folder: (folder / "pairs/bee/00.png").unlink(),
]


def test_configs_without_a_folder_are_as_before():
    old = {"name": "classify", "world": "", "factor": "class", "npz": "own.npz"}
    assert ClassifyConfig(npz="own.npz").to_json() == old
    assert ClassifyConfig(npz="own.npz", npz_sha256="f").to_json() == {**old, "npz_sha256": "f"}


def test_a_config_with_everything_is_read_back():
    task = ClassifyConfig(
        folder="p", size=(8, 16), channels=3, mean=(0.1, 0.2, 0.3), masks="m", pairs="q"
    )
    run = replace(RECIPES["classify"](), task=task)
    assert RunConfig.from_json(run.to_json()) == run


def test_a_folder_is_read_once_a_process(tmp_path, monkeypatch):
    config = ClassifyConfig(folder=str(plant(tmp_path / "once")))
    calls = []

    def read(config: ClassifyConfig):
        calls.append(config)
        return read_folder(config)

    monkeypatch.setattr(own_loading, "read_folder", read)
    first = build_task(config).world
    assert build_task(replace(config, factor="class").bind_files()).world is first
    assert len(calls) == 1


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    folder = plant(tmp_path / "pictures")

    def overtake(config: ClassifyConfig):
        save_pixels(folder / "ant/00.png", draw_pixels(99))
        return read_folder(config)

    monkeypatch.setattr(own_loading, "read_folder", overtake)
    with pytest.raises(BadInput, match="was written to while it was read"):
        build_task(ClassifyConfig(folder=str(folder)))


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def keep(folder: Path, n: int) -> None:
    for path in sorted(folder.rglob("*.png"))[n:]:
        path.unlink()
        if not list(path.parent.iterdir()):
            path.parent.rmdir()


def split(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copytree(folder, folder.parent / "parts" / name)
    shutil.rmtree(folder)
    (folder.parent / "parts").rename(folder)


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "there is no "),
    "a file": (lambda f: (shutil.rmtree(f), f.write_text("x")), "is no folder"),
    "nothing": (empty, "holds no class folders"),
    "pictures alone": (
        lambda f: (empty(f), save_pixels(f / "a.png", draw_pixels(0))),
        "a.png belongs to no class",
    ),
    "a picture beside": (
        lambda f: save_pixels(f / "A.JPG", draw_pixels(0)),
        "A.JPG belongs to no class",
    ),
    "an empty class": (lambda f: (f / "dog").mkdir(), "dog is empty"),
    "a class of hidden files": (
        lambda f: save_pixels(f / "dog/.a.png", draw_pixels(0)),
        "dog is empty",
    ),
    "a folder in a class": (
        lambda f: save_pixels(f / "ant/more/a.png", draw_pixels(0)),
        "more is a folder in a class folder",
    ),
    "a text": (lambda f: (f / "ant/notes.txt").write_text("x"), "notes.txt is no picture"),
    "a cut picture": (
        lambda f: (f / "ant/x.png").write_bytes((f / "ant/00.png").read_bytes()[:90]),
        "x.png cannot be read as a picture",
    ),
    "a link to a picture": (lambda f: (f / "ant/x.png").symlink_to(f / "ant/00.png"), "is a link"),
    "a link to a class": (lambda f: (f / "dog").symlink_to(f / "ant"), "dog is a link"),
    "a pipe": (lambda f: os.mkfifo(f / "ant/pipe"), "a pipe or a device"),
    "a name with two endings": (
        lambda f: save_pixels(f / "ant/00.jpg", draw_pixels(0)),
        "00.png have one name up to case and ending",
    ),
    "a name in two cases": (
        lambda f: [save_pixels(f / f"ant/{name}.png", draw_pixels(0)) for name in "xX"],
        "one name up to case",
    ),
    "an accent in two ways": (
        lambda f: [save_pixels(f / f"ant/{n}.png", draw_pixels(0)) for n in ("\xe9", "e\u0301")],
        "one name up to case",
    ),
    "classes in two cases": (
        lambda f: save_pixels(f / "Ant/a.png", draw_pixels(0)),
        "one name up to case",
    ),
    "too few": (lambda f: keep(f, 19), "holds 19 pictures: at least 20"),
    "one class": (
        lambda f: ([shutil.rmtree(f / c) for c in ("ant", "bee")], fill(f / "cow")),
        "holds one class, 'cow'",
    ),
    "two splits": (lambda f: split(f, "train", "test"), "holds 'test', 'train': where 'train'"),
    "splits and classes": (lambda f: split(f, "train", "val", "test", "dog"), "and no others"),
    "both validations": (
        lambda f: split(f, "train", "val", "validation", "test"),
        "and no others",
    ),
    "an empty split": (
        lambda f: (split(f, "train", "val", "test"), empty(f / "val")),
        "the split 'validation' of the folder holds no pictures",
    ),
}


def fill(folder: Path) -> None:
    for number in range(100, 120):
        save_pixels(folder / f"{number}.png", draw_pixels(number))


def refuse(tmp_path: Path, capsys, *options: str) -> str:
    """The line with which the command line refuses; nothing is written."""
    words = ["train", "classify", "--runs", str(tmp_path / "runs"), *options]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and len(printed) < 600 and printed[:-1].isprintable(), printed
    assert not (tmp_path / "runs").exists()
    return printed


@pytest.mark.parametrize("case", BAD)
def test_folders_that_do_not_fit_are_refused(tmp_path, capsys, case):
    change, says = BAD[case]
    folder = plant(tmp_path / "pictures")
    change(folder)
    assert says in refuse(tmp_path, capsys, "--task.folder", str(folder))


def test_a_file_that_may_not_be_read_is_refused(tmp_path, capsys, monkeypatch):
    folder = plant(tmp_path / "pictures")
    read = Path.read_bytes

    def deny(path: Path) -> bytes:
        if path.name == "00.png":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", deny)
    printed = refuse(tmp_path, capsys, "--task.folder", str(folder))
    assert "00.png cannot be read: Permission denied" in printed


BESIDE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a mask is missing": (
        lambda f: (f / "masks/ant/00.png").unlink(),
        "has no mask of",
    ),
    "a mask too many": (
        lambda f: save_pixels(f / "masks/ant/77.png", draw_mask(0)),
        "there is no picture to the mask",
    ),
    "a mask of another size": (
        lambda f: save_pixels(f / "masks/ant/00.png", draw_mask(0)[:4]),
        "00.png is a mask of 4 x 8, its picture has 8 x 8 pixels",
    ),
    "a mask in colour": (
        lambda f: save_pixels(f / "masks/ant/00.png", draw_pixels(0)),
        "00.png is no mask",
    ),
    "a mask as JPEG": (
        lambda f: Image.fromarray(draw_mask(0)).save(f / "masks/ant/00.png", "JPEG"),
        "no picture of a kind that is read: PNG",
    ),
    "no masks": (lambda f: shutil.rmtree(f / "masks"), "there is no"),
    "a pair of no class": (
        lambda f: save_pixels(f / "pairs/dog/00.png", draw_pixels(0)),
        "of the class 'dog', of which no picture is",
    ),
    "a pair of no picture": (
        lambda f: save_pixels(f / "pairs/ant/77.png", draw_pixels(0)),
        "and is that of none",
    ),
    "a pair in its own class": (
        lambda f: save_pixels(f / "pairs/ant/00.png", draw_pixels(0)),
        "and is that of none",
    ),
    "two counterparts": (
        lambda f: save_pixels(f / "pairs/cow/00.png", draw_pixels(0)),
        "has counterparts",
    ),
    "a pair of two pictures": (
        lambda f: save_pixels(f / "pictures/cow/00.png", draw_pixels(88)),
        "must be the counterpart of one picture",
    ),
    "a pair of another size": (
        lambda f: save_pixels(f / "pairs/bee/00.png", draw_pixels(0)[:4]),
        "4 x 8: give the size",
    ),
}


@pytest.mark.parametrize("case", BESIDE)
def test_masks_and_pairs_that_do_not_fit_are_refused(tmp_path, capsys, case):
    change, says = BESIDE[case]
    plant(tmp_path / "pictures")
    trees.plant_pairs(tmp_path / "pairs")
    trees.plant_masks(tmp_path / "masks")
    change(tmp_path)
    beside = "masks" if "mask" in case else "pairs"
    options = [f"--task.{beside}", str(tmp_path / beside)]
    printed = refuse(tmp_path, capsys, "--task.folder", str(tmp_path / "pictures"), *options)
    assert says in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--task.world", "digits"], "leave one out"),
        (["--task.npz", "own.npz"], "leave one out"),
        (["--task.channels", "2"], "task.channels must be 1 or 3, got 2"),
        (["--task.mean", "0.5"], "task.mean must be a number for each of 3 channels, got 1"),
        (["--task.deviation", "1,1"], "task.deviation must be a number for each of 3"),
        (["--task.deviation", "0,1,1"], "must be > 0"),
        (["--task.size", "0,8"], "must be >= 1"),
        (["--task.size", "8"], "a list of 2 whole numbers"),
        (["--task.size", "9,8"], "4 x 4"),
        (["--task.factor", "colour"], "allowed are class"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, capsys, options, says):
    folder = plant(tmp_path / "pictures")
    assert says in refuse(tmp_path, capsys, "--task.folder", str(folder), *options)


@pytest.mark.parametrize("option", ["size 8,8", "masks x", "pairs x", "mean 1", "patch_size 4"])
def test_options_of_own_pictures_need_some(tmp_path, capsys, option):
    name, value = option.split()
    printed = refuse(tmp_path, capsys, f"--task.{name}", value)
    assert f"task.{name} is an option of task.folder" in printed


def test_pictures_that_do_not_fit_into_memory_are_refused(tmp_path, capsys, monkeypatch):
    folder = plant(tmp_path / "pictures")
    monkeypatch.setattr(picture_stack, "read_free_memory", lambda: 24 * 64 * 3 - 1)
    printed = refuse(tmp_path, capsys, "--task.folder", str(folder))
    assert "24 pictures need 0.0 GB of memory" in printed or "in colour need" in printed


HOSTILE = [
    "a\nb",
    "\x1b[31m",
    "<script>alert(1)<",
    "\u202egnp",
    "$x_1$",
    "'\"&;",
    " ",
    "-",
    "\udcff",
]


def test_hostile_names_are_shown_escaped(tmp_path, capsys):
    folder = plant(tmp_path / "pictures")
    for place, name in enumerate(HOSTILE):
        save_pixels(folder / name / f"{name}.png", draw_pixels(200 + place))
    task = build_task(ClassifyConfig(folder=str(folder)))
    assert task.class_names == tuple(map(escape_text, sorted([*CLASSES, *HOSTILE])))
    assert all(name.isprintable() for name in task.class_names)
    for name in HOSTILE:
        (folder / name / "bad\n.png").write_text("x")
        assert "bad\\n.png is no picture" in refuse(tmp_path, capsys, "--task.folder", str(folder))
        (folder / name / "bad\n.png").unlink()


NAMES = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.data())
def test_any_names_are_classes_in_sorted_order_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("names") / "pictures"
    labels = data.draw(st.lists(NAMES, min_size=2, max_size=4, unique=True))
    try:
        for number in range(20):
            path = folder / labels[number % len(labels)] / f"{number}.png"
            save_pixels(path, draw_pixels(number))
    except (OSError, ValueError):  # `.`, `..`, or a name that the file system does not take
        return
    try:
        task = build_task(ClassifyConfig(folder=str(folder)))
    except BadInput as error:
        line = escape_text(str(error))
        folded = {label.casefold() for label in labels}
        hidden = [label for label in labels if label.startswith(".")]
        assert line.isprintable() and (hidden or len(folded) < len(labels) or "one name" in line)
        return
    assert task.class_names == tuple(map(escape_text, sorted(labels)))
