"""What is installed is what is in the tree: the weights travel in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_weights_types_and_licence(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    assert "mocogen/checkpoints/weizmann.safetensors" in names
    assert "mocogen/py.typed" in names
    assert {f"mocogen/gallery/page.{kind}" for kind in ("html", "css", "js")} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_the_unpacked_wheel_samples_without_the_tree(wheel: Path, tmp_path: Path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = (
        "import mocogen, mocogen.cli, mocogen.checkpoint as c; "
        "assert c.shipped_folder().is_relative_to(mocogen.__path__[0]), c.shipped_folder(); "
        "mocogen.cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "sample", "--seed", "1", "--out", "clip.mp4"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clip.mp4").stat().st_size > 5000
