"""The site builds without a warning, and has a page for every command there is."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from mocogen.cli.app import app

from .conftest import ROOT

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("material") is None, reason="mkdocs-material is not installed"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a page that the navigation does not name is in it as well."""
    folder = tmp_path_factory.mktemp("site")
    # An advertisement of another generator is no warning of this build.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def commands(group: Any, before: str = "") -> dict[str, Any]:
    found = {}
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found |= commands(command, f"{before}{name} ")
        else:
            found[before + name] = command
    return found


def test_every_command_has_a_page_with_all_its_options(site: Path):
    known = commands(get_command(app))
    assert "dataset shapes" in known
    overview = (site / "commands" / "index.html").read_text("utf-8")
    for name, command in known.items():
        page = site / "commands" / name.replace(" ", "-") / "index.html"
        text = html.unescape(page.read_text("utf-8"))
        for parameter in command.params:
            for option in (*parameter.opts, *parameter.secondary_opts):
                if option.startswith("--"):
                    assert re.search(rf"<code>[^<]*{option}\b", text), (name, option)
        assert f"<code>mocogen {name}</code>" in overview


def test_every_guide_is_reached_and_the_first_page_moves(site: Path):
    start = (site / "index.html").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        if page.stem != "index":
            assert f'href="{page.stem}/"' in start, page
    assert start.count('src="images/seed-') == 4
    assert (site / "images" / "seed-0.gif").is_file()
    assert (site / "walkthrough.ipynb").is_file()
    assert not (site / "hooks.py").exists()


def test_the_site_fetches_nothing_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r"<(script|img|iframe)[^>]+src=\"?(https?:)?//", text), page
        assert not re.search(r"<link[^>]+stylesheet[^>]+href=\"?(https?:)?//", text), page
