"""The data cards: one for every data set, whole and true.

Checksum, factors, splits and scores of baselines are the generator's.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from _pytest.mark import ParameterSet
from PIL import Image

from tests.laws.models import mark_slow
from toyvit.config.overrides import apply_task_overrides
from toyvit.data import worlds
from toyvit.data.cards import list_pages, main
from toyvit.data.exports import build_arrays, hash_samples, score_baselines
from toyvit.data.task import Task, build_task
from toyvit.recipes import RECIPES
from toyvit.report.matplotlib_renderer import render
from toyvit.report.previews import build_preview, draw_preview

CARDS = Path(__file__).parents[2] / "datasets"
SECTIONS = (
    "What.",
    "Where from.",
    "Splits",
    "What baselines score",
    "What an export holds.",
    "Licence.",
    "To make it again.",
)
COLLECTED = ("mnist", "omniglot")
every_card = pytest.mark.parametrize("name", worlds.NAMES)


def genuine(name: str, options: str = "") -> ParameterSet:
    """A card's parameters; numbers of collected pictures are for the real data alone."""
    collected = name in COLLECTED or any(word in options for word in COLLECTED)
    return pytest.param(name, options, marks=[pytest.mark.data] * collected)


every_card_and_its_data = pytest.mark.parametrize(
    ("name", "options"), [genuine(name) for name in worlds.NAMES]
)


def card(name: str) -> str:
    return (CARDS / name / "README.md").read_text()


def made(name: str, options: str = "") -> Task:
    return build_task(apply_task_overrides(worlds.find(name).default, options.split()))


def rows(text: str) -> list[list[str]]:
    """The cells of every line of every table."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ")
    ]


def stated(name: str) -> dict[str, dict[str, str]]:
    """The scores of a card, by the options of their column and the baseline's name."""
    lines = card(name).split("**What baselines score**")[1].split("**")[0]
    first, *rest = rows(lines.replace("| | default", "| - | default"))
    return {
        head.strip("`"): {line[0].strip("`"): line[column] for line in rest if line[column]}
        for column, head in enumerate(first)
        if column
    }


def test_every_card_has_its_data_set():
    assert {path.parent.name for path in CARDS.glob("*/README.md")} == set(worlds.NAMES)
    index = (CARDS / "README.md").read_text()
    assert all(f"]({name}/README.md)" in index for name in worlds.NAMES)


def test_the_pages_are_those_written_beside_the_code():
    """`python -m toyvit.data.cards` would change nothing."""
    for path, text in list_pages(CARDS).items():
        assert path.read_text() == text, path


def test_cards_are_written_where_they_belong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main() == 2
    assert "has no README.md" in capsys.readouterr().err

    (tmp_path / "datasets").mkdir()
    index = (
        "# Here\n\n| set | pictures | what it is for |\n|---|---|---|\n| an old | row | |\n\nend\n"
    )
    (tmp_path / "datasets/README.md").write_text(index)
    assert main() == 0
    for path, text in list_pages(CARDS).items():
        if path != CARDS / "README.md":
            assert (tmp_path / "datasets" / path.relative_to(CARDS)).read_text() == text
    table = (tmp_path / "datasets/README.md").read_text()
    assert table.startswith("# Here\n\n| set |") and table.endswith("|\n\nend\n")
    assert table.count("\n| [") == len(worlds.NAMES) and "an old" not in table


@every_card
def test_a_card_is_whole(name):
    """Every section, none empty; the command and the page that say how to have the data."""
    text = card(name)
    begins = [text.find(f"**{section}") for section in SECTIONS]
    assert min(begins) > 0, SECTIONS[int(np.argmin(begins))]
    for section in SECTIONS:
        assert len(text.split(f"**{section}")[1].split("\n**")[0].split("**")[-1].strip()) > 10, (
            section
        )
    assert (
        text.startswith(f"# {name}\n\n![preview](preview.png)\n")
        and f"`toyvit data {name} --preview`" in text
    )
    assert "[npz files](../exports.md)" in text
    links = re.findall(r"\]\((?!http)([^)]+)\)", text)
    assert all((CARDS / name / link).exists() for link in links), links


@pytest.mark.parametrize("name", mark_slow(worlds.NAMES, {*worlds.NAMES} - {"omniglot"}))
def test_a_card_is_true(name):
    world, text = made(name).world, card(name)
    for split in world.sizes:
        assert f"`{split}`" in text, split
    for factor, n_values in world.factors.items():
        printed = [" ".join(line[1:]) for line in rows(text) if f"`{factor}`" in line[0]]
        assert len(printed) == 1, factor
        assert (f"0 to {n_values - 1}" if n_values < 2**62 else "63-bit key") in printed[0], (
            factor,
            n_values,
        )


@every_card_and_its_data
def test_the_checksum_of_a_card_is_true(name, options):
    stated_one = re.search(r"first 1,000 training samples: `([0-9a-f]{64})`", card(name))
    assert stated_one and stated_one[1] == hash_samples(made(name, options))


def check_scores(name: str, options: str) -> None:
    found = {score: f"{value:.3f}" for score, value in score_baselines(made(name, options)).items()}
    assert found == stated(name)[options or "default"]


@pytest.mark.slow
@every_card_and_its_data
def test_the_scores_of_a_card_are_what_its_command_prints(name, options):
    check_scores(name, options)


OTHER_FORMS = [
    genuine(name, head) for name in worlds.NAMES for head in stated(name) if head != "default"
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options"), OTHER_FORMS)
def test_the_scores_of_other_forms_are_true_too(name, options):
    check_scores(name, options)


@pytest.mark.parametrize("name", mark_slow(worlds.NAMES, {*worlds.NAMES} - {"omniglot"}))
def test_what_an_export_holds_is_written_down(name):
    """Each array is named: answer and what probes read in a section of the card, factors anywhere.

    What many sets have is named on the page on exports.
    """
    exports, text = (CARDS / "exports.md").read_text(), card(name)
    section = text.split("**What an export holds.**")[1].split("\n\n")[0]
    for array in build_arrays(made(name), "train", 4):
        kind, _, what = array.partition("_")
        if kind == "world":
            assert f"`{what}`" in text or f"`{array}`" in exports, array
        elif array != "images":
            assert f"`{array}`" in section, array
    assert f" {made(name).n_classes}" in section.split(".")[0].split("Probes")[0]


@pytest.mark.slow
@every_card
def test_a_preview_shows_pictures_as_the_model_sees_them(name, tmp_path):
    """White is +1, black is -1 (0 where nothing is below), each picture has its target.

    The file kept is this one and small.
    """
    world_task = made(name)
    rows = build_preview(world_task).blocks[0].panels
    batch = world_task.draw_batch(0, "train", range(4))
    figure = render(build_preview(world_task), captioned=False)
    pictures = zip(figure.axes, rows[0], batch.images.numpy(), batch.target, strict=False)
    for place, (axes, panel, image, target) in enumerate(pictures):
        (drawn,) = axes.images
        shown = drawn.to_rgba(drawn.get_array())[..., :3]
        black = min(0, np.floor(batch.images.min().item() + 1e-6).clip(-1))
        expected = ((image - black) / (1 - black)).clip(0, 1)
        assert np.allclose(
            shown, np.moveaxis(np.broadcast_to(expected, (3, *image.shape[1:])), 0, 2), atol=1 / 200
        )
        by_patch = world_task.output_kind == "patch"
        words = [word.text for word in rows[1][place].words] if by_patch else panel.below.split()
        if target.is_floating_point():
            assert [float(word) for word in words] == pytest.approx(target.tolist(), abs=0.06)
        elif target.ndim:
            if by_patch:
                assert [int(word) for word in words] == target[target >= 0].tolist()
        else:
            assert " ".join(words) == (
                world_task.class_names[int(target)] if world_task.class_names else str(int(target))
            )


@pytest.mark.slow
@every_card_and_its_data
def test_the_preview_of_a_card_is_kept_and_small(name, options, tmp_path):
    saved, again = (
        CARDS / name / "preview.png",
        draw_preview(made(name, options), tmp_path / "preview.png"),
    )
    assert saved.stat().st_size < 50_000
    old, new = (
        np.asarray(Image.open(path).convert("L").resize((90, 60)), float) for path in (saved, again)
    )
    assert abs(old - new).mean() < 4  # fonts differ from place to place, other pictures by far more


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_told_its_data_set(recipe):
    config = RECIPES[recipe]().task
    assert made(config.data_set).world.name == build_task(config).world.name
