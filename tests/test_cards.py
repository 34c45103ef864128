"""The data cards: one for every data set, its checksum still met by the generator, its factors and splits the world's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from toyvit.data.cards import checksum
from toyvit.data.tasks import WORLDS

CARDS = Path(__file__).parents[1] / "datasets"


def card(name: str) -> str:
    return (CARDS / name / "README.md").read_text()


@pytest.mark.parametrize("name", WORLDS)
def test_a_card_is_true(name):
    if name in ("mnist", "omniglot") and "TOYVIT_DATA" not in os.environ:
        pytest.skip("its files are looked for under TOYVIT_DATA")
    made, text = WORLDS[name][0](), card(name)
    stated = re.search(r"first 1,000 training samples: `([0-9a-f]{64})`", text)
    assert stated and stated[1] == checksum(made)
    for word in [*made.world.factors, *made.world.sizes]:
        assert f"`{word}`" in text, word
    assert f"toyvit data {name}" in text and (CARDS / name / "preview.png").exists()


def test_every_card_has_its_data_set():
    assert {path.parent.name for path in CARDS.glob("*/README.md")} == set(WORLDS)
