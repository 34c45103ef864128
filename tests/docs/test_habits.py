"""Versions agree wherever they stand, and the hooks run what `make check` runs."""

from __future__ import annotations

import re

import yaml

from tests.docs.pages import ROOT
from toyvit.version import VERSION


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    released = re.findall(
        r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    assert citation["version"] == released[0][0] == VERSION
    assert citation["date-released"] == released[0][1]
    assert released == sorted(released, reverse=True) and len(released) >= 2


def test_the_hooks_run_what_make_check_runs():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "nothing is downloaded"
    recipe = (ROOT / "Makefile").read_text().split("\ncheck: setup")[1].split("\n\n")[0]
    checks = re.findall(r"\$\(VENV\)/bin/(ruff .*) \.$", recipe, re.M)
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert [hook.removesuffix(" --force-exclude") for hook in hooks] == checks
