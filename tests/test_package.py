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


def test_names_that_come_when_asked_for_are_seen_before(tmp_path: Path):
    """By completion, without torch; and a type checker knows all that there are, and no others."""
    look = (
        "import mocogen, sys; assert set(mocogen.__all__) <= set(dir(mocogen)); "
        "assert not {'torch', 'numpy'} & set(sys.modules); "
        "assert all(getattr(mocogen, name) for name in mocogen.__all__); "
        "assert mocogen.Walk(7, True, False).to == 7 and not hasattr(mocogen, 'Wlak')"
    )
    subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=True)
    pytest.importorskip("mypy", reason="mypy is not installed")
    names = [
        *(f"mocogen.{name}" for name in ("Clip", "Model", "Video", "Walk", "load", "__version__")),
        "mocogen.laod",
    ]
    program = tmp_path / "program.py"
    program.write_text("\n".join(["import mocogen", *names]), "utf-8")
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    (line, _) = done.stdout.splitlines()
    assert 'program.py:8: error: Module has no attribute "laod"' in line


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
