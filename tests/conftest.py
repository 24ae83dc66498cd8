"""What the tests share: a tiny checkpoint, and the way to the reference data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mocogen import checkpoint
from mocogen.backend_choice import CPU_ONLY
from mocogen.spec import ModelSpec

ROOT = Path(__file__).parent.parent
BACKENDS = ["torch", *(b for b, p in CPU_ONLY.items() if importlib.util.find_spec(p) is not None)]
DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of reference data, which does not travel with the project."""
    if not DATA.is_dir():
        pytest.skip("the reference data folder ../shared/data is not here")
    return DATA


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained 32x32 checkpoint with two actions: small, fast, and never still."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors", noise=3)


@pytest.fixture(scope="session")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with noise and motion codes of one length, which the mode "feedback" wants."""
    return write_tiny(tmp_path_factory.mktemp("checkpoints") / "even.safetensors", noise=4)


def write_tiny(path: Path, noise: int) -> Path:
    spec = ModelSpec(
        content=5,
        noise=noise,
        hidden=8,
        motion=4,
        actions=("hop", "spin"),
        width=4,
        image_size=32,
        fps=20.0,
        name="tiny",
        data="none: untrained",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        motion, generator = checkpoint.build(spec)
        for layer in generator.main:
            if isinstance(layer, torch.nn.ConvTranspose2d):
                layer.weight.data *= 8  # visible contrast
    checkpoint.save(path, spec, motion, generator)
    return path


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``mocogen`` as its users do: a process of its own, in an empty folder."""

    def run(*words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mocogen", *map(str, words)]
        return subprocess.run(  # type: ignore[call-overload, no-any-return]
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run
