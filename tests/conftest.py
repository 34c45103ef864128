import gc
import os
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is imported: tests run side by side

import jaxtyping
import pytest
from hypothesis import Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase, ReadOnlyDatabase
from jaxtyping import install_import_hook

# Every module with shapes in its signatures; tests/house/test_shapes.py holds the list to the tree.
CHECKED = (
    # Not its taps: torch.compile does not see through a wrapped class made in a forward pass.
    "toyvit.model.forward",
    "toyvit.model.normalization",
    "toyvit.model.offsets",
    "toyvit.model.options",
    "toyvit.model.patches",
    "toyvit.model.shapes",
    "toyvit.model.toys",
    "toyvit.model.views",
    "toyvit.model.vit",
    "toyvit.clamps",
    "toyvit.data.task",
    "toyvit.instruments",
    "toyvit.circuits",
    "toyvit.analyses",
    "toyvit.dynamics.checkpoints",
    "toyvit.replications.superposition",
    "toyvit.report.live.interventions",
    "toyvit.stats",
)
gc.disable()  # until the tests are collected, of which nothing is garbage
install_import_hook(list(CHECKED), "beartype.beartype")

CASES_IN_CORE = 3

# Examples: the same every time; fresh ones, what fails kept (`make fuzz`); those kept alone
# (tests/house/test_cases.py). A test that is derandomized or seeded reads no database, hence the
# third.
cases = DirectoryBasedExampleDatabase(Path(__file__).parent / "cases")
kept_alone = [Phase.explicit, Phase.reuse]
settings.register_profile("test", derandomize=True, database=None, deadline=None)
settings.register_profile("fuzz", database=cases, deadline=None)
settings.register_profile(
    "cases", database=ReadOnlyDatabase(cases), deadline=None, phases=kept_alone
)
settings.load_profile("test")


@pytest.fixture
def as_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels of figures stay where they are put, for tests that do not look at them.

    To make place for their words takes 40 % of a drawing.
    """
    from matplotlib.figure import Figure

    from toyvit.report import matplotlib_renderer

    def begin(layout: str, **options: Any) -> Figure:
        return Figure(**options)

    monkeypatch.setattr(matplotlib_renderer, "Figure", begin)


def of_real_data(config: pytest.Config) -> bool:
    """Whether the tests of the collected data itself were asked for; all others see stand-ins."""
    return config.option.markexpr.split()[:1] == ["data"]


def pytest_configure(config: pytest.Config) -> None:
    if not of_real_data(config):
        from tests import standins

        standins.use()
    elif not Path(os.environ.get("TOYVIT_DATA", "nowhere")).is_dir():
        raise pytest.UsageError(
            "set TOYVIT_DATA to the folder of the real data: MNIST/raw, omniglot-py and dsprites"
        )


def pytest_collection_finish() -> None:
    """What was imported and collected stays: it is not searched for garbage again and again."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shapes are checked by all quick tests, and by those slow ones that say so.

    The checks take a third of the time of what calls many small functions.
    """
    is_checked = item.get_closest_marker("shapes") or not item.get_closest_marker("slow")
    jaxtyping.config.update("jaxtyping_disable", not is_checked)


def mark_late_cases(items: list[pytest.Item]) -> None:
    """Of a test with many cases the core has a few, from the first to the last; others are slow."""
    cases: dict[str, list[pytest.Item]] = {}
    for item in items:
        if not item.get_closest_marker("slow"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)

    for same in cases.values():
        last = len(same) - 1
        core = {round(part * last / (CASES_IN_CORE - 1)) for part in range(CASES_IN_CORE)}
        for place, item in enumerate(same):
            if last >= CASES_IN_CORE and place not in core:
                item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is not of the core; tests of the real data run when asked for by name alone."""
    mark_late_cases(items)
    if not of_real_data(config):
        skipped = [item for item in items if item.get_closest_marker("data")]
        items[:] = [item for item in items if item not in skipped]
        config.hook.pytest_deselected(items=skipped)
