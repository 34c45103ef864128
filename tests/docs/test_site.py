"""The site is built without a warning, has its search, and asks nothing of the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

ASSET = re.compile(
    r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
)


def find_foreign(folder: Path) -> list[str]:
    """What a page of the site would load from elsewhere."""
    foreign = []
    for path in folder.rglob("*.html"):
        foreign += ASSET.findall(path.read_text())
    for path in folder.rglob("*.css"):
        foreign += re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"' ]*", path.read_text())
    return foreign


@pytest.mark.slow
def test_the_site_is_built_and_needs_no_network(tmp_path):
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    assert find_foreign(site) == []
    assert "prefix matching" in (site / "search/search_index.json").read_text()
    assert "run.model" in (site / "start.html").read_text().replace("</span>", "").replace(
        '<span class="o">', ""
    ).replace('<span class="n">', "")
    assert not list(site.rglob("replications/*.json"))


def test_a_foreign_asset_is_found(tmp_path):
    (tmp_path / "page.html").write_text('<a href="https://a.b">fine</a><script src="//c.d/e.js">')
    (tmp_path / "style.css").write_text("@import url(https://a.b/c.css)")
    assert len(find_foreign(tmp_path)) == 2
