"""Shapes in signatures are checked while the tests run: a wrong one is refused in every room.

An import that is only for type checking would switch that off in silence.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from tests.conftest import CHECKED
from tests.laws.models import BASE, build, pictures
from toyvit.analyses.attention import entropy
from toyvit.circuits.pairs import PatchingPairs
from toyvit.clamps.patterns import PATTERNS
from toyvit.data.task import Batch
from toyvit.dynamics.checkpoints import _compare_grams
from toyvit.instruments.lenses import apply_logit_lens
from toyvit.model.forward import run_model
from toyvit.stats import standardize

PACKAGE = Path(__file__).parents[2] / "toyvit"
FLAT = torch.zeros(2, 3)
WRONG = {
    "toyvit.model.forward": lambda: run_model(build(BASE), pictures(BASE, 2)[0]),
    "toyvit.clamps": lambda: PATTERNS["uniform"](FLAT, FLAT.bool(), 1, None),
    "toyvit.data.task": lambda: Batch(FLAT, torch.zeros(2)),
    "toyvit.instruments": lambda: apply_logit_lens(build(BASE), FLAT),
    "toyvit.circuits": lambda: PatchingPairs(FLAT, FLAT, FLAT.long()[0], FLAT.long()[0]),
    "toyvit.analyses": lambda: entropy(FLAT),
    "toyvit.dynamics.checkpoints": lambda: _compare_grams([FLAT, FLAT]),
    "toyvit.stats": lambda: standardize(FLAT[0], slice(None)),
}


def test_every_module_with_shapes_is_checked():
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in PACKAGE.rglob("*.py")
        if "import" in path.read_text() and "from jaxtyping" in path.read_text()
    }
    checked = {name for name in modules if name.startswith(CHECKED)}
    assert modules == checked and len(modules) > 30


@pytest.mark.slow
def test_slow_tests_check_no_shapes():
    with pytest.raises(IndexError):
        entropy(FLAT)


@pytest.mark.slow
@pytest.mark.shapes
def test_slow_tests_check_shapes_where_they_say_so():
    with pytest.raises(TypeCheckError):
        entropy(FLAT)


@pytest.mark.shapes
@pytest.mark.parametrize("room", WRONG)
def test_a_wrong_shape_is_refused(room):
    with pytest.raises((TypeCheckError, TypeError)) as caught:
        WRONG[room]()
    assert "jaxtyping" in type(caught.value).__module__ or "beartype" in str(caught.type)
