"""Every command that the README shows, run as it stands there."""

import re
import shlex
from pathlib import Path

import pytest

from .conftest import ROOT

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
COMMANDS = [
    part.strip()
    for line in "".join(BLOCKS).splitlines()
    for part in line.partition("  #")[0].split("&&")
    if part.strip().startswith("mocogen ")
]


def test_the_readme_shows_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme(command: str, run, tmp_path: Path):
    if re.match(r"mocogen (info|smooth) clip.gif", command):
        assert run("sample", "--out", "clip.gif").returncode == 0
    done = run(*shlex.split(command)[1:])
    assert done.returncode == 0, done.stderr


def test_the_python_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    scope: dict = {}
    exec(program, scope)
    assert scope["video"].shape == (48, 96, 96, 3)
    assert (tmp_path / "bend.mp4").stat().st_size > 5000


def test_the_map_of_the_code_names_what_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([\w./]+)`", text, re.M)
    assert len(named) > 8
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


def test_every_module_is_in_the_map():
    text = (ROOT / "docs" / "code.md").read_text(encoding="utf-8")
    named = set(re.findall(r"[\w.]+\.py|[\w/]+/(?=`)", text))
    assert len(named) > 60
    package = ROOT / "mocogen"
    inside = [path for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"]
    folders = [path for path in inside if f"mocogen/{path.name}/" in named]
    modules = set(package.rglob("*.py")) - {m for path in folders for m in path.rglob("*.py")}
    missing = {path.name for path in modules} - named - {"__init__.py", "__main__.py"}
    assert not missing
    for path in re.findall(r"`(mocogen/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
